//! Keyspaces of kind eventual. All nodes share the values; which writes were executed each node knows by
//! itself, so a write that is repeated elsewhere executes again. A token is the text of the dots it covers.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use bytes::Bytes;
use proto::{Applied, Code, Failure, v1};
use tonic::{Response, Status};

use super::FakeNode;

/// What the nodes share of eventual keyspaces.
#[derive(Default)]
pub struct Eventual {
    keys: BTreeMap<(String, Vec<u8>), Key>,
    counter: u64,
    /// By node, client and number.
    executed: HashMap<(String, Vec<u8>, u64), (v1::Written, u64)>,
    /// Each write that arrived, also what was executed before.
    pub writes: Vec<SeenWrite>,
    /// The level and the node of each read.
    pub reads: Vec<(String, v1::Level)>,
    /// Most values in one reply; 0: all.
    pub page: usize,
    /// Pages of one read come from nodes of different names.
    pub pages_wander: bool,
    /// Pages of one read join the answers of different majorities.
    pub majorities_wander: bool,
    /// Refuses reads that name no level.
    pub asks_for_level: bool,
    /// Nobody says of which kind a keyspace is.
    pub mute: bool,
    /// Tokens would be too long.
    pub no_tokens: bool,
}

/// A key: what lives of it, the newest first, and all writes of it that there were.
#[derive(Clone, Default)]
struct Key {
    siblings: Vec<v1::Sibling>,
    dots: BTreeSet<String>,
}

/// A write as a node saw it.
#[derive(Clone, Debug)]
pub struct SeenWrite {
    pub node: String,
    pub id: v1::WriteId,
    pub causal: Bytes,
    pub beside: bool,
    pub ack: v1::Ack,
    pub ttl_ms: u64,
}

impl SeenWrite {
    /// How many writes its token covers.
    pub fn covers(&self) -> usize {
        dots(&self.causal).iter().filter(|dot| *dot != "none").count()
    }
}

/// A write as it comes: a value, or none for a delete.
struct Write {
    keyspace: String,
    key: Bytes,
    value: Option<Bytes>,
    id: v1::WriteId,
    causal: Bytes,
    beside: bool,
    ack: v1::Ack,
    ttl_ms: u64,
}

fn dots(token: &[u8]) -> BTreeSet<String> {
    let text = std::str::from_utf8(token).expect("the tokens of this fake are text");
    text.split(',').filter(|dot| !dot.is_empty()).map(str::to_owned).collect()
}

fn token(dots: &BTreeSet<String>) -> Bytes {
    Vec::from_iter(dots.iter().map(String::as_str)).join(",").into()
}

/// A dot of the fake.
pub fn dot(counter: u64) -> v1::Dot {
    v1::Dot { actor: vec![0xab; 16].into(), counter }
}

impl Eventual {
    /// The values of a key, the newest first.
    pub fn values(&self, keyspace: &str, key: &str) -> Vec<String> {
        let key = (keyspace.to_owned(), key.as_bytes().to_vec());
        let siblings = self.keys.get(&key).map(|key| key.siblings.clone()).unwrap_or_default();
        siblings.into_iter().map(|found| String::from_utf8(found.value.into()).unwrap()).collect()
    }

    fn write(&mut self, node: &str, write: Write) -> (v1::Written, u64, bool) {
        let Write { keyspace, key, value, id, causal, beside, ack, ttl_ms } = write;
        let node = node.to_owned();
        self.writes.push(SeenWrite {
            node: node.clone(),
            id: id.clone(),
            causal: causal.clone(),
            beside,
            ack,
            ttl_ms,
        });
        let id = (node, id.client_id.to_vec(), id.seq);
        if let Some((written, deleted)) = self.executed.get(&id) {
            return (written.clone(), *deleted, true);
        }
        self.counter += 1;
        let dot = dot(self.counter);
        let mut covered = dots(&causal);
        let key = self.keys.entry((keyspace, key.to_vec())).or_default();
        let before = key.siblings.len();
        let name = |sibling: &v1::Sibling| sibling.dot.as_ref().unwrap().to_string();
        if causal.is_empty() && !beside {
            covered.extend(key.siblings.iter().map(name));
        }
        key.siblings.retain(|sibling| !covered.contains(&name(sibling)));
        let deleted = u64::from(value.is_none() && key.siblings.len() < before);
        covered.insert(dot.to_string());
        key.dots.extend(covered.iter().cloned());
        if let Some(value) = value {
            let sibling = v1::Sibling {
                value_size: value.len() as u64,
                value,
                dot: Some(dot.clone()),
                written_ms: 1_795_000_000_000 + self.counter,
                expires_ms: if ttl_ms == 0 { 0 } else { 1_795_000_000_000 + ttl_ms },
            };
            key.siblings.insert(0, sibling);
        }
        let context = if self.no_tokens { Bytes::new() } else { token(&covered) };
        let written = v1::Written { dot: Some(dot), context };
        self.executed.insert(id, (written.clone(), deleted));
        (written, deleted, false)
    }
}

impl FakeNode {
    pub(super) fn is_eventual(&self, keyspace: &str) -> bool {
        let shared = self.shared.lock().unwrap();
        let found = shared.operators.keyspaces.get(keyspace);
        let found = found.and_then(|view| view.keyspace.as_ref());
        found.is_some_and(|keyspace| keyspace.kind() == v1::keyspace::Kind::Eventual)
    }

    pub(super) fn is_mute(&self) -> bool {
        self.shared.lock().unwrap().eventual.mute
    }

    fn eventual_proof(&self) -> v1::Proof {
        let proof = self.proof(v1::Level::Eventual as i32);
        v1::Proof { revision: 0, leader: 0, leader_address: String::new(), ..proof }
    }

    /// Refuses what this kind does not offer.
    fn check_level(&self, level: i32) -> Result<(), Status> {
        let level = v1::Level::try_from(level).unwrap();
        let mut shared = self.shared.lock().unwrap();
        shared.eventual.reads.push((self.name.clone(), level));
        match level {
            v1::Level::Eventual => Ok(()),
            v1::Level::Unspecified if !shared.eventual.asks_for_level => Ok(()),
            _ => Err(Failure::new(Code::LevelNotOffered, "", "not of this kind").to_status()),
        }
    }

    pub(super) async fn eventual_get(
        &self,
        request: v1::GetRequest,
    ) -> Result<Response<v1::GetReply>, Status> {
        self.check_level(request.level)?;
        if self.is_mute() {
            std::future::pending::<()>().await;
        }
        self.act(|| {
            let shared = self.shared.lock().unwrap();
            let key = (request.keyspace.clone(), request.key.to_vec());
            let Key { siblings, dots } =
                shared.eventual.keys.get(&key).cloned().unwrap_or_default();
            let Eventual { page, pages_wander, majorities_wander, no_tokens, .. } = shared.eventual;
            drop(shared);
            let after = request.siblings_after.as_ref();
            let begin = after.map_or(0, |after| {
                siblings.iter().take_while(|sibling| sibling.dot.as_ref() != Some(after)).count()
                    + 1
            });
            let mut siblings = siblings[begin..].to_vec();
            let all = siblings.len();
            siblings.truncate(if page == 0 { all } else { page });
            let mut proof = self.eventual_proof();
            if pages_wander && after.is_some() {
                proof.node = "another".into();
            }
            if majorities_wander {
                proof.answered_by = vec![1, if after.is_some() { 2 } else { 3 }];
            }
            let only = match &siblings[..] {
                [only] if all == 1 && after.is_none() => Some(only.clone()),
                _ => None,
            };
            v1::GetReply {
                proof: Some(proof),
                item: only.map(|only| v1::Item {
                    key: request.key.clone(),
                    value: only.value,
                    value_size: only.value_size,
                    ..Default::default()
                }),
                more: (all - siblings.len()) as u32,
                siblings,
                context: if no_tokens { Bytes::new() } else { token(&with_none(dots)) },
            }
        })
        .await
    }

    pub(super) async fn eventual_range(
        &self,
        request: v1::RangeRequest,
    ) -> Result<Response<v1::RangeReply>, Status> {
        self.check_level(request.level)?;
        self.act(|| {
            let shared = self.shared.lock().unwrap();
            let limit = if request.limit == 0 { 2 } else { request.limit.min(2) } as usize;
            let from = (request.keyspace.clone(), request.from.to_vec());
            let inside = |(keyspace, key): &(String, Vec<u8>)| {
                *keyspace == request.keyspace && (request.to.is_empty() || key[..] < request.to[..])
            };
            let mut live: Vec<v1::Entry> = shared
                .eventual
                .keys
                .range(from..)
                .filter(|(name, key)| inside(name) && !key.siblings.is_empty())
                .map(|((_, name), key)| v1::Entry {
                    key: name.clone().into(),
                    siblings: key.siblings.clone(),
                    context: token(&key.dots),
                    more: 0,
                })
                .collect();
            drop(shared);
            let behind = live.get(limit).map(|entry| entry.key.clone());
            live.truncate(limit);
            let mut reply = v1::RangeReply {
                proof: Some(self.eventual_proof()),
                more: behind.is_some(),
                next: behind.unwrap_or_default(),
                ..Default::default()
            };
            if request.count_only {
                reply.count = live.len() as u64;
                return reply;
            }
            if request.keys_only {
                let siblings = live.iter_mut().flat_map(|entry| &mut entry.siblings);
                siblings.for_each(|sibling| sibling.value.clear());
                live.iter_mut().for_each(|entry| entry.context.clear());
            }
            reply.entries = live;
            reply
        })
        .await
    }

    pub(super) async fn eventual_put(
        &self,
        request: v1::PutRequest,
    ) -> Result<Response<v1::PutReply>, Status> {
        let ack = request.ack();
        let v1::PutRequest { keyspace, id, key, value, condition, causal, beside, ttl_ms, .. } =
            request;
        if condition.is_some() {
            let failure = Failure::new(Code::VerbNotOffered, "", "conditions are not offered");
            return Err(failure.applied(Applied::No).to_status());
        }
        self.act(|| {
            let (value, id) = (Some(value), id.expect("every write carries an id"));
            let write = Write { keyspace, key, value, id, causal, beside, ack, ttl_ms };
            let (written, _, replayed) =
                self.shared.lock().unwrap().eventual.write(&self.name, write);
            let proof = v1::Proof { replayed, acknowledged_by: vec![1], ..self.eventual_proof() };
            v1::PutReply {
                proof: Some(proof),
                succeeded: true,
                written: Some(written),
                ..Default::default()
            }
        })
        .await
    }

    pub(super) async fn eventual_delete(
        &self,
        request: v1::DeleteRequest,
    ) -> Result<Response<v1::DeleteReply>, Status> {
        let ack = request.ack();
        let v1::DeleteRequest { keyspace, id, key, range_end, causal, beside, .. } = request;
        if !range_end.is_empty() {
            let failure = Failure::new(Code::VerbNotOffered, "", "ranges are not offered");
            return Err(failure.applied(Applied::No).to_status());
        }
        self.act(|| {
            let id = id.expect("every write carries an id");
            let write = Write { keyspace, key, value: None, id, causal, beside, ack, ttl_ms: 0 };
            let (written, deleted, replayed) =
                self.shared.lock().unwrap().eventual.write(&self.name, write);
            let proof = v1::Proof { replayed, ..self.eventual_proof() };
            v1::DeleteReply {
                proof: Some(proof),
                succeeded: true,
                deleted,
                written: Some(written),
                ..Default::default()
            }
        })
        .await
    }
}

/// The token of a key that never was is not empty either.
fn with_none(mut dots: BTreeSet<String>) -> BTreeSet<String> {
    dots.insert("none".to_owned());
    dots
}

impl super::FakeCluster {
    /// Adds an eventual keyspace.
    pub fn add_eventual(&self, name: &str) {
        let keyspace = v1::Keyspace {
            id: 9,
            name: name.to_owned(),
            kind: v1::keyspace::Kind::Eventual as i32,
            state: v1::keyspace::State::Ready as i32,
            ..Default::default()
        };
        let view = v1::KeyspaceView { keyspace: Some(keyspace), ..Default::default() };
        self.shared.lock().unwrap().operators.keyspaces.insert(name.to_owned(), view);
    }

    /// Each write to an eventual keyspace that arrived.
    pub fn eventual_writes(&self) -> Vec<SeenWrite> {
        self.shared.lock().unwrap().eventual.writes.clone()
    }

    /// The values of a key of an eventual keyspace, the newest first.
    pub fn values(&self, keyspace: &str, key: &str) -> Vec<String> {
        self.shared.lock().unwrap().eventual.values(keyspace, key)
    }
}
