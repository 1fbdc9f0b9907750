//! Writes: proposed here, or handed to the leader once.

use std::time::Duration;

use consensus::ProposeError;
use prost::Message;
use proto::peer::peer_message::Body;
use proto::{Applied, Code, Failure, NodeId, log, peer};

use super::{RaftReplica, StateMachine};
use crate::node::RequestId;
use crate::replication::{Answered, EventualOptions, Origin, Outbox, Submission};

impl<S: StateMachine> RaftReplica<S> {
    /// Answers whoever waits for a write.
    pub(super) fn answer_write(&mut self, origin: Origin, answer: WriteAnswer, out: &mut Outbox) {
        match origin {
            Origin::Local(id) => out.answer(
                id,
                answer.map(|(outcome, acknowledged_by)| Answered::Write {
                    outcome,
                    acknowledged_by,
                    written: None,
                }),
            ),
            Origin::Remote { node, id, boot } => {
                let reply = forward_reply(id, boot, answer);
                out.send(node, self.id, Body::ForwardReply(reply));
            }
            Origin::Internal => {}
        }
    }

    pub(super) fn propose(&mut self, submission: Submission, out: &mut Outbox) {
        let may =
            self.may_propose(&submission.command).and_then(|()| asks_nothing_more(&submission));
        if let Err(failure) = may {
            self.proposals.failed += 1;
            return self.answer_write(submission.origin, Err(failure.applied(Applied::No)), out);
        }
        let data = submission.command.encode_to_vec();
        match self.group.propose(data.into()) {
            Ok(proposed) => {
                self.proposals.proposed(proposed.index, proposed.term, submission.origin);
            }
            Err(error) => {
                self.proposals.failed += 1;
                let failure = match error {
                    ProposeError::NotLeader { .. } => self.no_leader(),
                    ProposeError::Transferring { .. } => Failure::new(
                        Code::NoLeader,
                        "",
                        format!("{} is handing over leadership", self.identity.name),
                    ),
                    // Said of changes of members only, which are proposed elsewhere.
                    ProposeError::NotReady
                    | ProposeError::ChangeUnfinished
                    | ProposeError::VotersSilent
                    | ProposeError::ChangeRefused { .. } => {
                        Failure::new(Code::Internal, "", error.to_string())
                    }
                    ProposeError::LogFull => {
                        let why = "64 MiB wait for a majority of the voters".to_owned();
                        Failure::new(Code::LogFull, "", why).retry_after(LOG_FULL_RETRY)
                    }
                };
                self.answer_write(submission.origin, Err(failure.applied(Applied::No)), out);
            }
        }
    }

    /// What a leader refuses before it proposes.
    fn may_propose(&self, command: &log::Command) -> Result<(), Failure> {
        if self.read_only {
            let why = format!("the disk of {} has no room for its log", self.identity.name);
            return Err(Failure::new(Code::ReadOnly, "", why).retry_after(READ_ONLY_RETRY));
        }
        if self.majority_full() {
            let why = "the disks of so many voters are full that no majority takes writes";
            return Err(Failure::new(Code::ReadOnly, "", why).retry_after(READ_ONLY_RETRY));
        }
        match &command.body {
            Some(log::command::Body::Write(_)) if self.overloaded => {
                let name = &self.identity.name;
                let why = format!("log or memory of {name} is full until an export is written");
                Err(Failure::new(Code::QueueFull, "", why).retry_after(OVERLOADED_RETRY))
            }
            // Other writes of clients are judged by apply alone.
            Some(log::command::Body::Write(_)) | None => Ok(()),
            Some(_) => self.machine.vet(command, &self.group.status()),
        }
    }

    pub(super) fn forward(
        &mut self,
        leader: NodeId,
        id: RequestId,
        submission: Submission,
        out: &mut Outbox,
    ) {
        let forward =
            peer::Forward { id: id.0, boot: self.identity.boot, command: Some(submission.command) };
        if id != NOBODY {
            self.proposals.forwarded(id, leader);
        }
        out.send(leader, self.id, Body::Forward(forward));
    }

    /// Takes a write that another node handed over: proposed here or refused, never passed on.
    pub(super) fn take_forward(&mut self, node: NodeId, forward: peer::Forward, out: &mut Outbox) {
        let Some(command) = forward.command.filter(|command| command.body.is_some()) else {
            return;
        };
        if forward.id != NOBODY.0 && !self.forwards.is_new(node, forward.boot, forward.id) {
            return;
        }
        let origin = Origin::Remote { node, id: forward.id, boot: forward.boot };
        self.propose(Submission { origin, command, options: EventualOptions::default() }, out);
    }

    pub(super) fn take_forward_reply(
        &mut self,
        from: NodeId,
        reply: peer::ForwardReply,
        out: &mut Outbox,
    ) {
        use peer::forward_reply::Result as Outcome;
        let id = RequestId(reply.id);
        if reply.boot != self.identity.boot || !self.proposals.forward_answered(id, from) {
            return;
        }
        let answer = match reply.result {
            Some(Outcome::Outcome(outcome)) => {
                let acknowledged_by = reply.acknowledged_by.into_iter().map(NodeId).collect();
                Ok(Answered::Write { outcome, acknowledged_by, written: None })
            }
            Some(Outcome::Error(error)) => {
                let code = Code::from_number(error.code).unwrap_or(Code::Internal);
                let failure = Failure::new(code, "", error.why);
                let failure = failure.applied(Applied::from_number(error.applied));
                Err(match error.retry_after_ms {
                    0 => failure,
                    wait => failure.retry_after(Duration::from_millis(wait)),
                })
            }
            None => Err(Failure::new(Code::Internal, "", "the leader's answer was empty")
                .applied(Applied::Unknown)),
        };
        out.answer(id, answer);
    }
}

/// What only eventual keyspaces take is refused before anything is proposed or forwarded.
pub(super) fn asks_nothing_more(submission: &Submission) -> Result<(), Failure> {
    if submission.options.is_default() {
        return Ok(());
    }
    let why = "causal tokens, ack, a time to live and `beside` are of eventual keyspaces";
    Err(Failure::new(Code::VerbNotOffered, "", why))
}

/// Stands for the node itself in a forwarded write: nobody waits for the answer.
pub(super) const NOBODY: RequestId = RequestId(0);

/// What a client waits after the disk was full.
const READ_ONLY_RETRY: Duration = Duration::from_secs(1);

/// What a client waits after the log was full.
const LOG_FULL_RETRY: Duration = Duration::from_millis(100);

/// What a client waits while the leader has to write an export first.
const OVERLOADED_RETRY: Duration = Duration::from_secs(1);

pub(super) type WriteAnswer = Result<(log::WriteOutcome, Vec<NodeId>), Failure>;

pub(super) fn leadership_lost() -> Failure {
    let why = "another leader's entry took its place in the log";
    Failure::new(Code::LeadershipLost, "", why).applied(Applied::No)
}

fn forward_reply(id: u64, boot: u64, answer: WriteAnswer) -> peer::ForwardReply {
    use peer::forward_reply::Result as Outcome;
    let mut reply = peer::ForwardReply { id, boot, ..peer::ForwardReply::default() };
    match answer {
        Ok((outcome, acknowledged_by)) => {
            reply.acknowledged_by = acknowledged_by.into_iter().map(NodeId::get).collect();
            reply.result = Some(Outcome::Outcome(outcome));
        }
        Err(failure) => {
            let wait = failure.retry_after.unwrap_or_default().as_millis();
            reply.result = Some(Outcome::Error(peer::ForwardError {
                retry_after_ms: u64::try_from(wait).unwrap_or(u64::MAX),
                code: failure.code.number(),
                applied: failure.applied.unwrap_or(Applied::Unknown).number(),
                why: failure.why,
            }));
        }
    }
    reply
}
