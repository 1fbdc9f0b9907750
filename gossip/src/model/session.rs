//! One session of anti-entropy: what its two ends remember until it closes.

use super::dots::{Dot, Dots};
use super::mutant::Mutant;
use super::replica::Replica;
use super::truth::{KEYS_MAX, Truth};

/// A session that carries what `from` has and `to` lacks. Nothing here survives a start of either.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct Session {
    /// Whether it goes on.
    pub is_open: bool,
    /// Who sends.
    pub from: u8,
    /// Who receives.
    pub to: u8,
    /// The sender's clock at the beginning.
    clock: Dots,
    /// The receiver's clock at the beginning.
    receiver: Dots,
    /// The sender's horizon at the beginning. Only a broken variant closes with it.
    horizon: Dots,
    /// Listed records that have not been sent.
    todo: Dots,
    /// Whether the sender may have dropped what the receiver never saw.
    pub is_flagged: bool,
    /// Keys that have to be compared, one bit each.
    walk: u8,
    /// Keys whose entry was sent whole.
    staged: u8,
    /// The sender's records of these keys.
    present: Dots,
    /// Of these, the ones without a context.
    bare: Dots,
    /// All that the sender knew of these keys.
    effective: Dots,
    /// What was pending at the sender, of all keys.
    pending: Dots,
    /// The receiver's live siblings of the keys that were found equal, as they were then.
    compared: [Dots; KEYS_MAX],
    /// Whether a record was refused.
    is_refused: bool,
    /// Whether the sender was a member that was not recovering.
    pub is_trusted: bool,
}

/// What came of sending one thing.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Sent {
    /// A record with its context, to be applied.
    Record(Dot),
    /// A whole entry, to be acted on when the session closes.
    Entry {
        /// Its key.
        key: usize,
        /// Records of it to be applied now.
        records: Dots,
        /// Whether it stands for a record that is gone since the session began.
        vanished: bool,
    },
    /// A key that is equal on both sides.
    Equal(usize),
    /// Nothing is left to send.
    Done,
}

impl Session {
    /// Begins one: fixes the sender's clock, horizon and list of records.
    pub fn begin(
        from: u8,
        to: u8,
        sender: &Replica,
        receiver: &Replica,
        keys: usize,
        mutant: Option<Mutant>,
    ) -> Self {
        let unseen = sender.clock - receiver.clock;
        let is_flagged =
            !(unseen & sender.horizon).is_empty() && mutant != Some(Mutant::FlagIgnored);
        let todo = match mutant {
            Some(Mutant::NoClockRule) => sender.stored,
            Some(Mutant::DamagedLeafServed) => sender.stored & unseen,
            // The list comes from the index of dots, which still names what an entry lost.
            _ => (sender.stored | sender.damaged) & unseen,
        };
        let pending = if is_flagged && mutant != Some(Mutant::WalkOfDiffering) {
            sender.pending
        } else {
            Dots::NONE
        };
        Self {
            is_open: true,
            from,
            to,
            clock: sender.clock,
            receiver: receiver.clock,
            horizon: sender.horizon,
            todo,
            is_flagged,
            walk: if is_flagged { (1 << keys) - 1 } else { 0 },
            pending,
            is_trusted: !sender.recovering,
            ..Self::default()
        }
    }

    /// The same; a session that has ended is like any other.
    pub(super) fn if_open(self) -> Self {
        if self.is_open { self } else { Self::default() }
    }

    /// The key that is served next, whose leaf has to be verified before.
    pub fn next_key(&self, truth: &Truth) -> Option<usize> {
        match truth.first(self.todo) {
            Some(dot) => Some(usize::from(truth.write(dot).key)),
            None if self.walk != 0 => Some(self.walk.trailing_zeros() as usize),
            None => None,
        }
    }

    /// Sends the next thing.
    pub fn send(
        &mut self,
        truth: &Truth,
        sender: &Replica,
        receiver: &Replica,
        mutant: Option<Mutant>,
    ) -> Sent {
        if let Some(dot) = truth.first(self.todo) {
            self.todo -= Dots::one(dot);
            if sender.contexts.has(dot) {
                return Sent::Record(dot);
            }
            let key = usize::from(truth.write(dot).key);
            let vanished = !sender.stored.has(dot);
            let records = match mutant {
                Some(Mutant::VanishedSkipped | Mutant::LiveRead) if vanished => Dots::NONE,
                Some(Mutant::VanishedBySiblings) if vanished => sender.contexts & truth.of_key[key],
                _ => self.stage(truth, sender, key),
            };
            return Sent::Entry { key, records, vanished };
        }
        if self.walk == 0 {
            return Sent::Done;
        }
        let key = self.walk.trailing_zeros() as usize;
        self.walk &= self.walk - 1;
        self.compared[key] = receiver.live(truth, key);
        if self.compared[key] == sender.live(truth, key) {
            return Sent::Equal(key);
        }
        Sent::Entry { key, records: self.stage(truth, sender, key), vanished: false }
    }

    /// Notes that a record was not taken.
    pub fn refuse(&mut self) {
        self.is_refused = true;
    }

    /// Sends the whole entry of a key. What has its context is to be applied; the rest waits for the
    /// close.
    fn stage(&mut self, truth: &Truth, sender: &Replica, key: usize) -> Dots {
        let entry = sender.stored & truth.of_key[key];
        self.staged |= 1 << key;
        self.present = (self.present - truth.of_key[key]) | entry;
        self.bare = (self.bare - truth.of_key[key]) | (entry - sender.contexts);
        self.effective |= sender.effective(truth, key);
        entry & sender.contexts
    }

    /// With a broken rule, what the sender lacks of an entry is dropped at once.
    pub fn drop_early(&self, truth: &Truth, receiver: &mut Replica, key: usize) {
        self.drop_absent(truth, receiver, Some(Mutant::DropsBeforeClose), key);
    }

    /// Whether it can be closed now. A key of a flagged session that changed at the receiver since it
    /// was compared is compared again.
    pub fn is_complete(&mut self, truth: &Truth, receiver: &Replica, keys: usize) -> bool {
        if !self.todo.is_empty() || self.walk != 0 {
            return false;
        }
        if self.is_flagged {
            for key in 0..keys {
                let is_staged = self.staged >> key & 1 == 1;
                if !is_staged && receiver.live(truth, key) != self.compared[key] {
                    self.walk |= 1 << key;
                }
            }
        }
        self.walk == 0
    }

    /// Whether it acts on a key when it closes.
    pub fn has_told(&self, truth: &Truth, key: usize) -> bool {
        self.staged >> key & 1 == 1 || !(self.pending & truth.of_key[key]).is_empty()
    }

    /// Whether the receiver lost a write of a key that it took since the beginning and that the sender knows. Nobody can
    /// say whether that was a value that would have been compared again.
    pub fn is_unsure(&self, truth: &Truth, receiver: &Replica, key: usize) -> bool {
        let came = (receiver.damaged & self.clock) - self.receiver;
        self.is_flagged && !(came & truth.of_key[key]).is_empty()
    }

    /// Whether a record was refused. Then it must not close.
    pub fn is_refused(&self, mutant: Option<Mutant>) -> bool {
        self.is_refused && mutant != Some(Mutant::RefusedButClosed)
    }

    /// Whether the sender has learned of something since the beginning, and dropped it or its context
    /// again, that the receiver did not say to have. Then this session must not close, if it told more
    /// than records: an entry may lack a value for a reason that the receiver would claim to know and
    /// could tell nobody.
    pub fn is_spoiled(&self, sender: &Replica, mutant: Option<Mutant>) -> bool {
        let forgotten = ((sender.clock - self.clock) & sender.horizon) - self.receiver;
        let has_staged = self.staged != 0 || !self.pending.is_empty();
        has_staged && !forgotten.is_empty() && mutant != Some(Mutant::DropDuringSession)
    }

    /// Closes it: drops what the sender knew to be obsolete, takes what came without context, and
    /// merges the clock of the beginning with the horizon and the highest stamp of now, all in one step.
    pub fn close(
        &self,
        truth: &Truth,
        sender: &Replica,
        receiver: &mut Replica,
        keys: usize,
        mutant: Option<Mutant>,
    ) {
        for key in 0..keys {
            if self.staged >> key & 1 == 1 && mutant != Some(Mutant::DropsBeforeClose) {
                self.drop_absent(truth, receiver, mutant, key);
            }
        }
        for dot in self.bare - truth.lost {
            receiver.adopt_bare(truth, dot);
        }
        receiver.clock |= match mutant {
            Some(Mutant::LiveRead) => sender.clock,
            _ => self.clock,
        };
        receiver.hlc = receiver.hlc.max(sender.hlc);
        if mutant != Some(Mutant::HorizonNotInherited) {
            receiver.horizon |= match mutant {
                Some(Mutant::DropDuringSession) => self.horizon,
                _ => sender.horizon,
            };
        }
        if mutant != Some(Mutant::PendingNotStored) {
            receiver.pending |= self.pending | self.effective;
        }
        receiver.pending -= receiver.clock | truth.lost;
    }

    /// Drops live siblings that the sender does not have and knows of. Certificates stay: that the
    /// sender lacks one may only mean that it was dropped. Where the sender did not know all that
    /// such a value had superseded, nobody else would hear of it: the horizon takes the dot.
    fn drop_absent(
        &self,
        truth: &Truth,
        receiver: &mut Replica,
        mutant: Option<Mutant>,
        key: usize,
    ) {
        let absent = (receiver.live(truth, key) & self.effective) - self.present;
        for dot in absent {
            if !truth.write(dot).carried.within(self.effective - self.present)
                && mutant != Some(Mutant::WalkDropWithoutHorizon)
            {
                receiver.horizon |= truth.up_to(dot);
            }
        }
        receiver.stored -= absent;
        receiver.contexts -= absent;
        receiver.damaged -= (self.effective & truth.of_key[key]) - self.present;
    }
}
