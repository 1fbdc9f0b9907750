//! The table that makes writes run exactly once.
//!
//! A client names each write with its id and a number (`seq`) and repeats the name when it
//! retries. The table keeps the outcome of each write, and a retry is answered from it. It stays
//! small in two ways:
//!
//! - The client sends with each write the lowest number it has not seen answered (`first_open`).
//!   Outcomes below it are dropped, and a write below it is refused
//!   ([`Code::WriteAnswered`]).
//! - Above a bound the oldest outcomes, in the order of the log, are evicted. A retry of an evicted
//!   write must not run again (curvine#676), so eviction leaves a fence: `floor` rises to the index
//!   of the evicted write, and a write is refused ([`Code::OutcomeForgotten`]) when its client was
//!   `born` below the floor and no outcome of it is kept. A client's writes all have a higher index
//!   than its `born`, so whoever was born at or above the floor has lost no outcome.
//!
//! Invariants:
//!
//! 1. Every kept outcome has an index above `floor`.
//! 2. Every kept outcome of a client has a number at or above the client's `first_open`.
//! 3. A client is known exactly as long as an outcome of it is kept. Its last write in the order
//!    of the log is among them: it can only be dropped by a later one, and eviction takes it last.
//!    Therefore the kept outcomes, each with the `first_open` of its moment, say all there is to
//!    know, and the table can be read back from their records alone.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use proto::{ClientId, Code, LogIndex, WriteSeq, v1};

use super::outcome::{Kept, Outcome};
use crate::state::StateError;

/// What keeping an outcome costs over all maps, roughly: 96 bytes for itself and 24 + 32 + 32 in the
/// nodes of the maps, which are two thirds full; and 30 more until the next checkpoint.
const KEPT_BYTES: usize = 272;
/// What each effect of an outcome costs on top, where they take memory of their own.
const EFFECT_BYTES: usize = 16;

/// The name of a write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Name {
    /// Who writes.
    pub client: ClientId,
    /// Which write of this client.
    pub seq: WriteSeq,
    /// Lowest number that the client has not seen answered.
    pub first_open: WriteSeq,
    /// A log index that the client had seen before it first used its id.
    pub born: LogIndex,
}

impl Name {
    /// Reads the name off a write; `None` for a write without one, which runs each time.
    ///
    /// # Errors
    /// [`Code::InvalidRequest`] for a name that is no name.
    pub fn read(id: Option<&v1::WriteId>) -> Result<Option<Self>, Code> {
        let Some(id) = id.filter(|id| !id.client_id.is_empty()) else { return Ok(None) };
        let client = ClientId::from_slice(&id.client_id).ok_or(Code::InvalidRequest)?;
        if id.seq == 0 {
            return Err(Code::InvalidRequest);
        }
        Ok(Some(Self {
            client,
            seq: WriteSeq(id.seq),
            first_open: WriteSeq(id.first_open),
            born: LogIndex(id.born),
        }))
    }
}

/// What to do with a write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Admission {
    /// It has not run before.
    Execute,
    /// It has run, and this is what it came to.
    Replay(Outcome),
    /// It must not run; nothing changes.
    Refuse(Code),
}

/// Outcomes of named writes.
#[derive(Clone, Debug)]
pub struct Sessions {
    outcomes_max: usize,
    bytes_max: usize,
    kept: BTreeMap<LogIndex, Arc<Kept>>,
    /// Those of `kept` that no checkpoint holds yet: taken whole when one begins.
    fresh: BTreeMap<LogIndex, Arc<Kept>>,
    by_name: BTreeMap<(ClientId, WriteSeq), LogIndex>,
    clients: BTreeMap<ClientId, Client>,
    bytes: usize,
    floor: LogIndex,
    /// Records at or below this index may be in the store.
    recorded: LogIndex,
    /// Dropped outcomes whose records may be in the store.
    garbage: Vec<LogIndex>,
}

#[derive(Clone, Debug, Default)]
struct Client {
    first_open: WriteSeq,
    /// Number of its kept outcomes.
    kept: usize,
}

impl Sessions {
    /// An empty table with these bounds.
    pub fn new(outcomes_max: usize, bytes_max: usize) -> Self {
        Self {
            outcomes_max,
            bytes_max,
            kept: BTreeMap::new(),
            fresh: BTreeMap::new(),
            by_name: BTreeMap::new(),
            clients: BTreeMap::new(),
            bytes: 0,
            floor: LogIndex(0),
            recorded: LogIndex(0),
            garbage: Vec::new(),
        }
    }

    /// The index up to which outcomes may have been evicted.
    pub fn floor(&self) -> LogIndex {
        self.floor
    }

    /// The kept outcomes in the order of the log.
    pub fn kept(&self) -> impl ExactSizeIterator<Item = (LogIndex, &Kept)> {
        self.kept.iter().map(|(index, kept)| (*index, &**kept))
    }

    /// Decides about a write. Changes nothing.
    pub fn admit(&self, name: &Name) -> Admission {
        let known = self.clients.get(&name.client);
        let first_open =
            known.map_or(name.first_open, |known| known.first_open.max(name.first_open));
        if name.seq < first_open {
            return Admission::Refuse(Code::WriteAnswered);
        }
        if let Some(index) = self.by_name.get(&(name.client, name.seq)) {
            return Admission::Replay(self.kept[index].outcome.clone());
        }
        if name.born < self.floor {
            return Admission::Refuse(Code::OutcomeForgotten);
        }
        Admission::Execute
    }

    /// Keeps the outcome of a write that was admitted for execution.
    ///
    /// # Panics
    /// When an outcome of the write or of a later index is kept already.
    pub fn record(&mut self, index: LogIndex, name: &Name, outcome: Outcome) {
        let known = self.clients.get(&name.client).map_or(WriteSeq(0), |known| known.first_open);
        let first_open = known.max(name.first_open);
        let kept = Kept { client: name.client, seq: name.seq, first_open, outcome };
        let kept = self.insert(index, kept);
        self.fresh.insert(index, kept);
        // The newest stays, whatever the bound: without it the floor would reach this very index.
        while self.kept.len() > 1
            && (self.kept.len() > self.outcomes_max || self.bytes > self.bytes_max)
        {
            let (&oldest, _) = self.kept.first_key_value().expect("more than one is kept");
            self.remove(oldest);
            self.floor = oldest;
        }
    }

    fn insert(&mut self, index: LogIndex, kept: Kept) -> Arc<Kept> {
        let last = self.kept.last_key_value().map(|(index, _)| *index);
        assert!(last < Some(index), "outcome {index} is kept after {last:?}");
        assert!(kept.seq >= kept.first_open, "write {} was answered before", kept.seq);
        let (client, first_open) = (kept.client, kept.first_open);
        let answered = (client, WriteSeq(0))..(client, first_open);
        while let Some((_, &index)) = self.by_name.range(answered.clone()).next() {
            self.remove(index);
        }
        let twice = self.by_name.insert((client, kept.seq), index);
        assert!(twice.is_none(), "write {} of client {client} ran twice", kept.seq);
        self.bytes += cost(&kept);
        let kept = Arc::new(kept);
        self.kept.insert(index, Arc::clone(&kept));
        let known = self.clients.entry(client).or_default();
        known.kept += 1;
        known.first_open = first_open;
        kept
    }

    fn remove(&mut self, index: LogIndex) {
        let kept = self.kept.remove(&index).expect("names point at kept outcomes");
        self.fresh.remove(&index);
        self.by_name.remove(&(kept.client, kept.seq));
        self.bytes -= cost(&kept);
        let client = self.clients.get_mut(&kept.client).expect("kept outcomes have a client");
        client.kept -= 1;
        if client.kept == 0 {
            self.clients.remove(&kept.client);
        }
        if index <= self.recorded {
            self.garbage.push(index);
        }
    }

    /// Takes what a checkpoint at `to` has to write and to delete: the outcomes kept since the last
    /// one, and the indexes of dropped ones whose records may be in the store. Copies nothing.
    pub fn checkpoint(&mut self, to: LogIndex) -> (BTreeMap<LogIndex, Arc<Kept>>, Vec<LogIndex>) {
        self.recorded = self.recorded.max(to);
        (std::mem::take(&mut self.fresh), std::mem::take(&mut self.garbage))
    }

    /// The dropped outcomes whose records may be in the store.
    pub fn dropped(&self) -> BTreeSet<LogIndex> {
        self.garbage.iter().copied().collect()
    }

    /// Reads the table of the checkpoint at `index` back from its floor and the records found in
    /// the store, which are given in the order of the log. Records that the checkpoint had dropped
    /// or that a lost checkpoint left behind are told apart and not kept.
    ///
    /// # Errors
    /// [`StateError::Damaged`] when the records contradict each other.
    pub fn restore(
        &mut self,
        index: LogIndex,
        floor: LogIndex,
        records: impl IntoIterator<Item = Result<(LogIndex, Kept), StateError>>,
    ) -> Result<(), StateError> {
        assert!(self.kept.is_empty(), "a table is restored once");
        self.floor = floor;
        // First, so that whatever `insert` drops counts as garbage.
        self.recorded = index;
        for record in records {
            let (at, kept) = record?;
            if at > index {
                // Of a lost checkpoint. Replay may write it again, or drop it first.
                self.recorded = at;
            } else if at <= floor {
                self.garbage.push(at);
            } else if kept.seq < kept.first_open
                || self.by_name.contains_key(&(kept.client, kept.seq))
            {
                let why = format!("the outcome at index {at} contradicts an earlier one");
                return Err(StateError::Damaged { why });
            } else {
                drop(self.insert(at, kept));
            }
        }
        Ok(())
    }
}

fn cost(kept: &Kept) -> usize {
    KEPT_BYTES + kept.outcome.effects.allocated() * EFFECT_BYTES
}

#[cfg(test)]
mod tests {
    use super::super::outcome::Effects;
    use super::*;
    use proto::Revision;

    fn name(client: u8, seq: u64, first_open: u64, born: u64) -> Name {
        Name {
            client: ClientId([client; 16]),
            seq: WriteSeq(seq),
            first_open: WriteSeq(first_open),
            born: LogIndex(born),
        }
    }

    fn outcome(revision: u64) -> Outcome {
        let effects = Effects::OnePut;
        Outcome { revision: Revision(revision), succeeded: true, refused: 0, effects }
    }

    fn table(outcomes_max: usize) -> Sessions {
        Sessions::new(outcomes_max, usize::MAX)
    }

    /// Runs a write as the machine does.
    fn run(table: &mut Sessions, index: u64, name: Name) -> Admission {
        let admission = table.admit(&name);
        if admission == Admission::Execute {
            table.record(LogIndex(index), &name, outcome(index));
        }
        admission
    }

    fn restored(table: &Sessions, index: u64) -> Sessions {
        let mut copy = Sessions::new(table.outcomes_max, table.bytes_max);
        let records = table.kept().map(|(index, kept)| (index, kept.clone()));
        copy.restore(LogIndex(index), table.floor, records.map(Ok)).unwrap();
        copy
    }

    fn assert_same(a: &Sessions, b: &Sessions) {
        assert_eq!(a.kept, b.kept);
        assert_eq!(a.by_name, b.by_name);
        assert_eq!((a.bytes, a.floor), (b.bytes, b.floor));
        let clients = |table: &Sessions| -> Vec<(ClientId, WriteSeq, usize)> {
            table.clients.iter().map(|(id, c)| (*id, c.first_open, c.kept)).collect()
        };
        assert_eq!(clients(a), clients(b));
    }

    /// etcd-io/etcd#18424.
    #[test]
    fn a_retry_gets_the_first_outcome() {
        let mut table = table(10);
        assert_eq!(run(&mut table, 5, name(1, 1, 1, 4)), Admission::Execute);
        assert_eq!(run(&mut table, 6, name(1, 1, 1, 4)), Admission::Replay(outcome(5)));
        assert_eq!(run(&mut table, 7, name(2, 1, 1, 4)), Admission::Execute);
        assert_eq!(run(&mut table, 8, name(1, 2, 1, 4)), Admission::Execute);
        assert_eq!(run(&mut table, 9, name(1, 1, 1, 4)), Admission::Replay(outcome(5)));
    }

    #[test]
    fn writes_below_first_open_are_refused_and_forgotten() {
        let mut table = table(10);
        for seq in 1..=3 {
            run(&mut table, 4 + seq, name(1, seq, 1, 4));
        }
        assert_eq!(run(&mut table, 8, name(1, 4, 3, 4)), Admission::Execute);
        let answered = Admission::Refuse(Code::WriteAnswered);
        assert_eq!(run(&mut table, 9, name(1, 1, 1, 4)), answered);
        assert_eq!(run(&mut table, 9, name(1, 2, 1, 4)), answered);
        assert_eq!(run(&mut table, 9, name(1, 3, 1, 4)), Admission::Replay(outcome(7)));
        assert_eq!(table.kept().len(), 2);
        let contradiction = name(2, 1, 2, 4);
        assert_eq!(run(&mut table, 9, contradiction), answered, "it says so about itself");
    }

    #[test]
    fn writes_may_arrive_out_of_order() {
        let mut table = table(10);
        assert_eq!(run(&mut table, 5, name(1, 3, 1, 4)), Admission::Execute);
        assert_eq!(run(&mut table, 6, name(1, 1, 1, 4)), Admission::Execute);
        assert_eq!(run(&mut table, 7, name(1, 4, 2, 4)), Admission::Execute);
        assert_eq!(run(&mut table, 8, name(1, 2, 1, 4)), Admission::Execute);
        assert_eq!(run(&mut table, 9, name(1, 3, 1, 4)), Admission::Replay(outcome(5)));
    }

    /// curvine#676: what was evicted must not run again.
    #[test]
    fn eviction_leaves_a_fence() {
        let mut table = table(2);
        run(&mut table, 5, name(1, 1, 1, 4));
        run(&mut table, 6, name(2, 1, 1, 4));
        assert_eq!(table.floor(), LogIndex(0));
        run(&mut table, 7, name(3, 1, 1, 4));
        assert_eq!(table.floor(), LogIndex(5), "the oldest in log order goes");
        let forgotten = Admission::Refuse(Code::OutcomeForgotten);
        assert_eq!(run(&mut table, 8, name(1, 1, 1, 4)), forgotten);
        assert_eq!(run(&mut table, 8, name(1, 2, 2, 4)), forgotten, "born below the floor");
        assert_eq!(run(&mut table, 8, name(2, 1, 1, 4)), Admission::Replay(outcome(6)));
        assert_eq!(run(&mut table, 8, name(4, 1, 1, 5)), Admission::Execute, "born at the floor");
    }

    #[test]
    fn the_bound_in_bytes_counts_too() {
        let mut table = Sessions::new(usize::MAX, 3 * KEPT_BYTES);
        for index in 1..=3 {
            run(&mut table, index, name(index as u8, 1, 1, index - 1));
        }
        assert_eq!((table.kept().len(), table.floor()), (3, LogIndex(0)));
        for index in 4..=10 {
            run(&mut table, index, name(index as u8, 1, 1, index - 1));
        }
        assert_eq!((table.kept().len(), table.floor()), (3, LogIndex(7)));
        let mut tiny = Sessions::new(1, 0);
        run(&mut tiny, 1, name(1, 1, 1, 0));
        assert_eq!(tiny.kept().len(), 1, "the newest always stays");
    }

    #[test]
    fn a_table_is_restored_from_its_records() {
        for outcomes_max in [3, 8, 100] {
            let mut table = table(outcomes_max);
            let mut index = 0;
            for round in 0..60_u64 {
                index += 1;
                let client = (round * 7 % 5) as u8;
                let seq = 1 + round * 3 % 11 + round / 6;
                let first_open = seq.saturating_sub(round % 4);
                run(&mut table, index, name(client, seq, first_open, round / 10 * 9));
                assert_same(&restored(&table, index), &table);
            }
        }
    }

    #[test]
    fn remains_in_the_store_are_told_apart() {
        let mut table = table(3);
        let mut all = Vec::new();
        for index in 1..=8 {
            let seq = 1 + index / 3;
            run(&mut table, index, name((index % 3) as u8, seq, seq, index - 1));
            let (index, kept) = table.kept().last().unwrap();
            all.push((index, kept.clone()));
        }
        assert!(table.kept().len() < all.len(), "some were dropped");
        let mut copy = Sessions::new(3, usize::MAX);
        let kept = all[0].1.clone();
        let lost = [(LogIndex(9), kept.clone()), (LogIndex(12), kept)];
        let records = all.iter().cloned().chain(lost).map(Ok);
        copy.restore(LogIndex(8), table.floor, records).unwrap();
        assert_same(&copy, &table);
        let (fresh, mut garbage) = copy.checkpoint(LogIndex(8));
        assert!(fresh.is_empty());
        garbage.sort();
        let kept: Vec<LogIndex> = table.kept().map(|(index, _)| index).collect();
        let dropped: Vec<LogIndex> =
            (1..=8).map(LogIndex).filter(|index| !kept.contains(index)).collect();
        assert_eq!(garbage, dropped);
        assert_eq!(copy.recorded, LogIndex(12), "what a lost checkpoint wrote is watched");
    }

    #[test]
    fn only_what_may_be_in_the_store_becomes_garbage() {
        let mut table = table(10);
        run(&mut table, 1, name(1, 1, 1, 0));
        run(&mut table, 2, name(1, 2, 2, 0));
        let (fresh, garbage) = table.checkpoint(LogIndex(2));
        assert_eq!(fresh.keys().map(|index| index.get()).collect::<Vec<_>>(), [2]);
        assert_eq!(garbage, [], "write 1 was dropped before any checkpoint");
        run(&mut table, 3, name(1, 3, 3, 0));
        let (fresh, garbage) = table.checkpoint(LogIndex(3));
        assert_eq!(fresh.keys().map(|index| index.get()).collect::<Vec<_>>(), [3]);
        assert_eq!(garbage, [LogIndex(2)]);
    }
}
