//! How old reads of level `bounded=...` may be (model `bounded-staleness`): O(n log n).
//!
//! A read that asks for `bounded=500ms` returns nothing older than what had been acknowledged
//! 500 ms before its call: of all writes of its key that returned before that moment it sees the
//! newest one, or a newer one. Reads of other levels are not judged here. How versions are ordered
//! is said in `versions.rs`.
//!
//! Times are those of the history, so nothing is assumed about the clocks of the servers.

use std::collections::HashMap;
use std::time::Duration;

use super::stop::Stop;
use super::versions::{Key, Versions};
use super::{Checker, Verdict};
use crate::operation::{Function, Operation, Outcome};

/// Checks that reads are no older than they may be.
#[derive(Clone, Copy, Debug, Default)]
pub struct StalenessChecker;

impl Checker for StalenessChecker {
    fn model(&self) -> &'static str {
        "bounded-staleness"
    }

    /// Unknown if no read names a bound, or where the versions of a key have no known order.
    fn check(&self, history: &[Operation]) -> Verdict {
        if let Some(unknown) = super::foreign(history, &super::REGISTER_FUNCTIONS) {
            return unknown;
        }
        Stop::verdict(judge(history), history)
    }
}

fn judge(history: &[Operation]) -> Result<(), Stop> {
    let versions = Versions::new(history)?;
    let newest = acknowledged(history, &versions);
    let mut judged = false;
    for (place, read) in history.iter().enumerate() {
        if read.function != Function::Read || read.outcome != Outcome::Ok {
            continue;
        }
        let Some(bound) = bound(read)? else { continue };
        judged = true;
        let bound_ns = u64::try_from(bound.as_nanos()).unwrap_or(u64::MAX);
        let (Some(version), Some(moment)) =
            (versions.versions[place], read.invoke_ns.checked_sub(bound_ns))
        else {
            continue;
        };
        let acknowledged = newest.get(&versions.keys[place]).map_or(&[][..], Vec::as_slice);
        let before = acknowledged.partition_point(|&(end, _, _)| end < moment);
        let Some(&(_, newest, write)) = before.checked_sub(1).map(|last| &acknowledged[last])
        else {
            continue;
        };
        if version < newest {
            let why = format!(
                "{read} is more than {} behind: long before its call returned {}",
                humantime::format_duration(bound),
                history[write]
            );
            let seen = versions.write_of(place);
            return Err(Stop::broken(&read.key, why, seen.into_iter().chain([place, write])));
        }
    }
    if judged { Ok(()) } else { Err(Stop::Unjudged("no successful read names a bound".to_owned())) }
}

/// For each key, by the time of their return, the newest version acknowledged until then and the
/// write of it.
fn acknowledged(
    history: &[Operation],
    versions: &Versions,
) -> HashMap<Key, Vec<(u64, u64, usize)>> {
    let mut newest: HashMap<Key, Vec<(u64, u64, usize)>> = HashMap::new();
    for (place, operation) in history.iter().enumerate() {
        if let Some(version) = versions.versions[place]
            && operation.outcome == Outcome::Ok
            && versions.write_of(place) == Some(place)
        {
            let key = versions.keys[place];
            newest.entry(key).or_default().push((operation.end_ns(), version, place));
        }
    }
    for writes in newest.values_mut() {
        writes.sort_unstable();
        for place in 1..writes.len() {
            let (_, version, write) = writes[place - 1];
            if version > writes[place].1 {
                (writes[place].1, writes[place].2) = (version, write);
            }
        }
    }
    newest
}

/// The bound that a read asked for.
fn bound(read: &Operation) -> Result<Option<Duration>, Stop> {
    let bound = read.level.as_deref().and_then(|level| level.strip_prefix("bounded="));
    let Some(bound) = bound else { return Ok(None) };
    let parsed = humantime::parse_duration(bound);
    parsed.map(Some).map_err(|_| Stop::Unjudged(format!("no duration in the level of {read}")))
}
