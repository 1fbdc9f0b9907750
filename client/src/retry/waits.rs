//! How long calls wait, in paused time. The connections lead nowhere: what a node does with an attempt
//! is in the call itself.

use std::future::pending;
use std::sync::Mutex;

use http::Uri;

use super::*;
use crate::calls::{Learned, Repeated};
use crate::connection::Connection;
use crate::tls::TlsSettings;

/// What a node does with an attempt.
#[derive(Clone)]
enum Act {
    Answer,
    Refuse(Failure),
    Hang,
}

/// An attempt as its node saw it.
#[derive(Clone, Debug)]
struct Seen {
    node: String,
    /// When it came, after the beginning of the call.
    at: Duration,
    /// How long the caller waits, as the node is told.
    patience: Duration,
}

/// What happens to the attempts of a call, and what happened.
struct Desk {
    begin: Instant,
    /// By the number of the attempt.
    act: fn(usize) -> Act,
    seen: Mutex<Vec<Seen>>,
}

impl Desk {
    fn new(act: fn(usize) -> Act) -> Self {
        Self { begin: Instant::now(), act, seen: Mutex::default() }
    }

    fn seen(&self) -> Vec<Seen> {
        self.seen.lock().unwrap().clone()
    }

    async fn serve(&self, origin: &Uri, patience: Duration) -> Result<(), Status> {
        let number = {
            let node = origin.authority().unwrap().to_string();
            let mut seen = self.seen.lock().unwrap();
            seen.push(Seen { node, at: self.begin.elapsed(), patience });
            seen.len() - 1
        };
        match (self.act)(number) {
            Act::Answer => Ok(()),
            Act::Refuse(failure) => Err(failure.to_status()),
            Act::Hang => pending().await,
        }
    }
}

macro_rules! fake_call {
    ($name:ident, $kind:expr, $repeat:expr) => {
        struct $name(Desk);

        impl Repeated for $name {
            fn repeat(&self) -> Repeat {
                $repeat
            }
        }

        impl Call for $name {
            type Reply = ();
            const KIND: Kind = $kind;

            fn subject(&self) -> String {
                "a thing".to_owned()
            }

            fn leader_first(&self) -> bool {
                false
            }

            async fn send(&self, _: Connection, at: Uri, patience: Duration) -> Result<(), Status> {
                self.0.serve(&at, patience).await
            }

            fn learned(_reply: &()) -> Learned<'_> {
                Learned::default()
            }
        }
    };
}

fake_call!(Reading, Kind::Read, Repeat::Anywhere);
fake_call!(Writing, Kind::Write, Repeat::Anywhere);
fake_call!(WritingThere, Kind::Write, Repeat::There);
fake_call!(Managing, Kind::Manage, Repeat::Anywhere);

/// What timers add: they count in milliseconds.
const TICK: Duration = Duration::from_millis(2);

/// Routes to so many nodes, all of which are connected.
async fn routes(nodes: usize) -> Routes {
    let dir = tempfile::tempdir().unwrap();
    let day = Duration::from_secs(24 * 60 * 60);
    let ca = crate::pki::init_ca(dir.path(), None, day).unwrap();
    let own = crate::pki::issue_client(dir.path(), "alice", day).unwrap();
    let credentials = crate::pki::load(&ca.cert, &own.cert, &own.key).unwrap();
    let addresses: Vec<String> = (1..=nodes).map(|node| format!("n{node}:1")).collect();
    let tls = TlsSettings::new(&credentials).unwrap();
    let routes = Routes::new(&addresses, 1, false, tls).unwrap();
    let mut path = routes.path(false);
    for _ in 0..nodes {
        path.current().pretend_up().await;
        path.advance();
    }
    routes
}

/// The outcome of a call, and how long it took.
async fn ask<C: Call>(
    nodes: usize,
    timeout: Duration,
    call: impl FnOnce() -> C,
) -> (Result<C::Reply, ClientError>, Duration, C) {
    let routes = routes(nodes).await;
    let begin = Instant::now();
    let call = call();
    let outcome = execute(&routes, &call, timeout, begin + timeout).await;
    (outcome, begin.elapsed(), call)
}

fn no_leader() -> Failure {
    Failure::new(Code::NoLeader, "s", "w").applied(Applied::No)
}

#[tokio::test(start_paused = true)]
async fn rounds_are_apart_by_pauses_that_grow_until_the_time_is_up() {
    let timeout = Duration::from_secs(10);
    let act = |_| Act::Refuse(no_leader());
    let (outcome, took, call) = ask(3, timeout, || Reading(Desk::new(act))).await;
    assert!(matches!(outcome, Err(ClientError::Refused(why)) if why.code == Code::NoLeader));
    assert!(took <= timeout && took + PAUSE_MAX >= timeout, "{took:?}");
    let seen = call.0.seen();
    let mut begun = Duration::ZERO;
    for (number, round) in seen.chunks_exact(3).enumerate() {
        let mut nodes: Vec<&str> = round.iter().map(|seen| seen.node.as_str()).collect();
        nodes.sort_unstable();
        assert_eq!(nodes, ["n1:1", "n2:1", "n3:1"]);
        assert!(round[2].at - round[0].at <= 3 * TICK, "{round:?}");
        if let Some(before) = u32::try_from(number).unwrap().checked_sub(1) {
            let most = PAUSE_MAX.min(PAUSE_MIN * 2u32.pow(before.min(10)));
            let pause = round[0].at - begun;
            assert!(pause >= most / 2 && pause <= most + 4 * TICK, "{number}: {pause:?}");
        }
        begun = round[0].at;
    }
    // Six rounds until the pauses are longest, then two to four a second.
    assert!((3 * 20..=3 * 50).contains(&seen.len()), "{}", seen.len());
}

#[tokio::test(start_paused = true)]
async fn a_node_that_hangs_costs_a_third_of_the_time() {
    let timeout = Duration::from_secs(6);
    let act = |number| if number == 0 { Act::Hang } else { Act::Answer };
    let (outcome, took, call) = ask(3, timeout, || Writing(Desk::new(act))).await;
    outcome.unwrap();
    assert!(took >= timeout / 3 && took <= timeout / 3 + 2 * TICK, "{took:?}");
    let seen = call.0.seen();
    assert_eq!(seen.len(), 2);
    assert_ne!(seen[0].node, seen[1].node);
    // Its node is told to answer a little before.
    assert_eq!(seen[0].patience, timeout / 3 - ANSWER_MARGIN_MAX);
}

#[tokio::test(start_paused = true)]
async fn with_nowhere_else_to_go_a_call_waits_as_long_as_it_may() {
    let timeout = Duration::from_secs(6);
    let (read, took, call) = ask(1, timeout, || Reading(Desk::new(|_| Act::Hang))).await;
    assert!(matches!(read, Err(ClientError::Lost(why)) if why.code == Code::ReadTimedOut));
    assert!(took >= timeout && took <= timeout + TICK, "{took:?}");
    assert_eq!(call.0.seen().len(), 1);
    let (write, ..) = ask(1, timeout, || Writing(Desk::new(|_| Act::Hang))).await;
    let error = write.unwrap_err();
    assert_eq!(error.code(), Code::WriteTimedOut);
    assert_eq!(error.applied(), Some(Applied::Unknown));
}

#[tokio::test(start_paused = true)]
async fn a_node_that_asks_for_time_gets_it_unless_there_is_none() {
    let act = |number| {
        let asked = Failure { retry_after: Some(Duration::from_secs(3)), ..no_leader() };
        if number == 0 { Act::Refuse(asked) } else { Act::Answer }
    };
    let (outcome, took, _) = ask(3, Duration::from_secs(4), || Reading(Desk::new(act))).await;
    outcome.unwrap();
    assert!(took >= Duration::from_secs(3) && took < Duration::from_secs(4), "{took:?}");
    // Waiting in vain would help nobody.
    let (outcome, took, call) = ask(3, Duration::from_secs(2), || Writing(Desk::new(act))).await;
    let error = outcome.unwrap_err();
    assert_eq!((error.code(), error.applied()), (Code::NoLeader, Some(Applied::No)));
    assert!(took <= TICK, "{took:?}");
    assert_eq!(call.0.seen().len(), 1);
}

/// During an election every node asks for the time of a heartbeat. A pause that grew meanwhile would outlast
/// the election.
#[tokio::test(start_paused = true)]
async fn nodes_that_ask_for_little_time_again_and_again_are_asked_as_often() {
    const ASKED: Duration = Duration::from_millis(100);
    let act = |number| {
        let asked = Failure { retry_after: Some(ASKED), ..no_leader() };
        if number < 15 { Act::Refuse(asked) } else { Act::Answer }
    };
    let (outcome, _, call) = ask(3, Duration::from_secs(10), || Writing(Desk::new(act))).await;
    outcome.unwrap();
    for pair in call.0.seen().windows(2) {
        let pause = pair[1].at - pair[0].at;
        let most = ASKED.mul_f64(ASKED_TIMES_MAX) + TICK;
        assert!(pause >= ASKED && pause <= most, "{pause:?}");
    }
}

/// A node that has too much to do is asked ever more rarely, also if what it asks for is nothing.
#[tokio::test(start_paused = true)]
async fn nodes_that_are_overloaded_are_given_more_and_more_time() {
    let act = |number| {
        let refusal = Failure::new(Code::QueueFull, "s", "w").applied(Applied::No);
        let refusal = Failure { retry_after: Some(Duration::ZERO), ..refusal };
        if number < 30 { Act::Refuse(refusal) } else { Act::Answer }
    };
    let (outcome, _, call) = ask(3, Duration::from_secs(30), || Writing(Desk::new(act))).await;
    outcome.unwrap();
    let seen = call.0.seen();
    assert!(seen.windows(2).all(|pair| pair[1].at - pair[0].at >= PAUSE_MIN));
    let last = seen[30].at - seen[29].at;
    assert!(last >= PAUSE_MAX, "{last:?}");
}

#[tokio::test(start_paused = true)]
async fn what_has_no_id_is_sent_once_and_waited_for_to_the_end() {
    let timeout = Duration::from_secs(6);
    let (outcome, took, call) = ask(3, timeout, || Managing(Desk::new(|_| Act::Hang))).await;
    assert_eq!(outcome.unwrap_err().applied(), Some(Applied::Unknown));
    assert!(took >= timeout && took <= timeout + TICK, "{took:?}");
    assert_eq!(call.0.seen().len(), 1);
    // It is repeated while it was certainly not applied.
    let act = |number| if number < 4 { Act::Refuse(no_leader()) } else { Act::Answer };
    let (outcome, _, call) = ask(3, timeout, || Managing(Desk::new(act))).await;
    outcome.unwrap();
    assert_eq!(call.0.seen().len(), 5);
}

#[tokio::test(start_paused = true)]
async fn what_one_node_knows_is_repeated_there_alone() {
    let act = |number| {
        let refuse = |code, applied| Act::Refuse(Failure::new(code, "s", "w").applied(applied));
        match number {
            0 => refuse(Code::Recovering, Applied::No),
            1 => refuse(Code::WriteTimedOut, Applied::Unknown),
            2..8 => refuse(Code::NotReady, Applied::No),
            _ => Act::Answer,
        }
    };
    let timeout = Duration::from_secs(10);
    let (outcome, _, call) = ask(3, timeout, || WritingThere(Desk::new(act))).await;
    outcome.unwrap();
    let seen = call.0.seen();
    let nodes: Vec<&str> = seen.iter().map(|seen| seen.node.as_str()).collect();
    assert_eq!(nodes.len(), 9);
    assert_ne!(nodes[0], nodes[1], "nothing was applied there, so another node may take it");
    assert!(nodes[1..].iter().all(|node| *node == nodes[1]), "{nodes:?}");
    // It may wait for other replicas as long as its caller waits.
    assert_eq!(seen[0].patience, timeout - ANSWER_MARGIN_MAX);

    let act = |number| match number {
        0 => Act::Refuse(Failure::new(Code::WriteTimedOut, "s", "w").applied(Applied::Unknown)),
        _ => Act::Refuse(no_leader()),
    };
    let (outcome, took, call) = ask(3, timeout, || WritingThere(Desk::new(act))).await;
    let error = outcome.unwrap_err();
    assert_eq!((error.code(), error.applied()), (Code::WriteTimedOut, Some(Applied::Unknown)));
    assert!(took + PAUSE_MAX >= timeout, "{took:?}");
    let seen = call.0.seen();
    assert!(seen.iter().all(|there| there.node == seen[0].node), "{seen:?}");
}
