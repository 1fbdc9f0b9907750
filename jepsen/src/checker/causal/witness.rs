//! Causal order as a graph, and what of it shows a violation.

use std::collections::{BTreeSet, HashMap};

use super::act::{Acts, Reads};
use crate::checker::graph::{Edge, Graph, Node};
use crate::checker::stop::Stop;

/// One write must come before another one of the same key, since a read returned the latter and
/// the former was known before the read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Link {
    /// What was overwritten.
    pub before: Node,
    /// What was read.
    pub after: Node,
    /// The read.
    pub read: Node,
    /// Links of lower rounds explain why `before` was known; in round 1 causal order does.
    pub round: u32,
}

/// Why one act comes before another one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// The same process did both.
    Process,
    /// One read what the other one wrote.
    Read,
    /// By a link of this round.
    Link(u32),
}

/// Causal order with further links.
#[derive(Debug)]
pub struct Order<'a, 'h> {
    acts: &'a Acts<'h>,
    /// Acts, with edges from each to the next of its process, to its readers, and along links.
    pub graph: Graph<Why>,
    links: Vec<Link>,
}

impl<'a, 'h> Order<'a, 'h> {
    /// The order of all acts.
    pub fn new(acts: &'a Acts<'h>, links: Vec<Link>) -> Self {
        let mut edges: Vec<Edge<Why>> = Vec::with_capacity(acts.acts.len() * 2 + links.len());
        for (node, act) in (0..).zip(&acts.acts) {
            if act.position > 0 {
                edges.push((node - 1, Why::Process, node));
            }
            if let Some(Reads::From(write)) = act.reads {
                edges.push((write, Why::Read, node));
            }
        }
        edges.extend(links.iter().map(|link| (link.before, Why::Link(link.round), link.after)));
        Self { acts, graph: Graph::new(acts.acts.len(), &edges), links }
    }

    /// The links.
    pub fn links(&self) -> &[Link] {
        &self.links
    }

    /// The links, to add more.
    pub fn into_links(self) -> Vec<Link> {
        self.links
    }

    /// There is a cycle, which `what` explains.
    pub fn cycle(&self, what: &str) -> Stop {
        let component = self.graph.components(|_| true).swap_remove(0);
        let cycle = self.graph.cycle(&component, |why, _| Some(u32::from(why != Why::Process)));
        let cycle = cycle.expect("a component has a cycle");
        let mut part = Part { order: self, acts: BTreeSet::new(), explained: BTreeSet::new() };
        part.take(&cycle);
        let steps: Vec<String> = self.steps(&cycle);
        let key = &self.acts.operation(cycle[0].0).key;
        Stop::broken(key, format!("{what}: {}", steps.join("; ")), part.places())
    }

    /// A read returned what `overwrite`, which was known before it, had overwritten.
    pub fn overwritten(&self, read: Node, from: Reads, overwrite: Node) -> Stop {
        let operation = |node| self.acts.operation(node);
        let mut part =
            Part { order: self, acts: BTreeSet::from([read]), explained: BTreeSet::new() };
        part.explain(overwrite, read, u32::MAX);
        let why = match from {
            Reads::Absence => format!(
                "{} returned absence although it came causally after {}",
                operation(read),
                operation(overwrite)
            ),
            Reads::From(write) => {
                part.explain(write, overwrite, u32::MAX);
                format!(
                    "{} returned what was overwritten in its causal past: {} came causally after \
                     {} and before the read",
                    operation(read),
                    operation(overwrite),
                    operation(write)
                )
            }
        };
        Stop::broken(&operation(read).key, why, part.places())
    }

    /// One sentence for each part of a cycle; steps of one process in a row are one.
    fn steps(&self, cycle: &[Edge<Why>]) -> Vec<String> {
        let operation = |node| self.acts.operation(node);
        let by_link: HashMap<(Node, Node), Node> =
            self.links.iter().rev().map(|link| ((link.before, link.after), link.read)).collect();
        joined(cycle)
            .into_iter()
            .map(|(from, why, to)| match why {
                Why::Process => {
                    format!("{} was followed in its process by {}", operation(from), operation(to))
                }
                Why::Read => format!("{} was read by {}", operation(from), operation(to)),
                Why::Link(_) => format!(
                    "{} was overwritten by {} for {}",
                    operation(from),
                    operation(to),
                    operation(by_link[&(from, to)])
                ),
            })
            .collect()
    }
}

/// A cycle or path with the steps of one process in a row made one.
fn joined(path: &[Edge<Why>]) -> Vec<Edge<Why>> {
    let mut joined: Vec<Edge<Why>> = Vec::new();
    for &edge in path {
        match joined.last_mut() {
            Some(last) if last.1 == Why::Process && edge.1 == Why::Process => last.2 = edge.2,
            _ => joined.push(edge),
        }
    }
    if joined.len() > 1
        && joined[0].1 == Why::Process
        && joined.last().is_some_and(|last| last.1 == Why::Process && last.2 == joined[0].0)
        && let Some(last) = joined.pop()
    {
        joined[0].0 = last.0;
    }
    joined
}

/// Collects the acts that show a violation.
struct Part<'o, 'a, 'h> {
    order: &'o Order<'a, 'h>,
    acts: BTreeSet<Node>,
    explained: BTreeSet<(Node, Node)>,
}

impl Part<'_, '_, '_> {
    /// Adds the acts of a path or cycle, and what explains its links.
    fn take(&mut self, path: &[Edge<Why>]) {
        for (from, why, to) in joined(path) {
            self.acts.extend([from, to]);
            let Why::Link(round) = why else { continue };
            if self.explained.insert((from, to)) {
                let links = self.order.links.iter();
                let link = links.clone().find(|link| (link.before, link.after) == (from, to));
                let read = link.expect("the edge came from a link").read;
                self.acts.insert(read);
                self.explain(from, read, round);
            }
        }
    }

    /// Adds a way from one act to another one, by links of rounds below `round`.
    fn explain(&mut self, from: Node, to: Node, round: u32) {
        self.acts.extend([from, to]);
        let path = self.order.graph.path(from, to, |why, _| match why {
            Why::Process => Some(0),
            Why::Read => Some(1),
            Why::Link(of) => (of < round).then_some(1),
        });
        self.take(&path.expect("what lies before an act has a way to it"));
    }

    /// The places of all that was collected, with the writes of what was read.
    fn places(self) -> Vec<usize> {
        let acts = self.order.acts;
        let mut places = Vec::new();
        for &node in &self.acts {
            places.push(acts.act(node).place);
            if let Some(Reads::From(write)) = acts.act(node).reads {
                places.push(acts.act(write).place);
            }
        }
        places
    }
}
