//! Fingerprints of a machine's content.
//!
//! The *digest* is what replicas compare: SHA-256 over all that apply has made, in a fixed order,
//! wherever it lies. The *sum* is what a store is compared with: a sum over the hashes of all
//! versions that each checkpoint carries forward without reading what is already there.

use bytes::{BufMut, Bytes, BytesMut};
use prost::Message;
use proto::{KeyspaceId, Revision};
use sha2::{Digest, Sha256};

use super::cover::Covered;
use super::key::KeyPrefix;
use super::layer::Chain;
use super::liveness::Liveness;
use super::outcome::OutcomeRecord;
use super::session::Sessions;
use super::version::Version;
use super::view::Layers;
use crate::state::StateError;

const LANES: usize = 4;

/// Sum over the names of versions, each hashed with SHA-256 and added as four lanes of 64 bits that
/// wrap.
///
/// Does not depend on the order in which versions are added, and a version can be subtracted
/// without reading it. It tells which versions there are; that each is what was written, its own
/// checksums tell (`item.rs`), for what is stored under the name of a version never changes. It
/// finds damage and omissions, not the work of someone who chooses keys so that hashes cancel out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ContentSum([u64; LANES]);

impl ContentSum {
    /// Adds a version, by the encoded prefix of its key.
    pub fn add(&mut self, prefix: &impl AsRef<[u8]>, revision: Revision) {
        for (lane, part) in self.0.iter_mut().zip(lanes(prefix.as_ref(), revision)) {
            *lane = lane.wrapping_add(part);
        }
    }

    /// Subtracts a version that was added.
    pub fn subtract(&mut self, prefix: &impl AsRef<[u8]>, revision: Revision) {
        for (lane, part) in self.0.iter_mut().zip(lanes(prefix.as_ref(), revision)) {
            *lane = lane.wrapping_sub(part);
        }
    }

    /// The form in the record of a keyspace: the lanes, each as 8 bytes BE.
    pub fn to_bytes(self) -> Bytes {
        let mut out = BytesMut::with_capacity(LANES * 8);
        self.0.iter().for_each(|lane| out.put_u64(*lane));
        out.freeze()
    }

    /// Reads the form in the record of a keyspace.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (lanes, rest) = bytes.as_chunks();
        if !rest.is_empty() {
            return None;
        }
        let lanes: Vec<u64> = lanes.iter().map(|lane| u64::from_be_bytes(*lane)).collect();
        lanes.try_into().ok().map(Self)
    }
}

fn lanes(prefix: &[u8], revision: Revision) -> [u64; LANES] {
    let mut hash = Sha256::new();
    hash.update(prefix);
    hash.update(revision.get().to_be_bytes());
    let hash: [u8; 32] = hash.finalize().into();
    let mut lanes = [0; LANES];
    for (lane, bytes) in lanes.iter_mut().zip(hash.as_chunks().0) {
        *lane = u64::from_be_bytes(*bytes);
    }
    lanes
}

/// SHA-256 over keyspaces, living versions and the exactly-once table. Reads everything.
///
/// # Errors
/// Those of the store.
pub fn digest(
    layers: &Layers,
    keyspaces: &[Covered],
    sessions: &Sessions,
) -> Result<[u8; 32], StateError> {
    let mut hash = Sha256::new();
    hash.update(b"kvstore state 2");
    for keyspace in keyspaces {
        hash.update(keyspace.state.encode_length_delimited_to_vec());
        if !keyspace.state.closed {
            let compacted = Revision(keyspace.state.compacted);
            hash_versions(layers, keyspace.id(), compacted, &mut hash)?;
        }
    }
    hash.update(sessions.floor().get().to_be_bytes());
    for (index, kept) in sessions.kept() {
        hash.update(OutcomeRecord::new(index, kept).encode_length_delimited_to_vec());
    }
    Ok(hash.finalize().into())
}

/// Hashes every living version of a keyspace, by key, newest first, and then how many there were.
fn hash_versions(
    layers: &Layers,
    keyspace: KeyspaceId,
    compacted: Revision,
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
        let mut liveness = Liveness::new(compacted);
        // Layers first: what lies in them is newer than anything below.
        for layer in [&mut active, &mut frozen] {
            if let Some((_, chain)) = layer.next_if(|(key, _)| *key == prefix) {
                for version in chain.newest_first() {
                    if liveness.lives(version.head.revision, version.head.tombstone) {
                        version.hash_into(&prefix, hash);
                        count += 1;
                    }
                }
            }
        }
        while let Some(found) =
            stored.next_if(|found| found.as_ref().is_ok_and(|found| found.prefix == prefix))
        {
            let found = found?;
            if liveness.lives(found.head.revision, found.head.tombstone) {
                let value = layers.stored_value(&found)?;
                Version { head: found.head, value }.hash_into(&prefix, hash);
                count += 1;
            }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sum_forgets_order_and_what_was_subtracted() {
        let names: Vec<(KeyPrefix, Revision)> = (1..=20)
            .map(|n| (KeyPrefix::new(KeyspaceId(1 + n % 2), &[n as u8 % 5]), Revision(n)))
            .collect();
        let mut forward = ContentSum::default();
        names.iter().for_each(|(prefix, revision)| forward.add(prefix, *revision));
        let mut backward = ContentSum::default();
        names.iter().rev().for_each(|(prefix, revision)| backward.add(prefix, *revision));
        assert_eq!(forward, backward);
        assert_eq!(ContentSum::from_bytes(&forward.to_bytes()), Some(forward));
        assert_eq!(ContentSum::from_bytes(&[0; 31]), None);
        for (prefix, revision) in &names {
            assert_ne!(forward, ContentSum::default());
            forward.subtract(prefix, *revision);
        }
        assert_eq!(forward, ContentSum::default());
    }
}
