//! Fingerprints of a machine's content.
//!
//! The *digest* is what replicas compare: SHA-256 over all that apply has made, in a fixed order,
//! wherever it lies. The *sum* is what a store is compared with: a sum over the hashes of all
//! versions that each checkpoint carries forward without reading what is already there.

use bytes::{BufMut, Bytes, BytesMut};
use prost::Message;
use proto::KeyspaceId;
use sha2::{Digest, Sha256};

use super::checkpoint::KeyspaceRecord;
use super::key::KeyPrefix;
use super::layer::Chain;
use super::outcome::OutcomeRecord;
use super::session::Sessions;
use super::version::Version;
use super::view::Layers;
use crate::state::StateError;

const LANES: usize = 4;

/// Sum of the SHA-256 hashes of versions, as four lanes of 64 bits that wrap.
///
/// Does not depend on the order in which versions are added. It finds damage and omissions, not
/// the work of someone who chooses versions so that their hashes cancel out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ContentSum([u64; LANES]);

impl ContentSum {
    /// Adds a version.
    pub fn add(&mut self, prefix: &KeyPrefix, version: &Version) {
        let mut hash = Sha256::new();
        version.hash_into(prefix, &mut hash);
        let hash: [u8; 32] = hash.finalize().into();
        for (lane, bytes) in self.0.iter_mut().zip(hash.as_chunks().0) {
            *lane = lane.wrapping_add(u64::from_be_bytes(*bytes));
        }
    }

    /// The form in the checkpoint record: the lanes, each as 8 bytes BE.
    pub fn to_bytes(self) -> Bytes {
        let mut out = BytesMut::with_capacity(LANES * 8);
        self.0.iter().for_each(|lane| out.put_u64(*lane));
        out.freeze()
    }

    /// Reads the form in the checkpoint record.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (lanes, rest) = bytes.as_chunks();
        if !rest.is_empty() {
            return None;
        }
        let lanes: Vec<u64> = lanes.iter().map(|lane| u64::from_be_bytes(*lane)).collect();
        lanes.try_into().ok().map(Self)
    }
}

/// The sum over every visible version in the store, read anew.
///
/// # Errors
/// Those of the store.
pub fn stored_sum(layers: &Layers) -> Result<ContentSum, StateError> {
    let mut sum = ContentSum::default();
    for keyspace in layers.horizon.revisions.keys() {
        for stored in layers.stored_versions(*keyspace) {
            let stored = stored?;
            let value = layers.stored_value(&stored)?;
            sum.add(&stored.prefix, &Version { head: stored.head, value });
        }
    }
    Ok(sum)
}

/// SHA-256 over keyspaces, versions and the exactly-once table. Reads everything.
///
/// # Errors
/// Those of the store.
pub fn digest(
    layers: &Layers,
    keyspaces: &[KeyspaceRecord],
    sessions: &Sessions,
) -> Result<[u8; 32], StateError> {
    let mut hash = Sha256::new();
    hash.update(b"kvstore state 1");
    for keyspace in keyspaces {
        hash.update(keyspace.encode_length_delimited_to_vec());
        hash_versions(layers, KeyspaceId(keyspace.id), &mut hash)?;
    }
    hash.update(sessions.floor().get().to_be_bytes());
    for (index, kept) in sessions.kept() {
        hash.update(OutcomeRecord::new(index, kept).encode_length_delimited_to_vec());
    }
    Ok(hash.finalize().into())
}

/// Hashes every version of a keyspace, by key, newest first, and then how many there were.
fn hash_versions(
    layers: &Layers,
    keyspace: KeyspaceId,
    hash: &mut Sha256,
) -> Result<(), StateError> {
    let in_layer = |layer| {
        let layer: Option<&super::layer::Layer> = layer;
        layer
            .into_iter()
            .flat_map(|layer| layer.range(keyspace, &[], &[]))
            .map(with_prefix(keyspace))
            .peekable()
    };
    let mut active = in_layer(Some(&layers.active));
    let mut frozen = in_layer(layers.frozen.as_deref());
    let mut stored = layers.stored_versions(keyspace).peekable();
    let mut count: u64 = 0;
    loop {
        let in_store = match stored.peek() {
            Some(Ok(stored)) => Some(stored.prefix.clone()),
            Some(Err(_)) => return stored.next().map_or(Ok(()), |failed| failed.map(drop)),
            None => None,
        };
        let in_layers =
            [active.peek(), frozen.peek()].into_iter().flatten().map(|(prefix, _)| prefix);
        let Some(prefix) =
            in_layers.chain(&in_store).min_by_key(|prefix| prefix.as_bytes()).cloned()
        else {
            break;
        };
        // Layers first: what lies in them is newer than anything below.
        for layer in [&mut active, &mut frozen] {
            if let Some((_, chain)) = layer.next_if(|(key, _)| *key == prefix) {
                for version in chain.newest_first() {
                    version.hash_into(&prefix, hash);
                    count += 1;
                }
            }
        }
        while let Some(found) =
            stored.next_if(|found| found.as_ref().is_ok_and(|found| found.prefix == prefix))
        {
            let found = found?;
            let value = layers.stored_value(&found)?;
            Version { head: found.head, value }.hash_into(&prefix, hash);
            count += 1;
        }
    }
    hash.update(count.to_be_bytes());
    Ok(())
}

fn with_prefix<'a>(
    keyspace: KeyspaceId,
) -> impl Fn((&'a Bytes, &'a Chain)) -> (KeyPrefix, &'a Chain) {
    move |(key, chain)| (KeyPrefix::new(keyspace, key), chain)
}
