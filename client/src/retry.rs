//! Attempts, endpoints and certainty: how one call becomes an answer or an honest error.
//!
//! An attempt ends in one of four ways: an answer; *unreached*, nothing was sent; *refused*, a node
//! answered with a typed error that says whether the write was applied; *lost*, it was sent and no
//! typed answer came. What may help is tried again until the deadline: at the leader that a refusal
//! names, else at the next endpoint, after the time that the refusal asks for or with a growing pause
//! after each round. All attempts of a write carry one id, so that at most one of them executes; in an
//! eventual keyspace that holds at the node that first took it alone, so once an attempt may have been
//! applied the write is repeated there and nowhere else, or, if the caller takes that it may execute twice,
//! elsewhere as another write that supersedes nothing. What
//! changes the cluster itself has no such id: it is repeated only while it was certainly not applied,
//! and ends as unknown at the first attempt of which that is not certain. At the end a write is reported
//! as not applied only if that is certain of every attempt (etcd-io/etcd#18424, catalogue id B22; B66).

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use proto::{Applied, Code, Failure};
use tokio::time::{Instant, timeout_at};
use tonic::Status;

use crate::calls::{Call, Kind, Repeat};
use crate::config::TIMEOUT_MAX;
use crate::connection::{Endpoint, SendError};
use crate::error::{ClientError, Unreached, UnreachedReason};
use crate::routes::{Path, Routes};

/// One attempt takes at least this long, and a third of the timeout where that is longer.
const ATTEMPT_MIN: Duration = Duration::from_millis(300);
/// A server is told to answer this much before we stop waiting, or a tenth of the time if less.
const ANSWER_MARGIN_MAX: Duration = Duration::from_millis(50);
/// First pause between rounds; it doubles up to [`PAUSE_MAX`].
const PAUSE_MIN: Duration = Duration::from_millis(20);
/// Longest pause between rounds.
const PAUSE_MAX: Duration = Duration::from_millis(500);
/// A node that asks for time is given up to this many times as much, and [`PAUSE_MIN`] at least.
const ASKED_TIMES_MAX: f64 = 1.25;

/// How one attempt failed.
enum AttemptError {
    Unreached(UnreachedReason),
    Refused(Failure),
    Lost(LostReason),
}

/// Why a call that was sent has no typed answer.
#[derive(Clone, Debug)]
enum LostReason {
    NoAnswer(Duration),
    Broken(String),
}

impl fmt::Display for LostReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoAnswer(waited) => write!(f, "no answer within {} ms", waited.as_millis()),
            Self::Broken(why) => write!(f, "the connection broke after sending: {why}"),
        }
    }
}

/// Carries out a call within `timeout`, of which some may have passed.
pub(crate) async fn execute<C: Call>(
    routes: &Routes,
    call: &C,
    timeout: Duration,
    deadline: Instant,
) -> Result<C::Reply, ClientError> {
    let mut trace = Trace::new(C::KIND);
    let mut path = routes.path(call.leader_first());
    let mut pauses = Pauses::default();
    // What is sent in the place of `call`, once an attempt of that may have been applied.
    let mut another: Option<C> = None;
    loop {
        let sent = another.as_ref().unwrap_or(call);
        let endpoint = path.current().clone();
        let mut wait = None;
        let mut next = None;
        match attempt(sent, &endpoint, Limits::new(sent, path.len(), timeout, deadline)).await {
            Ok(reply) => {
                note_answer(routes, sent, &endpoint, &reply);
                return Ok(reply);
            }
            Err(AttemptError::Unreached(reason)) => {
                endpoint.note_unreached();
                routes.not_leader(&endpoint);
                trace.unreached(&endpoint, reason);
                if trace.is_hopeless(path.len()) {
                    return Err(trace.give_up(call));
                }
                path.advance();
            }
            Err(AttemptError::Refused(failure)) => {
                if !may_repeat(sent, &failure) {
                    return Err(trace.refused_for_good(call, failure));
                }
                wait = Asked::by(&failure);
                if !is_certain(&failure) {
                    next = leave_uncertain(sent, &mut path);
                }
                match &failure.leader {
                    Some(leader) if !path.stays() => {
                        routes.leader_is(leader);
                        path = routes.path(true);
                    }
                    Some(_) => {}
                    None => routes.not_leader(&endpoint),
                }
                if path.current().address() == endpoint.address() {
                    path.advance();
                }
                trace.refused(failure);
            }
            Err(AttemptError::Lost(reason)) => {
                routes.not_leader(&endpoint);
                trace.lost(&endpoint, reason);
                if C::KIND == Kind::Manage {
                    return Err(trace.give_up(call));
                }
                next = leave_uncertain(sent, &mut path);
                path.advance();
            }
        }
        another = next.or(another);
        let pause = pauses.after_attempt(path.len(), wait);
        if Instant::now() + pause >= deadline {
            return Err(trace.give_up(call));
        }
        tokio::time::sleep(pause).await;
    }
}

/// Remembers who answered.
fn note_answer<C: Call>(routes: &Routes, call: &C, endpoint: &Endpoint, reply: &C::Reply) {
    // Calls that gain from the leader go there; the others stay where they are answered.
    match C::learned(reply).leader {
        Some(leader) => routes.leader_is(leader),
        None => routes.prefer(endpoint),
    }
    if !call.leader_first() {
        routes.prefer(endpoint);
    }
}

/// What follows from an attempt that may have been applied: where the call goes from here, and as what,
/// if not as the same.
fn leave_uncertain<C: Call>(call: &C, path: &mut Path) -> Option<C> {
    match call.repeat() {
        Repeat::Anywhere => None,
        Repeat::There => {
            path.stay();
            None
        }
        Repeat::AsAnother => {
            let another = call.another();
            if another.is_none() {
                path.stay();
            }
            another
        }
    }
}

/// Whether it may help, and harms nothing, to send a refused call once more.
fn may_repeat<C: Call>(call: &C, failure: &Failure) -> bool {
    let as_another = call.repeat() == Repeat::AsAnother && failure.code == Code::WriteElsewhere;
    let harmless = C::KIND != Kind::Manage || is_certain(failure);
    (may_pass(failure.code) || as_another) && harmless
}

/// How long one attempt may take.
#[derive(Clone, Copy, Debug)]
struct Limits {
    /// Until when the connection has to be up.
    connect: Instant,
    /// Until when the answer has to be there.
    answer: Instant,
}

impl Limits {
    fn new<C: Call>(call: &C, endpoints: usize, timeout: Duration, deadline: Instant) -> Self {
        // With nowhere else to go, giving up early would only send the same again.
        let limit = if endpoints > 1 { (timeout / 3).max(ATTEMPT_MIN) } else { timeout };
        let share = deadline.min(Instant::now() + limit);
        match (C::KIND, call.repeat()) {
            (Kind::Read, _) | (Kind::Write, Repeat::Anywhere | Repeat::AsAnother) => {
                Self { connect: share, answer: share }
            }
            // Giving up early on what cannot be repeated elsewhere would only lose the answer.
            (Kind::Manage, _) | (Kind::Write, Repeat::There) => {
                Self { connect: share, answer: deadline }
            }
        }
    }
}

/// One attempt at one endpoint. A connection that turns out to be closed before anything was sent is
/// replaced once.
async fn attempt<C: Call>(
    call: &C,
    endpoint: &Arc<Endpoint>,
    limits: Limits,
) -> Result<C::Reply, AttemptError> {
    let until = limits.answer;
    let mut replaced = false;
    loop {
        let connection = timeout_at(limits.connect, endpoint.connection())
            .await
            .unwrap_or(Err(UnreachedReason::TimedOut))
            .map_err(AttemptError::Unreached)?;
        let time = until.saturating_duration_since(Instant::now());
        let patience = time - (time / 10).min(ANSWER_MARGIN_MAX);
        let answer = timeout_at(until, call.send(connection, endpoint.origin(), patience)).await;
        let status = match answer {
            Ok(Ok(reply)) => return Ok(reply),
            Ok(Err(status)) => status,
            Err(_) => return Err(AttemptError::Lost(LostReason::NoAnswer(time))),
        };
        match classify(&status) {
            AttemptError::Unreached(_) if !replaced => replaced = true,
            other => return Err(other),
        }
    }
}

/// What is read as a stream, for errors: there is nothing else.
pub(crate) const STREAM: &str = "snapshot";

/// The failure of a stream of which a part was read, as that of a read.
pub(crate) fn stream_error(status: &Status) -> ClientError {
    match classify(status) {
        AttemptError::Refused(mut failure) => {
            if failure.subject.is_empty() {
                STREAM.clone_into(&mut failure.subject);
            }
            ClientError::Refused(Box::new(failure))
        }
        AttemptError::Unreached(reason) => stream_lost(reason.to_string()),
        AttemptError::Lost(reason) => stream_lost(reason.to_string()),
    }
}

/// A stream that ended without a word, or fell silent.
pub(crate) fn stream_lost(why: String) -> ClientError {
    ClientError::Lost(Box::new(Failure::new(Code::ReadTimedOut, STREAM, why)))
}

fn classify(status: &Status) -> AttemptError {
    if let Some(failure) = Failure::from_status(status) {
        return AttemptError::Refused(failure);
    }
    match send_error(status) {
        Some(error) if !error.sent => {
            AttemptError::Unreached(UnreachedReason::Refused("the connection closed".into()))
        }
        Some(error) => AttemptError::Lost(LostReason::Broken(error.to_string())),
        // Made by something between us and the node, so it does not know the outcome.
        None => AttemptError::Lost(LostReason::Broken(format!(
            "an answer without detail: {} {:?}",
            status.code(),
            status.message()
        ))),
    }
}

fn send_error(status: &Status) -> Option<&SendError> {
    let mut cause = std::error::Error::source(status);
    while let Some(error) = cause {
        if let Some(found) = error.downcast_ref() {
            return Some(found);
        }
        cause = error.source();
    }
    None
}

/// Whether a typed refusal may pass by itself, or elsewhere.
fn may_pass(code: Code) -> bool {
    match code {
        Code::NoQuorum
        | Code::NoLeader
        | Code::LeadershipLost
        | Code::WriteTimedOut
        | Code::ReadTimedOut
        | Code::ForwardBroken
        | Code::NotReady
        | Code::Repairing
        | Code::KeyspaceNotReady
        | Code::ExportFailed
        | Code::QuorumAtRisk
        | Code::QueueFull
        | Code::LogFull
        | Code::ReadOnly
        | Code::TokenAhead
        | Code::ReplicasMissing
        | Code::Recovering
        | Code::CannotConnect
        | Code::Transport => true,
        Code::InvalidRequest
        | Code::KeyEmpty
        | Code::KeyTooLarge
        | Code::ValueTooLarge
        | Code::TooManyOperations
        | Code::RequestTooLarge
        | Code::LevelNotOffered
        | Code::KeyspaceNotFound
        | Code::Unimplemented
        | Code::KeyWrittenTwice
        | Code::RangeDeleteTooLarge
        | Code::KeyspaceExists
        | Code::KeyspaceNameInvalid
        | Code::KeyspaceProtected
        | Code::KindNotOffered
        | Code::WrongNode
        | Code::KeyspaceChanged
        | Code::SettingNotOffered
        | Code::MemberNotFound
        | Code::MemberExists
        | Code::ChangeInProgress
        | Code::MemberNotCaughtUp
        | Code::MemberUnheard
        | Code::CompactionAhead
        | Code::KeyspaceFull
        | Code::Removed
        | Code::ExportInvalid
        | Code::KeyNotFound
        | Code::ConditionFailed
        | Code::WriteAnswered
        | Code::OutcomeForgotten
        | Code::Compacted
        | Code::FutureRevision
        | Code::AckMissed
        | Code::VerbNotOffered
        | Code::TokenInvalid
        | Code::TokenExpired
        | Code::TokenOtherKeyspace
        | Code::SiblingsFull
        | Code::SeveralValues
        | Code::WriteElsewhere
        | Code::TlsRejected
        | Code::RoleRefused
        | Code::ConfigInvalid
        | Code::KeyFileMode
        | Code::CertificateUnusable
        | Code::DirectoryLocked
        | Code::DirectoryUnusable
        | Code::DataForeign
        | Code::DataDamaged
        | Code::DataLost
        | Code::NotConfigured
        | Code::Internal => false,
    }
}

/// Time that a refusal asks for.
#[derive(Clone, Copy)]
struct Asked {
    time: Duration,
    /// There is no leader. A longer pause would ease nobody, and would outlast the election.
    leaderless: bool,
}

impl Asked {
    fn by(failure: &Failure) -> Option<Self> {
        let time = failure.retry_after?.clamp(PAUSE_MIN, TIMEOUT_MAX);
        let leaderless = matches!(failure.code, Code::NoLeader | Code::NoQuorum);
        Some(Self { time, leaderless })
    }
}

/// The pause before the next attempt: none within a round over the endpoints, after each round twice as
/// long as after the one before, and always as long as the node asked for. While there is no leader it
/// does not grow.
#[derive(Default)]
struct Pauses {
    attempts: usize,
    rounds: u32,
}

impl Pauses {
    fn after_attempt(&mut self, endpoints: usize, asked: Option<Asked>) -> Duration {
        self.attempts += 1;
        let mut pause = Duration::ZERO;
        if self.attempts >= endpoints {
            self.attempts = 0;
            pause = PAUSE_MAX.min(PAUSE_MIN * 2u32.saturating_pow(self.rounds));
            self.rounds = (self.rounds + 1).min(16);
        }
        // Jitter keeps clients that failed together from coming back together.
        match asked {
            Some(Asked { time, leaderless }) => {
                let least = if leaderless { time } else { pause.max(time) };
                least.mul_f64(rand::random_range(1.0..=ASKED_TIMES_MAX))
            }
            None => pause.mul_f64(rand::random_range(0.5..=1.0)),
        }
    }
}

/// What the attempts of one call came to so far.
struct Trace {
    kind: Kind,
    /// An attempt may have been applied.
    maybe_applied: bool,
    unreached: Vec<Unreached>,
    last_refusal: Option<Failure>,
    last_lost: Option<(String, LostReason)>,
}

impl Trace {
    fn new(kind: Kind) -> Self {
        Self {
            kind,
            maybe_applied: false,
            unreached: Vec::new(),
            last_refusal: None,
            last_lost: None,
        }
    }

    fn unreached(&mut self, endpoint: &Endpoint, reason: UnreachedReason) {
        self.unreached.push(Unreached { endpoint: endpoint.address().to_owned(), reason });
    }

    fn refused(&mut self, failure: Failure) {
        self.maybe_applied |= !is_certain(&failure);
        self.last_refusal = Some(failure);
    }

    fn lost(&mut self, endpoint: &Endpoint, reason: LostReason) {
        self.maybe_applied = true;
        self.last_lost = Some((endpoint.address().to_owned(), reason));
    }

    /// A whole round found nobody, and nothing was ever sent.
    fn is_hopeless(&self, endpoints: usize) -> bool {
        self.last_refusal.is_none() && self.last_lost.is_none() && self.unreached.len() >= endpoints
    }

    /// Ends with a refusal that repeating cannot change.
    fn refused_for_good<C: Call>(mut self, call: &C, failure: Failure) -> ClientError {
        self.maybe_applied |= !is_certain(&failure);
        self.refusal(call, failure)
    }

    /// Ends because the time is up, or because nobody is there.
    fn give_up<C: Call>(mut self, call: &C) -> ClientError {
        if self.kind != Kind::Read && self.maybe_applied {
            let why = match (&self.last_lost, &self.last_refusal) {
                (Some((endpoint, reason)), _) => format!("sent to {endpoint}: {reason}"),
                (None, Some(refusal)) => refusal.why.clone(),
                (None, None) => unreachable!("what may be applied was lost or refused"),
            };
            return self.lost_error(call, Code::WriteTimedOut, why);
        }
        if let Some(refusal) = self.last_refusal.take() {
            return self.refusal(call, refusal);
        }
        if let Some((endpoint, reason)) = &self.last_lost {
            let why = format!("sent to {endpoint}: {reason}");
            return self.lost_error(call, Code::ReadTimedOut, why);
        }
        self.unreached_error(call)
    }

    fn refusal<C: Call>(&self, call: &C, mut failure: Failure) -> ClientError {
        if self.kind != Kind::Read && failure.applied != Some(Applied::Yes) {
            let applied = if self.maybe_applied { Applied::Unknown } else { Applied::No };
            failure.applied = Some(applied);
        }
        if failure.subject.is_empty() {
            failure.subject = call.subject();
        }
        ClientError::Refused(Box::new(failure))
    }

    fn lost_error<C: Call>(&self, call: &C, code: Code, why: String) -> ClientError {
        let mut failure = Failure::new(code, call.subject(), why);
        if self.kind != Kind::Read {
            failure = failure.applied(Applied::Unknown);
        }
        ClientError::Lost(Box::new(failure))
    }

    fn unreached_error<C: Call>(self, call: &C) -> ClientError {
        let identity = !self.unreached.is_empty()
            && self.unreached.iter().all(|unreached| unreached.reason.is_identity());
        let code = if identity { Code::TlsRejected } else { Code::CannotConnect };
        let why = match &self.unreached[..] {
            [] => "the time was up before anything was tried".to_owned(),
            all => last_of_each(all).join("; "),
        };
        let mut failure = Failure::new(code, call.subject(), why);
        if self.kind != Kind::Read {
            failure = failure.applied(Applied::No);
        }
        ClientError::Unreached { failure: Box::new(failure), endpoints: self.unreached }
    }
}

/// Whether a refusal of a write says that this attempt was not applied. One that says nothing was
/// made by something that does not know.
fn is_certain(failure: &Failure) -> bool {
    match failure.applied {
        Some(Applied::No) => true,
        // It speaks of the write as a whole, earlier attempts included; this one had no effect.
        Some(Applied::Unknown) => failure.code == Code::OutcomeForgotten,
        Some(Applied::Yes) | None => false,
    }
}

/// The newest finding at each endpoint, as text.
fn last_of_each(all: &[Unreached]) -> Vec<String> {
    let mut seen: Vec<&Unreached> = Vec::new();
    for unreached in all {
        seen.retain(|earlier| earlier.endpoint != unreached.endpoint);
        seen.push(unreached);
    }
    seen.into_iter().map(Unreached::to_string).collect()
}

#[cfg(test)]
mod waits;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_come_after_rounds_and_grow_to_a_bound() {
        let mut pauses = Pauses::default();
        assert_eq!(pauses.after_attempt(3, None), Duration::ZERO);
        assert_eq!(pauses.after_attempt(3, None), Duration::ZERO);
        let first = pauses.after_attempt(3, None);
        assert!((PAUSE_MIN / 2..=PAUSE_MIN).contains(&first), "{first:?}");
        let mut pauses = Pauses { attempts: 0, rounds: 16 };
        let late = pauses.after_attempt(1, None);
        assert!((PAUSE_MAX / 2..=PAUSE_MAX).contains(&late), "{late:?}");
    }

    #[test]
    fn a_server_that_asks_for_time_gets_it() {
        let asked = Duration::from_millis(250);
        for leaderless in [false, true] {
            let pause = Pauses::default().after_attempt(3, Some(Asked { time: asked, leaderless }));
            assert!(pause >= asked);
        }
    }

    #[test]
    fn statuses_without_detail_do_not_know_the_outcome() {
        let lost = classify(&Status::unavailable("x"));
        assert!(matches!(lost, AttemptError::Lost(LostReason::Broken(_))));
        let failure = Failure::new(Code::NoLeader, "s", "w").applied(Applied::No);
        let refused = classify(&failure.to_status());
        assert!(matches!(refused, AttemptError::Refused(found) if found == failure));
    }
}
