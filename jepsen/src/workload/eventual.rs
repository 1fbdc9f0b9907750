//! Eventual keyspaces: clients that talk to one node alone, move to another one now and then, and carry what they
//! have seen of a key there.
//!
//! Three kinds of keys, each in generations, so that a key is not written for ever and old ones are met again:
//!
//! | key | keyspace | writes |
//! |---|---|---|
//! | `s/..` | `lab-siblings` | with the token of what the client last saw of the key, at whatever node; or beside everything |
//! | `b/..` | `lab-siblings` | without a token: they replace what the node holds that takes them, which nobody knows |
//! | `lww/..` | `lab-lww` | with a token or without; the last writer wins |
//!
//! A quarter of the writes wait for a quorum. At the end each key is read at each node until all nodes say the same.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use client::{Client, ClientError};
use proto::v1::keyspace::{Kind, Policy};
use proto::{Code, v1};
use rand::RngExt;

use super::causal_calls::{Answer, CausalCalls, Over, Seen, get_request, options};
use super::script::{Hand, Script, Step, answered};
use crate::checker::convergence::LWW_PREFIX;
use crate::value::Value;

/// The keyspace that shows siblings.
const SIBLINGS: &str = "lab-siblings";

/// The keyspace whose last writer wins.
const LWW: &str = "lab-lww";

/// Writes of all clients for which a generation of keys is the newest.
const GENERATION_WRITES: u64 = 150;

/// Generations before the newest one that are still used.
const GENERATIONS_BACK: u64 = 3;

/// Which keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sort {
    Siblings,
    Blind,
    Newest,
}

impl Sort {
    const ALL: [Self; 3] = [Self::Siblings, Self::Blind, Self::Newest];

    fn key(self, generation: u64, number: usize) -> String {
        let prefix = match self {
            Self::Siblings => "s/",
            Self::Blind => "b/",
            Self::Newest => LWW_PREFIX,
        };
        format!("{prefix}{generation}/{number}")
    }

    const fn keyspace(self) -> &'static str {
        match self {
            Self::Siblings | Self::Blind => SIBLINGS,
            Self::Newest => LWW,
        }
    }
}

/// One process.
#[derive(Debug)]
pub struct Eventual {
    /// Keys of each sort in a generation.
    keys: usize,
    /// The next value; all processes take from it, so that no value is written twice.
    next: Arc<AtomicU64>,
    /// The node that it talks to; `None` before its first operation.
    at: Option<usize>,
    /// Names of the nodes, as far as they have said them.
    names: BTreeMap<usize, String>,
    /// What it last saw of each key.
    seen: HashMap<String, Seen>,
}

impl Eventual {
    /// A process that has seen nothing.
    pub fn new(keys: usize, next: Arc<AtomicU64>) -> Self {
        Self { keys, next, at: None, names: BTreeMap::new(), seen: HashMap::new() }
    }
}

impl Script for Eventual {
    fn prepare<'s>(&'s mut self, hand: &'s mut Hand) -> Step<'s> {
        Box::pin(async move {
            for (name, policy) in [(SIBLINGS, Policy::Siblings), (LWW, Policy::Lww)] {
                let keyspace = v1::Keyspace {
                    name: name.to_owned(),
                    kind: Kind::Eventual as i32,
                    policy: policy as i32,
                    ..v1::Keyspace::default()
                };
                match hand.client.keyspaces().create_as(keyspace, &options()).await {
                    Ok(_) => {}
                    Err(error) if error.code() == Code::KeyspaceExists => {}
                    Err(_) => return false,
                }
            }
            // Each node hears of it by itself, and takes writes then.
            for client in &hand.each {
                for keyspace in [SIBLINGS, LWW] {
                    let request = get_request(keyspace, "s/0/0");
                    if client.get(request, &options()).await.is_err() {
                        return false;
                    }
                }
            }
            true
        })
    }

    fn step<'s>(&'s mut self, hand: &'s mut Hand) -> Step<'s> {
        Box::pin(async move {
            if self.at.is_none() || hand.rng.random_bool(0.1) {
                self.at = Some(hand.rng.random_range(0..hand.each.len()));
            }
            let sort = match hand.rng.random_range(0..100) {
                0..65 => Sort::Siblings,
                65..75 => Sort::Blind,
                _ => Sort::Newest,
            };
            let key = self.random_key(hand, sort);
            match hand.rng.random_range(0..100) {
                0..45 => self.read(hand, sort, key).await,
                45..82 => self.put(hand, sort, key).await,
                _ => self.delete(hand, sort, key).await,
            }
        })
    }

    fn looks(&self) -> usize {
        let generations = usize::try_from(self.generation()).expect("a run is short") + 1;
        generations * self.keys * Sort::ALL.len()
    }

    /// Reads a key at all nodes; false if they do not all say the same.
    fn look<'s>(&'s mut self, hand: &'s mut Hand, number: usize) -> Step<'s> {
        Box::pin(async move {
            let sort = Sort::ALL[number % Sort::ALL.len()];
            let number = number / Sort::ALL.len();
            let generation = (number / self.keys) as u64;
            let key = sort.key(generation, number % self.keys);
            let mut shown: Option<Vec<Option<Value>>> = None;
            let mut agreed = true;
            for node in 0..hand.each.len() {
                self.at = Some(node);
                self.read(hand, sort, key.clone()).await;
                // Who refuses has shown nothing.
                let Some(Seen { mut values, .. }) = self.seen.remove(&key) else {
                    agreed = false;
                    continue;
                };
                values.sort();
                agreed &= *shown.get_or_insert_with(|| values.clone()) == values;
            }
            agreed
        })
    }
}

impl Eventual {
    /// The newest generation of keys.
    fn generation(&self) -> u64 {
        self.next.load(Ordering::Relaxed) / GENERATION_WRITES
    }

    fn random_key(&self, hand: &mut Hand, sort: Sort) -> String {
        let newest = self.generation();
        let back =
            if hand.rng.random_bool(0.8) { 0 } else { hand.rng.random_range(1..=GENERATIONS_BACK) };
        sort.key(newest.saturating_sub(back), hand.rng.random_range(0..self.keys))
    }

    fn node(&self) -> usize {
        self.at.expect("a node is chosen before anything is asked")
    }

    /// The calls of a sort of keys at the node that it talks to.
    fn calls<'c>(&'c self, each: &'c [Client], sort: Sort) -> CausalCalls<'c> {
        let number = self.node();
        let node = self.names.get(&number).map(String::as_str);
        CausalCalls { client: &each[number], node, keyspace: sort.keyspace() }
    }

    async fn read(&mut self, hand: &mut Hand, sort: Sort, key: String) -> bool {
        let calls = self.calls(&hand.each, sort);
        let reply = calls.read(&mut hand.process, &key).await;
        match reply {
            Ok(answer) => {
                if let Some(answer) = answer {
                    self.learn(key, answer);
                }
                true
            }
            Err(error) => answered(&error),
        }
    }

    async fn put(&mut self, hand: &mut Hand, sort: Sort, key: String) -> bool {
        let value = self.next.fetch_add(1, Ordering::Relaxed).to_string();
        let over = self.basis(hand, sort, &key);
        let ack = ack(hand);
        let calls = self.calls(&hand.each, sort);
        let reply = calls.put(&mut hand.process, &key, &value, over, ack).await;
        self.written(key, reply)
    }

    /// Deletes what the client has seen of a key, or where it has no choice what the node holds. Without anything
    /// seen it reads instead.
    async fn delete(&mut self, hand: &mut Hand, sort: Sort, key: String) -> bool {
        let seen = match self.basis(hand, sort, &key) {
            Over::Seen(seen) => Some(seen),
            Over::Held => None,
            Over::Nothing => return self.read(hand, sort, key).await,
        };
        let ack = ack(hand);
        let calls = self.calls(&hand.each, sort);
        let reply = calls.delete(&mut hand.process, &key, seen, ack).await;
        self.written(key, reply)
    }

    /// What a write of a key is to replace.
    fn basis(&self, hand: &mut Hand, sort: Sort, key: &str) -> Over<'_> {
        let seen = self.seen.get(key).filter(|seen| !seen.token.is_empty());
        match (sort, seen) {
            (Sort::Siblings | Sort::Newest, Some(seen)) if hand.rng.random_bool(0.8) => {
                Over::Seen(seen)
            }
            (Sort::Siblings, _) => Over::Nothing,
            (Sort::Blind | Sort::Newest, _) => Over::Held,
        }
    }

    /// Takes note of what became of a write. False if nobody answered.
    fn written(&mut self, key: String, reply: Result<Answer, ClientError>) -> bool {
        match reply {
            Ok(answer) => {
                self.learn(key, answer);
                true
            }
            Err(error) => {
                // A token that is refused once would be refused again.
                self.seen.remove(&key);
                answered(&error)
            }
        }
    }

    fn learn(&mut self, key: String, answer: Answer) {
        let node = self.node();
        if let Some(name) = answer.node {
            self.names.insert(node, name);
        }
        self.seen.insert(key, answer.seen);
    }
}

fn ack(hand: &mut Hand) -> v1::Ack {
    if hand.rng.random_bool(0.25) { v1::Ack::Quorum } else { v1::Ack::One }
}
