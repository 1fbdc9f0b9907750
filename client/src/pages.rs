//! Reads a range page by page; all pages at one revision, where the keyspace has revisions.

use std::time::{Duration, Instant};

use bytes::{BufMut, Bytes, BytesMut};
use proto::limits::KEY_BYTES_MAX;
use proto::{Code, Failure, v1};

use crate::client::Client;
use crate::config::{CallOptions, TIMEOUT_MAX};
use crate::error::ClientError;

/// The pages of a range, as of the revision at which the first one was read. Pages of an eventual keyspace
/// hold `entries` instead of `items`, and are not of one point in time.
///
/// Keys rise strictly over all pages. A page may be empty and yet not be the last: it ends when the node
/// has looked at enough, found or not. The timeout of the options applies to each page, unless
/// [`within`](Self::within) bounds all of them.
#[derive(Debug)]
pub struct Pages {
    client: Client,
    /// The request of the next page; `None` after the last one.
    request: Option<v1::RangeRequest>,
    options: CallOptions,
    /// Items still wanted.
    wanted: u64,
    /// When all pages have to be there.
    deadline: Option<Instant>,
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
        Self { client: client.clone(), request, options, wanted, deadline: None }
    }

    /// The same, where all pages together take at most this long from now on.
    #[must_use]
    pub fn within(mut self, total: Duration) -> Self {
        self.deadline = Some(Instant::now() + total.min(TIMEOUT_MAX));
        self
    }

    /// The next page; `None` after the last one. A failed page may be asked for again.
    ///
    /// # Errors
    /// See [`ClientError`]; KV1901 for an answer that does not say where the range goes on.
    pub async fn next(&mut self) -> Result<Option<v1::RangeReply>, ClientError> {
        let Some(next) = &self.request else { return Ok(None) };
        let mut request = next.clone();
        let page_max = if request.limit == 0 { u32::MAX } else { request.limit };
        let wanted = u32::try_from(self.wanted).unwrap_or(u32::MAX).min(page_max);
        request.limit = if wanted == u32::MAX { 0 } else { wanted };
        let page = self.client.range(request, &self.page_options()).await?;

        self.wanted = self.wanted.saturating_sub((page.items.len() + page.entries.len()) as u64);
        if page.more && self.wanted > 0 {
            let from = continuation(&page, &next.from)?;
            let mut request = next.clone();
            if request.revision == 0 {
                request.revision = page.proof.as_ref().map_or(0, |proof| proof.revision);
            }
            request.from = from;
            self.request = Some(request);
        } else {
            self.request = None;
        }
        Ok(Some(page))
    }

    /// How many keys there are, and the revision at which they were counted. The request has to be
    /// one for a count.
    ///
    /// # Errors
    /// Those of [`next`](Self::next).
    pub async fn count(mut self) -> Result<(u64, u64), ClientError> {
        let (mut count, mut revision) = (0, 0);
        while let Some(page) = self.next().await? {
            count += page.count;
            revision = page.proof.map_or(revision, |proof| proof.revision);
        }
        Ok((count, revision))
    }

    fn page_options(&self) -> CallOptions {
        let mut options = self.options.clone();
        if let Some(deadline) = self.deadline {
            let left = deadline.saturating_duration_since(Instant::now());
            let left = left.max(Duration::from_millis(1));
            options.timeout = Some(options.timeout.map_or(left, |each| each.min(left)));
        }
        options
    }
}

/// Where the range goes on behind a page that began at `from`.
fn continuation(page: &v1::RangeReply, from: &[u8]) -> Result<Bytes, ClientError> {
    let last = page.items.last().map(|item| &item.key);
    let next = match last.or(page.entries.last().map(|entry| &entry.key)) {
        _ if !page.next.is_empty() => page.next.clone(),
        Some(last) => successor(last),
        None => Bytes::new(),
    };
    // Without progress the same page would be asked for without end.
    if next[..] > *from {
        return Ok(next);
    }
    let why = "a page says that more follows, but not where";
    Err(ClientError::Refused(Box::new(Failure::new(Code::Internal, "list", why))))
}

/// The smallest key after this one; empty when there is none.
fn successor(key: &[u8]) -> Bytes {
    // No key goes on from one of the greatest length, and no range may begin with a longer one.
    if key.len() >= KEY_BYTES_MAX {
        return prefix_end(key);
    }
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
    fn a_page_that_leads_nowhere_is_an_error() {
        let page = |next: &'static str, key: &'static str| v1::RangeReply {
            items: vec![v1::Item { key: key.into(), ..Default::default() }],
            next: next.into(),
            more: true,
            ..Default::default()
        };
        assert_eq!(continuation(&page("c", "b"), b"a").unwrap(), "c");
        assert_eq!(continuation(&page("", "b"), b"a").unwrap(), "b\0");
        assert_eq!(continuation(&page("a", "b"), b"a").unwrap_err().code(), Code::Internal);
        let entry = v1::Entry { key: "c".into(), ..Default::default() };
        let entries = v1::RangeReply { entries: vec![entry], more: true, ..Default::default() };
        assert_eq!(continuation(&entries, b"a").unwrap(), "c\0");
        let empty = v1::RangeReply { more: true, ..Default::default() };
        assert_eq!(continuation(&empty, b"").unwrap_err().code(), Code::Internal);
    }

    #[test]
    fn nothing_lies_between_a_key_and_its_successor() {
        assert_eq!(successor(b"a"), &b"a\0"[..]);
        assert!(successor(b"a") > Bytes::from_static(b"a"));
        let mut longest = vec![b'a'; KEY_BYTES_MAX];
        let next = successor(&longest);
        assert!(next[..] > longest[..] && proto::limits::check_range(&next, b"").is_ok());
        longest[KEY_BYTES_MAX - 1] = u8::MAX;
        assert_eq!(successor(&longest).len(), KEY_BYTES_MAX - 1);
        assert_eq!(successor(&[u8::MAX; KEY_BYTES_MAX]), "");
    }
}
