//! Which writes were taken here before, by the ids that clients gave them.
//!
//! An id is kept for [`KEPT_MS`] or until [`IDS_MAX`] younger ones came, as an item in the same entry as the write. A
//! repetition that comes later is a new write.
//!
//! ```text
//! key of an item                 value
//! "w" client 16 B | seq 8 B      actor 16 B | counter 8 B | wall clock when it was taken, ms 8 B
//! ```

use std::collections::{BTreeMap, VecDeque};

use bytes::{BufMut, Bytes, BytesMut};
use gossip::{ActorId, Dot};
use proto::{log, v1};

/// How long an id is kept at least, unless there are too many.
pub(super) const KEPT_MS: u64 = 600_000;

/// Ids that are kept at most.
pub(super) const IDS_MAX: usize = 1 << 20;

/// Ids that one entry removes at least, where so many are due.
const REMOVED_MIN: usize = 64;

/// First byte of the items' keys.
const KIND: u8 = b'w';
const KEY_BYTES: usize = 1 + 16 + 8;
const VALUE_BYTES: usize = 16 + 8 + 8;

type Key = [u8; KEY_BYTES];

/// The ids of writes that were taken here.
#[derive(Debug, Default)]
pub(super) struct WriteIds {
    known: BTreeMap<Key, Dot>,
    /// In the order in which they were taken; when.
    order: VecDeque<(u64, Key)>,
    /// Taken since items were given out last.
    fresh: Vec<(u64, Key)>,
}

impl WriteIds {
    /// Whether this is the item of an id.
    pub(super) fn owns(key: &[u8]) -> bool {
        key.first() == Some(&KIND)
    }

    /// Takes an item back at a start.
    ///
    /// # Errors
    /// It is not what was written.
    pub(super) fn restore(&mut self, key: &[u8], value: &[u8]) -> Result<(), String> {
        let damaged = || format!("the item of a write id is damaged: {key:?}");
        let key: Key = key.try_into().map_err(|_| damaged())?;
        let (actor, rest) = value.split_first_chunk().ok_or_else(damaged)?;
        let (counter, rest) = rest.split_first_chunk().ok_or_else(damaged)?;
        let taken_ms = u64::from_be_bytes(rest.try_into().map_err(|_| damaged())?);
        let actor = ActorId::from_bytes(*actor);
        self.known.insert(key, Dot { actor, counter: u64::from_be_bytes(*counter) });
        self.order.push_back((taken_ms, key));
        Ok(())
    }

    /// All items are back.
    pub(super) fn restored(&mut self) {
        self.order.make_contiguous().sort_unstable();
    }

    /// The write that was taken under this id.
    pub(super) fn taken(&self, id: &v1::WriteId) -> Option<Dot> {
        self.known.get(&key(id)?).copied()
    }

    /// A write is taken under this id.
    pub(super) fn take(&mut self, id: &v1::WriteId, dot: Dot, wall_ms: u64) {
        let Some(key) = key(id) else { return };
        self.known.insert(key, dot);
        self.fresh.push((wall_ms, key));
    }

    /// Whether the write was taken since items were given out last.
    pub(super) fn is_fresh(&self, dot: Dot) -> bool {
        self.fresh.iter().any(|(_, key)| self.known.get(key) == Some(&dot))
    }

    /// What is to be stored, and what is old enough to go.
    pub(super) fn take_items(&mut self, wall_ms: u64) -> Vec<log::Item> {
        let mut items = Vec::new();
        for (taken_ms, key) in self.fresh.drain(..) {
            let Some(dot) = self.known.get(&key) else { continue };
            items.push(log::Item {
                key: Bytes::copy_from_slice(&key),
                value: Some(value(*dot, taken_ms)),
            });
            self.order.push_back((taken_ms, key));
        }
        // Only beside something else: nothing waits for it, and an idle node writes nothing.
        if items.is_empty() {
            return items;
        }
        let is_old = |taken_ms: u64| taken_ms.saturating_add(KEPT_MS) < wall_ms;
        // Some more than come, so that a log entry stays small.
        let mut left = 2 * items.len() + REMOVED_MIN;
        while let Some((taken_ms, key)) = self.order.front().copied()
            && (is_old(taken_ms) || self.order.len() > IDS_MAX)
            && left > 0
        {
            left -= 1;
            self.order.pop_front();
            self.known.remove(&key);
            items.push(log::Item { key: Bytes::copy_from_slice(&key), value: None });
        }
        items
    }
}

fn key(id: &v1::WriteId) -> Option<Key> {
    let mut key = [0; KEY_BYTES];
    key[0] = KIND;
    if id.client_id.len() != 16 {
        return None;
    }
    key[1..17].copy_from_slice(&id.client_id);
    key[17..].copy_from_slice(&id.seq.to_be_bytes());
    Some(key)
}

fn value(dot: Dot, taken_ms: u64) -> Bytes {
    let mut out = BytesMut::with_capacity(VALUE_BYTES);
    out.put_slice(dot.actor.as_bytes());
    out.put_u64(dot.counter);
    out.put_u64(taken_ms);
    out.freeze()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(seq: u64) -> v1::WriteId {
        v1::WriteId { client_id: vec![5; 16].into(), seq, ..v1::WriteId::default() }
    }

    fn dot(counter: u64) -> Dot {
        Dot { actor: ActorId::from_bytes([9; 16]), counter }
    }

    #[test]
    fn ids_come_back_from_their_items_and_go_with_age() {
        let mut ids = WriteIds::default();
        ids.take(&id(1), dot(1), 1_000);
        ids.take(&id(2), dot(2), 2_000);
        let items = ids.take_items(2_000);
        assert_eq!(items.len(), 2);
        assert!(ids.take_items(2_000).is_empty(), "given out once");
        let mut back = WriteIds::default();
        // In any order.
        for item in items.iter().rev() {
            back.restore(&item.key, item.value.as_ref().unwrap()).unwrap();
        }
        back.restored();
        assert_eq!(back.taken(&id(1)), Some(dot(1)));
        back.take(&id(3), dot(3), 1_001 + KEPT_MS);
        let items = back.take_items(1_001 + KEPT_MS);
        assert_eq!(items.iter().filter(|item| item.value.is_none()).count(), 1);
        assert_eq!(back.taken(&id(1)), None);
        assert_eq!(back.taken(&id(2)), Some(dot(2)));
        assert!(back.restore(b"w", b"").is_err());
    }
}
