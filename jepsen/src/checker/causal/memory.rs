//! Causal memory: one order for each process.

use super::act::{Acts, Reads};
use super::clocks::Clocks;
use super::witness::{Link, Order};
use crate::checker::graph::Node;
use crate::checker::stop::Stop;

/// How often what follows from the reads of a process is worked out again. Each round can bring
/// new edges; two or three are usual.
pub const ROUNDS_MAX: u32 = 64;

/// Checks each process; causal consistency holds already, and `causal` is its order.
pub fn check(acts: &Acts<'_>, causal: &Clocks) -> Result<(), Stop> {
    (0..acts.sessions()).try_for_each(|session| check_session(acts, causal, session))
}

fn check_session(acts: &Acts<'_>, causal: &Clocks, session: usize) -> Result<(), Stop> {
    let own = acts.starts[session]..acts.starts[session + 1];
    let Some(last) = own.clone().last() else { return Ok(()) };
    let reads: Vec<(Node, Reads)> =
        own.filter_map(|node| Some((node, acts.act(node).reads?))).collect();
    let counts = |node: Node| node == last || causal.is_before(acts, node, last);
    let mut links: Vec<Link> = Vec::new();
    let mut clocks: Option<Clocks> = None;
    for round in 1..=ROUNDS_MAX {
        let known = links.len();
        let now = clocks.as_ref().unwrap_or(causal);
        for &(read, from) in &reads {
            for before in acts.newest_writes(read, |other| now.before(acts, read, other)) {
                match from {
                    Reads::Absence => {
                        return Err(Order::new(acts, links).overwritten(read, from, before));
                    }
                    Reads::From(write)
                        if before != write && !now.is_before(acts, before, write) =>
                    {
                        links.push(Link { before, after: write, read, round });
                    }
                    Reads::From(_) => {}
                }
            }
        }
        if links.len() == known {
            return Ok(());
        }
        // Two reads in a row mostly say the same.
        links[known..].sort_unstable_by_key(|link| (link.before, link.after, link.read));
        let mut kept = known;
        for place in known..links.len() {
            let same =
                |one: &Link, other: &Link| one.before == other.before && one.after == other.after;
            if kept == known || !same(&links[kept - 1], &links[place]) {
                links[kept] = links[place];
                kept += 1;
            }
        }
        links.truncate(kept);
        let order = Order::new(acts, links);
        let Some(mut sorted) = order.graph.sorted() else {
            let process = acts.operation(last).process;
            return Err(order.cycle(&format!(
                "no order of what process {process} knew explains all its reads"
            )));
        };
        sorted.retain(|&node| counts(node));
        let pairs: Vec<(Node, Node)> =
            order.links().iter().map(|link| (link.before, link.after)).collect();
        clocks = Some(Clocks::new(acts, &sorted, &pairs)?);
        links = order.into_links();
    }
    let process = acts.operation(last).process;
    Err(Stop::Unjudged(format!("process {process}: no end after {ROUNDS_MAX} rounds")))
}
