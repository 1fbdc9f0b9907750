//! A replica: its rules one by one, and random schedules of several.

mod close;
mod cluster;
mod damage;
mod dormant;
mod places;
mod rules;
mod schedules;
mod stamps;

use bytes::Bytes;
use std::sync::Arc;

use super::*;
use crate::clock::Fold;
use crate::dot::Dot;
use crate::hlc::Hlc;
use crate::record::{Body, Record};

/// A keyspace that keeps siblings, and one that shows the newest value.
const PLAIN: KeyspaceId = KeyspaceId(1);
const LWW: KeyspaceId = KeyspaceId(2);

fn actor(number: u8) -> ActorId {
    ActorId::from_bytes([number; 16])
}

/// The first replica of a node, with both keyspaces.
fn replica(number: u8) -> Replica {
    let (mut replica, _) = Replica::start(State::default(), actor(number), TreeKey::new(&[1; 32]));
    replica.set_keyspace(PLAIN, Standing::Open(Policy::Siblings));
    replica.set_keyspace(LWW, Standing::Open(Policy::Lww));
    replica
}

fn plain(key: &'static str) -> EntryKey {
    EntryKey::new(PLAIN, key)
}

fn lww(key: &'static str) -> EntryKey {
    EntryKey::new(LWW, key)
}

fn value(text: &'static str) -> Body {
    Body::Value(Bytes::from_static(text.as_bytes()))
}

fn put(replica: &mut Replica, key: &EntryKey, body: Body, basis: Basis) -> Record {
    put_at(replica, key, body, basis, 1_000)
}

fn put_at(replica: &mut Replica, key: &EntryKey, body: Body, basis: Basis, ms: u64) -> Record {
    let write = Write { key: key.clone(), body, deadline: None, basis };
    replica.write(&write, &mut Hlc::default(), ms).unwrap().record
}

/// What a client sees of a key at a replica.
fn seen(replica: &Replica, key: &EntryKey) -> Basis {
    let token = replica.token(key).what;
    Basis::Seen { context: token.context, stamp: token.stamp }
}

/// As if every member had what this replica has.
fn stable(replica: &Replica) -> Stable {
    Stable { by: replica.state().clock().clone(), has_orphans: false }
}

fn live(replica: &Replica, key: &EntryKey) -> Vec<Dot> {
    replica.entry(key).into_iter().flat_map(Entry::live).map(|(dot, _)| dot).collect()
}
