//! Requests of clients: to which replica they go, and how its answer becomes a reply.

use proto::v1::{self, Level, Proof};
use proto::{Applied, Code, Failure, KeyspaceId, NodeId, log};
use storage::mvcc::RangeQuery;

use super::io::{Effect, Reply, Request, RequestId, Ticks};
use super::requests::Kind;
use super::{Node, STORE_FAILED};
use crate::consistency;
use crate::replication::{
    Answered, EventualOptions, Found, Origin, Query, Read, Replication, Submission,
};

/// A request that goes on once a read has told something.
#[derive(Debug)]
pub(super) enum Parked {
    /// A request to a keyspace that this node did not know.
    Unknown(Box<Request>),
    /// A write to a keyspace that group 0, as this node knows it now, does not list as eventual.
    Write {
        /// The transaction, without the id of the keyspace.
        write: log::Write,
        /// Refused there unless they are the default.
        options: EventualOptions,
    },
    /// An export of everything committed so far.
    Export,
    /// A backup, until group 0 is known as of now.
    BackupNames,
    /// The same, until the data group is.
    Backup,
}

impl Parked {
    /// The error when its client waits no longer: nothing was begun yet.
    pub(super) fn timed_out(&self) -> Failure {
        match self {
            Self::Unknown(_) | Self::Write { .. } => {
                let why = "no leader told in time whether there is such a keyspace";
                Failure::new(Code::NoLeader, "", why).applied(Applied::No)
            }
            Self::Export | Self::BackupNames | Self::Backup => {
                let why =
                    "the leader could not confirm its leadership in time; no export was begun";
                Failure::new(Code::ReadTimedOut, "", why)
            }
        }
    }
}

impl Node {
    /// Routes a request to the replica of its keyspace.
    pub(super) fn request(&mut self, id: RequestId, request: Request, patience: Ticks) {
        let deadline = Ticks(self.now.0 + patience.0.max(1));
        self.requests.open(id, &request, deadline);
        if let Err(failure) = self.route(id, request) {
            self.outbox.answer(id, Err(failure.applied(Applied::No)));
        }
    }

    fn route(&mut self, id: RequestId, request: Request) -> Result<(), Failure> {
        if self.stopping {
            let why = format!("{} is stopping", self.config.name);
            return Err(Failure::new(Code::NotReady, "", why));
        }
        if self.is_unknown(&request) {
            return self.look_up(id, request);
        }
        self.route_known(id, request)
    }

    /// Routes a request to a keyspace that is known here, or known not to be.
    fn route_known(&mut self, id: RequestId, request: Request) -> Result<(), Failure> {
        match request {
            Request::Get(get) => {
                let at = (get.revision != 0).then_some(get.revision.into());
                let level = get.level();
                let query = match get.siblings_after {
                    Some(after) => Query::Siblings { key: get.key, after },
                    None => Query::Get { key: get.key, at },
                };
                self.read(id, &get.keyspace, level, query)
            }
            Request::Range(range) => {
                let level = range.level();
                let query = Query::Range(RangeQuery {
                    from: range.from,
                    to: range.to,
                    limit: range.limit as usize,
                    at: (range.revision != 0).then_some(range.revision.into()),
                    keys_only: range.keys_only,
                    count_only: range.count_only,
                });
                self.read(id, &range.keyspace, level, query)
            }
            Request::History(history) => {
                let level = history.level();
                let query = Query::History {
                    key: history.key,
                    before: (history.before != 0).then_some(history.before.into()),
                    limit: history.limit as usize,
                    keys_only: history.keys_only,
                };
                self.read(id, &history.keyspace, level, query)
            }
            Request::Write { keyspace, write, options } => {
                self.route_write(id, &keyspace, write, options);
                Ok(())
            }
            Request::Keyspaces => self.read(id, "", Level::Linearizable, Query::Keyspaces),
            Request::Catalogue => {
                let read = planned(id, "", Level::Linearizable, Query::Catalogue)?;
                self.meta.read(read, &mut self.outbox);
                Ok(())
            }
            Request::Manage(command) => {
                let options = EventualOptions::default();
                let submission = Submission { origin: Origin::Local(id), command, options };
                self.meta.write(submission, &mut self.outbox);
                Ok(())
            }
            Request::Export | Request::Backup if self.stores.any_failed() => {
                Err(Failure::new(Code::ExportFailed, "", STORE_FAILED))
            }
            Request::Export => {
                self.parked.insert(id, Parked::Export);
                self.read_up(id)
            }
            Request::Backup => {
                let read = planned(id, "", Level::Linearizable, Query::Catalogue)?;
                self.parked.insert(id, Parked::BackupNames);
                self.meta.read(read, &mut self.outbox);
                Ok(())
            }
        }
    }

    /// Waits until the data group is applied here as of now.
    fn read_up(&mut self, id: RequestId) -> Result<(), Failure> {
        self.read(id, storage::mvcc::DEFAULT_KEYSPACE, Level::Linearizable, Query::Resolve)
    }

    /// Whether it is about a keyspace of which nothing is known here, which may have been created already. Reads that
    /// show what this node has do not ask others.
    fn is_unknown(&self, request: &Request) -> bool {
        let name = match request {
            Request::Get(get) if get.level() != Level::Eventual => &get.keyspace,
            Request::Range(range) if range.level() != Level::Eventual => &range.keyspace,
            Request::History(history) if history.level() != Level::Eventual => &history.keyspace,
            Request::Write { keyspace, .. } => keyspace,
            _ => return false,
        };
        let is_eventual = self.meta.machine().eventual(name).is_some();
        !is_eventual && self.data.machine().keyspace(name).is_none()
    }

    /// Asks group 0 which keyspaces there are; then the request goes on.
    fn look_up(&mut self, id: RequestId, request: Request) -> Result<(), Failure> {
        let read = planned(id, "", Level::Linearizable, Query::Catalogue)?;
        self.parked.insert(id, Parked::Unknown(Box::new(request)));
        self.meta.read(read, &mut self.outbox);
        Ok(())
    }

    /// Writes name the keyspace by its id. A name that is unknown here may have been created already:
    /// a linearizable look at the names decides.
    fn route_write(
        &mut self,
        id: RequestId,
        keyspace: &str,
        mut write: log::Write,
        options: EventualOptions,
    ) {
        if let Some(found) = self.data.machine().keyspace(keyspace) {
            return self.write_to(id, found, write, options);
        }
        if let Some(found) = self.meta.machine().eventual(keyspace) {
            write.keyspace = found.id;
            let submission = submission(id, write, options);
            return self.eventual.write(submission, &mut self.outbox);
        }
        self.parked.insert(id, Parked::Write { write, options });
        let asked = self.read(id, keyspace, Level::Linearizable, Query::Resolve);
        asked.expect("every keyspace of this kind offers linearizable reads");
    }

    /// Hands a write to the data group.
    fn write_to(
        &mut self,
        id: RequestId,
        keyspace: KeyspaceId,
        mut write: log::Write,
        options: EventualOptions,
    ) {
        write.keyspace = keyspace.get();
        self.data.write(submission(id, write, options), &mut self.outbox);
    }

    fn read(
        &mut self,
        id: RequestId,
        keyspace: &str,
        level: Level,
        query: Query,
    ) -> Result<(), Failure> {
        if self.meta.machine().eventual(keyspace).is_some() {
            let (level, plan) = consistency::plan_eventual(level)?;
            let read = Read { id, keyspace: keyspace.to_owned(), query, level, plan };
            self.eventual.read(read, &mut self.outbox);
            return Ok(());
        }
        let read = planned(id, keyspace, level, query)?;
        self.data.read(read, &mut self.outbox);
        Ok(())
    }

    /// Goes on with a request that waited for a read; its answer comes later.
    fn unpark(&mut self, id: RequestId, parked: Parked, found: &Found) {
        match (parked, found) {
            (Parked::Write { write, options }, Found::Keyspace(keyspace)) => {
                self.write_to(id, *keyspace, write, options);
            }
            (Parked::Unknown(request), _) => {
                if let Err(failure) = self.route_known(id, *request) {
                    self.outbox.answer(id, Err(failure.applied(Applied::No)));
                }
            }
            (Parked::Export, _) => self.exports.want_for(id),
            (Parked::BackupNames, _) => {
                self.parked.insert(id, Parked::Backup);
                if let Err(failure) = self.read_up(id) {
                    self.outbox.answer(id, Err(failure));
                }
            }
            (Parked::Backup, _) => self.begin_backup(id),
            (Parked::Write { .. }, other) => panic!("a name was looked up and {other:?} found"),
        }
        self.outbox.again = true;
    }

    /// Turns a replica's answer into the reply; `None` when the request was answered before.
    pub(super) fn complete(
        &mut self,
        id: RequestId,
        answer: Result<Answered, Failure>,
    ) -> Option<Effect> {
        // Answered before, when its deadline passed.
        self.requests.kind(id)?;
        let answer = match (self.parked.remove(&id), answer) {
            (Some(parked), Ok(Answered::Read { found, .. })) => {
                self.unpark(id, parked, &found);
                return None;
            }
            // It never got as far as a proposal.
            (Some(Parked::Write { .. } | Parked::Unknown(_)), Err(failure)) => {
                Err(failure.applied(Applied::No))
            }
            (Some(_) | None, answer) => answer,
        };
        let answer = match answer {
            Ok(Answered::Write { outcome, .. }) if outcome.refused != 0 => {
                Err(refusal(outcome.refused))
            }
            other => other,
        };
        let reply = match answer {
            Ok(answered) => Ok(self.reply(id, answered)),
            Err(failure) => Err(failure.leader(self.leader_address())),
        };
        self.answer(id, reply)
    }

    /// Answers a request, unless it was answered before.
    pub(super) fn answer(
        &mut self,
        id: RequestId,
        reply: Result<Reply, Failure>,
    ) -> Option<Effect> {
        let kind = self.requests.close(id)?;
        let reply = reply.map_err(|mut failure| {
            if matches!(kind, Kind::Read | Kind::Export) {
                failure.applied = None;
            }
            failure
        });
        Some(Effect::Reply { id, reply })
    }

    fn reply(&self, id: RequestId, answered: Answered) -> Reply {
        match answered {
            Answered::Read { found, level, revision, answered_by } => {
                let mut proof = self.proof(level, revision.get());
                proof.answered_by = answered_by.into_iter().map(NodeId::get).collect();
                let proof = Some(proof);
                match found {
                    Found::Siblings(reply) => Reply::Get(v1::GetReply { proof, ..*reply }),
                    Found::Entries(reply) => Reply::Range(v1::RangeReply { proof, ..*reply }),
                    Found::Item(item) => {
                        Reply::Get(v1::GetReply { proof, item, ..v1::GetReply::default() })
                    }
                    Found::Page(page) => Reply::Range(v1::RangeReply {
                        proof,
                        items: page.items,
                        more: page.more,
                        count: page.count,
                        next: page.next,
                        entries: Vec::new(),
                    }),
                    Found::History(page) => Reply::History(v1::HistoryReply {
                        proof,
                        versions: page.versions,
                        more: page.more,
                        compacted: page.compacted.get(),
                    }),
                    Found::Keyspaces(held) => Reply::Keyspaces(held),
                    Found::Catalogue(catalogue) => Reply::Catalogue(catalogue),
                    Found::Keyspace(_) => unreachable!("a name is looked up for a parked request"),
                }
            }
            Answered::Write { outcome, .. } if self.requests.kind(id) == Some(Kind::Manage) => {
                Reply::Managed(outcome.revision)
            }
            Answered::Write { outcome, acknowledged_by, written } => {
                let level = if written.is_some() { Level::Eventual } else { Level::Linearizable };
                let mut proof = self.proof(level, outcome.revision);
                proof.acknowledged_by = acknowledged_by.into_iter().map(NodeId::get).collect();
                proof.replayed = outcome.replayed;
                Reply::Write { outcome, proof, written }
            }
        }
    }

    fn proof(&self, level: Level, revision: u64) -> Proof {
        Proof {
            level: level.into(),
            node: self.config.name.clone(),
            revision,
            leader: self.data.leader().map_or(0, NodeId::get),
            leader_address: self.leader_address().unwrap_or_default(),
            index: self.data.applied().get(),
            ..Proof::default()
        }
    }

    pub(super) fn leader_address(&self) -> Option<String> {
        let leader = self.data.leader()?;
        let member = &self.meta.machine().members().with_id(leader)?.member;
        (!member.client_address.is_empty()).then(|| member.client_address.clone())
    }
}

fn submission(id: RequestId, write: log::Write, options: EventualOptions) -> Submission {
    let command = log::Command { body: Some(log::command::Body::Write(write)) };
    Submission { origin: Origin::Local(id), command, options }
}

/// A read with the plan of its level.
fn planned(id: RequestId, keyspace: &str, level: Level, query: Query) -> Result<Read, Failure> {
    let (level, plan) = consistency::plan(level)?;
    Ok(Read { id, keyspace: keyspace.to_owned(), query, level, plan })
}

/// The error for a write that apply refused, the same on every replica.
fn refusal(number: u32) -> Failure {
    let code = Code::from_number(number).unwrap_or(Code::Internal);
    let failure = Failure::new(code, "", code.page().cause);
    match code {
        // Refused now, but an earlier attempt under the same id may have been applied.
        Code::OutcomeForgotten | Code::WriteAnswered => failure.applied(Applied::Unknown),
        _ => failure.applied(Applied::No),
    }
}
