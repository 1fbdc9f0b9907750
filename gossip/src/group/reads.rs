//! Reads that ask a majority of the members.
//!
//! All members with a link are asked at once, this one as well; a majority of answers ends the read. What they come to
//! is in [`quorum`]. Answers that come later are not waited for, but who gave one gets what it lacks, like the others.
//!
//! # Who counts
//! An answer counts if its member follows the configuration of the reader, and is not recovering or damaged. A member of
//! another configuration is asked again, as it may follow soon; when the reader comes to another one itself, the
//! read begins anew. Any other refusal is final for this read. As soon as too few members are left that could answer,
//! the read ends without a result.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use bytes::Bytes;
use proto::NodeId;

use super::answer::{ReadRange, Told, Unread};
use super::message::Message;
use super::{Group, RUMOR_BYTES};
use crate::batch;
use crate::clock::FoldNumber;
use crate::dot::Dot;
use crate::quorum::{self, Joined};
use crate::record::{Body, EntryKey, Record};

/// Reads that wait for answers, at most.
pub const READS_MAX: usize = 1_024;

/// Bytes of answers that wait for others, above which no more reads are begun.
pub const READ_BYTES_MAX: usize = 64 * 1024 * 1024;

/// A member that has not answered for so long is asked again.
const ASK_AGAIN_MS: u64 = 500;

/// Members that did not answer in time get what they lack if their answers come that late at most.
const MEND_MS: u64 = 1_000;

/// Reads that were answered and are kept for that.
const MENDING_MAX: usize = 32;

/// Bytes that one poll answers to reads of others. The rest is asked for again.
pub(super) const TOLD_BYTES_MAX: usize = 8 * 1024 * 1024;

/// What a read found.
#[derive(Clone, Debug)]
pub struct Gathered {
    /// The keys of which something is known, in their order; a key that was asked for alone is always among them.
    pub keys: Vec<(EntryKey, Joined)>,
    /// Values that no answer holds, as they are too many, and how long they are. Among the others they are empty.
    pub left_out: BTreeMap<Dot, u64>,
    /// Nothing is said of this key and those behind it.
    pub next: Option<Bytes>,
    /// The other members whose answers these are.
    pub by: Vec<NodeId>,
    /// This one's is among them.
    pub with_own: bool,
}

/// A read that found no majority.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Missed {
    /// Answers that count.
    pub counted: usize,
    /// How many there had to be.
    pub needed: usize,
    /// Who gave another answer, and which.
    pub refused: BTreeMap<NodeId, Unread>,
    /// Why this member's own does not count.
    pub own: Option<Unread>,
}

/// The reads of a member.
#[derive(Debug, Default)]
pub(super) struct Reads {
    open: BTreeMap<u64, Open>,
    /// Answered ones that are kept for late answers, oldest first.
    mending: VecDeque<(u64, Mending)>,
    done: VecDeque<(u64, Result<Gathered, Missed>)>,
    last_id: u64,
    /// Bytes of answers that wait.
    pub(super) bytes: usize,
    /// Bytes of answers, and of values that were asked for, that go to others with the next poll.
    pub(super) told_bytes: usize,
}

#[derive(Debug)]
struct Open {
    range: ReadRange,
    own: Option<Result<Told, Unread>>,
    answers: BTreeMap<NodeId, Told>,
    refused: BTreeMap<NodeId, Unread>,
    /// When the others were asked last.
    asked_ms: BTreeMap<NodeId, u64>,
}

#[derive(Debug)]
struct Mending {
    keys: Vec<(EntryKey, Joined)>,
    until_ms: u64,
}

impl Reads {
    /// Names reads from this number on.
    pub(super) fn starting(last_id: u64) -> Self {
        Self { last_id, ..Self::default() }
    }

    pub(super) const fn polled(&mut self) {
        self.told_bytes = 0;
    }

    fn remove(&mut self, id: u64) -> Option<Open> {
        let open = self.open.remove(&id)?;
        let bytes: usize = open.answers.values().map(Told::bytes).sum();
        self.bytes = self.bytes.saturating_sub(bytes);
        Some(open)
    }
}

impl Open {
    const fn of(range: ReadRange) -> Self {
        Self {
            range,
            own: None,
            answers: BTreeMap::new(),
            refused: BTreeMap::new(),
            asked_ms: BTreeMap::new(),
        }
    }

    fn counted(&self) -> usize {
        self.answers.len() + usize::from(matches!(self.own, Some(Ok(_))))
    }

    fn missed(self, needed: usize) -> Missed {
        let counted = self.counted();
        let own = self.own.and_then(Result::err);
        Missed { counted, needed, refused: self.refused, own }
    }
}

impl Group {
    /// Whether this member knows too little to be asked.
    pub const fn set_recovering(&mut self, is_recovering: bool) {
        self.is_recovering = is_recovering;
    }

    /// Whether no more reads are to be begun until some have ended.
    #[must_use]
    pub fn is_full_of_reads(&self) -> bool {
        self.reads.open.len() >= READS_MAX || self.reads.bytes >= READ_BYTES_MAX
    }

    /// Begins a read, and names it. What it comes to is [taken](Group::take_read) later.
    pub fn read(&mut self, range: ReadRange) -> u64 {
        self.reads.last_id += 1;
        let id = self.reads.last_id;
        self.reads.open.insert(id, Open::of(range));
        self.begin_read(id);
        id
    }

    /// The next read that has ended.
    pub fn take_read(&mut self) -> Option<(u64, Result<Gathered, Missed>)> {
        self.reads.done.pop_front()
    }

    /// Whether a read has ended that was not taken.
    #[must_use]
    pub fn has_read_done(&self) -> bool {
        !self.reads.done.is_empty()
    }

    /// Nobody waits for a read any more. Answers how far it got.
    pub fn give_up_read(&mut self, id: u64) -> Option<Missed> {
        self.reads.done.retain(|(done, _)| *done != id);
        let needed = self.configuration.majority();
        self.reads.remove(id).map(|open| open.missed(needed))
    }

    /// All reads begin anew, in another configuration.
    pub(super) fn read_anew(&mut self) {
        self.reads.mending.clear();
        let ids: Vec<u64> = self.reads.open.keys().copied().collect();
        for id in ids {
            if let Some(open) = self.reads.remove(id) {
                self.reads.open.insert(id, Open::of(open.range));
                self.begin_read(id);
            }
        }
    }

    fn begin_read(&mut self, id: u64) {
        let Some(open) = self.reads.open.get(&id) else { return };
        let range = open.range.clone();
        let own = self.configuration.counts_itself.then(|| self.look_up(&range, None));
        if let Some(open) = self.reads.open.get_mut(&id) {
            open.own = own;
        }
        self.ask_silent(id);
        self.judge_read(id);
    }

    /// What this member says of a range. If something of it is lost here, that is noted.
    fn look_up(&mut self, range: &ReadRange, to: Option<FoldNumber>) -> Result<Told, Unread> {
        if self.is_recovering {
            return Err(Unread::Recovering);
        }
        let told = Told::of(&self.replica, range, to);
        if matches!(told, Err(Unread::Damaged)) {
            match range.key() {
                Some(key) => drop(self.verify(&key)),
                None => self.begin_scrub(),
            }
        }
        told
    }

    /// Asks the members that have not answered, unless that was just done.
    fn ask_silent(&mut self, id: u64) {
        let epoch = self.configuration.epoch;
        let members: Vec<NodeId> = self.linked().collect();
        let Some(open) = self.reads.open.get_mut(&id) else { return };
        for node in members {
            let is_final = open.refused.get(&node).is_some_and(|why| *why != Unread::OtherEpoch);
            let asked = open.asked_ms.get(&node);
            let is_recent = asked.is_some_and(|asked| self.now_ms < asked + ASK_AGAIN_MS);
            let counts = self.configuration.others.contains(&node);
            if is_final || is_recent || !counts || open.answers.contains_key(&node) {
                continue;
            }
            open.asked_ms.insert(node, self.now_ms);
            let range = open.range.clone();
            self.sends.push((node, Message::Read { id, epoch, range }));
        }
    }

    /// Ends a read that has a majority, or cannot get one any more.
    fn judge_read(&mut self, id: u64) {
        let Some(open) = self.reads.open.get(&id) else { return };
        let needed = self.configuration.majority();
        let counted = open.counted();
        if counted >= needed {
            return self.finish_read(id);
        }
        let may_answer = |node: &NodeId| {
            let is_final = open.refused.get(node).is_some_and(|why| *why != Unread::OtherEpoch);
            self.configuration.others.contains(node)
                && !open.answers.contains_key(node)
                && !is_final
        };
        let hoped_for = self.linked().filter(may_answer).count();
        if counted + hoped_for < needed
            && let Some(open) = self.reads.remove(id)
        {
            self.reads.done.push_back((id, Err(open.missed(needed))));
        }
    }

    /// Asks again who is silent, and ends what has no hope.
    pub(super) fn tick_reads(&mut self) {
        let now_ms = self.now_ms;
        self.reads.mending.retain(|(_, mending)| mending.until_ms > now_ms);
        let ids: Vec<u64> = self.reads.open.keys().copied().collect();
        for id in ids {
            self.ask_silent(id);
            self.judge_read(id);
        }
    }

    /// A member asks what is here.
    pub(super) fn asked_to_read(&mut self, from: NodeId, id: u64, epoch: u64, range: &ReadRange) {
        self.heard_epoch(from, epoch);
        if self.reads.told_bytes > TOLD_BYTES_MAX {
            return;
        }
        let own = self.configuration.epoch;
        let told = if epoch != own || !self.configuration.counts_itself {
            Err(Unread::OtherEpoch)
        } else {
            self.look_up(range, Some(self.folds_at(from)))
        };
        self.reads.told_bytes += told.as_ref().map_or(0, Told::bytes);
        self.send(from, Message::Answer { id, epoch: own, told });
    }

    /// A member answers.
    pub(super) fn answered(
        &mut self,
        from: NodeId,
        id: u64,
        epoch: u64,
        told: Result<Told, Unread>,
    ) {
        self.heard_epoch(from, epoch);
        let is_other = epoch != self.configuration.epoch;
        if !self.configuration.others.contains(&from) {
            return;
        }
        if let Ok(told) = &told
            && !is_other
        {
            self.mend_late(from, id, told);
        }
        let Some(open) = self.reads.open.get_mut(&id) else { return };
        match told {
            Ok(told) if !is_other => {
                open.refused.remove(&from);
                let bytes = told.bytes();
                self.reads.bytes += bytes;
                if let Some(before) = open.answers.insert(from, told) {
                    self.reads.bytes = self.reads.bytes.saturating_sub(before.bytes());
                }
            }
            Ok(_) => {
                open.refused.insert(from, Unread::OtherEpoch);
            }
            Err(why) => {
                open.refused.insert(from, why);
            }
        }
        self.judge_read(id);
    }

    fn finish_read(&mut self, id: u64) {
        let Some(Open { range, own, answers, .. }) = self.reads.remove(id) else { return };
        let own = own.and_then(Result::ok);
        let all: Vec<&Told> = own.iter().chain(answers.values()).collect();
        let next = all.iter().filter_map(|told| told.next.clone()).min();
        let mut names: BTreeSet<&Bytes> =
            all.iter().flat_map(|told| told.keys.iter().map(|key| &key.key)).collect();
        names.retain(|key| next.as_ref().is_none_or(|next| *key < next));
        let single = range.key();
        names.extend(single.iter().map(|key| &key.key));
        let mut keys = Vec::with_capacity(names.len());
        let mut left_out = BTreeMap::new();
        for name in names {
            let said: Vec<quorum::Answer> =
                all.iter().filter_map(|told| told.answer(name)).collect();
            let mut joined = quorum::join(&said);
            left_out.extend(fill_in(&mut joined, name, &all));
            keys.push((EntryKey::new(range.keyspace, name.clone()), joined));
        }
        for (node, told) in &answers {
            self.mend(*node, &lacking(told, &keys, &left_out));
        }
        if let Some(told) = &own {
            for record in lacking(told, &keys, &left_out) {
                self.counts.repaired += 1;
                self.apply(&record);
            }
        }
        let by = answers.keys().copied().collect();
        let with_own = own.is_some();
        self.keep_for_mending(id, &keys, &left_out);
        let gathered = Gathered { keys, left_out, next, by, with_own };
        self.reads.done.push_back((id, Ok(gathered)));
    }

    fn keep_for_mending(
        &mut self,
        id: u64,
        keys: &[(EntryKey, Joined)],
        left_out: &BTreeMap<Dot, u64>,
    ) {
        if left_out.is_empty() {
            let mending = Mending { keys: keys.to_vec(), until_ms: self.now_ms + MEND_MS };
            self.reads.mending.push_back((id, mending));
        }
        if self.reads.mending.len() > MENDING_MAX {
            self.reads.mending.pop_front();
        }
    }

    /// An answer came after those that were waited for.
    fn mend_late(&mut self, from: NodeId, id: u64, told: &Told) {
        let mending = self.reads.mending.iter().find(|(mended, _)| *mended == id);
        let records = mending.map(|(_, kept)| lacking(told, &kept.keys, &BTreeMap::new()));
        self.mend(from, &records.unwrap_or_default());
    }

    /// Sends a member what its answer lacked. It comes out of another answer, maybe of somebody who has lost it since; so it
    /// goes as a rumor does, and is taken like any record from outside the group.
    fn mend(&mut self, node: NodeId, mut left: &[Record]) {
        let through = self.folds_at(node);
        while !left.is_empty() {
            let (batch, count) = batch::encode(left, RUMOR_BYTES, through);
            left = &left[count..];
            self.counts.repaired += count as u64;
            self.send(node, Message::Rumor { id: 0, batch: batch.into() });
        }
    }
}

/// Puts values in their places that came in another answer than the rest. Answers those that came in none.
fn fill_in(joined: &mut Joined, key: &Bytes, all: &[&Told]) -> BTreeMap<Dot, u64> {
    let mut left_out: BTreeMap<Dot, u64> = all.iter().flat_map(|told| told.left_out(key)).collect();
    left_out.retain(|dot, _| joined.live.contains_key(dot));
    if left_out.is_empty() {
        return left_out;
    }
    for (dot, value) in all.iter().flat_map(|told| told.values(key)) {
        if left_out.remove(&dot).is_some()
            && let Some(sibling) = joined.live.get_mut(&dot)
        {
            sibling.body = Body::Value(value.clone());
        }
    }
    left_out
}

/// What somebody who gave this answer lacks and can be sent.
fn lacking(told: &Told, keys: &[(EntryKey, Joined)], left_out: &BTreeMap<Dot, u64>) -> Vec<Record> {
    let of_key = |(key, joined): &(EntryKey, Joined)| {
        let answer = told.answer(&key.key);
        let records = answer.map(|answer| {
            let mut records = joined.lacking(key, &answer);
            records.extend(joined.unknown_deletes(key, &answer));
            records
        });
        records.unwrap_or_default()
    };
    let all = keys.iter().flat_map(of_key);
    all.filter(|record| !left_out.contains_key(&record.dot)).collect()
}
