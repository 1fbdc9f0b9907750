//! Fetching an export from a peer: which chunks to ask for, and when to give up.
//!
//! The receiver asks, so that nothing is sent faster than it is written here: at most
//! [`CHUNKS_OPEN_MAX`] chunks are asked for and not yet written, and at most [`CHUNKS_PER_TICK`] are
//! asked for in one tick. A chunk whose answer is lost is asked for again.

use std::collections::BTreeMap;

use bytes::Bytes;
use proto::{NodeId, peer};

use super::io::Ticks;

/// Length of a chunk, but for the last one.
pub const CHUNK_BYTES: u64 = storage::export::TRANSFER_CHUNK_BYTES as u64;
/// Chunks that are asked for and not yet written.
pub const CHUNKS_OPEN_MAX: usize = 8;
/// Chunks asked for in one tick: 80 MiB a second.
pub const CHUNKS_PER_TICK: usize = 16;
/// Ticks after which a chunk is asked for again.
const CHUNK_PATIENCE: u64 = 20;
/// Ticks without a new chunk after which the fetch is given up: the sender is gone.
const FETCH_PATIENCE: u64 = 200;
/// Longest export that is fetched.
const EXPORT_BYTES_MAX: u64 = 1 << 40;

/// What became of a chunk that was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Chunk {
    /// Asked for, at this time.
    Asked(Ticks),
    /// Being written, since this time. It may have come before its turn: then it is asked for again.
    Writing(Ticks),
}

/// One export on its way here.
///
/// Invariant: every chunk before `next` is written, or in `open`.
#[derive(Clone, Debug)]
pub struct Fetch {
    from: NodeId,
    offer: peer::SnapshotOffer,
    next: u64,
    open: BTreeMap<u64, Chunk>,
    asked_this_tick: usize,
    progress: Ticks,
}

impl Fetch {
    /// A fetch of what `from` offers; `None` when the offer cannot be meant.
    #[must_use]
    pub fn begin(from: NodeId, offer: peer::SnapshotOffer, now: Ticks) -> Option<Self> {
        let fits = (1..=EXPORT_BYTES_MAX).contains(&offer.bytes)
            && offer.sha256.len() == 32
            && offer.conf_state.is_some();
        let fetch =
            Self { from, offer, next: 0, open: BTreeMap::new(), asked_this_tick: 0, progress: now };
        fits.then_some(fetch)
    }

    /// Who serves it.
    #[must_use]
    pub fn from(&self) -> NodeId {
        self.from
    }

    /// What is fetched.
    #[must_use]
    pub fn offer(&self) -> &peer::SnapshotOffer {
        &self.offer
    }

    /// One tick has passed; false when the fetch is to be given up.
    pub fn tick(&mut self, now: Ticks) -> bool {
        self.asked_this_tick = 0;
        now.0.saturating_sub(self.progress.0) < FETCH_PATIENCE
    }

    /// What to ask for now.
    pub fn requests(&mut self, now: Ticks) -> Vec<peer::SnapshotFetch> {
        let mut offsets = Vec::new();
        for (offset, chunk) in &mut self.open {
            let late = |asked: Ticks| now.0.saturating_sub(asked.0) >= CHUNK_PATIENCE;
            if matches!(chunk, Chunk::Asked(since) | Chunk::Writing(since) if late(*since)) {
                *chunk = Chunk::Asked(now);
                offsets.push(*offset);
            }
        }
        while self.next < self.offer.bytes
            && self.open.len() < CHUNKS_OPEN_MAX
            && self.asked_this_tick < CHUNKS_PER_TICK
        {
            self.open.insert(self.next, Chunk::Asked(now));
            offsets.push(self.next);
            self.next += CHUNK_BYTES;
            self.asked_this_tick += 1;
        }
        let request = |offset| peer::SnapshotFetch {
            sha256: self.offer.sha256.clone(),
            index: self.offer.index,
            offset,
        };
        offsets.into_iter().map(request).collect()
    }

    /// Takes an answer: the data to write, if it is one that was asked for.
    pub fn answer(&mut self, chunk: &peer::SnapshotChunk, now: Ticks) -> Option<Bytes> {
        let expected = CHUNK_BYTES.min(self.offer.bytes.saturating_sub(chunk.offset));
        let asked = matches!(self.open.get(&chunk.offset), Some(Chunk::Asked(_)));
        if !asked || !self.is_about(&chunk.sha256) || chunk.data.len() as u64 != expected {
            return None;
        }
        self.open.insert(chunk.offset, Chunk::Writing(now));
        Some(chunk.data.clone())
    }

    /// Whether a message is about this export.
    #[must_use]
    pub fn is_about(&self, sha256: &[u8]) -> bool {
        self.offer.sha256 == sha256
    }

    /// A chunk is written. True once that was the last one.
    pub fn written(&mut self, offset: u64, now: Ticks) -> bool {
        self.progress = now;
        self.open.remove(&offset);
        self.open.is_empty() && self.next >= self.offer.bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proto::log;

    fn fetch(bytes: u64) -> Fetch {
        let offer = peer::SnapshotOffer {
            index: 9,
            bytes,
            sha256: vec![7; 32].into(),
            conf_state: Some(log::ConfState::default()),
            ..peer::SnapshotOffer::default()
        };
        Fetch::begin(NodeId(2), offer, Ticks(0)).unwrap()
    }

    fn chunk(request: &peer::SnapshotFetch, bytes: u64) -> peer::SnapshotChunk {
        let length = CHUNK_BYTES.min(bytes - request.offset);
        peer::SnapshotChunk {
            sha256: request.sha256.clone(),
            index: request.index,
            offset: request.offset,
            data: vec![1; length as usize].into(),
            gone: false,
        }
    }

    #[test]
    fn everything_is_fetched_once_within_the_window() {
        let bytes = 20 * CHUNK_BYTES + 5;
        let mut fetch = fetch(bytes);
        let (mut got, mut now) = (0, Ticks(0));
        loop {
            let requests = fetch.requests(now);
            assert!(requests.len() <= CHUNKS_OPEN_MAX);
            let mut done = false;
            for request in requests {
                got += fetch.answer(&chunk(&request, bytes), now).unwrap().len() as u64;
                assert_eq!(fetch.answer(&chunk(&request, bytes), now), None, "a duplicate");
                done = fetch.written(request.offset, now);
            }
            if done {
                break;
            }
            now.0 += 1;
            assert!(fetch.tick(now));
        }
        assert_eq!(got, bytes);
    }

    #[test]
    fn a_lost_chunk_is_asked_for_again_and_a_dead_sender_given_up() {
        let mut fetch = fetch(10);
        assert_eq!(fetch.requests(Ticks(0)).len(), 1);
        assert!(fetch.requests(Ticks(CHUNK_PATIENCE - 1)).is_empty());
        assert_eq!(fetch.requests(Ticks(CHUNK_PATIENCE)).len(), 1);
        assert!(fetch.tick(Ticks(FETCH_PATIENCE - 1)));
        assert!(!fetch.tick(Ticks(FETCH_PATIENCE)));
    }

    #[test]
    fn what_was_not_asked_for_or_does_not_fit_is_dropped() {
        let mut fetch = fetch(CHUNK_BYTES * 2);
        let requests = fetch.requests(Ticks(0));
        let good = chunk(&requests[0], CHUNK_BYTES * 2);
        let foreign = peer::SnapshotChunk { sha256: vec![8; 32].into(), ..good.clone() };
        assert_eq!(fetch.answer(&foreign, Ticks(0)), None);
        let short = peer::SnapshotChunk { data: Bytes::from_static(b"x"), ..good.clone() };
        assert_eq!(fetch.answer(&short, Ticks(0)), None);
        let elsewhere = peer::SnapshotChunk { offset: 5, ..good.clone() };
        assert_eq!(fetch.answer(&elsewhere, Ticks(0)), None);
        assert!(fetch.answer(&good, Ticks(0)).is_some());
    }

    #[test]
    fn an_impossible_offer_is_refused() {
        let offer = fetch(10).offer;
        for bad in [
            peer::SnapshotOffer { bytes: 0, ..offer.clone() },
            peer::SnapshotOffer { bytes: u64::MAX, ..offer.clone() },
            peer::SnapshotOffer { sha256: Bytes::new(), ..offer.clone() },
            peer::SnapshotOffer { conf_state: None, ..offer.clone() },
        ] {
            assert!(Fetch::begin(NodeId(2), bad, Ticks(0)).is_none());
        }
    }
}
