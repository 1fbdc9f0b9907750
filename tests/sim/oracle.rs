//! Decides whether what clients saw can be explained.
//!
//! The oracle takes the committed log of the data group as the one order of all writes, executes
//! it on a model of its own (a map of all versions, no storage, no checkpoints), and holds every
//! answer against it:
//!
//! 1. an acknowledged write stands in the log, with the answer that the model gives, and took
//!    effect once;
//! 2. a write that certainly failed took no effect;
//! 3. every read shows exactly the model's state at the revision it claims;
//! 4. real time is respected: what was answered before an operation began is inside the revision
//!    that the operation shows (linearizable reads and all writes).
//!
//! Together these are strict serializability with the log as the witness; `jepsen` judges the same
//! history without knowing the log.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use kvstore::node::{Reply, Request};
use proto::log;
use proto::v1::Level;

use super::model::{Keyspace, Model, ModelEvents};
use super::network::Micros;
use super::operation::{Ending, Operation};

/// What the oracle says.
#[derive(Debug, Default)]
pub struct Judgement {
    /// Every way in which the history contradicts the log.
    pub violations: Vec<String>,
    /// Outcomes that the exactly-once table let go.
    pub evictions: u64,
    /// What occurred in the log.
    pub events: ModelEvents,
    /// Names of the keyspaces that are open at the end.
    pub keyspaces: BTreeSet<String>,
}

/// The client id under which the planted bug of double execution repeats a write: to the node it is
/// another client, to the oracle the same.
pub fn disguise(client_id: &Bytes, attempt: u32) -> Bytes {
    let mut disguised = client_id.to_vec();
    if let Some(last) = disguised.last_mut() {
        *last = u8::try_from(attempt % 256).expect("below 256");
    }
    disguised.into()
}

/// The client id without disguise; ids of simulated clients end in 0.
pub fn undisguised(client_id: &Bytes) -> Bytes {
    disguise(client_id, 0)
}

/// Holds `history` against the committed `entries`.
pub fn judge(history: &[Operation], entries: &[log::Entry]) -> Judgement {
    let model = Model::replay(entries);
    let mut violations = Vec::new();
    for (number, operation) in history.iter().enumerate() {
        if let Err(why) = explain(&model, operation) {
            violations.push(format!("operation {number}: {why}: {operation:?}"));
        }
    }
    violations.extend(real_time(history));
    Judgement {
        violations,
        evictions: model.evictions(),
        events: model.events,
        keyspaces: model.open_names(),
    }
}

fn explain(model: &Model, operation: &Operation) -> Result<(), String> {
    let Some(ending) = &operation.ending else { return Ok(()) };
    match (&operation.request, ending) {
        (Request::Write { .. }, Ending::Ok(Reply::Write { outcome, .. })) => {
            let expected = executed(model, operation)
                .ok_or_else(|| "acknowledged, but not in the log".to_owned())?;
            let got = (outcome.revision, outcome.succeeded);
            if got == expected {
                Ok(())
            } else {
                Err(format!("answered {got:?}, the log says {expected:?}"))
            }
        }
        (Request::Write { .. }, Ending::Fail) => match executed(model, operation) {
            Some(at) => Err(format!("reported as not applied, but executed at {at:?}")),
            None => Ok(()),
        },
        (Request::Get(_) | Request::Range(_), Ending::Ok(reply)) => {
            let keyspace = model
                .named(operation.keyspace())
                .ok_or_else(|| "the log never opened its keyspace".to_owned())?;
            explain_read(keyspace, &operation.request, reply)
        }
        (_, Ending::Fail | Ending::Unknown) => Ok(()),
        (_, Ending::Ok(reply)) => Err(format!("answered with {reply:?}")),
    }
}

fn explain_read(keyspace: &Keyspace, request: &Request, reply: &Reply) -> Result<(), String> {
    match (request, reply) {
        (Request::Get(get), Reply::Get(reply)) => {
            let revision = reply.proof.as_ref().map_or(0, |proof| proof.revision);
            match &reply.item {
                Some(item) if item.key == get.key && keyspace.matches(item, revision) => Ok(()),
                None if keyspace.at(&get.key, revision).is_none() => Ok(()),
                _ => Err(format!("the log shows {:?}", keyspace.at(&get.key, revision))),
            }
        }
        (Request::Range(range), Reply::Range(reply)) => {
            let revision = reply.proof.as_ref().map_or(0, |proof| proof.revision);
            let limit = if range.limit == 0 { usize::MAX } else { range.limit as usize };
            let keys: Vec<Bytes> = reply.items.iter().map(|item| item.key.clone()).collect();
            let expected = keyspace.page(&range.from, limit, revision);
            if keys != expected {
                return Err(format!("the log shows the keys {expected:?}"));
            }
            match reply.items.iter().find(|item| !keyspace.matches(item, revision)) {
                Some(item) => Err(format!("the log shows {:?}", keyspace.at(&item.key, revision))),
                None => Ok(()),
            }
        }
        (_, reply) => Err(format!("answered with {reply:?}")),
    }
}

fn executed(model: &Model, operation: &Operation) -> Option<(u64, bool)> {
    let id = operation.write_id()?;
    model.executed.get(&(id.client_id.clone(), id.seq)).copied()
}

/// What was answered before an operation began is inside the revision that the operation shows.
fn real_time(history: &[Operation]) -> Vec<String> {
    // (time, is an invocation, revision, number): at equal times invocations come first.
    let mut returns: BTreeSet<(Micros, usize, u64)> = BTreeSet::new();
    let mut begins: BTreeSet<(Micros, usize, u64)> = BTreeSet::new();
    for (number, operation) in history.iter().enumerate() {
        let Some(Ending::Ok(reply)) = &operation.ending else { continue };
        let Some(returned) = operation.returned else { continue };
        let Some(revision) = shown(operation, reply) else { continue };
        returns.insert((returned, number, revision));
        begins.insert((operation.invoked, number, revision));
    }
    let mut violations = Vec::new();
    let mut returns = returns.into_iter().peekable();
    // Revisions of different keyspaces say nothing about each other.
    let mut newest_of: BTreeMap<&str, (u64, usize)> = BTreeMap::new();
    for (invoked, number, revision) in begins {
        while let Some((_, before, shown)) = returns.next_if(|(at, ..)| *at < invoked) {
            let newest = newest_of.entry(history[before].keyspace()).or_default();
            *newest = (*newest).max((shown, before));
        }
        let newest = newest_of.get(history[number].keyspace()).copied().unwrap_or_default();
        if revision < newest.0 {
            violations.push(format!(
                "operation {number} shows revision {revision}, although operation {} had shown \
                 {} before it began: {:?}",
                newest.1, newest.0, history[number]
            ));
        }
    }
    violations
}

/// The revision that an answer claims to include everything up to; `None` for a weaker level, and
/// for a write answered from the exactly-once table, which shows an earlier moment.
fn shown(operation: &Operation, reply: &Reply) -> Option<u64> {
    let proof = match reply {
        Reply::Get(get) => get.proof.as_ref(),
        Reply::Range(range) => range.proof.as_ref(),
        Reply::Write { outcome, .. } => {
            return (operation.attempts == 1 || !outcome.replayed).then_some(outcome.revision);
        }
        Reply::History(_)
        | Reply::Keyspaces(_)
        | Reply::Catalogue(_)
        | Reply::Managed(_)
        | Reply::Export(_)
        | Reply::Backup(_) => return None,
    }?;
    let asked = match &operation.request {
        Request::Get(get) => get.level(),
        Request::Range(range) => range.level(),
        Request::Write { .. }
        | Request::History(_)
        | Request::Keyspaces
        | Request::Catalogue
        | Request::Manage(_)
        | Request::Export
        | Request::Backup => return None,
    };
    (asked == Level::Linearizable).then_some(proof.revision)
}
