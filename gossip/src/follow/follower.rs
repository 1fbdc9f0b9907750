//! Does with the core what the model does.

use super::clients::Reading;
use super::difference::{Comparison, Difference};
use super::links::Link;
use super::names::Names;
use super::node::{Log, Node};
use crate::clock::{Clock, FoldNumber};
use crate::group::{ReadRange, ReadValues, Told};
use crate::items::Salvaged;
use crate::model::dots;
use crate::model::follow::{Cause, Disk};
use crate::model::replica;
use crate::model::truth::{ACTORS_MAX, Truth};
use crate::model::{Effect, Follow, Schedule, Setting};
use crate::position::Leaving;
use crate::record::{Body, Record};
use crate::replica::{Basis, Stable, Write, Written};
use crate::token::{ActorNames, TokenKeys};
use crate::tree::TreeKey;

/// The data epoch of all schedules.
pub(super) const EPOCH: u64 = 1;
/// What all trees are summed with.
const SECRET: [u8; 32] = [1; 32];

/// Follows a world with replicas of the core. See the module page.
#[derive(Debug)]
pub struct Follower {
    hash: TreeKey,
    pub(super) keys: TokenKeys,
    pub(super) actors: ActorNames,
    pub(super) names: Names,
    pub(super) nodes: Vec<Node>,
    images: Vec<Log>,
    pub(super) links: [Option<Link>; 4],
    pub(super) tokens: [Option<Vec<u8>>; 4],
    /// The session tokens of clients.
    pub(super) clients: [Option<Vec<u8>>; 2],
    pub(super) reads: [Reading; 2],
    pub(super) sessions: u64,
    /// What could be read of the replica that starts over, as far as it was not taken back.
    pub(super) salvaged: Option<(u8, Salvaged)>,
    /// Batches that were compared, in all schedules.
    pub compared: u64,
    /// The first difference of this schedule.
    pub difference: Option<Difference>,
    /// Something happened that is not followed; the rest of this schedule is not compared.
    pub is_lost: bool,
    /// The core has raised a horizon where the model has not, which is the safe side; the rest of this schedule is not
    /// compared.
    pub is_stricter: bool,
}

pub(super) type Checked<T> = Result<T, Difference>;

impl Follower {
    /// Kinds of operations whose effects are not followed. A replica of the core is what is stored; the log that
    /// rebuilds that is below it.
    pub const NOT_FOLLOWED: [usize; 4] = [20, 21, 22, Schedule::REBUILT];

    /// A follower for many schedules.
    #[must_use]
    pub fn new() -> Self {
        let setting = Schedule::new(0).setting();
        let mut actors = ActorNames::default();
        for number in 0..ACTORS_MAX as u8 {
            actors.learned_everywhere(Names::actor(number));
        }
        Self {
            hash: TreeKey::new(&SECRET),
            keys: TokenKeys::new(1, &[2; 32]),
            actors,
            names: Names::new(&setting),
            nodes: Vec::new(),
            images: Vec::new(),
            links: [const { None }; 4],
            tokens: [const { None }; 4],
            clients: [const { None }; 2],
            reads: <[Reading; 2]>::default(),
            sessions: 0,
            salvaged: None,
            compared: 0,
            difference: None,
            is_lost: false,
            is_stricter: false,
        }
    }

    /// The end of a step: nothing may be due.
    pub fn step_done(&mut self, truth: &Truth) {
        if self.is_over() || !truth.has_room(1) {
            return;
        }
        self.difference = self.all_taken_back().err();
        if self.difference.is_some() {
            return;
        }
        let due = self.nodes.iter().position(|node| !node.due.is_empty());
        if let Some(at) = due {
            let record = format!("{:?}", self.nodes[at].due);
            let at = at as u8;
            self.difference = Some(Difference { at, what: "collapse of the core", detail: record });
        }
    }

    fn is_over(&self) -> bool {
        self.is_lost || self.is_stricter || self.difference.is_some()
    }

    pub(super) fn comparison<'a>(&'a self, truth: &'a Truth, at: u8) -> Comparison<'a> {
        Comparison { names: &self.names, truth, at }
    }

    fn follow(&mut self, truth: &Truth, effect: Effect) -> Checked<()> {
        match effect {
            Effect::Started { at, actor, disk } => self.start(truth, at, actor, disk),
            Effect::Imaged { at } => {
                self.images[usize::from(at)] = self.nodes[usize::from(at)].log().clone();
                Ok(())
            }
            Effect::Made { at, dot, cause, now } => self.make(truth, at, dot, cause, now),
            Effect::Applied { at, dot } => {
                self.take_back(truth, at, dot)?;
                self.apply(truth, at, dot)
            }
            Effect::ForgotCertificate { at, dot, stable } => {
                let key = self.names.key_of(truth, dot);
                let (name, stable) = (self.names.dot(dot), self.stable(dot, stable));
                let node = &mut self.nodes[usize::from(at)];
                let changes = node.replica.forget_certificate(key, name, &stable);
                node.changed(changes);
                Ok(())
            }
            Effect::Slept { at, dot, stable } => {
                let key = self.names.key_of(truth, dot);
                let (name, stable) = (self.names.dot(dot), self.stable(dot, stable));
                let node = &mut self.nodes[usize::from(at)];
                let changes = node.replica.sleep(key, name, &stable);
                node.changed(changes);
                Ok(())
            }
            Effect::Woke { at, dot } => {
                let (key, name) = (self.names.key_of(truth, dot), self.names.dot(dot));
                let node = &mut self.nodes[usize::from(at)];
                let woken = node.replica.wake(key, name);
                node.changed(woken.changes);
                node.due.extend(woken.collapse);
                Ok(())
            }
            Effect::ForgotContext { at, dot } => {
                let (key, name) = (self.names.key_of(truth, dot), self.names.dot(dot));
                let node = &mut self.nodes[usize::from(at)];
                let changes = node.replica.forget_context(key, name);
                node.changed(changes);
                Ok(())
            }
            Effect::Read { at, key, slot } => self.read(truth, at, key, slot),
            Effect::Session { client, at, seen, covered } => {
                self.ask(truth, client, at, seen, covered)
            }
            Effect::Saw { client, at, own } => self.saw(truth, client, at, own),
            Effect::Began { slot, from, to, flagged } => {
                self.begin(truth, slot, usize::from(from), usize::from(to), flagged)
            }
            Effect::Sent { slot, sent, refused } => self.send(truth, slot, sent, refused),
            Effect::Ended { slot, closed } => self.end(truth, slot, closed),
            Effect::Cut { slot } => {
                self.links[usize::from(slot)] = None;
                Ok(())
            }
            Effect::Left { .. } => Ok(()),
            Effect::Asked { slot, key } => {
                self.reads[usize::from(slot)] = Reading { key, ..Reading::default() };
                Ok(())
            }
            Effect::Answered { slot, at } => {
                let read = &mut self.reads[usize::from(slot)];
                let key = &self.names.keys()[usize::from(read.key)];
                let node = &mut self.nodes[usize::from(at)];
                let range = ReadRange::of_key(key, ReadValues::All);
                let told = Told::of(&node.replica, &range, Some(FoldNumber::NONE))
                    .map(|told| told.answer(&key.key));
                let Ok(Some(what)) = told else {
                    let detail = format!("{told:?}");
                    return Err(self.comparison(truth, at).difference("answer", detail));
                };
                let answer = Leaving { after: node.replica.position(), what };
                read.answers.push((at, node.let_out(answer)));
                Ok(())
            }
            Effect::Joined { slot, answer, seen } => self.join(truth, slot, answer, seen),
            Effect::Repaired { slot, at, dot } => self.repair(truth, slot, at, dot),
            Effect::Damaged { at } => {
                self.nodes[usize::from(at)].is_losing = true;
                Ok(())
            }
            Effect::ClockLost { at } => {
                self.nodes[usize::from(at)].has_lost_clock = true;
                Ok(())
            }
            Effect::StartedOver { at } => self.salvage(truth, at),
            Effect::Kept { at } => {
                self.keep(at);
                Ok(())
            }
            Effect::LetGo { at, dot } => self.let_go(truth, at, dot),
            Effect::Rebuilt { .. } | Effect::Retired => {
                self.is_lost = true;
                Ok(())
            }
        }
    }

    fn start(&mut self, truth: &Truth, at: u8, actor: u8, disk: Disk) -> Checked<()> {
        let mut log = self.nodes[usize::from(at)].log().clone();
        match disk {
            Disk::Same => {}
            Disk::Cut(batches) if self.nodes[usize::from(at)].may_lose(batches) => {
                log.truncate(log.len() - batches);
            }
            Disk::Cut(batches) => {
                let detail = format!("somebody was told of the last {batches} batches");
                return Err(self.comparison(truth, at).difference("crash", detail));
            }
            Disk::Image => log = self.images[usize::from(at)].clone(),
            Disk::Empty => log.clear(),
        }
        let node = Node::start(log, Names::actor(actor), TreeKey::new(&SECRET));
        let lost = |detail| self.comparison(truth, at).difference("start", detail);
        self.nodes[usize::from(at)] = node.map_err(lost)?;
        Ok(())
    }

    fn make(
        &mut self,
        truth: &Truth,
        at: u8,
        dot: dots::Dot,
        cause: Cause,
        now: u16,
    ) -> Checked<()> {
        let anew = match cause {
            Cause::Rewrite(of) => Some(of),
            _ => None,
        };
        let name = self.names.add(truth, dot, anew);
        let key = self.names.key_of(truth, dot).clone();
        let basis = match cause {
            Cause::Client(basis) => self.basis(truth, at, dot, basis)?,
            Cause::Again(first) => self.seen_by(truth, at, first)?,
            Cause::Expiry(_) | Cause::Collapse(_) | Cause::Rewrite(_) => Basis::Nothing,
        };
        let write = truth.write(dot);
        let node = &mut self.nodes[usize::from(at)];
        let written = match cause {
            Cause::Client(_) | Cause::Again(_) => {
                let body = match write.tomb {
                    true => Body::Certificate,
                    false => Body::Value(self.names.value(dot)),
                };
                let deadline = (write.deadline > 0).then(|| Names::stamp(write.deadline));
                let stamp = Names::stamp(write.stamp);
                node.replica.write_at(&Write { key: key.clone(), body, deadline, basis }, stamp)
            }
            Cause::Expiry(value) => {
                let value = self.names.dot(value);
                node.replica.expire(&key, value, Names::stamp(now))
            }
            Cause::Collapse(_) => match node.due.pop_front() {
                Some(record) => {
                    let after = node.replica.position();
                    Ok(Written { record, collapse: None, changes: Vec::new(), after })
                }
                None => {
                    let what = "collapse of the model";
                    return Err(self.comparison(truth, at).difference(what, name));
                }
            },
            Cause::Rewrite(of) => {
                let of = self.names.dot(of);
                let (mut records, changes) = node.replica.settle_one(&key, of);
                if records.is_empty() {
                    return Err(self.comparison(truth, at).difference("written anew", of));
                }
                let (record, collapse) = (records.remove(0), records.pop());
                let after = node.replica.position();
                Ok(Written { record, collapse, changes, after })
            }
        };
        match written {
            Ok(written) => self.made(truth, at, dot, written),
            Err(refused) => Err(self.comparison(truth, at).difference("write", refused)),
        }
    }

    /// A write was made: it has to be that of the model.
    fn made(&mut self, truth: &Truth, at: u8, dot: dots::Dot, written: Written) -> Checked<()> {
        let Written { record, collapse, changes, after: _ } = written;
        let node = &mut self.nodes[usize::from(at)];
        node.changed(changes);
        node.due.extend(collapse);
        let item = self.hash.hash(&record.key).item(record.dot);
        self.names.items.push(item);
        self.names.publish(&record);
        let write = truth.write(dot);
        let comparison = self.comparison(truth, at);
        comparison.same("name of a write", &record.dot, &self.names.dot(dot))?;
        let place = (Names::stamp(write.stamp), self.names.dot(write.rank));
        comparison.same("place of a write", &(record.stamp, record.rank), &place)?;
        let context = comparison.set("context", &record.context.to_clock())?;
        let of_key = truth.of_key[usize::from(write.key)];
        comparison.same("context", &(context & of_key), &write.carried)
    }

    pub(super) fn record(&self, truth: &Truth, at: u8, dot: dots::Dot) -> Checked<Record> {
        let folds = self.nodes[usize::from(at)].replica.state().folds();
        let refused = |error| self.comparison(truth, at).difference("record", error);
        self.names.record(dot, folds).map_err(refused)
    }

    pub(super) fn apply(&mut self, truth: &Truth, at: u8, dot: dots::Dot) -> Checked<()> {
        let record = self.record(truth, at, dot)?;
        let node = &mut self.nodes[usize::from(at)];
        match node.replica.apply(&record) {
            Ok(applied) => {
                node.changed(applied.changes);
                node.due.extend(applied.collapse);
                Ok(())
            }
            Err(refused) => Err(self.comparison(truth, at).difference("record", refused)),
        }
    }

    /// That a write is stable, or that nothing is.
    fn stable(&self, dot: dots::Dot, stable: bool) -> Stable {
        let name = self.names.dot(dot);
        let mut by = Clock::default();
        by.add_up_to(name.actor, if stable { name.counter } else { 0 });
        Stable { by, has_orphans: !stable }
    }

    fn settle(&mut self, truth: &Truth, at: u8, model: &replica::Replica) -> Checked<()> {
        self.damage(truth, at, model);
        let node = &mut self.nodes[usize::from(at)];
        let written = node.write_entry();
        let comparison = self.comparison(truth, at);
        written.map_err(|detail| comparison.difference("log", detail))?;
        let node = &self.nodes[usize::from(at)];
        if node.due.is_empty() {
            let is_same = comparison.replica(&node.replica, model)?;
            self.compared += 1;
            self.is_stricter = !is_same;
        } else if truth.has_room(1) {
            return Err(comparison.difference("collapse of the core", format!("{:?}", node.due)));
        } else {
            // The model has no room for another write.
            self.is_lost = true;
        }
        Ok(())
    }
}

impl Default for Follower {
    fn default() -> Self {
        Self::new()
    }
}

impl Follow for Follower {
    fn begin(&mut self, setting: &Setting, replicas: &[replica::Replica]) {
        self.names = Names::new(setting);
        let node = |replica: &replica::Replica| {
            let node = Node::start(Log::new(), Names::actor(replica.actor), TreeKey::new(&SECRET));
            let mut node = node.expect("an empty log can be read");
            node.write_entry().expect("a log of one entry makes the replica");
            node
        };
        self.nodes = replicas.iter().map(node).collect();
        self.images = vec![Log::new(); replicas.len()];
        self.links = [const { None }; 4];
        self.tokens = [const { None }; 4];
        self.clients = [const { None }; 2];
        self.reads = <[Reading; 2]>::default();
        self.salvaged = None;
        self.difference = None;
        self.is_lost = false;
        self.is_stricter = false;
    }

    fn effect(&mut self, truth: &Truth, effect: Effect) {
        if !self.is_over() {
            self.difference = self.follow(truth, effect).err();
        }
    }

    fn settled(&mut self, truth: &Truth, at: u8, model: &replica::Replica) {
        if !self.is_over() {
            self.difference = self.settle(truth, at, model).err();
        }
    }
}
