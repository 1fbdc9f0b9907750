//! Clients: what they send, and what comes back.

use std::hash::Hash;

use kvstore::node::{Input, Reply, Request, RequestId, Ticks};
use proto::{Applied, Code, Failure, v1};
use rand::RngExt;

use super::super::counters::Event;
use super::super::mutant::Mutant;
use super::super::network::Micros;
use super::super::operation::{Ending, Operation};
use super::super::oracle;
use super::{Attempt, GENERATION, Happening, World};

/// Ticks that an attempt may take.
const PATIENCE: Ticks = Ticks(12);
/// A client gives an attempt up after this long: the node may be gone.
const ATTEMPT: Micros = 1_000_000;
/// Attempts of one operation.
const ATTEMPTS_MAX: u32 = 6;

impl World {
    /// The client sends its open operation, or begins the next one.
    pub(super) fn send(&mut self, client: usize) {
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
        let keyspace = self.operator.draw_keyspace(&mut self.rng);
        let request = current.draw(operation, &keyspace, &mut self.rng);
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
            (Some(Mutant::FenceSkipped), Request::Write { write, .. }) if attempt > 1 => {
                if let Some(id) = &mut write.id {
                    id.born = u64::MAX;
                }
            }
            (Some(Mutant::DoubleApply), Request::Write { write, .. }) => {
                if let Some(id) = &mut write.id {
                    id.client_id = oracle::disguise(&id.client_id, attempt);
                }
            }
            _ => {}
        }
    }

    /// Plants the bug of a leader that takes its own word for it.
    fn weaken(&self, host: usize, request: &mut Request) {
        let process = self.hosts[host].running.as_ref();
        let leads = process.is_some_and(|it| it.node.role_and_term().0 == v1::Role::Leader);
        match request {
            Request::Get(get) if leads => get.set_level(v1::Level::Eventual),
            Request::Range(range) if leads => range.set_level(v1::Level::Eventual),
            _ => {}
        }
    }

    pub(super) fn ask(&mut self, host: usize, id: RequestId, mut request: Request) {
        if self.plan.mutant == Some(Mutant::UnconfirmedLeader) {
            self.weaken(host, &mut request);
        }
        if self.hosts[host].running.is_some() {
            self.input(host, Input::Client { id, request, patience: PATIENCE });
        } else {
            // Connection refused.
            let failure = Failure::new(Code::CannotConnect, "", "").applied(Applied::No);
            self.after(200, Happening::Answer { id, reply: Err(failure) });
        }
    }

    pub(super) fn answer(&mut self, id: RequestId, reply: Result<Reply, Failure>) {
        format!("{reply:?}").hash(&mut self.trace);
        if let Some(errand) = self.operator.take_errand(id) {
            return self.errand_answered(errand, reply);
        }
        let Some(attempt) = self.attempts.remove(&id) else {
            return self.violate(format!("request {} was answered twice", id.0));
        };
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
                match failure.code {
                    Code::KeyspaceFull => self.counters.count(Event::KeyspaceFull),
                    Code::QueueFull => self.counters.count(Event::WriteRefused),
                    _ => {}
                }
                self.again(client, attempt.operation);
            }
        }
    }

    fn acknowledged(&mut self, client: usize, operation: usize, reply: Reply) {
        if let Reply::Write { outcome, proof, .. } = &reply {
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
        format!("n{}", id % GENERATION / 1001)
    }

    /// Tries the same operation again under the same id, or gives it up.
    pub(super) fn again(&mut self, client: usize, operation: usize) {
        if self.history[operation].attempts < ATTEMPTS_MAX {
            let pause = self.rng.random_range(5_000..300_000);
            // Nothing that still arrives for the last attempt starts another one.
            self.clients[client].attempt += 1;
            self.after(pause, Happening::Send { client, again: Some(operation) });
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
        self.after(pause, Happening::Send { client, again: None });
    }

    pub(super) fn clients_done(&self) -> bool {
        self.clients.iter().all(|client| client.left == 0 && client.open.is_none())
    }
}
