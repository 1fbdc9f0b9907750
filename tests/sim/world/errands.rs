//! The operator's errands, step by step.

use kvstore::node::{Catalogue, Input, Members, Reply, Request, RequestId};
use proto::log::change_member::Kind;
use proto::log::command::Body;
use proto::log::put_keyspace::Step;
use proto::{Failure, NodeId, log, v1};
use rand::RngExt;

use super::super::counters::Event;
use super::super::host;
use super::super::mutant::Mutant;
use super::super::network::Micros;
use super::super::operation::KEYSPACE;
use super::super::operator::{Errand, Stage};
use super::{GENERATION, Happening, World};

/// How often the operator looks.
const LOOK: std::ops::Range<Micros> = 200_000..500_000;
/// How often it does something about keyspaces.
const MANAGE: std::ops::Range<Micros> = 200_000..2_500_000;
/// How long a removed node goes on before its machine is wiped.
const AFTERLIFE_MAX: Micros = 2_000_000;

impl World {
    /// Begins to replace a member, unless another host is being replaced or is damaged.
    pub(super) fn replace(&mut self, host: usize) {
        let damaged = self.hosts.iter().position(|host| host.was_damaged);
        if self.operator.replaced_host().is_some() || damaged.is_some_and(|other| other != host) {
            return;
        }
        if self.plan.mutant == Some(Mutant::WipedKeepsIdentity) {
            self.operator.set_replacing(Some((host, Stage::Removed)));
            return self.wipe(host);
        }
        self.operator.set_replacing(Some((host, Stage::Leaving)));
    }

    /// The operator looks after a replacement.
    pub(super) fn look(&mut self) {
        let pause = self.rng.random_range(LOOK);
        self.after(pause, Happening::Look);
        if self.operator.replaced_host().is_some() {
            self.send_errand(Request::Catalogue, Errand::Catalogue);
        }
    }

    /// The operator creates, alters or removes a keyspace.
    pub(super) fn manage(&mut self) {
        let pause = self.rng.random_range(MANAGE);
        self.after(pause, Happening::Manage);
        let history_revisions = self.rng.random_range(5..60);
        let keys_max = [0, 6][self.rng.random_range(0..2)];
        let settings = v1::keyspace::Settings { history_revisions, keys_max, ..Default::default() };
        match self.rng.random_range(0..10) {
            0..4 => {
                let Some(name) = self.operator.new_name() else { return };
                let request = put_keyspace(Step::Create, &name, settings);
                self.send_errand(request, Errand::Create(name));
            }
            4..6 => {
                let Some(name) = self.operator.give_up_keyspace(&mut self.rng) else { return };
                let request = put_keyspace(Step::Remove, &name, settings);
                self.send_errand(request, Errand::Remove(name));
            }
            _ => {
                let name = self.operator.draw_keyspace(&mut self.rng);
                let keys_max = if name == KEYSPACE { 0 } else { keys_max };
                let settings = v1::keyspace::Settings { keys_max, ..settings };
                self.send_errand(put_keyspace(Step::Set, &name, settings), Errand::Other);
            }
        }
    }

    /// To a node that runs; where none does, another look will come.
    fn send_errand(&mut self, request: Request, errand: Errand) {
        let host = self.rng.random_range(0..self.hosts.len());
        if self.hosts[host].running.is_none() {
            return;
        }
        let id = RequestId(self.next_request);
        self.next_request += 1;
        self.operator.ask(id, errand);
        let delay = self.rng.random_range(50..500);
        self.after(delay, Happening::Ask { host, id, request });
    }

    /// An errand is answered.
    pub(super) fn errand_answered(&mut self, errand: Errand, reply: Result<Reply, Failure>) {
        match (errand, reply) {
            (Errand::Catalogue, Ok(Reply::Catalogue(catalogue))) => self.go_on(&catalogue),
            (Errand::Create(name), Ok(_)) => {
                self.counters.count(Event::KeyspaceCreated);
                self.operator.created(name);
            }
            (Errand::Remove(_), Ok(_)) => self.counters.count(Event::KeyspaceRemoved),
            // It may have happened or not; the name is not used again.
            (Errand::Catalogue | Errand::Other | Errand::Create(_) | Errand::Remove(_), _) => {}
        }
    }

    /// Takes the next step of a replacement, as the catalogue says.
    fn go_on(&mut self, catalogue: &Catalogue) {
        let Some((host, stage)) = self.operator.replacing() else { return };
        let (id, name) = (self.hosts[host].id, self.hosts[host].name.clone());
        let members = catalogue.members();
        let member = members.named(&name);
        let settled = members.open_change().is_none();
        match stage {
            Stage::Leaving if members.removed().contains(&id) => {
                self.counters.count(Event::MemberRemoved);
                self.watch.removed(id);
                self.operator.set_replacing(Some((host, Stage::Removed)));
                let afterlife = self.rng.random_range(0..AFTERLIFE_MAX);
                self.after(afterlife, Happening::Wipe { host });
            }
            Stage::Leaving if settled && member.is_some() => {
                self.send_errand(change_member(Kind::Remove, &name, members), Errand::Other);
            }
            Stage::Joining => match member {
                None if settled => {
                    self.send_errand(change_member(Kind::Add, &name, members), Errand::Other);
                }
                Some(member) if member.id().is_none() => self.introduce(host),
                Some(member) if member.id() == Some(id) && member.voter && settled => {
                    self.counters.count(Event::MemberJoined);
                    self.operator.set_replacing(None);
                }
                Some(_) | None => {}
            },
            // The change is on its way.
            Stage::Leaving | Stage::Removed => {}
        }
    }

    /// The new node says who it is to one of the others.
    fn introduce(&mut self, host: usize) {
        let other = self.rng.random_range(0..self.hosts.len());
        let cut = self.network.is_cut(self.hosts[host].id, self.hosts[other].id);
        if other == host || cut || self.hosts[host].running.is_none() {
            return;
        }
        let (name, node) = (self.hosts[host].name.clone(), self.hosts[host].id);
        self.input(other, Input::Joining { name, node });
    }

    /// The machine of a removed member loses everything, and is to join as a new node.
    pub(super) fn wipe(&mut self, host: usize) {
        if !self.operator.keeps_down(host) {
            return;
        }
        if self.hosts[host].crash(&mut self.rng, &mut self.counters) {
            self.break_links(host);
        }
        let old = self.hosts[host].id;
        let id = NodeId(old.get() + GENERATION);
        self.hosts[host].wipe(id, &mut self.rng);
        self.remembered[host].forget();
        self.watch.forget(self.hosts[host].id);
        self.refused[host].clear();
        let joins = self.hosts[host].id == id;
        self.operator.set_replacing(joins.then_some((host, Stage::Joining)));
        self.start(host);
    }
}

fn manage(body: Body) -> Request {
    Request::Manage(log::Command { body: Some(body) })
}

fn change_member(kind: Kind, name: &str, members: &Members) -> Request {
    manage(Body::ChangeMember(log::ChangeMember {
        kind: kind.into(),
        name: name.to_owned(),
        peer_address: host::peer_address(name),
        stay_learner: false,
        lose_unseen: false,
        decided_after: members.change_number(),
    }))
}

fn put_keyspace(step: Step, name: &str, settings: v1::keyspace::Settings) -> Request {
    let keyspace = v1::Keyspace {
        name: name.to_owned(),
        kind: v1::keyspace::Kind::Linearizable.into(),
        settings: Some(settings),
        ..v1::Keyspace::default()
    };
    manage(Body::PutKeyspace(log::PutKeyspace { step: step.into(), keyspace: Some(keyspace) }))
}
