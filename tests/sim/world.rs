//! The event loop of a simulated cluster.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};

use kvstore::node::{Effect, Input, Reply, Request, RequestId, Ticks};
use prost::Message;
use proto::{Applied, Failure, NodeId, peer, v1};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::counters::{Counters, Event};
use super::faults::{self, Fault};
use super::host::Host;
use super::mutant::Mutant;
use super::network::{Micros, Network};
use super::operation::{Client, Ending, Operation};
use super::{FAULTS_MIN, Outcome, Plan, oracle};

const TICK: Micros = 50_000;
/// Clients at work at the same time.
const CLIENTS: usize = 8;
/// Ticks that an attempt may take.
const PATIENCE: Ticks = Ticks(12);
/// A client gives an attempt up after this long: the node may be gone.
const ATTEMPT: Micros = 1_000_000;
/// Attempts of one operation.
const ATTEMPTS_MAX: u32 = 6;
/// By then everybody knows that a link is gone; a new one takes longer.
const LINK_LOST_MAX: Micros = 2_000;
/// Virtual time by which a seed must have ended.
const TIME_MAX: Micros = 900_000_000;
/// Virtual time that a cluster without faults may take to converge.
const CONVERGE_MAX: Micros = 60_000_000;

#[derive(Debug)]
enum Happening {
    Tick { host: usize, boot: u64 },
    Poll { host: usize, boot: u64 },
    Sync { host: usize, boot: u64 },
    Checkpoint { host: usize, boot: u64 },
    Deliver { to: usize, from: NodeId, message: peer::PeerMessage },
    Link { host: usize, boot: u64, peer: usize, peer_boot: u64 },
    LinkLost { host: usize, boot: u64, peer: NodeId },
    Send { client: usize },
    Ask { host: usize, id: RequestId, request: Request },
    Answer { id: RequestId, reply: Result<Reply, Failure> },
    AttemptOver { client: usize, operation: usize, attempt: u32 },
    Fault,
    Campaign { host: usize },
    Crash { host: usize, downtime: Micros },
    Start { host: usize },
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
    network: Network,
    clients: Vec<Client>,
    history: Vec<Operation>,
    /// Whether some attempt of an operation ended with an unknown outcome.
    doubtful: Vec<bool>,
    attempts: BTreeMap<RequestId, Attempt>,
    next_request: u64,
    leaders: BTreeMap<u64, NodeId>,
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
        let hosts = members
            .iter()
            .map(|(id, _)| Host::formed(*id, &members, plan.mutant, &mut rng))
            .collect();
        let share = plan.operations.div_ceil(CLIENTS as u32);
        let clients = (0..CLIENTS).map(|_| Client::new(share, &mut rng)).collect();
        Self {
            plan,
            rng,
            now: 0,
            queue: BTreeMap::new(),
            sequence: 0,
            hosts,
            network: Network::default(),
            clients,
            history: Vec::new(),
            doubtful: Vec::new(),
            attempts: BTreeMap::new(),
            next_request: 1,
            leaders: BTreeMap::new(),
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
        self.hosts[0].running.as_mut().expect("just started").node.step(Input::Campaign);
        for client in 0..self.clients.len() {
            self.after(TICK, Happening::Send { client });
        }
        let pause = Fault::pause(&mut self.rng);
        self.after(pause, Happening::Fault);
        let shaken = |world: &Self| world.counters.faults >= FAULTS_MIN;
        self.run_until(TIME_MAX, |world| world.clients_done() && shaken(world));
        self.heal();
        let limit = self.now + CONVERGE_MAX;
        if !self.run_until(limit, |world| world.clients_done() && world.converged()) {
            let nodes: Vec<String> = self.hosts.iter().map(Host::describe).collect();
            let left: u32 = self.clients.iter().map(|client| client.left).sum();
            let nodes = nodes.join("; ");
            self.violate(format!("without faults no convergence, {left} to do: {nodes}"));
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

    /// Lets things happen until `done`; false if the time was over first.
    fn run_until(&mut self, limit: Micros, done: impl Fn(&Self) -> bool) -> bool {
        while !done(self) {
            let Some(((at, _), happening)) = self.queue.pop_first() else { return false };
            if at > limit {
                return false;
            }
            self.now = at;
            self.happen(happening);
        }
        true
    }

    fn happen(&mut self, happening: Happening) {
        match happening {
            Happening::Tick { host, boot } if self.runs(host, boot) => {
                self.input(host, Input::Tick);
                // Every machine's clock drifts on its own.
                let drift = self.rng.random_range(0..4_000);
                self.after(TICK - 2_000 + drift, Happening::Tick { host, boot });
            }
            Happening::Poll { host, boot } if self.runs(host, boot) => self.poll(host),
            Happening::Sync { host, boot }
                if self.runs(host, boot) && self.hosts[host].dies_writing() =>
            {
                let downtime = Fault::downtime(&mut self.rng);
                self.crash(host, downtime);
            }
            Happening::Sync { host, boot } if self.runs(host, boot) => {
                if self.hosts[host].sync(&mut self.counters) {
                    self.schedule_poll(host);
                }
            }
            Happening::Checkpoint { host, boot } if self.runs(host, boot) => {
                if self.hosts[host].step_checkpoint(&mut self.counters) {
                    let pause = self.rng.random_range(1_000..20_000);
                    self.after(pause, Happening::Checkpoint { host, boot });
                } else {
                    self.schedule_poll(host);
                }
            }
            Happening::Deliver { to, from, message } => {
                if self.hosts[to].running.is_some() {
                    (to, from).hash(&mut self.trace);
                    message.encode_to_vec().hash(&mut self.trace);
                    self.input(to, Input::Peer { from, message });
                }
            }
            Happening::Link { host, boot, peer, peer_boot } => {
                if self.runs(host, boot) && self.runs(peer, peer_boot) {
                    let peer = self.hosts[peer].id;
                    self.input(host, Input::LinkUp(peer));
                }
            }
            Happening::LinkLost { host, boot, peer } if self.runs(host, boot) => {
                self.input(host, Input::LinkDown(peer));
            }
            Happening::Send { client } => self.send(client),
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
            Happening::Campaign { host } => self.input(host, Input::Campaign),
            Happening::Crash { host, downtime } if self.faults_on => self.crash(host, downtime),
            Happening::Start { host } if self.hosts[host].running.is_none() => self.start(host),
            // Meant for a process that has died since.
            Happening::Tick { .. }
            | Happening::Poll { .. }
            | Happening::Sync { .. }
            | Happening::Checkpoint { .. }
            | Happening::LinkLost { .. }
            | Happening::Fault
            | Happening::Crash { .. }
            | Happening::Start { .. } => {}
        }
    }

    fn runs(&self, host: usize, boot: u64) -> bool {
        self.hosts[host].running.is_some() && self.hosts[host].boot == boot
    }

    fn input(&mut self, host: usize, input: Input) {
        if let Some(running) = &mut self.hosts[host].running {
            running.node.step(input);
            self.schedule_poll(host);
        }
    }

    /// Inputs that arrive close together share a poll, as they do behind the shell's channel.
    fn schedule_poll(&mut self, host: usize) {
        let boot = self.hosts[host].boot;
        let Some(running) = &mut self.hosts[host].running else { return };
        if !std::mem::replace(&mut running.polling, true) {
            let delay = self.rng.random_range(0..300);
            self.after(delay, Happening::Poll { host, boot });
        }
    }

    fn poll(&mut self, host: usize) {
        let boot = self.hosts[host].boot;
        for effect in self.hosts[host].poll() {
            match effect {
                Effect::Send { to, message } => self.transmit(host, to, message),
                Effect::WalAppend { ticket, frames, sync } => {
                    if self.hosts[host].append(ticket, frames, sync) {
                        let latency = self.rng.random_range(100..5_000);
                        self.after(latency, Happening::Sync { host, boot });
                    }
                    if self.plan.mutant == Some(Mutant::AckBeforeSync) {
                        self.schedule_poll(host);
                    }
                }
                Effect::Reply { id, reply } => {
                    let delay = self.rng.random_range(50..500);
                    self.after(delay, Happening::Answer { id, reply });
                }
                Effect::Checkpoint(job) => {
                    self.hosts[host].begin_checkpoint(job);
                    self.after(1_000, Happening::Checkpoint { host, boot });
                }
                Effect::Fatal(why) => self.violate(format!("a node cannot go on: {why}")),
            }
        }
        self.watch_leader(host);
    }

    /// At most one leader per term.
    fn watch_leader(&mut self, host: usize) {
        let Some(running) = &self.hosts[host].running else { return };
        let (role, term) = running.node.role_and_term();
        if role != v1::Role::Leader {
            return;
        }
        let id = self.hosts[host].id;
        match self.leaders.insert(term.get(), id) {
            None => self.counters.count(Event::LeaderChange),
            Some(older) if older == id => {}
            Some(older) => self.violate(format!("{older} and {id} both lead in term {term}")),
        }
    }

    fn transmit(&mut self, host: usize, to: NodeId, message: peer::PeerMessage) {
        let from = self.hosts[host].id;
        let index = self.index_of(to);
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
            self.after(delay, Happening::Deliver { to: index, from, message });
        }
    }

    fn index_of(&self, id: NodeId) -> usize {
        self.hosts.iter().position(|host| host.id == id).expect("messages go to members")
    }

    fn start(&mut self, host: usize) {
        self.hosts[host].start(self.plan.seed, &mut self.counters);
        let boot = self.hosts[host].boot;
        let first = self.rng.random_range(1..TICK);
        self.after(first, Happening::Tick { host, boot });
        for peer in 0..self.hosts.len() {
            if peer != host && self.hosts[peer].running.is_some() {
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
    }

    fn crash(&mut self, host: usize, downtime: Micros) {
        if self.hosts[host].running.is_none() {
            return;
        }
        self.hosts[host].crash(&mut self.rng, &mut self.counters);
        let gone = self.hosts[host].id;
        for peer in 0..self.hosts.len() {
            let boot = self.hosts[peer].boot;
            let delay = self.rng.random_range(100..LINK_LOST_MAX);
            self.after(delay, Happening::LinkLost { host: peer, boot, peer: gone });
        }
        self.after(downtime, Happening::Start { host });
    }

    fn fault(&mut self) {
        self.counters.faults += 1;
        let fault = Fault::draw(self.hosts.len(), &mut self.rng);
        let downtime = Fault::downtime(&mut self.rng);
        match fault {
            Fault::Crash(host) => self.crash(host, downtime),
            Fault::CrashWriting(host) => self.hosts[host].die_writing(),
            Fault::Election(voter) => {
                let hosts = self.hosts.len();
                for host in 0..hosts {
                    self.crash(host, faults::ELECTION_DOWNTIME);
                }
                self.network.heal();
                self.network.delay_max = faults::ELECTION_DELAY_MAX;
                for host in [(voter + 1) % hosts, (voter + 2) % hosts] {
                    self.after(2 * faults::ELECTION_DOWNTIME, Happening::Campaign { host });
                }
                let delay = Fault::within_election(&mut self.rng);
                let downtime = faults::ELECTION_DOWNTIME;
                self.after(delay, Happening::Crash { host: voter, downtime });
            }
            Fault::CrashLeader => {
                let leader = self.leaders.last_key_value().map(|(_, id)| *id);
                if let Some(leader) = leader {
                    self.crash(self.index_of(leader), downtime);
                }
            }
            Fault::CrashAll => {
                for host in 0..self.hosts.len() {
                    let downtime = Fault::downtime(&mut self.rng);
                    self.crash(host, downtime);
                }
                self.counters.count(Event::CrashOfAll);
            }
            Fault::OneWayCut(from, to) => {
                let (from, to) = (self.hosts[from].id, self.hosts[to].id);
                self.network.cut(from, to);
                if !self.network.is_cut(to, from) {
                    self.counters.count(Event::OneWayCut);
                }
            }
            Fault::Isolate(host) => {
                let others = self.hosts.iter().map(|host| host.id);
                faults::isolate(&mut self.network, self.hosts[host].id, others);
                self.counters.count(Event::Partition);
            }
            Fault::Weather => faults::weather(&mut self.network, &mut self.rng),
            Fault::HealNetwork => self.network.heal(),
        }
    }

    fn heal(&mut self) {
        self.faults_on = false;
        self.network.heal();
        for host in 0..self.hosts.len() {
            self.hosts[host].live_on();
            if self.hosts[host].running.is_none() {
                self.start(host);
            }
        }
    }

    /// The client sends its open operation, or begins the next one.
    fn send(&mut self, client: usize) {
        let operation = match self.clients[client].open {
            Some(operation) => operation,
            None if self.clients[client].left == 0 => return,
            None => self.begin(client),
        };
        let host = self.rng.random_range(0..self.hosts.len());
        let id = RequestId(self.next_request);
        self.next_request += 1;
        let current = &mut self.clients[client];
        current.attempt += 1;
        let number = current.attempt;
        self.attempts.insert(id, Attempt { client, operation, number });
        self.history[operation].attempts += 1;
        let mut request = self.history[operation].request.clone();
        self.plant(&mut request, number);
        let delay = self.rng.random_range(50..500);
        self.after(delay, Happening::Ask { host, id, request });
        self.after(ATTEMPT, Happening::AttemptOver { client, operation, attempt: number });
    }

    fn begin(&mut self, client: usize) -> usize {
        let operation = self.history.len();
        let current = &mut self.clients[client];
        current.left -= 1;
        current.open = Some(operation);
        current.attempt = 0;
        let request = current.draw(operation, &mut self.rng);
        self.history.push(Operation {
            client,
            request,
            invoked: self.now,
            returned: None,
            ending: None,
            attempts: 0,
        });
        self.doubtful.push(false);
        self.counters.operations += 1;
        operation
    }

    /// Plants the bugs that sit between client and node.
    fn plant(&self, request: &mut Request, attempt: u32) {
        match (self.plan.mutant, request) {
            (Some(Mutant::ReadWithoutQuorum), Request::Get(get)) => {
                get.set_level(v1::Level::Eventual);
            }
            (Some(Mutant::ReadWithoutQuorum), Request::Range(range)) => {
                range.set_level(v1::Level::Eventual);
            }
            (Some(Mutant::DoubleApply), Request::Write { write, .. }) => {
                if let Some(id) = &mut write.id {
                    id.client_id = oracle::disguise(&id.client_id, attempt);
                }
            }
            _ => {}
        }
    }

    fn ask(&mut self, host: usize, id: RequestId, request: Request) {
        if self.hosts[host].running.is_some() {
            self.input(host, Input::Client { id, request, patience: PATIENCE });
        } else {
            // Connection refused.
            let failure = Failure::new(proto::Code::CannotConnect, "", "").applied(Applied::No);
            self.after(200, Happening::Answer { id, reply: Err(failure) });
        }
    }

    fn answer(&mut self, id: RequestId, reply: Result<Reply, Failure>) {
        let Some(attempt) = self.attempts.remove(&id) else {
            return self.violate(format!("request {} was answered twice", id.0));
        };
        format!("{reply:?}").hash(&mut self.trace);
        let client = attempt.client;
        if self.clients[client].open != Some(attempt.operation) {
            return;
        }
        match reply {
            Ok(reply) => self.acknowledged(client, attempt.operation, reply),
            Err(failure) => {
                // A late failure of an attempt that was given up tells nothing new.
                if attempt.number != self.clients[client].attempt {
                    return;
                }
                let is_write = self.history[attempt.operation].write_id().is_some();
                if is_write && failure.applied != Some(Applied::No) {
                    self.doubtful[attempt.operation] = true;
                }
                self.again(client, attempt.operation);
            }
        }
    }

    fn acknowledged(&mut self, client: usize, operation: usize, reply: Reply) {
        if let Reply::Write { outcome, proof } = &reply {
            if outcome.replayed {
                self.counters.count(Event::Replayed);
            }
            if !outcome.succeeded {
                self.counters.count(Event::ConditionFailed);
            }
            if proof.leader != 0 && self.name_of(proof.leader) != proof.node {
                self.counters.count(Event::ForwardedWrite);
            }
        }
        if let Reply::Get(get) = &reply
            && let Some(proof) = &get.proof
            && proof.level() == v1::Level::Linearizable
            && self.name_of(proof.leader) != proof.node
        {
            self.counters.count(Event::FollowerRead);
        }
        self.clients[client].learn(&reply);
        self.counters.acknowledged += 1;
        self.end(client, operation, Ending::Ok(reply));
    }

    fn name_of(&self, id: u64) -> String {
        format!("n{}", id / 1001)
    }

    /// Tries the same operation again under the same id, or gives it up.
    fn again(&mut self, client: usize, operation: usize) {
        if self.history[operation].attempts < ATTEMPTS_MAX {
            let pause = self.rng.random_range(5_000..300_000);
            // Nothing that still arrives for the last attempt starts another one.
            self.clients[client].attempt += 1;
            self.after(pause, Happening::Send { client });
        } else if self.doubtful[operation] && self.history[operation].write_id().is_some() {
            self.counters.count(Event::UnknownOutcome);
            self.clients[client].renew(&mut self.rng);
            self.end(client, operation, Ending::Unknown);
        } else {
            self.end(client, operation, Ending::Fail);
        }
    }

    fn end(&mut self, client: usize, operation: usize, ending: Ending) {
        let ended = &mut self.history[operation];
        ended.returned = Some(self.now);
        ended.ending = Some(ending);
        self.clients[client].open = None;
        let pause = self.rng.random_range(0..20_000);
        self.after(pause, Happening::Send { client });
    }

    fn clients_done(&self) -> bool {
        self.clients.iter().all(|client| client.left == 0 && client.open.is_none())
    }

    fn converged(&self) -> bool {
        let applied = self.hosts[0].applied();
        applied.is_some()
            && self.hosts.iter().all(|host| {
                host.applied() == applied
                    && host.running.as_ref().is_some_and(|running| running.node.ready())
            })
    }

    /// All nodes show the same state, and the history is explained by the log.
    fn finish(mut self) -> Outcome {
        let digests: Vec<_> = self
            .hosts
            .iter()
            .filter_map(|host| host.running.as_ref())
            .map(|running| running.node.machine().digest().expect("the simulated store works"))
            .collect();
        if digests.windows(2).any(|pair| pair[0] != pair[1]) {
            self.violate("nodes at the same index show different states".to_owned());
        }
        digests.hash(&mut self.trace);
        let applied = self.hosts[0].applied().unwrap_or_default();
        let mut logs: Vec<_> = self.hosts.iter_mut().map(Host::entries).collect();
        for log in &mut logs {
            log.retain(|entry| entry.index <= applied.get());
        }
        if self.violations.is_empty() {
            for pair in logs.windows(2) {
                if pair[0] != pair[1] {
                    self.violate("nodes hold different logs".to_owned());
                }
            }
        }
        let judged = oracle::judge(&self.history, &logs[0]);
        self.counters.add(Event::Eviction, judged.evictions);
        self.violations.extend(judged.violations);
        self.counters.simulated = self.now;
        Outcome {
            seed: self.plan.seed,
            violations: self.violations,
            counters: self.counters,
            trace: self.trace.finish(),
        }
    }
}
