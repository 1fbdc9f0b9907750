//! Requests of clients, with the planted bug between them and the node.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use proto::v1::Level;
use proto::{Failure, v1};

use super::mutant::{Mutant, planted};
use crate::node::{Reply, Request};
use crate::shell::NodeHandle;

/// "Now and then" is once in so many times.
const EVERY: u64 = 20;

/// How many revisions a weak read is ahead of what it shows.
const AHEAD: u64 = 3;

/// Asks the node, as [`NodeHandle::call`] does.
///
/// # Errors
/// Those of [`NodeHandle::call`].
pub async fn ask(
    handle: &NodeHandle,
    mut request: Request,
    patience: Duration,
) -> Result<Reply, Failure> {
    let Some(mutant) = planted() else { return handle.call(request, patience).await };
    let leads = handle.summaries().borrow().role == v1::Role::Leader;
    let turn = turn();
    let wanted = level(&request);
    before(mutant, &mut request, leads, turn);
    let mut result = handle.call(request, patience).await;
    after(mutant, &mut result, wanted, turn);
    result
}

/// Whether this is the time to do what is done now and then.
fn turn() -> bool {
    static CALLS: AtomicU64 = AtomicU64::new(1);
    CALLS.fetch_add(1, Ordering::Relaxed).is_multiple_of(EVERY)
}

/// The level at which a request wants to read; `None` if it is no read of one key or a range.
fn level(request: &Request) -> Option<Level> {
    match request {
        Request::Get(get) => Some(get.level()),
        Request::Range(range) => Some(range.level()),
        _ => None,
    }
}

fn before(mutant: Mutant, request: &mut Request, leads: bool, turn: bool) {
    let weakens = mutant == Mutant::LocalReads || mutant == Mutant::UnconfirmedLeader && leads;
    match request {
        Request::Get(get) if weakens => get.set_level(Level::Eventual),
        Request::Range(range) if weakens => range.set_level(Level::Eventual),
        Request::Write { write, .. } => match mutant {
            Mutant::DoubleApply => {
                if let Some(id) = &mut write.id {
                    id.client_id = rand::random::<[u8; 16]>().to_vec().into();
                }
            }
            Mutant::ComparesSkipped => write.compares.clear(),
            Mutant::HalfTransaction if turn => write.then_ops.truncate(1),
            _ => {}
        },
        _ => {}
    }
}

fn after(mutant: Mutant, result: &mut Result<Reply, Failure>, wanted: Option<Level>, turn: bool) {
    let proof = match result {
        Ok(Reply::Get(get)) => get.proof.as_mut(),
        Ok(Reply::Range(range)) => range.proof.as_mut(),
        _ => None,
    };
    if let (Some(proof), Some(wanted)) = (proof, wanted) {
        // The reply claims what was asked for.
        let weak = wanted == Level::Eventual;
        proof.set_level(if weak { Level::Eventual } else { Level::Linearizable });
        if weak && mutant == Mutant::RevisionAboveContent {
            proof.revision += AHEAD;
        }
    }
    match (mutant, result) {
        (Mutant::WrongRevision, Ok(Reply::Write { outcome, .. })) if turn => {
            outcome.revision = outcome.revision.saturating_sub(1);
        }
        (Mutant::RangeGap, Ok(Reply::Range(range))) if turn && range.items.len() > 2 => {
            let middle = range.items.len() / 2;
            range.items.remove(middle);
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use crate::replication::EventualOptions;
    use proto::log;

    use super::*;

    fn get(level: Level) -> Request {
        Request::Get(v1::GetRequest { level: level.into(), ..v1::GetRequest::default() })
    }

    #[test]
    fn reads_are_weakened_and_claim_to_be_strong() {
        for (mutant, leads, weak) in [
            (Mutant::LocalReads, false, true),
            (Mutant::UnconfirmedLeader, false, false),
            (Mutant::UnconfirmedLeader, true, true),
            (Mutant::RangeGap, true, false),
        ] {
            let mut request = get(Level::Linearizable);
            before(mutant, &mut request, leads, true);
            assert_eq!(level(&request) == Some(Level::Eventual), weak, "{mutant}");
        }
        let proof = v1::Proof { revision: 7, ..v1::Proof::default() };
        let reply = v1::GetReply { proof: Some(proof), ..v1::GetReply::default() };
        for (wanted, level, revision) in [
            (Level::Linearizable, Level::Linearizable, 7),
            (Level::Eventual, Level::Eventual, 7 + AHEAD),
        ] {
            let mut result = Ok(Reply::Get(reply.clone()));
            after(Mutant::RevisionAboveContent, &mut result, Some(wanted), false);
            let Ok(Reply::Get(v1::GetReply { proof: Some(proof), .. })) = result else { panic!() };
            assert_eq!((proof.level(), proof.revision), (level, revision));
        }
    }

    #[test]
    fn writes_lose_what_the_bug_takes_and_nothing_else() {
        let id = v1::WriteId { client_id: vec![1; 16].into(), ..v1::WriteId::default() };
        let write = log::Write {
            id: Some(id),
            compares: vec![v1::Compare::default()],
            then_ops: vec![v1::Op::default(); 2],
            ..log::Write::default()
        };
        let changed = |mutant, turn| {
            let mut request = Request::Write {
                keyspace: "default".to_owned(),
                write: write.clone(),
                options: EventualOptions::default(),
            };
            before(mutant, &mut request, false, turn);
            let Request::Write { write: changed, .. } = request else { panic!() };
            let same_id = changed.id == write.id;
            (same_id, changed.compares.len(), changed.then_ops.len())
        };
        assert_eq!(changed(Mutant::WrongRevision, true), (true, 1, 2));
        assert_eq!(changed(Mutant::DoubleApply, false), (false, 1, 2));
        assert_eq!(changed(Mutant::ComparesSkipped, false), (true, 0, 2));
        assert_eq!(changed(Mutant::HalfTransaction, true), (true, 1, 1));
        assert_eq!(changed(Mutant::HalfTransaction, false), (true, 1, 2));
    }
}
