//! The operations of a history as the causal checkers see them.

use std::collections::HashMap;

use crate::checker::graph::Node;
use crate::checker::stop::Stop;
use crate::checker::versions::{Versions, unwritten};
use crate::operation::{Operation, Outcome};
use crate::value::Value;

/// Where what a read returned came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reads {
    /// Nothing had been written.
    Absence,
    /// This write.
    From(Node),
}

/// One read or write that happened.
#[derive(Clone, Copy, Debug)]
pub struct Act {
    /// Its place in the history.
    pub place: usize,
    /// Its process, counted from 0.
    pub session: u32,
    /// How many acts its process did before.
    pub position: u32,
    /// Its key, counted from 0.
    key: u32,
    /// Of a read: of what. `None`: it writes.
    pub reads: Option<Reads>,
}

/// All acts, process by process and in the order of each.
#[derive(Debug)]
pub struct Acts<'h> {
    /// The history that they come from.
    pub history: &'h [Operation],
    /// The acts; their numbers are nodes of graphs.
    pub acts: Vec<Act>,
    /// The first act of each process, and the number of all.
    pub starts: Vec<Node>,
    /// For each key and process the writes, in its order; sorted by process.
    writes: Vec<Vec<(u32, Vec<Node>)>>,
}

impl<'h> Acts<'h> {
    /// The acts of a history. Broken if a read returned what nobody wrote.
    pub fn new(history: &'h [Operation]) -> Result<Self, Stop> {
        assert!(u32::try_from(history.len()).is_ok(), "a history has fewer than 2^32 operations");
        let writers = Writers::new(history)?;
        let mut keys: HashMap<&str, u32> = HashMap::new();
        let mut acts: Vec<Act> = Vec::new();
        let mut starts = Vec::new();
        let mut number = vec![None; history.len()];
        for places in Versions::sessions(history) {
            let start = node(acts.len());
            let session = node(starts.len());
            for place in places {
                let operation = &history[place];
                let happened = match operation.outcome {
                    Outcome::Ok => true,
                    Outcome::Info => writers.was_read(place),
                    Outcome::Fail => false,
                };
                if happened {
                    let count = node(keys.len());
                    let key = *keys.entry(&operation.key).or_insert(count);
                    number[place] = Some(node(acts.len()));
                    let position = node(acts.len()) - start;
                    acts.push(Act { place, session, position, key, reads: None });
                }
            }
            starts.push(start);
        }
        starts.push(node(acts.len()));
        for act in &mut acts {
            let operation = &history[act.place];
            if operation.function.writes() {
                continue;
            }
            act.reads = Some(match writers.of(history, act.place)? {
                None => Reads::Absence,
                Some(write) => Reads::From(number[write].expect("a write that was read is an act")),
            });
        }
        let mut writes: Vec<Vec<(u32, Vec<Node>)>> = vec![Vec::new(); keys.len()];
        for (number, act) in (0..).zip(&acts).filter(|(_, act)| act.reads.is_none()) {
            let sessions = &mut writes[act.key as usize];
            match sessions.last_mut().filter(|(session, _)| *session == act.session) {
                Some((_, writes)) => writes.push(number),
                None => sessions.push((act.session, vec![number])),
            }
        }
        Ok(Self { history, acts, starts, writes })
    }

    /// How many processes there are.
    pub fn sessions(&self) -> usize {
        self.starts.len() - 1
    }

    /// An act by its number.
    pub fn act(&self, node: Node) -> &Act {
        &self.acts[node as usize]
    }

    /// The operation of an act.
    pub fn operation(&self, node: Node) -> &'h Operation {
        &self.history[self.act(node).place]
    }

    /// All reads.
    pub fn reads(&self) -> impl Iterator<Item = (Node, Reads)> {
        (0..).zip(&self.acts).filter_map(|(node, act)| Some((node, act.reads?)))
    }

    /// Of each process that writes the key of `act` the last such write among its first acts, of
    /// which `first` says how many.
    pub fn newest_writes(
        &self,
        act: Node,
        first: impl Fn(u32) -> u32,
    ) -> impl Iterator<Item = Node> {
        let sessions = &self.writes[self.act(act).key as usize];
        sessions.iter().filter_map(move |(session, writes)| {
            let end = self.starts[*session as usize] + first(*session);
            let before = writes.partition_point(|&write| write < end);
            Some(writes[before.checked_sub(1)?])
        })
    }
}

/// A number of things as the number of a node.
fn node(count: usize) -> Node {
    Node::try_from(count)
        .expect("there are fewer acts than operations, and fewer than 2^32 of those")
}

/// Who wrote what.
struct Writers<'h> {
    /// By key and value.
    writes: HashMap<(&'h str, &'h Value), usize>,
    read: Vec<bool>,
}

impl<'h> Writers<'h> {
    fn new(history: &'h [Operation]) -> Result<Self, Stop> {
        let mut writes = HashMap::new();
        for (place, operation) in history.iter().enumerate() {
            if !operation.function.writes() || operation.outcome == Outcome::Fail {
                continue;
            }
            let key = operation.key.as_str();
            let Some(value) = &operation.value else {
                return Err(Stop::Unjudged(format!("{operation} writes absence")));
            };
            if writes.insert((key, value), place).is_some() {
                let why = format!("key {key:?}: the value {value} is written more than once");
                return Err(Stop::Unjudged(why));
            }
        }
        let mut read = vec![false; history.len()];
        for operation in history {
            if !operation.function.writes()
                && operation.outcome == Outcome::Ok
                && let Some(value) = &operation.value
                && let Some(&write) = writes.get(&(operation.key.as_str(), value))
            {
                read[write] = true;
            }
        }
        Ok(Self { writes, read })
    }

    fn was_read(&self, write: usize) -> bool {
        self.read[write]
    }

    /// The write of what a successful read returned; `None` for absence.
    fn of(&self, history: &'h [Operation], read: usize) -> Result<Option<usize>, Stop> {
        let operation = &history[read];
        let Some(value) = &operation.value else { return Ok(None) };
        let write = self.writes.get(&(operation.key.as_str(), value)).copied();
        write.map(Some).ok_or_else(|| {
            let failed = |place: &usize| {
                let other = &history[*place];
                other.outcome == Outcome::Fail
                    && other.function.writes()
                    && other.key == operation.key
            };
            let failed: Vec<usize> = (0..history.len()).filter(failed).collect();
            unwritten(history, read, &failed)
        })
    }
}
