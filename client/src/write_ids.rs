//! Ids that make the retry of a write execute exactly once.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use proto::v1;

/// The identity under which a client writes: a random client id, and which of its writes are still
/// open.
///
/// Invariants: sequence numbers count from 1 and are never reused; `first_open` never falls; every
/// open write has a sequence number at or above it.
#[derive(Debug)]
pub(crate) struct WriteIdentity {
    client_id: Bytes,
    open: Mutex<OpenWrites>,
}

/// The window of writes from `first_open` on; `true` where the write is done.
#[derive(Debug)]
struct OpenWrites {
    first_open: u64,
    done: VecDeque<bool>,
}

impl WriteIdentity {
    /// A fresh identity.
    pub(crate) fn mint() -> Self {
        let client_id: [u8; 16] = rand::random();
        let open = OpenWrites { first_open: 1, done: VecDeque::new() };
        Self { client_id: Bytes::copy_from_slice(&client_id), open: Mutex::new(open) }
    }

    /// Begins a write. It stays open until the ticket is dropped. `born` is a log index that the
    /// cluster had reached before: the newer it is, the longer the cluster can tell a late copy
    /// of this write from a new one.
    pub(crate) fn begin(self: &Arc<Self>, born: u64) -> WriteTicket {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let seq = open.first_open + open.done.len() as u64;
        open.done.push_back(false);
        WriteTicket { identity: self.clone(), seq, born }
    }

    fn first_open(&self) -> u64 {
        self.open.lock().unwrap_or_else(PoisonError::into_inner).first_open
    }

    fn finish(&self, seq: u64) {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        assert!(seq >= open.first_open, "write {seq} finished twice");
        let at = usize::try_from(seq - open.first_open).expect("the window fits in memory");
        open.done[at] = true;
        while open.done.front() == Some(&true) {
            open.done.pop_front();
            open.first_open += 1;
        }
    }
}

/// One open write. Dropping it says that this client sends it no more: it was answered, or given
/// up; from then on the cluster may forget it, and refuses a late copy.
#[derive(Debug)]
pub(crate) struct WriteTicket {
    identity: Arc<WriteIdentity>,
    seq: u64,
    born: u64,
}

impl WriteTicket {
    /// The id to send: the same for each attempt, but for `first_open`, which is taken anew.
    pub(crate) fn id(&self) -> v1::WriteId {
        let first_open = self.identity.first_open();
        assert!(first_open <= self.seq, "an open write is not below first_open");
        v1::WriteId {
            client_id: self.identity.client_id.clone(),
            seq: self.seq,
            first_open,
            born: self.born,
        }
    }
}

impl WriteTicket {
    /// A ticket of the same identity for another write.
    pub(crate) fn another(&self) -> Self {
        self.identity.begin(self.born)
    }
}

impl Drop for WriteTicket {
    fn drop(&mut self) {
        self.identity.finish(self.seq);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn first_open_follows_the_lowest_open_write() {
        let identity = Arc::new(WriteIdentity::mint());
        let (first, second, third) = (identity.begin(7), identity.begin(8), identity.begin(9));
        let seqs: Vec<u64> = [&first, &second, &third].map(|ticket| ticket.id().seq).into();
        assert_eq!(seqs, [1, 2, 3]);
        assert_eq!(third.id().first_open, 1);
        drop(second);
        assert_eq!(third.id().first_open, 1);
        drop(first);
        assert_eq!(third.id().first_open, 3);
        drop(third);
        let fourth = identity.begin(7);
        let id = fourth.id();
        assert_eq!((id.seq, id.first_open, id.born), (4, 4, 7));
    }

    #[test]
    fn an_id_keeps_its_number_over_attempts() {
        let identity = Arc::new(WriteIdentity::mint());
        let ticket = identity.begin(1);
        assert_eq!(ticket.id(), ticket.id());
        assert_eq!(ticket.id().client_id.len(), 16);
        let other = Arc::new(WriteIdentity::mint());
        assert_ne!(ticket.id().client_id, other.begin(1).id().client_id);
    }
}
