//! Overlays that an update is flooded over.

use clap::ValueEnum;
use rand::RngExt;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;
use serde::Serialize;

/// Which nodes know which. In all of them, every node has as good a place as any other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Graph {
    /// Its shape.
    #[serde(rename = "graph")]
    pub kind: GraphKind,
    /// Neighbours of a node of a random graph; the other shapes have their own.
    pub degree: u32,
}

/// Shape of an overlay.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum GraphKind {
    /// Each node has the same number of random neighbours; drawn anew for each run.
    Random,
    /// Two neighbours.
    Ring,
    /// Four neighbours on a grid whose borders meet.
    Torus,
    /// Nodes whose numbers differ in one bit.
    Hypercube,
    /// All nodes.
    Complete,
}

/// Pairs that are swapped at random before a random graph is begun anew.
const SWAPS_MAX: usize = 1_000;

impl Graph {
    /// Its name.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self.kind {
            GraphKind::Random => "random",
            GraphKind::Ring => "ring",
            GraphKind::Torus => "torus",
            GraphKind::Hypercube => "hypercube",
            GraphKind::Complete => "complete",
        }
    }

    /// It in words.
    #[must_use]
    pub fn title(&self) -> String {
        match self.kind {
            GraphKind::Random => format!("random graph of degree {}", self.degree),
            GraphKind::Ring | GraphKind::Torus | GraphKind::Hypercube => self.name().to_owned(),
            GraphKind::Complete => "complete graph".to_owned(),
        }
    }

    /// Neighbours of each of so many nodes.
    #[must_use]
    pub fn degree_of(&self, nodes: u32) -> u32 {
        match self.kind {
            GraphKind::Random => self.degree,
            GraphKind::Ring => 2,
            GraphKind::Torus => 4,
            GraphKind::Hypercube => nodes.ilog2(),
            GraphKind::Complete => nodes - 1,
        }
    }

    /// The sides of a torus of so many nodes: as even as it goes, at least 3.
    #[must_use]
    pub fn torus_sides(nodes: u32) -> Option<(u32, u32)> {
        let side = (3..=nodes.isqrt()).rev().find(|side| nodes.is_multiple_of(*side))?;
        Some((side, nodes / side))
    }
}

/// A graph of a number of nodes, with its edges if they were drawn.
#[derive(Clone, Debug)]
pub struct Overlay {
    graph: Graph,
    nodes: u32,
    /// Of a random graph: `degree` neighbours of node 0, then of node 1 and so on.
    drawn: Vec<u32>,
}

impl Overlay {
    /// Draws the edges, if the graph has any that must be drawn.
    ///
    /// # Panics
    ///
    /// If the plan of the graph was not valid.
    #[must_use]
    pub fn new(graph: Graph, nodes: u32, rng: &mut ChaCha8Rng) -> Self {
        let mut drawn = Vec::new();
        if graph.kind == GraphKind::Random {
            while drawn.is_empty() {
                drawn = draw(nodes, graph.degree, rng).unwrap_or_default();
            }
        }
        Self { graph, nodes, drawn }
    }

    /// Puts the neighbours of a node in place of what is in `out`.
    pub fn neighbours(&self, node: u32, out: &mut Vec<u32>) {
        out.clear();
        let nodes = self.nodes;
        match self.graph.kind {
            GraphKind::Random => {
                let degree = self.graph.degree as usize;
                let begin = node as usize * degree;
                out.extend_from_slice(&self.drawn[begin..begin + degree]);
            }
            GraphKind::Ring => out.extend([(node + 1) % nodes, (node + nodes - 1) % nodes]),
            GraphKind::Torus => {
                let (rows, wide) =
                    Graph::torus_sides(nodes).expect("a torus without sides was refused");
                let (row, column) = (node / wide, node % wide);
                out.extend([
                    row * wide + (column + 1) % wide,
                    row * wide + (column + wide - 1) % wide,
                    (row + 1) % rows * wide + column,
                    (row + rows - 1) % rows * wide + column,
                ]);
            }
            GraphKind::Hypercube => out.extend((0..nodes.ilog2()).map(|bit| node ^ (1 << bit))),
            GraphKind::Complete => out.extend((0..nodes).filter(|other| *other != node)),
        }
    }
}

/// Pairs the ends of all edges at random, then swaps the pairs that would be loops or double edges with
/// random others. `None` if that did not help.
fn draw(nodes: u32, degree: u32, rng: &mut ChaCha8Rng) -> Option<Vec<u32>> {
    let mut ends: Vec<u32> = (0..nodes).flat_map(|node| (0..degree).map(move |_| node)).collect();
    ends.shuffle(rng);
    let mut pairs: Vec<(u32, u32)> = ends.chunks_exact(2).map(|two| (two[0], two[1])).collect();
    let mut edges = Edges::new(nodes, degree);
    let mut wrong = Vec::new();
    let mut right = Vec::with_capacity(pairs.len());
    for (a, b) in pairs.drain(..) {
        if edges.insert(a, b) {
            right.push((a, b));
        } else {
            wrong.push((a, b));
        }
    }
    for (a, b) in wrong {
        let mut swapped = false;
        for _ in 0..SWAPS_MAX {
            let place = rng.random_range(0..right.len());
            let (c, d) = right[place];
            let apart = a != c && a != d && b != c && b != d;
            if apart && !edges.has(a, c) && !edges.has(b, d) {
                edges.remove(c, d);
                let both = edges.insert(a, c) && edges.insert(b, d);
                assert!(both, "the new edges {a}-{c} and {b}-{d} were free");
                right[place] = (a, c);
                right.push((b, d));
                swapped = true;
                break;
            }
        }
        if !swapped {
            return None;
        }
    }
    Some(edges.into_flat())
}

/// Edges by node, with room for the same number at each.
struct Edges {
    degree: usize,
    flat: Vec<u32>,
    count: Vec<u32>,
}

impl Edges {
    fn new(nodes: u32, degree: u32) -> Self {
        let (nodes, degree) = (nodes as usize, degree as usize);
        Self { degree, flat: vec![0; nodes * degree], count: vec![0; nodes] }
    }

    fn of(&self, node: u32) -> &[u32] {
        let begin = node as usize * self.degree;
        &self.flat[begin..begin + self.count[node as usize] as usize]
    }

    fn has(&self, a: u32, b: u32) -> bool {
        self.of(a).contains(&b)
    }

    /// Whether the edge could be there and was not.
    fn insert(&mut self, a: u32, b: u32) -> bool {
        if a == b || self.has(a, b) {
            return false;
        }
        for (from, to) in [(a, b), (b, a)] {
            let place = from as usize * self.degree + self.count[from as usize] as usize;
            self.flat[place] = to;
            self.count[from as usize] += 1;
        }
        true
    }

    fn remove(&mut self, a: u32, b: u32) {
        for (from, to) in [(a, b), (b, a)] {
            let place = self.of(from).iter().position(|other| *other == to);
            let place = place.expect("an edge is known at both ends");
            let begin = from as usize * self.degree;
            let last = begin + self.count[from as usize] as usize - 1;
            self.flat.swap(begin + place, last);
            self.count[from as usize] -= 1;
        }
    }

    fn into_flat(self) -> Vec<u32> {
        assert!(self.count.iter().all(|count| *count as usize == self.degree), "an end is free");
        self.flat
    }
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;

    use super::*;

    fn graph(kind: GraphKind, degree: u32) -> Graph {
        Graph { kind, degree }
    }

    #[test]
    fn neighbours_are_mutual_distinct_and_as_many_as_said() {
        let cases = [
            (graph(GraphKind::Random, 3), 10),
            (graph(GraphKind::Random, 5), 12),
            (graph(GraphKind::Random, 4), 1_001),
            (graph(GraphKind::Ring, 0), 3),
            (graph(GraphKind::Ring, 0), 17),
            (graph(GraphKind::Torus, 0), 9),
            (graph(GraphKind::Torus, 0), 35),
            (graph(GraphKind::Hypercube, 0), 64),
            (graph(GraphKind::Complete, 0), 7),
        ];
        let mut rng = ChaCha8Rng::seed_from_u64(3);
        for (graph, nodes) in cases {
            let overlay = Overlay::new(graph, nodes, &mut rng);
            let all: Vec<Vec<u32>> = (0..nodes)
                .map(|node| {
                    let mut of = Vec::new();
                    overlay.neighbours(node, &mut of);
                    of
                })
                .collect();
            for (node, of) in (0..).zip(&all) {
                let mut sorted = of.clone();
                sorted.sort_unstable();
                sorted.dedup();
                assert_eq!(sorted.len(), graph.degree_of(nodes) as usize, "{graph:?} {node}");
                assert!(!of.contains(&node), "{graph:?} {node}");
                for other in of {
                    assert!(all[*other as usize].contains(&node), "{graph:?} {node} {other}");
                }
            }
        }
    }
}
