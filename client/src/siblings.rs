//! The values of a key of an eventual keyspace, all of them, and how they are merged.

use std::time::Duration;

use bytes::Bytes;
use proto::{Applied, Code, Failure, v1};
use tokio::time::Instant;

use crate::client::Client;
use crate::config::CallOptions;
use crate::error::ClientError;

/// How often a read begins anew because its pages came from different nodes, or different majorities.
const ATTEMPTS_MAX: usize = 3;
/// Values beyond which no further page is read: far more than replicas take.
const VALUES_MAX: usize = 1_024;

/// What a read of a key found. A key of a linearizable keyspace is not read this way: it has no siblings.
#[derive(Clone, Debug, Default)]
pub struct Siblings {
    /// The values that live, the newest first; none when the key does not exist.
    pub values: Vec<v1::Sibling>,
    /// The causal token of what was read: the `causal` of a write that supersedes it. Empty when there is
    /// none that covers exactly these values; a write with it supersedes whatever the node holds that takes it.
    pub context: Bytes,
    /// What the answer proves.
    pub proof: v1::Proof,
}

impl Client {
    /// Reads all values of a key of an eventual keyspace, also those that do not fit into one reply. They are
    /// remembered as those of a [`get`](Self::get) are.
    ///
    /// # Errors
    /// See [`ClientError`]. An absent key is no error.
    pub async fn siblings(
        &self,
        request: v1::GetRequest,
        options: &CallOptions,
    ) -> Result<Siblings, ClientError> {
        let time = Lasting::new(self, options);
        let mut attempts = 0;
        loop {
            attempts += 1;
            let mut found = self.all_pages(&request, &time).await?;
            if found.torn && attempts < ATTEMPTS_MAX {
                continue;
            }
            if found.torn {
                found.siblings.context.clear();
            } else {
                self.remember_read(&request, &found.siblings.context, options);
            }
            return Ok(found.siblings);
        }
    }

    /// The pages of one read. The context covers what the node of the first page had, and those whose answers
    /// it joined, so without a doubt what was shown only if these showed all of it.
    async fn all_pages(
        &self,
        request: &v1::GetRequest,
        time: &Lasting,
    ) -> Result<Pieces, ClientError> {
        let reply = self.get(request.clone(), &time.options()).await?;
        let mut more = reply.more;
        let mut found = Siblings {
            values: reply.siblings,
            context: reply.context,
            proof: reply.proof.unwrap_or_default(),
        };
        let mut torn = false;
        while more > 0 && found.values.len() < VALUES_MAX {
            let after = found.values.last().and_then(|last| last.dot.clone());
            let request = v1::GetRequest { siblings_after: after, ..request.clone() };
            let reply = self.get(request, &time.options()).await?;
            // At level quorum the context covers what one majority had. Another one may lack some of it.
            let same = reply.proof.is_some_and(|proof| {
                proof.node == found.proof.node && proof.answered_by == found.proof.answered_by
            });
            // Where the value that a page goes on from is gone meanwhile, the page begins anew.
            let is_new =
                |sibling: &v1::Sibling| found.values.iter().all(|known| known.dot != sibling.dot);
            let new: Vec<v1::Sibling> = reply.siblings.into_iter().filter(is_new).collect();
            let leads_on = !new.is_empty();
            found.values.extend(new);
            more = reply.more;
            torn |= !same || (more > 0 && !leads_on);
            if !leads_on {
                break;
            }
        }
        Ok(Pieces { siblings: found, torn: torn || more > 0 })
    }

    /// Merges the values of a key of an eventual keyspace: reads them all, lets `merge` make one of them,
    /// and writes that over exactly what was read. `merge` is given the newest value first, and none when
    /// the key does not exist; where it returns `None`, nothing is written.
    ///
    /// Others may do the same at other nodes, so the outcome of `merge` should not depend on who calls it
    /// and in which order: the union of two sets is such a merge. What was written meanwhile stands beside
    /// the new value, to be merged by the next call.
    ///
    /// # Errors
    /// Those of [`siblings`](Self::siblings) and [`put`](Self::put). [`Code::NotReady`]: there is no token of
    /// what was read, because it would be too long at the moment; nothing was written.
    pub async fn resolve(
        &self,
        key: impl Into<Bytes>,
        merge: impl FnOnce(&[v1::Sibling]) -> Option<Bytes>,
        options: &CallOptions,
    ) -> Result<Option<v1::PutReply>, ClientError> {
        let key = key.into();
        let time = Lasting::new(self, options);
        let request = v1::GetRequest { key: key.clone(), ..Default::default() };
        let found = self.siblings(request, &time.options()).await?;
        let Some(value) = merge(&found.values) else { return Ok(None) };
        if found.context.is_empty() {
            let subject = format!("merge of {:?}", String::from_utf8_lossy(&key));
            let why = "no causal token covers what was read: it would be too long at the moment";
            let failure = Failure::new(Code::NotReady, subject, why).applied(Applied::No);
            return Err(ClientError::Refused(Box::new(failure)));
        }
        let request = v1::PutRequest { key, value, causal: found.context, ..Default::default() };
        self.put(request, &time.options()).await.map(Some)
    }
}

/// What a read in pieces found.
struct Pieces {
    siblings: Siblings,
    /// The pieces may not be of one node and one majority, or some are missing.
    torn: bool,
}

/// The options of several calls that have the time of one.
struct Lasting {
    options: CallOptions,
    deadline: Instant,
}

impl Lasting {
    fn new(client: &Client, options: &CallOptions) -> Self {
        let deadline = Instant::now() + client.timeout(options);
        Self { options: options.clone(), deadline }
    }

    /// Those of the next call: it has what is left.
    fn options(&self) -> CallOptions {
        let left = self.deadline.saturating_duration_since(Instant::now());
        CallOptions { timeout: Some(left.max(Duration::from_millis(1))), ..self.options.clone() }
    }
}
