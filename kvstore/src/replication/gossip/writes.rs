//! Writes of clients to eventual keyspaces.

use std::collections::BTreeMap;

use bytes::Bytes;
use gossip::Dot;
use gossip::group::{Acked, Group, Need};
use gossip::hlc::Stamp;
use gossip::record::{Body, EntryKey};
use gossip::replica::{Basis, Write, WriteRefused};
use proto::error::Partial;
use proto::v1::{self, Ack, op::Op, op_result};
use proto::{Applied, Code, Failure, KeyspaceId, LogIndex, NodeId, log};

use super::mending::not_acknowledged;
use super::reads::not_offered;
use super::tokens::shown;
use super::write_ids::Earlier;
use super::{GossipConfig, GossipReplica, RECOVERING_RETRY, Serving, refused};
use crate::node::{RequestId, Ticks};
use crate::replication::{Answered, EventualOptions, Origin, Outbox, Submission};

/// What a client waits before it repeats a write that the log had no room for.
const FULL_RETRY: std::time::Duration = std::time::Duration::from_secs(1);

/// Longest token that an error repeats.
const CONTEXT_BYTES_MAX: usize = 1024;

/// Writes that are durable here and wait for other members.
#[derive(Debug, Default)]
pub(super) struct OpenWrites {
    by_dot: BTreeMap<Dot, Vec<Open>>,
    dots: BTreeMap<RequestId, Dot>,
}

#[derive(Debug)]
struct Open {
    id: RequestId,
    wanted: usize,
    /// The entry that makes it durable here, at the latest.
    durable_at: LogIndex,
    answer: Answer,
}

/// A write as it will be answered.
#[derive(Clone, Debug)]
struct Answer {
    node: NodeId,
    written: v1::Written,
    /// The values that a delete ended; `None`: it is a put.
    deleted: Option<u64>,
    replayed: bool,
}

impl Answer {
    fn by(self, others: &[NodeId]) -> Answered {
        let Self { node, written, deleted, replayed } = self;
        let result = match deleted {
            Some(deleted) => {
                op_result::Result::Delete(v1::DeleteResult { deleted, prev: Vec::new() })
            }
            None => op_result::Result::Put(v1::PutResult { prev: None }),
        };
        let outcome = log::WriteOutcome {
            succeeded: true,
            results: vec![v1::OpResult { result: Some(result) }],
            replayed,
            ..log::WriteOutcome::default()
        };
        let acknowledged_by = std::iter::once(node).chain(others.iter().copied()).collect();
        Answered::Write { outcome, acknowledged_by, written: Some(written) }
    }
}

impl OpenWrites {
    /// Answers for those who waited for a write that enough members have now.
    pub(super) fn acked(&mut self, acked: &Acked) -> Vec<(RequestId, Result<Answered, Failure>)> {
        let open = self.by_dot.remove(&acked.dot).unwrap_or_default();
        for open in &open {
            self.dots.remove(&open.id);
        }
        open.into_iter().map(|open| (open.id, Ok(open.answer.by(&acked.by)))).collect()
    }

    /// Answers for all that wait, at the end of the replica: each write is durable here with what is appended now.
    pub(super) fn end(&mut self, group: &Group) -> Vec<(RequestId, Result<Answered, Failure>)> {
        self.dots.clear();
        let open = std::mem::take(&mut self.by_dot).into_iter();
        let answers = open.flat_map(|(dot, open)| {
            let durable_on = 1 + group.holders(dot).len();
            open.into_iter()
                .map(move |open| (open.id, Err(not_acknowledged(durable_on, open.wanted))))
        });
        answers.collect()
    }

    fn take(&mut self, id: RequestId) -> Option<(Dot, Open)> {
        let dot = self.dots.remove(&id)?;
        let open = self.by_dot.get_mut(&dot)?;
        let at = open.iter().position(|open| open.id == id)?;
        let taken = open.remove(at);
        if open.is_empty() {
            self.by_dot.remove(&dot);
        }
        Some((dot, taken))
    }
}

/// What a client wants written.
struct Wanted {
    keyspace: KeyspaceId,
    key: Bytes,
    /// `None` deletes.
    value: Option<Bytes>,
    id: Option<v1::WriteId>,
    options: EventualOptions,
}

impl GossipReplica {
    /// Takes a write, or refuses it.
    pub(super) fn take_write(&mut self, submission: Submission, out: &mut Outbox) {
        let Origin::Local(id) = submission.origin else {
            // Nobody forwards writes of this kind, and the node itself makes none.
            return;
        };
        if let Err(failure) = self.try_write(id, submission) {
            let applied = failure.applied.unwrap_or(Applied::No);
            out.answer(id, Err(failure.applied(applied)));
        }
    }

    fn try_write(&mut self, id: RequestId, submission: Submission) -> Result<(), Failure> {
        let wanted = wanted(submission)?;
        let name = &self.config.name;
        if self.own.is_read_only() {
            let why = format!("the disk of {name} has no room for its log");
            return Err(refused(Code::ReadOnly, why).retry_after(FULL_RETRY));
        }
        if self.own.is_overloaded() {
            let why = format!("log or memory of {name} is full until an export is written");
            return Err(refused(Code::QueueFull, why).retry_after(FULL_RETRY));
        }
        if !self.stays {
            let why = format!(
                "{name} is being removed from the cluster: what it took now might go with it"
            );
            return Err(refused(Code::NotReady, why));
        }
        let Some(serving) = &mut self.serving else { return Err(self.not_serving()) };
        serving.write(id, wanted, &self.config, self.now)
    }
}

impl Serving {
    fn write(
        &mut self,
        id: RequestId,
        wanted: Wanted,
        config: &GossipConfig,
        now: Ticks,
    ) -> Result<(), Failure> {
        let key = EntryKey::new(wanted.keyspace, wanted.key);
        let need = match wanted.options.ack {
            Ack::Unspecified | Ack::One => Need::One,
            Ack::Quorum => Need::Majority,
            Ack::All => Need::All,
        };
        let configuration = self.group.configuration();
        let (size, ack) = (configuration.size(), configuration.need(need));
        // Alone it is the majority, and all.
        let need = if ack == 1 && configuration.counts_itself { Need::One } else { need };
        match wanted.id.as_ref().map_or(Earlier::None, |id| self.ids.earlier(id)) {
            Earlier::Taken(dot) => {
                let deleted = wanted.value.is_none().then_some(0);
                self.wait(id, &key, dot, (need, deleted, true), config);
                self.group.wait_for(dot, need);
                return Ok(());
            }
            Earlier::Gone => {
                let why = format!(
                    "{} keeps ids of writes for ten minutes, or until about a million others came",
                    config.name
                );
                let failure = Failure::new(Code::OutcomeForgotten, "", why);
                return Err(failure.applied(Applied::Unknown));
            }
            Earlier::None => {}
        }
        let reachable = self.group.reachable();
        if need > Need::One && reachable < ack {
            let why = format!(
                "{} has connections to {reachable} of {size} replicas, itself counted; {ack} were asked for",
                config.name
            );
            return Err(refused(Code::ReplicasMissing, why));
        }
        let Some(gossip::replica::Standing::Open(policy)) =
            self.group.replica().keyspace(key.keyspace)
        else {
            return Err(refused(Code::KeyspaceNotReady, "the keyspace was just removed"));
        };
        if policy == gossip::replica::Policy::Lww && !self.gate.is_open() {
            // It may have forgotten a stamp above which this write has to be (model: `LwwWritesAtOnce`).
            let why = "a replica that began without data takes no writes of an lww keyspace";
            return Err(refused(Code::Recovering, why).retry_after(RECOVERING_RETRY));
        }
        let is_delete = wanted.value.is_none();
        let lived = self.lives(&key);
        let write = Write {
            basis: if wanted.options.beside {
                Basis::Nothing
            } else {
                self.basis(&key, &wanted.options.causal, config)?
            },
            body: wanted.value.map_or(Body::Certificate, Body::Value),
            deadline: (wanted.options.ttl_ms > 0)
                .then(|| Stamp::at_ms(self.group.now().ms() + wanted.options.ttl_ms)),
            key: key.clone(),
        };
        let (dot, _) = self.group.write(&write, need).map_err(write_refused)?;
        if let Some(id) = &wanted.id {
            self.ids.take(id, dot, now);
        }
        let deleted = is_delete.then(|| u64::from(lived && !self.lives(&key)));
        self.wait(id, &key, dot, (need, deleted, false), config);
        Ok(())
    }

    /// Whether a read of the key shows anything.
    fn lives(&self, key: &EntryKey) -> bool {
        let now = self.group.now();
        let entry = self.group.entry(key);
        entry.is_some_and(|entry| entry.live().any(|(_, sibling)| sibling.is_shown(now)))
    }

    /// Answers a write that was taken once it is durable, here and elsewhere.
    fn wait(
        &mut self,
        id: RequestId,
        key: &EntryKey,
        dot: Dot,
        (need, deleted, replayed): (Need, Option<u64>, bool),
        config: &GossipConfig,
    ) {
        let context = self.write_token(key, dot, config);
        let newest = self.held.newest();
        let written = v1::Written { dot: Some(shown(dot)), context };
        let answer = Answer { node: config.node, written, deleted, replayed };
        if need == Need::One {
            self.held.answer([(id, Ok(answer.by(&[])))]);
        } else {
            // It becomes part of the next entry, unless it was given out before.
            let durable_at =
                if !replayed || self.ids.is_fresh(dot) { newest.next() } else { newest };
            let wanted = self.group.configuration().need(need);
            let open = Open { id, wanted, durable_at, answer };
            self.open.by_dot.entry(dot).or_default().push(open);
            self.open.dots.insert(id, dot);
        }
    }

    /// A client waits no longer. If its write is durable here, the error says so.
    pub(super) fn give_up(&mut self, id: RequestId, applied: LogIndex) -> Option<Failure> {
        let (dot, open) = self.open.take(id)?;
        let by = self.group.holders(dot);
        if !self.open.by_dot.contains_key(&dot) {
            self.group.give_up(dot);
        }
        if open.durable_at > applied {
            return None;
        }
        let (durable_on, wanted) = (1 + by.len(), open.wanted);
        let why =
            format!("{durable_on} of {wanted} replicas have it durably; it spreads by itself");
        // Errors travel in headers, which are small.
        let context = open.answer.written.context;
        let context = if context.len() > CONTEXT_BYTES_MAX { Bytes::new() } else { context };
        let partial = Partial {
            durable_on: u32::try_from(durable_on).unwrap_or(u32::MAX),
            wanted: u32::try_from(wanted).unwrap_or(u32::MAX),
            dot: shown(dot),
            context,
        };
        Some(Failure::new(Code::AckMissed, "", why).applied(Applied::Yes).partial(partial))
    }
}

/// What a transaction asks for, if it is one that this kind of keyspace takes.
fn wanted(submission: Submission) -> Result<Wanted, Failure> {
    let Some(log::command::Body::Write(write)) = submission.command.body else {
        return Err(not_offered("this kind of keyspace takes puts and deletes of single keys"));
    };
    let log::Write { keyspace, id, compares, mut then_ops, else_ops } = write;
    if !compares.is_empty() || !else_ops.is_empty() || then_ops.len() != 1 {
        let why = "eventual keyspaces take no conditions and no transactions: nodes that cannot reach each other could not agree on them";
        return Err(not_offered(why));
    }
    let (key, value, prev) = match then_ops.pop().and_then(|op| op.op) {
        Some(Op::Put(put)) => (put.key, Some(put.value), put.prev),
        Some(Op::Delete(delete)) if delete.range_end.is_empty() => (delete.key, None, delete.prev),
        Some(Op::Delete(_)) => {
            return Err(not_offered(
                "a delete in an eventual keyspace names one key: list the range and delete key by key",
            ));
        }
        Some(Op::Get(_)) | None => {
            return Err(not_offered("this kind of keyspace takes puts and deletes of single keys"));
        }
    };
    if prev {
        return Err(not_offered(
            "a write to an eventual keyspace does not return what was there: read it",
        ));
    }
    let options = submission.options;
    if options.beside && !options.causal.is_empty() {
        return Err(refused(
            Code::InvalidRequest,
            "`beside` and a causal token contradict each other",
        ));
    }
    Ok(Wanted { keyspace: KeyspaceId(keyspace), key, value, id, options })
}

fn write_refused(refusal: WriteRefused) -> Failure {
    let code = match refusal {
        WriteRefused::UnknownKeyspace => Code::KeyspaceNotReady,
        WriteRefused::TooManySiblings(_) => Code::SiblingsFull,
        WriteRefused::OwnActorAhead => Code::TokenAhead,
        WriteRefused::Damaged | WriteRefused::NotExpired => Code::Recovering,
    };
    refused(code, refusal.to_string())
}
