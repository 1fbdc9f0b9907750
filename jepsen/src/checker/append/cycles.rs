//! Transactions that must come before one another, and the cycles among them.

use std::collections::{BTreeSet, HashMap};

use super::Respects;
use super::lists::Lists;
use super::txn::{Element, Micro, Transactions};
use crate::checker::graph::{Edge, Graph, Node};
use crate::checker::stop::Stop;
use crate::operation::{Operation, Outcome};

/// Transactions that the search for a cycle with a single rw edge may try to start from; each try
/// walks through a component at most.
pub const SINGLE_WORK_MAX: usize = 256;

/// Why a transaction must come before another one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Must {
    /// It appended `.1` before the other one appended `.2`.
    Ww(u32, Element, Element),
    /// The other one read the element that it appended.
    Wr(u32, Element),
    /// It did not see the element that the other one appended.
    Rw(u32, Element),
    /// Its process did it before.
    Process,
    /// It returned before the other one was called.
    RealTime,
    /// Part of a reason that began with another edge.
    Further,
}

/// Which edges a kind of cycle may have.
#[derive(Clone, Copy)]
struct Allowed {
    reads: bool,
    anti: bool,
    respects: Respects,
}

impl Allowed {
    fn edge(self, must: Must) -> bool {
        match must {
            Must::Ww(..) | Must::Further => true,
            Must::Wr(..) => self.reads,
            Must::Rw(..) => self.anti,
            Must::Process => self.respects >= Respects::Processes,
            Must::RealTime => self.respects == Respects::RealTime,
        }
    }

    fn cost(self, must: Must) -> Option<u32> {
        self.edge(must).then_some(u32::from(must != Must::Further))
    }
}

/// Finds the worst cycle.
pub fn check(txns: &Transactions<'_>, lists: &Lists, respects: Respects) -> Result<(), Stop> {
    let edges = Edges::new(txns, lists, respects);
    let graph = Graph::new(edges.nodes, &edges.edges);
    let search = Search { txns, lists, edges: &edges, graph: &graph };
    if graph.sorted().is_some() {
        return Ok(());
    }
    let all = [Respects::Nothing, Respects::Processes, Respects::RealTime];
    for respects in all.into_iter().filter(|&one| one <= respects) {
        for (reads, anti) in [(false, false), (true, false), (true, true)] {
            search.run(Allowed { reads, anti, respects })?;
        }
    }
    unreachable!("a graph without an order of its nodes has a cycle of its edges")
}

/// The edges between transactions; further nodes stand for moments and for open orders.
struct Edges<'t, 'h> {
    txns: &'t Transactions<'h>,
    nodes: usize,
    edges: Vec<Edge<Must>>,
}

impl<'t, 'h> Edges<'t, 'h> {
    fn new(txns: &'t Transactions<'h>, lists: &Lists, respects: Respects) -> Self {
        let mut edges = Self { txns, nodes: txns.txns.len(), edges: Vec::new() };
        let unseen = edges.unseen();
        edges.writes(lists);
        edges.reads(lists);
        for (key, appended) in &unseen {
            edges.after_all(*key, appended, lists);
        }
        if respects >= Respects::Processes {
            edges.processes();
        }
        if respects == Respects::RealTime {
            edges.real_time();
        }
        edges
    }

    fn add(&mut self, from: Node, must: Must, to: Node) {
        if from != to {
            self.edges.push((from, must, to));
        }
    }

    /// Whether a transaction took place.
    fn happened(&self, number: u32) -> bool {
        let txn = self.txns.txn(number);
        match txn.operation.outcome {
            Outcome::Ok => true,
            Outcome::Fail => false,
            Outcome::Info => txn.steps.iter().any(|step| match step {
                Micro::Append { element, .. } => self.txns.origins[*element as usize].seen,
                Micro::Read { .. } => false,
            }),
        }
    }

    /// For each key the appends that took place and that nobody saw, one for each transaction.
    fn unseen(&self) -> Vec<(u32, Vec<(u32, Element)>)> {
        let mut unseen: HashMap<u32, Vec<(u32, Element)>> = HashMap::new();
        for number in (0..).take(self.txns.txns.len()).filter(|&number| self.happened(number)) {
            for step in &self.txns.txn(number).steps {
                let &Micro::Append { key, element } = step else { continue };
                if self.txns.origins[element as usize].seen {
                    continue;
                }
                let appended = unseen.entry(key).or_default();
                if appended.last().is_none_or(|&(txn, _)| txn != number) {
                    appended.push((number, element));
                }
            }
        }
        let mut unseen: Vec<_> = unseen.into_iter().collect();
        unseen.sort_unstable_by_key(|&(key, _)| key);
        unseen
    }

    /// The writer of an element that was seen.
    fn writer(&self, element: Element) -> u32 {
        self.txns.writer(element).expect("elements that nobody appended were found before")
    }

    /// From one element that was seen to the next.
    fn writes(&mut self, lists: &Lists) {
        for (key, longest) in (0..).zip(&lists.longest) {
            for pair in longest.list.windows(2) {
                let must = Must::Ww(key, pair[0], pair[1]);
                self.add(self.writer(pair[0]), must, self.writer(pair[1]));
            }
        }
    }

    /// From the writer of what was read to its reader, and from there to the next writer.
    fn reads(&mut self, lists: &Lists) {
        for sight in &lists.sights {
            let list = &lists.longest[sight.key as usize].list;
            if let Some(last) = sight.length.checked_sub(1) {
                let element = list[last];
                self.add(self.writer(element), Must::Wr(sight.key, element), sight.txn);
            }
            if let Some(&next) = list.get(sight.length) {
                self.add(sight.txn, Must::Rw(sight.key, next), self.writer(next));
            }
        }
    }

    /// What nobody saw comes after all that was seen and after those who saw all that.
    ///
    /// Such appends, numbered, get two chains of nodes: one leads to each append from a number on,
    /// the other to each one up to a number. Who made one of them himself enters both beside it.
    fn after_all(&mut self, key: u32, appended: &[(u32, Element)], lists: &Lists) {
        let list = &lists.longest[key as usize].list;
        let own: HashMap<u32, usize> =
            appended.iter().enumerate().map(|(number, &(txn, _))| (txn, number)).collect();
        let count = appended.len();
        let (from, upto) = (self.nodes, self.nodes + count);
        self.nodes += 2 * count;
        for (number, &(txn, _)) in appended.iter().enumerate() {
            self.add(node(from + number), Must::Further, txn);
            self.add(node(upto + number), Must::Further, txn);
            if number + 1 < count {
                self.add(node(from + number), Must::Further, node(from + number + 1));
                self.add(node(upto + number + 1), Must::Further, node(upto + number));
            }
        }
        let txns = self.txns;
        let mut enter = |txn: u32, must: Must| match own.get(&txn) {
            None => self.add(txn, must, node(from)),
            Some(&number) => {
                if number + 1 < count {
                    self.add(txn, must, node(from + number + 1));
                }
                if number > 0 {
                    self.add(txn, must, node(upto + number - 1));
                }
            }
        };
        let any = appended[0].1;
        if let Some(&last) = list.last() {
            let writer = txns.writer(last).expect("unexpected elements were found before");
            enter(writer, Must::Ww(key, last, any));
        }
        for sight in lists.sights_of(key).filter(|sight| sight.length == list.len()) {
            enter(sight.txn, Must::Rw(key, any));
        }
    }

    /// From each transaction that is known to have ended to the next ones of its process.
    fn processes(&mut self) {
        let txns = self.txns;
        let mut order: Vec<u32> =
            (0..).take(txns.txns.len()).filter(|&number| self.happened(number)).collect();
        let operation = |number: u32| txns.txn(number).operation;
        order.sort_by_key(|&n| (operation(n).process, operation(n).invoke_ns, n));
        let mut last: Option<u32> = None;
        for number in order {
            if let Some(before) =
                last.filter(|&n| operation(n).process == operation(number).process)
            {
                self.edges.push((before, Must::Process, number));
            }
            if operation(number).outcome == Outcome::Ok {
                last = Some(number);
            }
        }
    }

    /// From each transaction to all that were called after its return, by way of a chain of nodes
    /// that stand for the returns in their order.
    fn real_time(&mut self) {
        let operation = |number: u32| self.txns.txn(number).operation;
        let happened: Vec<u32> =
            (0..).take(self.txns.txns.len()).filter(|&number| self.happened(number)).collect();
        let mut returns: Vec<u32> = happened
            .iter()
            .copied()
            .filter(|&number| operation(number).outcome == Outcome::Ok)
            .collect();
        returns.sort_by_key(|&number| (operation(number).end_ns(), number));
        let first = self.nodes;
        self.nodes += returns.len();
        for (moment, &number) in returns.iter().enumerate() {
            self.edges.push((number, Must::RealTime, node(first + moment)));
            if moment > 0 {
                self.edges.push((node(first + moment - 1), Must::Further, node(first + moment)));
            }
        }
        for number in happened {
            let called = operation(number).invoke_ns;
            let before = returns.partition_point(|&other| operation(other).end_ns() < called);
            if let Some(last) = before.checked_sub(1) {
                self.edges.push((node(first + last), Must::Further, number));
            }
        }
    }
}

fn node(number: usize) -> Node {
    Node::try_from(number).expect("there are fewer than 2^32 nodes")
}

struct Search<'s, 't, 'h> {
    txns: &'t Transactions<'h>,
    lists: &'s Lists,
    edges: &'s Edges<'t, 'h>,
    graph: &'s Graph<Must>,
}

impl<'h> Search<'_, '_, 'h> {
    /// Reports a cycle of edges that are allowed.
    fn run(&self, allowed: Allowed) -> Result<(), Stop> {
        let components = self.graph.components(|must| allowed.edge(must));
        let Some(smallest) = components.iter().min_by_key(|component| component.len()) else {
            return Ok(());
        };
        let mut cycle = None;
        if allowed.anti {
            cycle = components.iter().find_map(|component| self.single(component, allowed));
        }
        let any = || self.graph.cycle(smallest, |must, _| allowed.cost(must));
        let cycle = cycle.or_else(any).expect("a component has a cycle");
        Err(self.report(&cycle, allowed.respects))
    }

    /// A cycle with one rw edge.
    fn single(&self, component: &[Node], allowed: Allowed) -> Option<Vec<Edge<Must>>> {
        let inside: BTreeSet<Node> = component.iter().copied().collect();
        let without = Allowed { anti: false, ..allowed };
        let anti = component.iter().flat_map(|&from| {
            let edges = self.graph.edges(from).iter();
            edges.filter_map(move |&(must, to)| {
                matches!(must, Must::Rw(..)).then_some((from, must, to))
            })
        });
        let mut best: Option<Vec<Edge<Must>>> = None;
        for edge in anti.filter(|(_, _, to)| inside.contains(to)).take(SINGLE_WORK_MAX) {
            let way = self.graph.path(edge.2, edge.0, |must, to| {
                without.cost(must).filter(|_| inside.contains(&to))
            });
            if let Some(way) = way
                && best.as_ref().is_none_or(|best| way.len() + 1 < best.len())
            {
                best = Some(std::iter::once(edge).chain(way).collect());
            }
        }
        best
    }

    fn report(&self, cycle: &[Edge<Must>], respects: Respects) -> Stop {
        let steps = self.between_transactions(cycle);
        let name = name(&steps, respects);
        let mut names: HashMap<u32, usize> = HashMap::new();
        for &(from, _, _) in &steps {
            let next = names.len() + 1;
            names.entry(from).or_insert(next);
        }
        let listed: Vec<String> = steps
            .iter()
            .map(|&(from, _, _)| {
                let Operation { process, invoke_ns, .. } = self.txns.txn(from).operation;
                format!("T{} (of process {process}, called at {invoke_ns} ns)", names[&from])
            })
            .collect();
        let sentences: Vec<String> = steps
            .iter()
            .map(|&(from, must, to)| {
                let (from, to) = (format!("T{}", names[&from]), format!("T{}", names[&to]));
                self.sentence(&from, must, &to)
            })
            .collect();
        let why = format!("{name}: {}: {}", listed.join(", "), sentences.join("; "));
        let key = steps.iter().find_map(|&(_, must, _)| self.key(must)).unwrap_or("");
        let places = steps.iter().flat_map(|&(from, must, _)| {
            let shown = match must {
                Must::Ww(key, _, _) | Must::Rw(key, _) => self.lists.longest[key as usize].reader,
                Must::Wr(..) | Must::Process | Must::RealTime | Must::Further => None,
            };
            [Some(from), shown].into_iter().flatten().map(|txn| self.txns.txn(txn).place)
        });
        Stop::broken(key, why, places.collect::<Vec<_>>())
    }

    /// A cycle without its further nodes. Which of the unseen appends of a key an edge means is
    /// known from where it leads.
    fn between_transactions(&self, cycle: &[Edge<Must>]) -> Vec<Edge<Must>> {
        let start = cycle.iter().position(|edge| (edge.0 as usize) < self.txns.txns.len());
        let start = start.expect("further nodes alone make no cycle");
        let mut steps: Vec<Edge<Must>> = Vec::new();
        for &(from, must, to) in cycle[start..].iter().chain(&cycle[..start]) {
            match steps.last_mut() {
                Some(last) if must == Must::Further => last.2 = to,
                _ => steps.push((from, must, to)),
            }
        }
        for (_, must, to) in &mut steps {
            let appended = |key: u32, said: Element| {
                if self.edges.writer(said) == *to {
                    return said;
                }
                let steps = self.txns.txn(*to).steps.iter();
                let mut unseen = steps.filter_map(|step| match *step {
                    Micro::Append { key: of, element } => (of == key).then_some(element),
                    Micro::Read { .. } => None,
                });
                unseen.find(|&e| !self.txns.origins[e as usize].seen).unwrap_or(said)
            };
            *must = match *must {
                Must::Ww(key, before, said) => Must::Ww(key, before, appended(key, said)),
                Must::Rw(key, said) => Must::Rw(key, appended(key, said)),
                other => other,
            };
        }
        steps
    }

    fn key(&self, must: Must) -> Option<&'h str> {
        match must {
            Must::Ww(key, _, _) | Must::Wr(key, _) | Must::Rw(key, _) => {
                Some(self.txns.keys[key as usize])
            }
            Must::Process | Must::RealTime | Must::Further => None,
        }
    }

    fn sentence(&self, from: &str, must: Must, to: &str) -> String {
        let value = |element| self.txns.value(element);
        let key = self.key(must).unwrap_or("");
        match must {
            Must::Ww(_, before, after) => format!(
                "{from} appended {} to key {key:?} before {to} appended {}",
                value(before),
                value(after)
            ),
            Must::Wr(_, element) => {
                format!("{to} read {} in key {key:?}, which {from} appended", value(element))
            }
            Must::Rw(_, element) => {
                format!("{from} did not see {} in key {key:?}, which {to} appended", value(element))
            }
            Must::Process => format!("{from} came before {to} in their process"),
            Must::RealTime | Must::Further => format!("{from} returned before {to} was called"),
        }
    }
}

/// The name of a cycle by its edges.
fn name(steps: &[Edge<Must>], respects: Respects) -> String {
    let anti = steps.iter().filter(|step| matches!(step.1, Must::Rw(..))).count();
    let reads = steps.iter().any(|step| matches!(step.1, Must::Wr(..)));
    let suffix = match respects {
        _ if steps.iter().any(|step| step.1 == Must::RealTime) => "-realtime",
        _ if steps.iter().any(|step| step.1 == Must::Process) => "-process",
        Respects::Nothing | Respects::Processes | Respects::RealTime => "",
    };
    let lost = match steps {
        [(_, Must::Rw(one, _), _), (_, Must::Ww(other, _, _), _)]
        | [(_, Must::Ww(one, _, _), _), (_, Must::Rw(other, _), _)] => one == other,
        _ => false,
    };
    let name = match anti {
        0 if !reads => "G0",
        0 => "G1c",
        1 if lost => "lost update (G-single)",
        1 => "G-single",
        _ => "G2-item",
    };
    format!("{name}{suffix}")
}
