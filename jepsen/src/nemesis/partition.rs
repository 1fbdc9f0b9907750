//! Cuts the network between nodes into parts.
//!
//! Two kinds of cut: connections end and do not come up again, or their bytes wait, which no side is
//! told. Clients reach all nodes all the time.

use rand::RngExt;
use rand::seq::SliceRandom;

use super::strike::Strike;
use crate::error::LabError;
use crate::network::{Rule, Site};

/// How long the parts stay apart, in milliseconds: longer than an election and than a client waits.
const APART_MS: std::ops::Range<u64> = 1_000..6_000;

/// Directed pairs of nodes.
type Pairs = Vec<(usize, usize)>;

/// The shapes of a partition.
const SHAPES: [(&str, Shape); 5] = [
    ("isolate one", isolate_one),
    ("minority and majority", split),
    ("ring of majorities", ring),
    ("bridge", bridge),
    ("one way", one_way),
];

/// Which nodes cannot hear which, of nodes in a random order. The first one is the one to strike.
type Shape = fn(&[usize]) -> Pairs;

/// Makes a partition for a while.
pub async fn strike(strike: &mut Strike<'_>) -> Result<(), LabError> {
    let (what, shape) = SHAPES[strike.count % SHAPES.len()];
    let first =
        if strike.rng.random_bool(0.5) { strike.leader().await } else { strike.random_node() };
    let mut nodes: Vec<usize> = (0..strike.field.nodes).collect();
    nodes.shuffle(&mut strike.rng);
    nodes.sort_by_key(|node| *node != first);
    let pairs = shape(&nodes);
    // What goes one way can only be held back: a connection that ends does so on both sides.
    let stalls = what == "one way" || strike.rng.random_bool(0.5);
    let rule = if stalls { Rule::STALLED } else { Rule::CUT };
    let rules: Vec<(Site, Site, Rule)> =
        pairs.iter().map(|&(from, to)| (Site::Node(from), Site::Node(to), rule)).collect();
    let field = strike.field;
    let place =
        if stalls { "TCP proxies, bytes held back" } else { "TCP proxies, connections cut" };
    let shown: Vec<String> = pairs
        .iter()
        .map(|&(from, to)| format!("{}->{}", field.names[from], field.names[to]))
        .collect();
    let before = field.network_effects().await;
    let fault = strike.note(what, &[first], &format!("{place}: {}", shown.join(" ")));
    field.set_network(strike.kind.as_str(), rules).await;
    strike.wait(APART_MS).await;
    field.set_network(strike.kind.as_str(), Vec::new()).await;
    strike.over(fault, Some(field.network_effects().await - before));
    Ok(())
}

/// All directed pairs between two groups.
fn between(a: &[usize], b: &[usize]) -> Pairs {
    let there = a.iter().flat_map(|&x| b.iter().map(move |&y| (x, y)));
    there.flat_map(|(x, y)| [(x, y), (y, x)]).collect()
}

/// The first one alone.
fn isolate_one(nodes: &[usize]) -> Pairs {
    between(&nodes[..1], &nodes[1..])
}

/// A minority with the first one, and the others.
fn split(nodes: &[usize]) -> Pairs {
    let minority = (nodes.len() - 1) / 2;
    let (a, b) = nodes.split_at(minority.max(1));
    between(a, b)
}

/// Each node sees a majority, and no two see the same one: the neighbours in a ring. With three nodes
/// all see all but for one pair.
fn ring(nodes: &[usize]) -> Pairs {
    let count = nodes.len();
    if count <= 3 {
        return between(&nodes[..1], &nodes[1..2]);
    }
    // With so many neighbours on each side it is a majority together with them.
    let reach = (count / 2).div_ceil(2);
    let mut pairs = Pairs::new();
    for at in 0..count {
        for other in 0..count {
            let distance = (at + count - other) % count;
            if distance.min(count - distance) > reach {
                pairs.push((nodes[at], nodes[other]));
            }
        }
    }
    pairs
}

/// Two halves that only the first one sees both of.
fn bridge(nodes: &[usize]) -> Pairs {
    let (a, b) = nodes[1..].split_at((nodes.len() - 1) / 2);
    between(a, b)
}

/// Nobody hears the first one, which hears all.
fn one_way(nodes: &[usize]) -> Pairs {
    nodes[1..].iter().map(|&other| (nodes[0], other)).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn the_shapes_are_what_they_are_called() {
        for count in 2..=9 {
            let nodes: Vec<usize> = (0..count).rev().collect();
            let first = nodes[0];
            for (name, shape) in SHAPES {
                let pairs: BTreeSet<_> = shape(&nodes).into_iter().collect();
                assert!(pairs.iter().all(|(a, b)| a != b && *a < count && *b < count), "{name}");
                let both_ways = pairs.iter().all(|&(a, b)| pairs.contains(&(b, a)));
                assert_eq!(both_ways, name != "one way", "{name} of {count}");
                let sees = |node: usize| {
                    1 + (0..count).filter(|o| *o != node && !pairs.contains(&(*o, node))).count()
                };
                match name {
                    "isolate one" => assert_eq!(sees(first), 1),
                    "one way" => assert_eq!((sees(first), sees(nodes[1])), (count, count - 1)),
                    "bridge" => assert_eq!(sees(first), count),
                    "ring of majorities" => {
                        assert!(
                            (0..count).all(|node| sees(node) > count / 2 || count == 2),
                            "{count}"
                        );
                    }
                    _ => assert!(sees(first) <= count / 2 || count == 2, "{name} of {count}"),
                }
                assert!(!pairs.is_empty() || (name == "bridge" && count == 2), "{name} of {count}");
            }
        }
    }
}
