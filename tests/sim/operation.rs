//! What simulated clients do, and what they saw.

use bytes::Bytes;
use kvstore::node::{Reply, Request};
use kvstore::replication::EventualOptions;
use proto::{ClientId, log, v1};
use rand::{Rng, RngExt};

use super::network::Micros;

/// Keys that clients fight over.
pub const KEYS: u32 = 12;

/// How an operation ended for its client.
#[derive(Clone, Debug, PartialEq)]
#[allow(clippy::large_enum_variant, reason = "the oracle matches replies in place; there are few")]
pub enum Ending {
    /// Answered.
    Ok(Reply),
    /// Certainly not applied.
    Fail,
    /// May have been applied.
    Unknown,
}

/// One operation of one client, with all its attempts.
#[derive(Clone, Debug)]
pub struct Operation {
    /// Number of the client.
    pub client: usize,
    /// The request, as it was sent each time.
    pub request: Request,
    /// When it was first sent.
    pub invoked: Micros,
    /// When it ended; open operations never do.
    pub returned: Option<Micros>,
    /// How it ended; `None` while open.
    pub ending: Option<Ending>,
    /// Times it was sent.
    pub attempts: u32,
}

impl Operation {
    /// The write id, if it is a write.
    pub fn write_id(&self) -> Option<&v1::WriteId> {
        match &self.request {
            Request::Write { write, .. } => write.id.as_ref(),
            Request::Get(_)
            | Request::Range(_)
            | Request::History(_)
            | Request::Keyspaces
            | Request::Catalogue
            | Request::Manage(_)
            | Request::Export
            | Request::Backup => None,
        }
    }

    /// The keyspace it works on.
    pub fn keyspace(&self) -> &str {
        match &self.request {
            Request::Write { keyspace, .. } => keyspace,
            Request::Get(get) => &get.keyspace,
            Request::Range(range) => &range.keyspace,
            Request::History(_)
            | Request::Keyspaces
            | Request::Catalogue
            | Request::Manage(_)
            | Request::Export
            | Request::Backup => "",
        }
    }
}

/// A client that does one operation after the other.
#[derive(Debug)]
pub struct Client {
    /// Its id for exactly-once; renewed after an unknown outcome.
    pub id: ClientId,
    /// The last seq it used.
    pub seq: u64,
    /// The newest log index it saw.
    pub born: u64,
    /// Its open operation, as an index into the history.
    pub open: Option<usize>,
    /// Attempts sent for the open operation; an answer to an older attempt counts too.
    pub attempt: u32,
    /// Operations still to do.
    pub left: u32,
    /// A mod revision it saw per key, for conditions that hold now and then.
    pub seen: Vec<u64>,
}

impl Client {
    /// A client that will do `operations`.
    pub fn new(operations: u32, rng: &mut impl Rng) -> Self {
        let mut client = Self {
            id: ClientId::default(),
            seq: 0,
            born: 0,
            open: None,
            attempt: 0,
            left: operations,
            seen: vec![0; KEYS as usize],
        };
        client.renew(rng);
        client
    }

    /// Takes a new identity: a write of the old one may still happen.
    pub fn renew(&mut self, rng: &mut impl Rng) {
        let mut id: [u8; 16] = rng.random();
        id[15] = 0;
        self.id = ClientId(id);
        self.seq = 0;
    }

    /// Draws the next operation on a keyspace. Every written value is unique.
    pub fn draw(&mut self, number: usize, keyspace: &str, rng: &mut impl Rng) -> Request {
        let mut request = self.draw_default(number, rng);
        match &mut request {
            Request::Get(get) => get.keyspace = keyspace.to_owned(),
            Request::Range(range) => range.keyspace = keyspace.to_owned(),
            Request::Write { keyspace: name, .. } => *name = keyspace.to_owned(),
            other => unreachable!("clients do not send {other:?}"),
        }
        request
    }

    fn draw_default(&mut self, number: usize, rng: &mut impl Rng) -> Request {
        let index = rng.random_range(0..KEYS);
        let key = key(index);
        match rng.random_range(0..100) {
            0..30 => self.read(key, rng),
            30..38 => Request::Range(v1::RangeRequest {
                keyspace: KEYSPACE.into(),
                from: Bytes::from_static(b"k"),
                limit: rng.random_range(0..8),
                level: v1::Level::Linearizable.into(),
                ..v1::RangeRequest::default()
            }),
            38..64 => {
                let put = self.put(key, number, rng);
                self.write(Vec::new(), vec![put], Vec::new())
            }
            64..80 => {
                // Compare-and-set against a revision this client saw: fails when somebody was
                // faster.
                let put = self.put(key.clone(), number, rng);
                let seen = self.seen[index as usize];
                let target = Some(v1::compare::Target::ModRev(seen));
                let compare = v1::Compare { key: key.clone(), target };
                let get = v1::Op { op: Some(v1::op::Op::Get(v1::GetOp { key })) };
                self.write(vec![compare], vec![put], vec![get])
            }
            80..90 => {
                let delete = v1::DeleteOp { key, range_end: Bytes::new(), prev: false };
                let delete = v1::Op { op: Some(v1::op::Op::Delete(delete)) };
                self.write(Vec::new(), vec![delete], Vec::new())
            }
            90..97 => {
                // Several keys in one transaction.
                let other = key_after(index);
                let ops = vec![self.put(key, number, rng), self.put(other, number, rng)];
                self.write(Vec::new(), ops, Vec::new())
            }
            _ => {
                let delete = v1::DeleteOp {
                    key: Bytes::from_static(b"k0"),
                    range_end: Bytes::from_static(b"k04"),
                    prev: true,
                };
                let delete = v1::Op { op: Some(v1::op::Op::Delete(delete)) };
                self.write(Vec::new(), vec![delete], Vec::new())
            }
        }
    }

    fn read(&self, key: Bytes, rng: &mut impl Rng) -> Request {
        let level = if rng.random_range(0..10) == 0 {
            v1::Level::Eventual
        } else {
            v1::Level::Linearizable
        };
        Request::Get(v1::GetRequest {
            keyspace: KEYSPACE.into(),
            key,
            level: level.into(),
            ..Default::default()
        })
    }

    fn put(&self, key: Bytes, number: usize, rng: &mut impl Rng) -> v1::Op {
        let mut value = format!("{number}-{}-{:x}", self.seq + 1, rng.random::<u32>());
        if rng.random_range(0..20) == 0 {
            // Large enough to be cut into chunks.
            value.push_str(&"x".repeat(rng.random_range(0..20_000)));
        }
        let put = v1::PutOp { key, value: value.into(), prev: false };
        v1::Op { op: Some(v1::op::Op::Put(put)) }
    }

    fn write(
        &mut self,
        compares: Vec<v1::Compare>,
        then_ops: Vec<v1::Op>,
        else_ops: Vec<v1::Op>,
    ) -> Request {
        self.seq += 1;
        let id = v1::WriteId {
            client_id: Bytes::copy_from_slice(&self.id.0),
            seq: self.seq,
            first_open: self.seq,
            born: self.born,
        };
        let write = log::Write { keyspace: 0, id: Some(id), compares, then_ops, else_ops };
        Request::Write { keyspace: KEYSPACE.into(), write, options: EventualOptions::default() }
    }

    /// Learns from an answer what later requests build on.
    pub fn learn(&mut self, reply: &Reply) {
        let proof = match reply {
            Reply::Get(get) => {
                if let Some(item) = &get.item {
                    self.see(item);
                }
                &get.proof
            }
            Reply::Range(range) => {
                range.items.iter().for_each(|item| self.see(item));
                &range.proof
            }
            Reply::Write { proof, .. } => {
                self.born = self.born.max(proof.index);
                return;
            }
            Reply::History(_)
            | Reply::Keyspaces(_)
            | Reply::Catalogue(_)
            | Reply::Managed(_)
            | Reply::Export(_)
            | Reply::Backup(_) => return,
        };
        let index = proof.as_ref().map_or(0, |proof| proof.index);
        self.born = self.born.max(index);
    }

    fn see(&mut self, item: &v1::Item) {
        for index in 0..KEYS {
            if key(index) == item.key {
                self.seen[index as usize] = item.mod_rev;
            }
        }
    }
}

/// The keyspace that always exists.
pub const KEYSPACE: &str = "default";

fn key(index: u32) -> Bytes {
    format!("k{index:02}").into()
}

fn key_after(index: u32) -> Bytes {
    key((index + 1) % KEYS)
}
