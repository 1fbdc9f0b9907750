//! The event loop of a simulated cluster.
//!
//! - `clients`: what clients send, and what comes back.
//! - `chaos`: what goes wrong.
//! - `errands`: what the operator does.
//! - `ending`: what must hold at the end.

mod chaos;
mod clients;
mod ending;
mod errands;

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{DefaultHasher, Hash};

use kvstore::node::{Effect, Input, RepairInput, Reply, Request, RequestId};
use prost::Message;
use proto::{Failure, NodeId, peer, v1};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::counters::{Counters, Event};
use super::faults::Fault;
use super::host::{self, Host, Started};
use super::items::Remembered;
use super::mutant::{self, Mutant, Questions};
use super::network::{Micros, Network};
use super::operation::{Client, Operation};
use super::operator::{Operator, Stage};
use super::process::{Synced, Votes, Wanted};
use super::watch::Watch;
use super::{FAULTS_MIN, Outcome, Plan};

const TICK: Micros = 50_000;
/// Clients at work at the same time.
const CLIENTS: usize = 8;
/// By then everybody knows that a link is gone; a new one takes longer.
const LINK_LOST_MAX: Micros = 2_000;
/// Virtual time by which a seed must have ended.
const TIME_MAX: Micros = 900_000_000;
/// Virtual time that a cluster without faults may take to converge.
const CONVERGE_MAX: Micros = 90_000_000;
/// How long a log that found its disk full waits before it tries again.
const FULL_RETRY: Micros = 1_000_000;
/// After this much silence the log is sealed.
const SEAL_AFTER: Micros = 20_000;
/// Ticks between two looks at a node's state, on average.
const LOOK_TICKS: u32 = 40;
/// Of so many appends with entries a planted bug acknowledges one and forgets it.
const FORGOTTEN_OF: u32 = 50;
/// What the id of a machine grows by each time it is wiped.
const GENERATION: u64 = 1_000_000;

#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "most are messages; a box would cost each one")]
enum Happening {
    Tick {
        host: usize,
        boot: u64,
    },
    Poll {
        host: usize,
        boot: u64,
    },
    Sync {
        host: usize,
        boot: u64,
    },
    Seal {
        host: usize,
        boot: u64,
        syncs: u64,
    },
    LookForRoom {
        host: usize,
        boot: u64,
    },
    Store {
        host: usize,
        boot: u64,
    },
    Transfer {
        host: usize,
        boot: u64,
    },
    Deliver {
        to: usize,
        id: NodeId,
        from: NodeId,
        message: peer::PeerMessage,
    },
    Link {
        host: usize,
        boot: u64,
        peer: usize,
        peer_boot: u64,
    },
    LinkLost {
        host: usize,
        boot: u64,
        peer: NodeId,
    },
    GoesOn {
        host: usize,
        boot: u64,
    },
    /// A client begins its next operation, or tries this one again.
    Send {
        client: usize,
        again: Option<usize>,
    },
    Ask {
        host: usize,
        id: RequestId,
        request: Request,
    },
    Answer {
        id: RequestId,
        reply: Result<Reply, Failure>,
    },
    AttemptOver {
        client: usize,
        operation: usize,
        attempt: u32,
    },
    Fault,
    Heal,
    HasRoom {
        host: usize,
    },
    Campaign {
        host: usize,
    },
    Crash {
        host: usize,
        downtime: Micros,
    },
    Start {
        host: usize,
    },
    Look,
    Manage,
    Wipe {
        host: usize,
    },
}

impl Happening {
    /// The host whose process has to run for this to happen.
    fn inside(&self) -> Option<usize> {
        match self {
            Self::Tick { host, .. }
            | Self::Poll { host, .. }
            | Self::Sync { host, .. }
            | Self::Seal { host, .. }
            | Self::LookForRoom { host, .. }
            | Self::Store { host, .. }
            | Self::Transfer { host, .. }
            | Self::Deliver { to: host, .. }
            | Self::Link { host, .. }
            | Self::LinkLost { host, .. }
            | Self::Ask { host, .. }
            | Self::Campaign { host } => Some(*host),
            Self::GoesOn { .. }
            | Self::Send { .. }
            | Self::Answer { .. }
            | Self::AttemptOver { .. }
            | Self::Fault
            | Self::Heal
            | Self::HasRoom { .. }
            | Self::Crash { .. }
            | Self::Start { .. }
            | Self::Look
            | Self::Manage
            | Self::Wipe { .. } => None,
        }
    }
}

/// Which attempt a request id stands for.
#[derive(Clone, Copy, Debug)]
struct Attempt {
    client: usize,
    operation: usize,
    number: u32,
}

/// A simulated cluster with its clients and its faults.
#[derive(Debug)]
pub struct World {
    plan: Plan,
    rng: ChaCha8Rng,
    now: Micros,
    queue: BTreeMap<(Micros, u64), Happening>,
    sequence: u64,
    hosts: Vec<Host>,
    /// By host: ids it was told never to speak to again.
    refused: Vec<BTreeSet<NodeId>>,
    /// By host: until when its disk is slow.
    slow_until: Vec<Micros>,
    /// By host: what a repair of it must cover.
    owed: Vec<u64>,
    /// By host: terms and votes that a repair of it must keep.
    votes: Vec<Votes>,
    /// By host: syncs of its log.
    syncs: Vec<u64>,
    /// By host: what its node remembers by itself.
    remembered: Vec<Remembered>,
    network: Network,
    /// What nodes asked last, for a planted bug.
    questions: Questions,
    operator: Operator,
    clients: Vec<Client>,
    history: Vec<Operation>,
    /// Whether some attempt of an operation ended with an unknown outcome.
    doubtful: Vec<bool>,
    attempts: BTreeMap<RequestId, Attempt>,
    next_request: u64,
    watch: Watch,
    faults_on: bool,
    counters: Counters,
    violations: Vec<String>,
    trace: DefaultHasher,
}

impl World {
    /// The world of a plan, with all hosts formed and down.
    #[must_use]
    pub fn new(plan: Plan) -> Self {
        let mut rng = ChaCha8Rng::seed_from_u64(plan.seed);
        let members: Vec<(NodeId, String)> =
            (1..=plan.nodes as u64).map(|n| (NodeId(n * 1001), format!("n{n}"))).collect();
        let bounds = host::bounds(&mut rng);
        let hosts: Vec<Host> = members
            .iter()
            .map(|(id, _)| Host::formed(*id, &members, bounds, plan.mutant, &mut rng))
            .collect();
        let share = plan.operations.div_ceil(CLIENTS as u32);
        let clients = (0..CLIENTS).map(|_| Client::new(share, &mut rng)).collect();
        Self {
            plan,
            rng,
            now: 0,
            queue: BTreeMap::new(),
            sequence: 0,
            refused: vec![BTreeSet::new(); hosts.len()],
            slow_until: vec![0; hosts.len()],
            owed: vec![0; hosts.len()],
            votes: vec![Votes::new(); hosts.len()],
            syncs: vec![0; hosts.len()],
            remembered: (0..)
                .map(|host| Remembered::new(plan.seed, host))
                .take(hosts.len())
                .collect(),
            hosts,
            network: Network::default(),
            questions: Questions::new(),
            operator: Operator::default(),
            clients,
            history: Vec::new(),
            doubtful: Vec::new(),
            attempts: BTreeMap::new(),
            next_request: 1,
            watch: Watch::default(),
            faults_on: true,
            counters: Counters::default(),
            violations: Vec::new(),
            trace: DefaultHasher::new(),
        }
    }

    /// Runs the seed to its end.
    #[must_use]
    pub fn run(mut self) -> Outcome {
        for host in 0..self.hosts.len() {
            self.start(host);
        }
        self.input(0, Input::Campaign);
        for client in 0..self.clients.len() {
            self.after(TICK, Happening::Send { client, again: None });
        }
        let pause = Fault::pause(&mut self.rng);
        self.after(pause, Happening::Fault);
        self.after(pause, Happening::Look);
        self.after(pause, Happening::Manage);
        let shaken = |world: &Self| world.counters.faults >= FAULTS_MIN;
        let over = |world: &Self| !world.violations.is_empty();
        self.run_until(TIME_MAX, |world| over(world) || (world.clients_done() && shaken(world)));
        self.heal();
        let limit = self.now + CONVERGE_MAX;
        if !self.run_until(limit, |world| over(world) || world.converged()) {
            let nodes: Vec<String> = self.hosts.iter().map(Host::describe).collect();
            let left: u32 = self.clients.iter().map(|client| client.left).sum();
            let (nodes, replacing) = (nodes.join("; "), self.operator.replacing());
            self.violate(format!(
                "without faults no convergence, {left} to do, {replacing:?} replaced: {nodes}"
            ));
        }
        self.finish()
    }

    fn after(&mut self, delay: Micros, happening: Happening) {
        self.sequence += 1;
        self.queue.insert((self.now + delay, self.sequence), happening);
    }

    fn violate(&mut self, what: String) {
        self.violations.push(format!("at {} us: {what}", self.now));
    }

    fn check(&mut self, result: Result<(), String>) {
        if let Err(what) = result {
            self.violate(what);
        }
    }

    /// Lets things happen until `done`; false if the time was over first.
    fn run_until(&mut self, limit: Micros, done: impl Fn(&Self) -> bool) -> bool {
        while !done(self) {
            let Some(((at, _), happening)) = self.queue.pop_first() else { return false };
            if at > limit {
                return false;
            }
            self.now = at;
            let paused = happening.inside().map_or(0, |host| self.hosts[host].paused_until);
            if paused > at {
                self.after(paused - at, happening);
            } else {
                self.happen(happening);
            }
        }
        true
    }

    fn happen(&mut self, happening: Happening) {
        match happening {
            Happening::Tick { host, boot } if self.is_up(host, boot) => self.tick(host, boot),
            Happening::Poll { host, boot } if self.runs(host, boot) => self.poll(host),
            Happening::Sync { host, boot } if self.runs(host, boot) => self.sync(host, boot),
            Happening::LookForRoom { host, boot } if self.runs(host, boot) => {
                self.look_for_room(host, boot);
            }
            Happening::Seal { host, boot, syncs } if self.runs(host, boot) => {
                let silent = self.syncs[host] == syncs;
                let process = self.hosts[host].running.as_mut().filter(|_| silent);
                if process.is_some_and(|process| process.seal().is_err()) {
                    self.crash(host, TICK);
                }
            }
            Happening::Store { host, boot } if self.runs(host, boot) => {
                let process = self.hosts[host].running.as_mut().expect("it runs");
                if process.step_store(&mut self.counters) {
                    let slow = self.slow_until[host] > self.now;
                    let pause = if slow { chaos::SLOW_STORE } else { 500..12_000 };
                    let pause = self.rng.random_range(pause);
                    self.after(pause, Happening::Store { host, boot });
                }
                self.schedule_poll(host);
            }
            Happening::Transfer { host, boot } if self.runs(host, boot) => {
                let process = self.hosts[host].running.as_mut().expect("it runs");
                let (send, more) = process.step_transfer();
                if more {
                    let pause = self.rng.random_range(200..8_000);
                    self.after(pause, Happening::Transfer { host, boot });
                }
                if let Some((to, message)) = send {
                    self.transmit(host, to, message);
                }
                self.schedule_poll(host);
            }
            Happening::Deliver { to, id, from, message } => self.deliver(to, id, from, message),
            Happening::Link { host, boot, peer, peer_boot } => {
                if self.is_up(host, boot) && self.is_up(peer, peer_boot) {
                    let peer = self.hosts[peer].id;
                    self.link(host, peer, true);
                }
            }
            Happening::LinkLost { host, boot, peer } if self.is_up(host, boot) => {
                self.link(host, peer, false);
            }
            Happening::GoesOn { host, boot } if self.runs(host, boot) => self.catch_up(host),
            // An answer may have come since, and another operation begun.
            Happening::Send { client, again } if self.clients[client].open == again => {
                self.send(client);
            }
            Happening::Ask { host, id, request } => self.ask(host, id, request),
            Happening::Answer { id, reply } => self.answer(id, reply),
            Happening::AttemptOver { client, operation, attempt } => {
                let current = &self.clients[client];
                if current.open == Some(operation) && current.attempt == attempt {
                    self.doubtful[operation] = true;
                    self.again(client, operation);
                }
            }
            Happening::Fault if self.faults_on => {
                self.fault();
                let pause = Fault::pause(&mut self.rng);
                self.after(pause, Happening::Fault);
            }
            Happening::Heal => self.network.heal(),
            Happening::HasRoom { host } => self.hosts[host].disk.set_quota_bytes(None),
            Happening::Campaign { host } => self.input(host, Input::Campaign),
            Happening::Crash { host, downtime } if self.faults_on => self.crash(host, downtime),
            Happening::Start { host } if self.hosts[host].is_down() => self.start(host),
            Happening::Look => self.look(),
            Happening::Manage if self.faults_on => self.manage(),
            Happening::Wipe { host } => self.wipe(host),
            // Meant for a process that has died since, or too late.
            Happening::Tick { .. }
            | Happening::Poll { .. }
            | Happening::Sync { .. }
            | Happening::Seal { .. }
            | Happening::LookForRoom { .. }
            | Happening::Store { .. }
            | Happening::Transfer { .. }
            | Happening::LinkLost { .. }
            | Happening::GoesOn { .. }
            | Happening::Send { .. }
            | Happening::Fault
            | Happening::Crash { .. }
            | Happening::Manage
            | Happening::Start { .. } => {}
        }
    }

    /// Whether this start of the process goes on, as a node or in repair.
    fn is_up(&self, host: usize, boot: u64) -> bool {
        !self.hosts[host].is_down() && self.hosts[host].boot == boot
    }

    /// Whether this start of the process goes on as a node.
    fn runs(&self, host: usize, boot: u64) -> bool {
        self.hosts[host].running.is_some() && self.hosts[host].boot == boot
    }

    fn input(&mut self, host: usize, input: Input) {
        if let Some(process) = &mut self.hosts[host].running {
            process.node.step(input);
            self.schedule_poll(host);
        }
    }

    /// Something happens to a machine under repair.
    fn treat(&mut self, host: usize, input: RepairInput) {
        let Some(patient) = &mut self.hosts[host].patient else { return };
        for (to, message) in patient.step(input) {
            self.transmit(host, to, message);
        }
        let Some(patient) = &self.hosts[host].patient else { return };
        let covers = patient.covers();
        let finished = patient.finish();
        let repaired = matches!(finished, Ok(true)).then(|| patient.describe());
        match finished {
            Ok(false) => return,
            Ok(true) => {
                let (covers, owed) = (covers.unwrap_or_default(), self.owed[host]);
                if covers < owed {
                    let name = self.hosts[host].name.clone();
                    self.violate(format!("{name} is repaired up to {covers}, but knew {owed}"));
                }
                self.counters.count(Event::Repaired);
                self.watch.forget(self.hosts[host].id);
                if self.remembered[host].forget() {
                    self.counters.count(Event::ItemsLost);
                }
                self.hosts[host].was_damaged = false;
            }
            // Without room, say: from the beginning.
            Err(_) => {}
        }
        self.hosts[host].patient = None;
        self.start(host);
        if let Some(damage) = repaired {
            self.check_votes(host, &damage);
        }
    }

    /// What a node voted before it was damaged, it knows when it is repaired.
    fn check_votes(&mut self, host: usize, damage: &str) {
        let Some(process) = &self.hosts[host].running else { return };
        let forgotten = self.votes[host].iter().find_map(|(group, (term, vote))| {
            let known = process.votes().get(group).copied().unwrap_or_default();
            let keeps = known.0 > *term || known.0 == *term && (*vote == 0 || known.1 == *vote);
            let name = &self.hosts[host].name;
            let what = format!("{name} voted for {vote} in term {term} of group {group}");
            (!keeps).then(|| format!("{what}, and knows {known:?} after a repair of {damage}"))
        });
        if let Some(what) = forgotten {
            self.violate(what);
        }
    }

    fn link(&mut self, host: usize, peer: NodeId, up: bool) {
        if self.refused[host].contains(&peer) {
            return;
        }
        if self.hosts[host].patient.is_some() {
            let input = if up { RepairInput::LinkUp(peer) } else { RepairInput::LinkDown(peer) };
            self.treat(host, input);
        } else {
            self.input(host, if up { Input::LinkUp(peer) } else { Input::LinkDown(peer) });
        }
    }

    fn tick(&mut self, host: usize, boot: u64) {
        // Every machine's clock drifts on its own.
        let drift = self.rng.random_range(0..4_000);
        self.after(TICK - 2_000 + drift, Happening::Tick { host, boot });
        if self.hosts[host].patient.is_some() {
            return self.treat(host, RepairInput::Tick);
        }
        self.input(host, Input::Tick);
        if let Some(process) = &mut self.hosts[host].running
            && self.remembered[host].put(&mut process.node)
        {
            self.counters.count(Event::ItemsPut);
            self.schedule_poll(host);
        }
        if self.rng.random_range(0..LOOK_TICKS) == 0 {
            self.look_at(host);
        }
    }

    /// Compares what a node shows with what others showed.
    fn look_at(&mut self, host: usize) {
        let (id, boot) = (self.hosts[host].id, self.hosts[host].boot);
        let Some(process) = &self.hosts[host].running else { return };
        let machine = process.node.machine();
        let digest = machine.digest().expect("the simulated store works");
        let (applied, summary) = (machine.applied().get(), process.node.summary());
        let log_bytes = process.log_bytes();
        let shown = self.remembered[host].shown(&process.node);
        let shows = self.watch.shows(id, applied, digest);
        self.check(shows);
        let consists = self.watch.consists(id, applied, &summary.voters);
        self.check(consists);
        let bounds = self.hosts[host].bounds;
        let most = 3 * bounds.log_bytes + host::LOG_SLACK;
        if log_bytes > most {
            self.violate(format!("the log of {id} has {log_bytes} bytes, {most} are allowed"));
        }
        let stands = self.watch.stands(id, boot, summary.commit, summary.applied);
        self.check(stands);
        self.check(shown);
    }

    fn sync(&mut self, host: usize, boot: u64) {
        if self.hosts[host].dies_writing() {
            let downtime = Fault::downtime(&mut self.rng);
            return self.crash(host, downtime);
        }
        self.syncs[host] += 1;
        let process = self.hosts[host].running.as_mut().expect("it runs");
        match process.sync(&mut self.counters) {
            Ok(synced @ (Synced::Done | Synced::Short)) => {
                if synced == Synced::Short {
                    self.after(FULL_RETRY, Happening::LookForRoom { host, boot });
                }
                let syncs = self.syncs[host];
                self.after(SEAL_AFTER, Happening::Seal { host, boot, syncs });
            }
            Ok(Synced::Full) => self.after(FULL_RETRY, Happening::Sync { host, boot }),
            // A log that failed ends its process; the disk itself is whole.
            Err(_) => {
                let downtime = Fault::downtime(&mut self.rng);
                return self.crash(host, downtime);
            }
        }
        self.schedule_poll(host);
    }

    fn look_for_room(&mut self, host: usize, boot: u64) {
        let process = self.hosts[host].running.as_mut().expect("it runs");
        match process.look_for_room(&mut self.counters) {
            Ok(true) => self.after(FULL_RETRY, Happening::LookForRoom { host, boot }),
            Ok(false) => {}
            Err(_) => {
                let downtime = Fault::downtime(&mut self.rng);
                return self.crash(host, downtime);
            }
        }
        self.schedule_poll(host);
    }

    /// Inputs that arrive close together share a poll, as they do behind the shell's channel.
    fn schedule_poll(&mut self, host: usize) {
        let boot = self.hosts[host].boot;
        let Some(process) = &mut self.hosts[host].running else { return };
        if !std::mem::replace(&mut process.polling, true) {
            let delay = self.rng.random_range(0..300);
            self.after(delay, Happening::Poll { host, boot });
        }
    }

    fn poll(&mut self, host: usize) {
        let id = self.hosts[host].id;
        let mut appends = false;
        for effect in self.hosts[host].poll() {
            if let Effect::WalAppend { frames, .. } = &effect {
                appends = true;
                let appended = self.watch.appended(id, frames);
                self.check(appended);
            }
            let Some(process) = &mut self.hosts[host].running else { return };
            if let Some(wanted) = process.take(effect) {
                self.carry_out(host, wanted);
            }
        }
        self.watch_leader(host);
        let again = self.hosts[host].running.as_ref().is_some_and(|p| p.node.wants_poll());
        if again || (appends && self.plan.mutant == Some(Mutant::AckBeforeSync)) {
            self.schedule_poll(host);
        }
    }

    fn carry_out(&mut self, host: usize, wanted: Wanted) {
        let boot = self.hosts[host].boot;
        match wanted {
            Wanted::Send(to, message) => self.transmit(host, to, message),
            Wanted::Sync => {
                let slow = self.slow_until[host] > self.now;
                let latency = if slow { chaos::SLOW_SYNC } else { 100..5_000 };
                let latency = self.rng.random_range(latency);
                self.after(latency, Happening::Sync { host, boot });
            }
            Wanted::Store => self.after(1_000, Happening::Store { host, boot }),
            Wanted::Transfer => self.after(500, Happening::Transfer { host, boot }),
            Wanted::Reply(id, reply) => {
                let delay = self.rng.random_range(50..500);
                self.after(delay, Happening::Answer { id, reply: *reply });
            }
            Wanted::Removed(removed) => self.refused[host] = removed,
            Wanted::Fatal(why) => self.violate(format!("a node cannot go on: {why}")),
        }
    }

    /// At most one leader per term.
    fn watch_leader(&mut self, host: usize) {
        let Some(process) = &self.hosts[host].running else { return };
        let (role, term) = process.node.role_and_term();
        if role != v1::Role::Leader {
            return;
        }
        match self.watch.leads(self.hosts[host].id, term.get()) {
            Ok(true) => self.counters.count(Event::LeaderChange),
            Ok(false) => {}
            Err(what) => self.violate(what),
        }
    }

    fn transmit(&mut self, host: usize, to: NodeId, mut message: peer::PeerMessage) {
        let from = self.hosts[host].id;
        // A node that is no more, or that was wiped since.
        let Some(index) = self.index_of(to) else { return };
        mutant::tamper_with_message(self.plan.mutant, &mut message);
        mutant::note_question(&mut self.questions, from, &message);
        let delays = self.network.deliveries(from, to, &mut self.rng);
        match delays.len() {
            0 => self.counters.count(Event::MessageLost),
            1 => {}
            _ => self.counters.count(Event::DuplicateDelivery),
        }
        for delay in delays {
            if delay > 20 * 400 {
                self.counters.count(Event::Reordering);
            }
            let message = message.clone();
            self.after(delay, Happening::Deliver { to: index, id: to, from, message });
        }
    }

    fn deliver(&mut self, to: usize, id: NodeId, from: NodeId, mut message: peer::PeerMessage) {
        let host = &self.hosts[to];
        if host.is_down() || host.id != id || self.refused[to].contains(&from) {
            return;
        }
        (to, from).hash(&mut self.trace);
        message.encode_to_vec().hash(&mut self.trace);
        if host.patient.is_some() {
            return self.treat(to, RepairInput::Peer(from, Box::new(message)));
        }
        if self.plan.mutant == Some(Mutant::RepairUnconfirmed)
            && let Some(answer) = mutant::answer_repair(&self.hosts[to].files(), &message)
        {
            return self.transmit(to, from, answer);
        }
        if self.plan.mutant == Some(Mutant::AcksUnwritten)
            && let Some(answer) = mutant::acknowledgement(&message)
            && self.rng.random_range(0..FORGOTTEN_OF) == 0
        {
            return self.transmit(to, from, answer);
        }
        mutant::tamper_with_answer(self.plan.mutant, &self.questions, id, &mut message);
        self.input(to, Input::Peer { from, message });
    }

    fn index_of(&self, id: NodeId) -> Option<usize> {
        self.hosts.iter().position(|host| host.id == id)
    }

    fn start(&mut self, host: usize) {
        let started = self.hosts[host].start(self.plan.seed, &mut self.counters);
        match started {
            Ok(Started::Running | Started::Repairing) => {}
            Ok(Started::Lost) => {
                if self.operator.replaced_host().is_none() {
                    self.operator.set_replacing(Some((host, Stage::Leaving)));
                }
                return;
            }
            Ok(Started::NoRoom) => return self.after(FULL_RETRY, Happening::Start { host }),
            Err(what) => return self.violate(what),
        }
        if let Some(process) = &self.hosts[host].running {
            let was_damaged = self.hosts[host].was_damaged;
            match self.remembered[host].found(&process.node, was_damaged) {
                Ok(true) => {}
                Ok(false) => self.counters.count(Event::ItemsLost),
                Err(what) => return self.violate(what),
            }
        }
        let boot = self.hosts[host].boot;
        let first = self.rng.random_range(1..TICK);
        self.after(first, Happening::Tick { host, boot });
        for peer in 0..self.hosts.len() {
            if peer != host && !self.hosts[peer].is_down() {
                let peer_boot = self.hosts[peer].boot;
                let delay = self.rng.random_range(LINK_LOST_MAX..20_000);
                self.after(delay, Happening::Link { host, boot, peer, peer_boot });
                let (there, boot_there) = (peer, peer_boot);
                self.after(
                    delay,
                    Happening::Link { host: there, boot: boot_there, peer: host, peer_boot: boot },
                );
            }
        }
        self.schedule_poll(host);
    }

    /// The process of a host is gone: the others notice soon.
    fn break_links(&mut self, host: usize) {
        let gone = self.hosts[host].id;
        for peer in 0..self.hosts.len() {
            let boot = self.hosts[peer].boot;
            let delay = self.rng.random_range(100..LINK_LOST_MAX);
            self.after(delay, Happening::LinkLost { host: peer, boot, peer: gone });
        }
    }
}
