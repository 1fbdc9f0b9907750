//! A directed graph with labelled edges: its components, its cheapest paths and its short cycles.
//!
//! Components are found by Tarjan's algorithm (Depth-First Search and Linear Graph Algorithms,
//! 1972), with a stack of our own, in O(nodes + edges). A path is found by a breadth-first search
//! in which edges may cost nothing. The shortest cycle of a component is searched from each of its
//! nodes until [`CYCLE_WORK_MAX`] nodes were visited, so in large components it is a short one.

use std::collections::{HashMap, VecDeque};

/// Nodes that the search for a short cycle may visit, after the first cycle was found.
const CYCLE_WORK_MAX: usize = 1_000_000;

/// Nodes are numbers from 0.
pub type Node = u32;

/// An edge: from, label, to.
pub type Edge<L> = (Node, L, Node);

/// A directed graph that no longer changes.
#[derive(Clone, Debug)]
pub struct Graph<L> {
    /// Where the edges of each node start; one more than there are nodes.
    starts: Vec<u32>,
    edges: Vec<(L, Node)>,
}

impl<L: Copy> Graph<L> {
    /// A graph of `nodes` nodes; the order of a node's edges is kept.
    ///
    /// # Panics
    ///
    /// If there are 2^32 edges or more, or an edge names a node that is not there.
    pub fn new(nodes: usize, all: &[Edge<L>]) -> Self {
        assert!(u32::try_from(all.len().max(nodes)).is_ok(), "a graph has fewer than 2^32 edges");
        let mut starts = vec![0_u32; nodes + 1];
        for &(from, _, _) in all {
            starts[from as usize + 1] += 1;
        }
        for node in 0..nodes {
            starts[node + 1] += starts[node];
        }
        let mut free = starts.clone();
        let mut order = vec![0_u32; all.len()];
        for (number, &(from, _, to)) in (0..).zip(all) {
            assert!((to as usize) < nodes, "an edge leads to a node of the graph");
            let place = &mut free[from as usize];
            order[*place as usize] = number;
            *place += 1;
        }
        let edge = |&number: &u32| (all[number as usize].1, all[number as usize].2);
        Self { starts, edges: order.iter().map(edge).collect() }
    }

    /// How many nodes there are.
    pub fn nodes(&self) -> usize {
        self.starts.len() - 1
    }

    /// The edges that leave a node.
    pub fn edges(&self, node: Node) -> &[(L, Node)] {
        let node = node as usize;
        &self.edges[self.starts[node] as usize..self.starts[node + 1] as usize]
    }

    /// All nodes so that each edge leads forward; `None` if there is a cycle.
    pub fn sorted(&self) -> Option<Vec<Node>> {
        let mut open = vec![0_u32; self.nodes()];
        for &(_, to) in &self.edges {
            open[to as usize] += 1;
        }
        let mut order: Vec<Node> =
            (0..).zip(&open).filter(|(_, n)| **n == 0).map(|o| o.0).collect();
        let mut next = 0;
        while next < order.len() {
            for &(_, to) in self.edges(order[next]) {
                open[to as usize] -= 1;
                if open[to as usize] == 0 {
                    order.push(to);
                }
            }
            next += 1;
        }
        (order.len() == self.nodes()).then_some(order)
    }

    /// The components in which there is a cycle of edges that are allowed.
    pub fn components(&self, allowed: impl Fn(L) -> bool) -> Vec<Vec<Node>> {
        let mut search = Tarjan {
            graph: self,
            allowed,
            index: vec![0; self.nodes()],
            low: vec![0; self.nodes()],
            placed: vec![false; self.nodes()],
            stack: Vec::new(),
            found: Vec::new(),
            next: 1,
        };
        for node in (0..).take(self.nodes()) {
            if search.index[node as usize] == 0 {
                search.run(node);
            }
        }
        search.found
    }

    /// The cheapest way from one node to another over at least one edge. `cost` is 0 or 1, or
    /// `None` for edges that may not be used.
    pub fn path(
        &self,
        from: Node,
        to: Node,
        cost: impl Fn(L, Node) -> Option<u32>,
    ) -> Option<Vec<Edge<L>>> {
        self.search(from, to, &cost, u32::MAX, &mut usize::MAX.clone()).map(|(_, path)| path)
    }

    /// A cycle within a component, the cheapest one that the work allows to find.
    pub fn cycle(
        &self,
        component: &[Node],
        cost: impl Fn(L, Node) -> Option<u32>,
    ) -> Option<Vec<Edge<L>>> {
        let mut work = CYCLE_WORK_MAX;
        let mut best: Option<(u32, Vec<Edge<L>>)> = None;
        for &start in component {
            let below = best.as_ref().map_or(u32::MAX, |(cost, _)| *cost);
            let mut left = if best.is_some() { work } else { usize::MAX };
            if left == 0 {
                break;
            }
            if let Some(found) = self.search(start, start, &cost, below, &mut left) {
                best = Some(found);
            }
            work = work.min(left);
        }
        best.map(|(_, cycle)| cycle)
    }

    /// The cheapest way that costs less than `below`, and its cost.
    fn search(
        &self,
        from: Node,
        to: Node,
        cost: &impl Fn(L, Node) -> Option<u32>,
        below: u32,
        work: &mut usize,
    ) -> Option<(u32, Vec<Edge<L>>)> {
        // How each node was reached best: cost, and the edge.
        let mut reached: HashMap<Node, (u32, Node, L)> = HashMap::new();
        let mut queue = VecDeque::from([(0, from)]);
        let mut started = false;
        while let Some((so_far, node)) = queue.pop_front() {
            let at_start = node == from && !started;
            if node == to && !at_start {
                return Some((so_far, walk_back(&reached, from, to)));
            }
            // A node waits more than once if a cheaper way was found meanwhile.
            if !at_start && reached.get(&node).is_some_and(|best| best.0 < so_far) {
                continue;
            }
            started = true;
            *work = work.checked_sub(1)?;
            for &(label, next) in self.edges(node) {
                let Some(price) = cost(label, next) else { continue };
                let total = so_far + price;
                if total >= below || reached.get(&next).is_some_and(|best| best.0 <= total) {
                    continue;
                }
                reached.insert(next, (total, node, label));
                if price == 0 {
                    queue.push_front((total, next));
                } else {
                    queue.push_back((total, next));
                }
            }
        }
        None
    }
}

/// The edges by which a search got from one node to another.
fn walk_back<L: Copy>(
    reached: &HashMap<Node, (u32, Node, L)>,
    from: Node,
    to: Node,
) -> Vec<Edge<L>> {
    let mut path = Vec::new();
    let mut node = to;
    loop {
        let (_, before, label) = reached[&node];
        path.push((before, label, node));
        node = before;
        if node == from {
            path.reverse();
            return path;
        }
    }
}

struct Tarjan<'g, L, F> {
    graph: &'g Graph<L>,
    allowed: F,
    /// Order in which nodes were found, from 1.
    index: Vec<u32>,
    low: Vec<u32>,
    /// Whether a node's component is known.
    placed: Vec<bool>,
    stack: Vec<Node>,
    found: Vec<Vec<Node>>,
    next: u32,
}

impl<L: Copy, F: Fn(L) -> bool> Tarjan<'_, L, F> {
    fn run(&mut self, root: Node) {
        // Nodes under way, each with the number of edges already followed.
        let mut calls = vec![(root, 0)];
        self.enter(root);
        while let Some((node, followed)) = calls.last_mut() {
            let node = *node;
            let Some(&(label, to)) = self.graph.edges(node).get(*followed) else {
                calls.pop();
                if let Some((parent, _)) = calls.last() {
                    let parent = *parent as usize;
                    self.low[parent] = self.low[parent].min(self.low[node as usize]);
                }
                self.leave(node);
                continue;
            };
            *followed += 1;
            if !(self.allowed)(label) || self.placed[to as usize] {
                continue;
            }
            if self.index[to as usize] == 0 {
                self.enter(to);
                calls.push((to, 0));
            } else {
                let node = node as usize;
                self.low[node] = self.low[node].min(self.index[to as usize]);
            }
        }
    }

    fn enter(&mut self, node: Node) {
        self.index[node as usize] = self.next;
        self.low[node as usize] = self.next;
        self.next += 1;
        self.stack.push(node);
    }

    /// All of a node's edges were followed.
    fn leave(&mut self, node: Node) {
        if self.low[node as usize] != self.index[node as usize] {
            return;
        }
        let mut component = Vec::new();
        loop {
            let member = self.stack.pop().expect("a component ends at its first node");
            self.placed[member as usize] = true;
            component.push(member);
            if member == node {
                break;
            }
        }
        let edges = self.graph.edges(node).iter();
        let to_itself = || edges.clone().any(|&(label, to)| to == node && (self.allowed)(label));
        if component.len() > 1 || to_itself() {
            component.sort_unstable();
            self.found.push(component);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn graph(edges: &[(Node, char, Node)]) -> Graph<char> {
        Graph::new(8, edges)
    }

    #[test]
    fn components_are_those_with_cycles() {
        let edges = [(0, 'a', 1), (1, 'a', 2), (2, 'b', 0), (2, 'a', 3), (3, 'a', 4), (5, 'a', 5)];
        assert_eq!(graph(&edges).components(|_| true), [vec![0, 1, 2], vec![5]]);
        assert_eq!(graph(&edges).components(|label| label == 'a'), [vec![5]]);
        assert!(graph(&edges).sorted().is_none());
        let order = graph(&edges[3..5]).sorted().unwrap();
        let at = |node| order.iter().position(|&n| n == node).unwrap();
        assert!(order.len() == 8 && at(2) < at(3) && at(3) < at(4));
    }

    #[test]
    fn the_cheapest_cycle_is_found() {
        let edges = [
            (0, 'a', 1),
            (1, 'a', 2),
            (2, 'a', 3),
            (3, 'a', 0),
            (2, 'a', 6),
            (6, 'a', 2),
            (0, 'z', 4),
            (4, 'z', 5),
            (5, 'z', 0),
        ];
        let cost = |label, _| Some(u32::from(label != 'z'));
        let graph = graph(&edges);
        let [component] = &graph.components(|_| true)[..] else { panic!("one component") };
        assert_eq!(graph.cycle(component, cost).unwrap(), edges[6..]);
        let without = |label, _| (label != 'z').then_some(1);
        assert_eq!(graph.cycle(component, without).unwrap(), edges[4..6]);
        assert_eq!(graph.path(0, 6, cost).unwrap(), [edges[0], edges[1], edges[4]]);
        assert_eq!(graph.path(7, 0, cost), None);
    }
}
