//! What a leader of group 0 does so that actors of former starts end, and clocks stay short.
//!
//! 1. Actors that are nobody's present ones, and of which all members have the same, begin to retire
//!    ([`RetireActors`](log::RetireActors)). From when a member hears of that, it takes no unknown write of them by late mail.
//! 2. Once every member has said since then to have the same of an actor, it is folded ([`FoldActors`](log::FoldActors)): its
//!    number stands for it in clocks and tokens. Nothing is lost by that, whoever was away.
//!
//! What members have said is known to the leader's own replica from their Hellos. It decides only while its replica has been told
//! of the newest members; a change of members begins all retirements anew.

use proto::log;
use proto::log::command::Body as Command;

use super::Node;
use super::catalogue::ACTORS_AT_ONCE;

/// Ticks between two looks.
const LOOK_TICKS: u64 = 20;

impl Node {
    /// Looks for actors that may retire or be folded.
    pub(super) fn tick_actors(&mut self) {
        let leads = self.meta.leads() && !self.read_only;
        let is_due = self.now.0.is_multiple_of(LOOK_TICKS);
        if !is_due || !leads || !self.meta.status().ready_for_reads || !self.replica_is_told() {
            return;
        }
        let catalogue = self.meta.machine();
        let (members, actors) = (catalogue.members(), catalogue.actors());
        if members.open_change().is_some() {
            return;
        }
        let ended = self.eventual.ended_actors(actors.retiring());
        let ends = ended.into_iter().take(ACTORS_AT_ONCE).filter_map(|(actor, last)| {
            let round = *actors.retiring().get(&actor)?;
            Some(log::ActorEnd { actor: actor.as_bytes().to_vec().into(), round, last })
        });
        let ends: Vec<log::ActorEnd> = ends.collect();
        let former = self.eventual.former_actors(ACTORS_AT_ONCE.min(actors.room()));
        let change = members.change_number();
        if !ends.is_empty() {
            self.submit_meta(Command::FoldActors(log::FoldActors { actors: ends }));
        }
        if !former.is_empty() {
            let actors = former.iter().map(|actor| actor.as_bytes().to_vec().into()).collect();
            self.submit_meta(Command::RetireActors(log::RetireActors { actors, change }));
        }
    }
}
