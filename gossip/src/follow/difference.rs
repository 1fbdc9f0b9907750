//! Where the two are not the same.

use std::fmt;

use super::names::Names;
use crate::dot::Dot;
use crate::model::dots::Dots;
use crate::model::replica;
use crate::model::truth::Truth;
use crate::record::Body;
use crate::replica::Replica;

/// The first difference between the core and the model in a schedule.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Difference {
    /// The replica that shows it.
    pub at: u8,
    /// What differs.
    pub what: &'static str,
    /// What each side has.
    pub detail: String,
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "replica {}: {}: {}", self.at, self.what, self.detail)
    }
}

/// What is compared of one replica.
pub(super) struct Comparison<'a> {
    pub(super) names: &'a Names,
    pub(super) truth: &'a Truth,
    pub(super) at: u8,
}

impl Comparison<'_> {
    /// Compares a replica of the core with one of the model. Answers whether the horizon is the same; that of the core
    /// may be higher, because it asks for whole contexts where the model asks for those of one key.
    ///
    /// # Errors
    /// The first difference.
    pub(super) fn replica(
        &self,
        core: &Replica,
        model: &replica::Replica,
    ) -> Result<bool, Difference> {
        let state = core.state();
        let is_damaged = !(model.damaged | model.damaged_pending).is_empty();
        if !is_damaged {
            let verified = state.verify();
            verified.map_err(|detail| self.difference("an invariant of the core", detail))?;
        }
        let actor = Names::actor(model.actor);
        let issued = (state.actor(), state.clock().last(&actor));
        self.same("actor and counter", &issued, &(Some(actor), u64::from(model.counter)))?;
        let clock = self.set("clock", state.clock())?;
        self.same("clock", &clock, &model.clock)?;
        self.entries(core, model, clock)?;
        let kept = core.kept().keys().map(|(_, dot)| *dot).collect();
        self.same("what waits", &self.set("what waits", &kept)?, &model.kept)?;
        let horizon = self.names.reached(state.horizon()) & self.truth.issued();
        if !model.horizon.within(horizon) {
            self.same("horizon", &horizon, &model.horizon)?;
        }
        self.same("highest stamp", &state.highest(), &Names::stamp(model.hlc))?;
        let live = model.stored - self.truth.tombs;
        let item = |dot: u8| self.names.items[usize::from(dot)];
        let root = live.map(item).fold(0, u128::wrapping_add);
        if !is_damaged {
            self.same("root of the tree", &core.tree().root(), &root)?;
        }
        Ok(horizon == model.horizon)
    }

    fn entries(
        &self,
        core: &Replica,
        model: &replica::Replica,
        clock: Dots,
    ) -> Result<(), Difference> {
        let (mut stored, mut contexts, mut pending) = (Dots::NONE, Dots::NONE, Dots::NONE);
        let mut dormant = Dots::NONE;
        for (index, key) in self.names.keys().iter().enumerate() {
            let Some(entry) = core.entry(key) else { continue };
            let of_key = self.truth.of_key[index];
            pending |= (self.set("pending", entry.pending())? & of_key) - clock;
            dormant |= self.set("dormant", &entry.dormant().keys().copied().collect())?;
            for (name, sibling) in entry.siblings() {
                let dot = self.find("stored", *name)?;
                stored |= Dots::one(dot);
                if sibling.context.is_some() {
                    contexts |= Dots::one(dot);
                }
                let write = self.truth.write(dot);
                self.same("key", &index, &usize::from(write.key))?;
                let body = match write.tomb {
                    true => Body::Certificate,
                    false => Body::Value(self.names.value(dot)),
                };
                self.same("body", &sibling.body, &body)?;
                let place = (Names::stamp(write.stamp), self.names.dot(write.rank));
                self.same("place", &sibling.place(), &place)?;
                let deadline = (write.deadline > 0).then(|| Names::stamp(write.deadline));
                self.same("deadline", &sibling.deadline, &deadline)?;
            }
        }
        self.same("stored", &stored, &model.stored)?;
        self.same("dormant", &dormant, &model.dormant)?;
        self.same("contexts", &contexts, &(model.contexts & model.stored))?;
        self.same("pending", &pending, &model.pending)
    }

    /// The writes of a clock.
    ///
    /// # Errors
    /// A name that no write has.
    pub(super) fn set(
        &self,
        what: &'static str,
        clock: &crate::clock::Clock,
    ) -> Result<Dots, Difference> {
        let set = self.names.set(clock);
        set.map_err(|dot| self.difference(what, format!("{dot} was never made")))
    }

    fn find(&self, what: &'static str, dot: Dot) -> Result<u8, Difference> {
        let found = self.names.find(dot);
        found.ok_or_else(|| self.difference(what, format!("{dot} was never made")))
    }

    /// Compares one thing.
    ///
    /// # Errors
    /// The difference.
    pub(super) fn same<T: PartialEq + fmt::Debug>(
        &self,
        what: &'static str,
        core: &T,
        model: &T,
    ) -> Result<(), Difference> {
        if core == model {
            return Ok(());
        }
        Err(self.difference(what, format!("core {core:?}, model {model:?}")))
    }

    /// A difference.
    pub(super) fn difference(&self, what: &'static str, detail: impl fmt::Display) -> Difference {
        Difference { at: self.at, what, detail: detail.to_string() }
    }
}
