//! One replica: what it stores and knows, and the rules that change it.

use super::dots::{Dot, Dots};
use super::mutant::Mutant;
use super::truth::{KEYS_MAX, Truth};

/// The state of one replica. All that is on its disk, and a few things that it would not know.
///
/// Keys share the clock and the horizon. A context is cut to its key's dots here, which changes
/// nothing: a replica only ever asks whether a dot of that key is in it.
///
/// Invariants, checked by the oracle after every step:
/// - a dot in `clock` is stored, or superseded by one in `clock`;
/// - nothing live in `stored` is superseded by one in `clock`;
/// - `pending` and `clock` have nothing in common.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct Replica {
    /// K: every dot that is stored or known to be obsolete.
    pub clock: Dots,
    /// F: dots up to the highest, of each actor, whose certificate or context was dropped.
    pub horizon: Dots,
    /// Records: live values and certificates.
    pub stored: Dots,
    /// Of the records, those that still have their context.
    pub contexts: Dots,
    /// Dots of applied contexts that have not arrived.
    pub pending: Dots,
    /// Certificates out of the stream, kept with their contexts.
    pub dormant: Dots,
    /// Values of a damaged disk that had lost their context, beside the replica. Nobody is told of them.
    pub kept: Dots,
    /// Of these, the ones that are written anew over all that was known of their key.
    pub kept_known: Dots,
    /// What was known of each key, without what was stored.
    pub kept_over: [Dots; KEYS_MAX],
    /// The writes that this directory was the first to take.
    pub ids: Dots,
    /// Number of the directory; a new one after a loss.
    pub directory: u8,
    /// Who it is in dots, since its last start.
    pub actor: u8,
    /// Writes of that actor.
    pub counter: u8,
    /// Starts, as counted on the disk.
    pub incarnation: u8,
    /// Highest stamp given or received.
    pub hlc: u32,
    /// Whether it lost its disk and has not caught up.
    pub recovering: bool,
    /// Members whose session closed since it lost its disk, in whatever state, one bit each.
    pub heard: u8,
    /// Of these, the ones that were not recovering.
    pub trusted: u8,
    /// Whether it never lost its disk, or has heard all other members since.
    pub whole: bool,
    /// The configuration it follows.
    pub epoch: u8,
    /// Writes that had been made when it last knew its configuration to be the newest.
    pub epoch_as_of: u8,
    /// Actors of which it takes nothing from outside the group, one bit each.
    pub retiring: u64,
    /// Records that its disk lost, unknown to it.
    pub damaged: Dots,
    /// Of these, those that had their context.
    pub damaged_contexts: Dots,
    /// Of what was pending, what its disk lost, unknown to it.
    pub damaged_pending: Dots,
    /// Whether its log can rebuild what was lost.
    pub rebuildable: bool,
    /// Values that were seen to be obsolete here, noted by the oracle.
    pub obsolete: Dots,
}

impl Replica {
    /// Everything of a key that is stored, obsolete or to be refused. The context of a write that a
    /// client makes here.
    #[inline]
    pub fn effective(&self, truth: &Truth, key: usize) -> Dots {
        (self.clock | self.pending) & truth.of_key[key]
    }

    /// The live siblings of a key.
    #[inline]
    pub fn live(&self, truth: &Truth, key: usize) -> Dots {
        (self.stored & truth.of_key[key]) - truth.tombs
    }

    /// Applies a record: from any source, in any order, any number of times.
    pub fn apply(&mut self, truth: &Truth, mutant: Option<Mutant>, dot: Dot) {
        let record = truth.write(dot);
        let context = record.carried;
        let known = match mutant {
            Some(Mutant::NoClockRule) => self.is_covered_by_a_certificate(truth, dot),
            _ => self.clock.has(dot) || self.pending.has(dot),
        };
        let is_new = !self.clock.has(dot);
        let covered = self.stored & context;
        for victim in covered {
            if !truth.write(victim).carried.within(context) {
                self.horizon |= truth.up_to(victim);
            }
        }
        self.stored -= covered;
        self.contexts -= covered;
        self.dormant -= context;
        self.damaged -= context;
        if !known {
            self.stored |= Dots::one(dot);
            self.contexts |= Dots::one(dot);
        } else if is_new && !self.is_told_by_another(truth, dot) {
            self.horizon |= truth.up_to(dot);
        }
        self.clock |= Dots::one(dot);
        if mutant != Some(Mutant::PendingNotStored) {
            self.pending |= context;
        }
        if mutant == Some(Mutant::ContextIntoClock) {
            self.clock |= context | record.clock;
        }
        self.pending -= self.clock;
        self.hlc = self.hlc.max(record.stamp);
    }

    /// Wakes the dormant certificates that cover `dot`, of which an obsolete copy showed up.
    /// Returns whether there were any.
    pub fn reactivate(&mut self, truth: &Truth, dot: Dot) -> bool {
        let mut woken = false;
        for certificate in self.dormant {
            if truth.write(certificate).carried.has(dot) {
                self.dormant -= Dots::one(certificate);
                self.stored |= Dots::one(certificate);
                self.contexts |= Dots::one(certificate);
                woken = true;
            }
        }
        woken
    }

    /// Takes what a peer's store said of one record without its context; the session that closes
    /// now adds what else it knew of the key.
    pub fn adopt_bare(&mut self, truth: &Truth, dot: Dot) {
        if !self.clock.has(dot) && !self.pending.has(dot) {
            self.stored |= Dots::one(dot);
            self.clock |= Dots::one(dot);
            self.horizon |= truth.up_to(dot);
            self.hlc = self.hlc.max(truth.write(dot).stamp);
        }
    }

    /// Drops a certificate. The horizon says so.
    pub fn drop_certificate(&mut self, truth: &Truth, mutant: Option<Mutant>, dot: Dot) {
        self.raise(truth, mutant, dot, Mutant::HorizonNotRaised);
        self.stored -= Dots::one(dot);
        self.contexts -= Dots::one(dot);
        if mutant == Some(Mutant::PendingLostWithCertificate) {
            self.pending -= truth.write(dot).carried;
        }
    }

    /// Takes a certificate out of the stream and keeps it.
    pub fn put_to_sleep(&mut self, truth: &Truth, mutant: Option<Mutant>, dot: Dot) {
        self.raise(truth, mutant, dot, Mutant::DormantWithoutHorizon);
        self.stored -= Dots::one(dot);
        self.contexts -= Dots::one(dot);
        self.dormant |= Dots::one(dot);
    }

    /// Drops the context of a live value. The horizon says so.
    pub fn drop_context(&mut self, truth: &Truth, mutant: Option<Mutant>, dot: Dot) {
        self.raise(truth, mutant, dot, Mutant::HorizonNotRaised);
        self.contexts -= Dots::one(dot);
    }

    fn raise(&mut self, truth: &Truth, mutant: Option<Mutant>, dot: Dot, unless: Mutant) {
        if mutant != Some(unless) {
            self.horizon |= truth.up_to(dot);
        }
    }

    /// Whether a stored record tells a peer all that the refused record of `dot` would have.
    fn is_told_by_another(&self, truth: &Truth, dot: Dot) -> bool {
        let context = truth.write(dot).carried;
        (self.stored & self.contexts).any(|other| {
            let carried = truth.write(other).carried;
            carried.has(dot) && context.within(carried)
        })
    }

    fn is_covered_by_a_certificate(&self, truth: &Truth, dot: Dot) -> bool {
        self.stored.has(dot)
            || (self.stored & self.contexts).any(|other| truth.write(other).carried.has(dot))
    }
}
