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

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use client::{CallOptions, ClientError};
use proto::{Code, v1};
use rand::RngExt;

use super::script::{Hand, Script, Step, answered, read_failed, write_failed};
use crate::checker::convergence::LWW_PREFIX;
use crate::operation::{Call, Causal, Operation};
use crate::recorder::Open;
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

/// What a client last saw of a key.
#[derive(Clone, Debug)]
struct Seen {
    values: Vec<Option<Value>>,
    token: Bytes,
}

/// One process.
#[derive(Debug)]
pub struct Eventual {
    /// Keys of each sort in a generation.
    pub keys: usize,
    /// The next value; all processes take from it, so that no value is written twice.
    pub next: Arc<AtomicU64>,
    /// The node that it talks to; `None` before its first operation.
    pub at: Option<usize>,
    /// Names of the nodes, as far as they have said them.
    pub names: BTreeMap<usize, String>,
    seen: HashMap<String, Seen>,
}

impl Eventual {
    /// A process that has seen nothing.
    pub fn new(keys: usize, next: Arc<AtomicU64>) -> Self {
        Self { keys, next, at: None, names: BTreeMap::new(), seen: HashMap::new() }
    }
}

/// Options of all calls: nothing is remembered by the client, so that what a write replaces is what it says.
fn options() -> CallOptions {
    CallOptions { remember: Some(false), ..CallOptions::default() }
}

fn policy(keyspace: &str) -> v1::keyspace::Policy {
    match keyspace {
        LWW => v1::keyspace::Policy::Lww,
        _ => v1::keyspace::Policy::Siblings,
    }
}

impl Script for Eventual {
    fn prepare<'s>(&'s mut self, hand: &'s mut Hand) -> Step<'s> {
        Box::pin(async move {
            for name in [SIBLINGS, LWW] {
                let keyspace = v1::Keyspace {
                    name: name.to_owned(),
                    kind: v1::keyspace::Kind::Eventual as i32,
                    policy: policy(name) as i32,
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
                agreed &= self.read(hand, sort, key.clone()).await;
                let mut values = self.seen.remove(&key).map(|seen| seen.values).unwrap_or_default();
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

    async fn read(&mut self, hand: &mut Hand, sort: Sort, key: String) -> bool {
        let node = self.node();
        let mut open = hand.process.invoke(Call::read(&key));
        self.note(&mut open, "eventual");
        let request = get_request(sort.keyspace(), &key);
        match hand.each[node].get(request, &options()).await {
            Ok(reply) if reply.more > 0 => {
                // What was not shown cannot be judged.
                open.fail("more siblings than one reply holds");
                true
            }
            Ok(reply) => {
                let values: Vec<Option<Value>> = reply.siblings.iter().map(value).collect();
                let dots = reply.siblings.iter().filter_map(|one| one.dot.as_ref());
                let causal = causal(dots, &reply.context);
                let name = self.named(node, reply.proof);
                let seen = Seen { values: values.clone(), token: reply.context };
                open.ok(|operation| {
                    operation.value = Some(Value::List(values));
                    operation.node = name;
                    operation.causal = Some(causal);
                });
                self.seen.insert(key, seen);
                true
            }
            Err(error) => read_failed(open, &error),
        }
    }

    async fn put(&mut self, hand: &mut Hand, sort: Sort, key: String) -> bool {
        let text = self.next.fetch_add(1, Ordering::Relaxed).to_string();
        let basis = self.basis(hand, sort, &key);
        let mut call = Call::write(&key, text.as_str());
        call.expected = basis.replaces.clone();
        let ack = ack(hand);
        let request = v1::PutRequest {
            keyspace: sort.keyspace().to_owned(),
            key: key.clone().into(),
            value: text.clone().into(),
            causal: basis.token.clone(),
            beside: basis.beside,
            ack: ack as i32,
            ..v1::PutRequest::default()
        };
        let (mut open, client) = (hand.process.invoke(call), &hand.each[self.node()]);
        self.note(&mut open, ack_word(ack));
        let reply = client.put(request, &options()).await;
        let reply = reply.map(|reply| (reply.proof, reply.written));
        self.written(open, key, vec![Some(text.into())], reply)
    }

    /// Deletes what the client has seen of a key, or where it has no choice what the node holds. Without anything
    /// seen it reads instead.
    async fn delete(&mut self, hand: &mut Hand, sort: Sort, key: String) -> bool {
        let basis = self.basis(hand, sort, &key);
        if basis.beside {
            return self.read(hand, sort, key).await;
        }
        let mut call = Call::delete(&key);
        call.expected = basis.replaces.clone();
        let ack = ack(hand);
        let request = v1::DeleteRequest {
            keyspace: sort.keyspace().to_owned(),
            key: key.clone().into(),
            causal: basis.token.clone(),
            ack: ack as i32,
            ..v1::DeleteRequest::default()
        };
        let (mut open, client) = (hand.process.invoke(call), &hand.each[self.node()]);
        self.note(&mut open, ack_word(ack));
        let reply = client.delete(request, &options()).await;
        let reply = reply.map(|reply| (reply.proof, reply.written));
        self.written(open, key, Vec::new(), reply)
    }

    /// What a write of a key is to replace.
    fn basis(&self, hand: &mut Hand, sort: Sort, key: &str) -> Basis {
        let seen = self.seen.get(key).filter(|seen| !seen.token.is_empty());
        match (sort, seen) {
            (Sort::Siblings | Sort::Newest, Some(seen)) if hand.rng.random_bool(0.8) => Basis {
                replaces: Some(Value::List(seen.values.clone())),
                token: seen.token.clone(),
                beside: false,
            },
            (Sort::Siblings, _) => {
                Basis { replaces: Some(Value::List(Vec::new())), token: Bytes::new(), beside: true }
            }
            (Sort::Blind | Sort::Newest, _) => {
                Basis { replaces: None, token: Bytes::new(), beside: false }
            }
        }
    }

    /// Records what became of a write that leaves these values.
    fn written(
        &mut self,
        open: Open<'_>,
        key: String,
        values: Vec<Option<Value>>,
        reply: Result<(Option<v1::Proof>, Option<v1::Written>), ClientError>,
    ) -> bool {
        match reply {
            Ok((proof, written)) => {
                let name = self.named(self.node(), proof);
                let written = written.unwrap_or_default();
                let causal = causal(written.dot.iter(), &written.context);
                open.ok(|operation| {
                    operation.node = name;
                    operation.causal = Some(causal);
                });
                self.seen.insert(key, Seen { values, token: written.context });
                true
            }
            Err(error) => {
                // A token that is refused once would be refused again.
                self.seen.remove(&key);
                let reached = answered(&error);
                write_failed(open, &error);
                reached
            }
        }
    }

    /// Notes who is asked and for what, however it ends.
    fn note(&self, open: &mut Open<'_>, level: &str) {
        let name = self.names.get(&self.node()).cloned();
        open.note(|operation: &mut Operation| {
            operation.level = Some(level.to_owned());
            operation.node = name;
        });
    }

    /// The name of a node, as it says it itself.
    fn named(&mut self, node: usize, proof: Option<v1::Proof>) -> Option<String> {
        let name = proof?.node;
        self.names.insert(node, name.clone());
        Some(name)
    }
}

/// What a write replaces, and how it says so.
struct Basis {
    replaces: Option<Value>,
    token: Bytes,
    beside: bool,
}

fn get_request(keyspace: &str, key: &str) -> v1::GetRequest {
    let (keyspace, key) = (keyspace.to_owned(), key.to_owned().into());
    v1::GetRequest { keyspace, key, ..v1::GetRequest::default() }
}

fn ack(hand: &mut Hand) -> v1::Ack {
    if hand.rng.random_bool(0.25) { v1::Ack::Quorum } else { v1::Ack::One }
}

const fn ack_word(ack: v1::Ack) -> &'static str {
    match ack {
        v1::Ack::Unspecified | v1::Ack::One => "one",
        v1::Ack::Quorum => "quorum",
        v1::Ack::All => "all",
    }
}

fn value(sibling: &v1::Sibling) -> Option<Value> {
    // Our own values are text; anything else must differ from all of them.
    Some(String::from_utf8_lossy(&sibling.value).into_owned().into())
}

fn causal<'d>(dots: impl Iterator<Item = &'d v1::Dot>, context: &[u8]) -> Box<Causal> {
    let context = (!context.is_empty()).then(|| STANDARD.encode(context));
    Box::new(Causal { dots: dots.map(v1::Dot::to_string).collect(), context, lost: false })
}
