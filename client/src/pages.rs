//! Reads a range page by page, all pages at one revision.

use bytes::{BufMut, Bytes, BytesMut};
use proto::v1;

use crate::client::Client;
use crate::config::CallOptions;
use crate::error::ClientError;

/// The pages of a range, as of the revision at which the first one was read.
///
/// Keys rise strictly over all pages. The timeout of the options applies to each page.
#[derive(Debug)]
pub struct Pages {
    client: Client,
    /// The request of the next page; `None` after the last one.
    request: Option<v1::RangeRequest>,
    options: CallOptions,
    /// Items still wanted.
    wanted: u64,
}

impl Pages {
    /// The pages of a range, at most `limit` items in all. The request's own `limit` is the most of
    /// one page; 0 leaves it to the server.
    #[must_use]
    pub fn new(
        client: &Client,
        request: v1::RangeRequest,
        limit: Option<u64>,
        options: CallOptions,
    ) -> Self {
        let wanted = limit.unwrap_or(u64::MAX);
        let request = (wanted > 0).then_some(request);
        Self { client: client.clone(), request, options, wanted }
    }

    /// The next page; `None` after the last one. A failed page may be asked for again.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn next(&mut self) -> Result<Option<v1::RangeReply>, ClientError> {
        let Some(next) = &self.request else { return Ok(None) };
        let mut request = next.clone();
        let page_max = if request.limit == 0 { u32::MAX } else { request.limit };
        let wanted = u32::try_from(self.wanted).unwrap_or(u32::MAX).min(page_max);
        request.limit = if wanted == u32::MAX { 0 } else { wanted };
        let page = self.client.range(request, &self.options).await?;

        self.wanted = self.wanted.saturating_sub(page.items.len() as u64);
        let last = page.items.last().map(|item| successor(&item.key));
        self.request = match (self.request.take(), last) {
            (Some(mut request), Some(from)) if page.more && self.wanted > 0 => {
                if request.revision == 0 {
                    request.revision = page.proof.as_ref().map_or(0, |proof| proof.revision);
                }
                request.from = from;
                Some(request)
            }
            _ => None,
        };
        Ok(Some(page))
    }
}

/// The smallest key after this one.
fn successor(key: &[u8]) -> Bytes {
    let mut next = BytesMut::with_capacity(key.len() + 1);
    next.put_slice(key);
    next.put_u8(0);
    next.freeze()
}

/// The end of the range of all keys with this prefix: the smallest key behind them, or empty for the
/// end of the keyspace when no key follows them.
#[must_use]
pub fn prefix_end(prefix: &[u8]) -> Bytes {
    let kept = prefix.iter().rposition(|byte| *byte != u8::MAX);
    kept.map_or_else(Bytes::new, |last| {
        let mut end = BytesMut::from(&prefix[..=last]);
        end[last] += 1;
        end.freeze()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prefix_ends_where_the_next_one_begins() {
        assert_eq!(prefix_end(b"a"), "b");
        assert_eq!(prefix_end(b"a\xff"), "b");
        assert_eq!(prefix_end(b"ab\x00"), &b"ab\x01"[..]);
        assert_eq!(prefix_end(b"\xff\xff"), "");
        assert_eq!(prefix_end(b""), "");
    }

    #[test]
    fn nothing_lies_between_a_key_and_its_successor() {
        assert_eq!(successor(b"a"), &b"a\0"[..]);
        assert!(successor(b"a") > Bytes::from_static(b"a"));
    }
}
