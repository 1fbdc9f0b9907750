//! What the store holds of keys that are about to be written.

use std::iter::Peekable;

use proto::{KeyspaceId, log, v1};

use super::key::KeyPrefix;
use super::version::Head;

/// Most keys that are recalled; what is beyond is read from the store. They take about 150 bytes
/// each, and the key.
const KEYS_MAX: usize = 1 << 19;

/// What was found of each key, in the order of keys.
type Found = Vec<(Box<[u8]>, Option<Head>)>;

/// Keys that the log behind a checkpoint is about to write.
///
/// Each write looks for the newest version of its key, and in a store that has just been opened each
/// look is a page from disk. But opening reads the whole store anyway, in the order of keys. Told
/// before which keys matter, it keeps what it finds of them: then the log is applied without reading
/// the store again.
///
/// Forgotten when the next checkpoint begins; the layers hold newer versions by then.
#[derive(Debug, Default)]
pub struct Recall {
    /// Keyspace and key of each, encoded, before the store was read.
    wanted: Vec<Box<[u8]>>,
    /// The newest version in the store that is visible, if there is one, once the store was read; by
    /// key.
    found: Found,
}

impl Recall {
    /// Nothing is recalled.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds the keys that a command writes or compares.
    pub fn note(&mut self, command: &log::Command) {
        use v1::op::Op;
        let write = match &command.body {
            Some(log::command::Body::Write(write)) => write,
            Some(log::command::Body::PutItems(put)) => {
                put.items.iter().for_each(|item| self.want(KeyspaceId::DEFAULT, &item.key));
                return;
            }
            Some(_) | None => return,
        };
        let compared = write.compares.iter().map(|compare| &compare.key);
        let ops = write.then_ops.iter().chain(&write.else_ops);
        let written = ops.filter_map(|op| match op.op.as_ref()? {
            Op::Put(put) => Some(&put.key),
            Op::Delete(delete) if delete.range_end.is_empty() => Some(&delete.key),
            Op::Delete(_) | Op::Get(_) => None,
        });
        for key in compared.chain(written) {
            // The log may hold what apply refuses.
            if write.keyspace != 0 {
                self.want(KeyspaceId(write.keyspace), key);
            }
        }
    }

    fn want(&mut self, keyspace: KeyspaceId, key: &[u8]) {
        if self.wanted.len() < KEYS_MAX {
            self.wanted.push(KeyPrefix::new(keyspace, key).as_bytes().into());
        }
    }

    /// Makes it ready for the store to be read.
    pub(super) fn begin(mut self) -> Recalling {
        self.wanted.sort_unstable();
        self.wanted.dedup();
        let found = Found::with_capacity(self.wanted.len());
        Recalling { wanted: self.wanted.into_iter().peekable(), found }
    }

    /// The newest version of a key in the store; `None` when nothing is known of the key.
    pub(super) fn newest(&self, prefix: &KeyPrefix) -> Option<Option<Head>> {
        let place = self.found.binary_search_by(|(key, _)| (**key).cmp(prefix.as_bytes())).ok()?;
        Some(self.found[place].1)
    }
}

/// A recall while the store is read, in the order of its keys.
#[derive(Debug)]
pub(super) struct Recalling {
    /// Ascending; what was passed is in `found`.
    wanted: Peekable<std::vec::IntoIter<Box<[u8]>>>,
    found: Found,
}

impl Recalling {
    /// Takes a visible version; of each key the newest comes first.
    pub(super) fn newest(&mut self, prefix: &[u8], head: &Head) {
        while let Some(absent) = self.wanted.next_if(|wanted| **wanted < *prefix) {
            self.found.push((absent, None));
        }
        if let Some(present) = self.wanted.next_if(|wanted| **wanted == *prefix) {
            self.found.push((present, Some(*head)));
        }
    }

    /// The whole store was read.
    pub(super) fn end(mut self) -> Recall {
        self.found.extend(self.wanted.by_ref().map(|absent| (absent, None)));
        Recall { wanted: Vec::new(), found: self.found }
    }
}
