//! The scrub: once a day everything that the replica has is verified, in steps that nobody notices.
//!
//! The same is done at once where two members have equal clocks and unequal roots. One of them is damaged then, and
//! does not know it; until a member has verified all that it has, it is *suspicious*: it opens and serves no
//! exchanges and forgets nothing, so nothing is dropped anywhere for what it lacks or for what others do.

use bytes::Bytes;

use super::Group;
use crate::dot::Dot;
use crate::items::Salvaged;
use crate::record::EntryKey;
use crate::replica::Scrubbing;
use crate::tree::Leaf;

/// Milliseconds from the end of a scrub, or from a start, to the next scrub.
pub const SCRUB_MS: u64 = 86_400_000;

/// Keys, leaves or dots that one tick verifies, about: well below a millisecond.
const SCRUB_STEP: usize = 512;

/// The same while there is a suspicion, for which others wait: some milliseconds.
const SUSPICIOUS_STEP: usize = 8_192;

/// Who verified everything because of a suspicion does not do so again before.
const SUSPECT_MS: u64 = 60_000;

/// ... nor before so many times the time that it took: a peer that is wrong about it does not stop exchanges for good.
const SUSPECT_PAUSE: u64 = 10;

/// Values that waited and are written anew in one tick.
const SETTLED_STEP: usize = 256;

/// How far the scrub is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ScrubState {
    /// It runs.
    pub runs: bool,
    /// It runs because of a suspicion.
    pub is_suspicious: bool,
}

/// See the module page.
#[derive(Debug, Default)]
pub(super) struct Scrub {
    at: Option<Scrubbing>,
    is_suspicious: bool,
    /// When the suspicion began.
    suspected_ms: u64,
    /// When the next one is due, once the time is known.
    next_ms: Option<u64>,
    /// Until then a suspicion does nothing.
    calm_ms: u64,
}

impl Group {
    /// How far the scrub is.
    #[must_use]
    pub const fn scrub_state(&self) -> ScrubState {
        ScrubState { runs: self.scrub.at.is_some(), is_suspicious: self.scrub.is_suspicious }
    }

    /// Begins a scrub, unless one runs.
    pub fn begin_scrub(&mut self) {
        self.scrub.at.get_or_insert(Scrubbing::START);
    }

    /// Whether this member waits for the end of a scrub before anything is dropped.
    pub(super) const fn is_suspicious(&self) -> bool {
        self.scrub.is_suspicious
    }

    /// Takes a step of the scrub, if one is due.
    pub(super) fn scrub(&mut self) {
        let next_ms = *self.scrub.next_ms.get_or_insert(self.now_ms + SCRUB_MS);
        if self.now_ms >= next_ms {
            self.begin_scrub();
        }
        let Some(at) = self.scrub.at.take() else { return };
        let before = self.replica.damage().len();
        let step = if self.is_suspicious() { SUSPICIOUS_STEP } else { SCRUB_STEP };
        let at = self.replica.scrub_on(at, step);
        self.counts.damaged += (self.replica.damage().len() - before) as u64;
        if at != Scrubbing::Done {
            self.scrub.at = Some(at);
            return;
        }
        self.counts.scrubs += 1;
        self.scrub.next_ms = Some(self.now_ms + SCRUB_MS);
        if std::mem::take(&mut self.scrub.is_suspicious) {
            let took_ms = self.now_ms.saturating_sub(self.scrub.suspected_ms);
            self.scrub.calm_ms = self.now_ms + SUSPECT_MS.max(SUSPECT_PAUSE * took_ms);
        }
    }

    /// This member and another have equal clocks and unequal roots, or the other one says so. That the other one has found
    /// damage of its own is no reason.
    pub(super) fn suspect(&mut self) {
        self.counts.suspected += 1;
        if self.now_ms < self.scrub.calm_ms || self.is_suspicious() || self.is_damaged() {
            return;
        }
        self.scrub.at = Some(Scrubbing::START);
        self.scrub.is_suspicious = true;
        self.scrub.suspected_ms = self.now_ms;
        self.asking.clear();
        self.serving.clear();
    }

    /// Whether something of the replica is known to be lost. It takes part in nothing any more.
    #[must_use]
    pub fn is_damaged(&self) -> bool {
        !self.replica.damage().is_empty()
    }

    /// Verifies what a client asks for before it is told.
    pub fn verify(&mut self, key: &EntryKey) -> Leaf {
        let leaf = self.replica.verify(key);
        if leaf == Leaf::Damaged && !self.is_damaged() {
            self.counts.damaged += 1;
            self.replica.damaged(key);
        }
        leaf
    }

    /// Takes back what could be read of the damaged replica that was here before. This one began with nothing, and
    /// knows the keyspaces.
    pub fn take_back(&mut self, salvaged: Salvaged) {
        let collapses = self.replica.take_back(salvaged);
        self.spread(collapses);
    }

    /// Writes anew what waited, once all others have brought this member up and nobody knows of it.
    pub(super) fn settle_kept(&mut self) {
        if self.replica.kept().is_empty() || !self.has_met_all() {
            return;
        }
        let spread = self.replica.settle_kept(SETTLED_STEP);
        self.counts.rewritten += spread.len() as u64;
        self.spread(spread);
    }

    /// Counts a scrub of what is stored that came to its end.
    pub const fn count_store_scrub(&mut self) {
        self.counts.store_scrubs += 1;
    }

    /// Gives an item out again that the store has not got as it is here.
    pub fn store_again(&mut self, item: &Bytes) {
        self.counts.mended += 1;
        self.replica.store_again(item);
    }

    /// The store holds something else than an item that is here: this replica is damaged, or its store is.
    pub fn contradicted(&mut self, item: &Bytes) {
        self.counts.damaged += 1;
        self.replica.contradicted(item);
    }

    /// What a fault does that loses a write in memory, for tests.
    #[doc(hidden)]
    pub fn lose(&mut self, key: &EntryKey, dot: Dot) {
        self.replica.lose(key, dot);
    }

    /// Goes on counting where the group before this one ended.
    pub const fn count_on(&mut self, counts: super::Counts) {
        self.counts = counts;
    }
}
