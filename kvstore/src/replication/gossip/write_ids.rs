//! Which writes were taken here before, by the ids that clients gave them.
//!
//! An id is kept for [`KEPT_TICKS`] or until [`IDS_MAX`] younger ones came, as an item in the same entry as the write.
//! Of a client whose ids went, the highest of these is remembered while [`GONE_CLIENTS_MAX`] clients are enough: what it
//! sends with a lower number, and is not known, is no new write. A client numbers its writes in the order in which it
//! begins them, so its new ones are above unless they are later than others by as much as ids are kept.
//!
//! ```text
//! key of an item                 value
//! "w" client 16 B | seq 8 B      actor 16 B | counter 8 B | place 8 B
//! "W" client 16 B                highest seq that went 8 B | place 8 B
//! ```
//!
//! Places rise in the order in which items were put. Ages are of ticks and begin anew at a start, so no clock that jumps
//! makes anything go early.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use bytes::{BufMut, Bytes, BytesMut};
use gossip::{ActorId, Dot};
use proto::{log, v1};

use super::TICK_MS;
use crate::node::Ticks;

/// How long an id is kept at least, unless there are too many: ten minutes.
pub(super) const KEPT_TICKS: u64 = 600_000 / TICK_MS;

/// Ids that are kept at most.
pub(super) const IDS_MAX: usize = 1 << 20;

/// Clients of which it is remembered up to where their ids went, at most.
pub(super) const GONE_CLIENTS_MAX: usize = 1 << 16;

/// Ids that one entry removes at least, where so many are due.
const REMOVED_MIN: usize = 64;

/// First byte of the items' keys.
const KIND: u8 = b'w';
const GONE_KIND: u8 = b'W';
const CLIENT_BYTES: usize = 16;
const KEY_BYTES: usize = 1 + CLIENT_BYTES + 8;
const VALUE_BYTES: usize = 16 + 8 + 8;

type Key = [u8; KEY_BYTES];
type Client = [u8; CLIENT_BYTES];

/// What became of a write that is repeated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Earlier {
    /// It was taken, as this one.
    Taken(Dot),
    /// It may have been: ids of the client up to this one are not kept any more.
    Gone,
    /// It was not taken here, as far as is known.
    None,
}

/// The ids of writes that were taken here.
#[derive(Debug, Default)]
pub(super) struct WriteIds {
    known: BTreeMap<Key, Dot>,
    /// In the order in which they were taken; when.
    order: VecDeque<(Ticks, Key)>,
    /// Taken since items were given out last.
    fresh: Vec<(Ticks, Key)>,
    /// The highest number of each client that went, and its place.
    gone: BTreeMap<Client, (u64, u64)>,
    /// The same clients, by their places.
    gone_order: BTreeMap<u64, Client>,
    /// What was restored, until all is.
    restoring: Vec<(u64, Key)>,
    last_place: u64,
}

impl WriteIds {
    /// Whether this is an item of ids.
    pub(super) fn owns(key: &[u8]) -> bool {
        matches!(key.first(), Some(&KIND | &GONE_KIND))
    }

    /// Takes an item back at a start.
    ///
    /// # Errors
    /// It is not what was written.
    pub(super) fn restore(&mut self, key: &[u8], value: &[u8]) -> Result<(), String> {
        let damaged = || format!("the item of a write id is damaged: {key:?}");
        if key.first() == Some(&GONE_KIND) {
            let client: Client = key[1..].try_into().map_err(|_| damaged())?;
            let (seq, rest) = value.split_first_chunk().ok_or_else(damaged)?;
            let place = u64::from_be_bytes(rest.try_into().map_err(|_| damaged())?);
            self.went(client, u64::from_be_bytes(*seq), place);
            return Ok(());
        }
        let key: Key = key.try_into().map_err(|_| damaged())?;
        let (actor, rest) = value.split_first_chunk().ok_or_else(damaged)?;
        let (counter, rest) = rest.split_first_chunk().ok_or_else(damaged)?;
        let place = u64::from_be_bytes(rest.try_into().map_err(|_| damaged())?);
        let actor = ActorId::from_bytes(*actor);
        self.known.insert(key, Dot { actor, counter: u64::from_be_bytes(*counter) });
        self.restoring.push((place, key));
        Ok(())
    }

    /// All items are back.
    pub(super) fn restored(&mut self, now: Ticks) {
        let mut back = std::mem::take(&mut self.restoring);
        back.sort_unstable();
        let last = back.last().map(|(place, _)| *place);
        self.last_place = self.gone_order.keys().next_back().copied().max(last).unwrap_or(0);
        self.order = back.into_iter().map(|(_, key)| (now, key)).collect();
    }

    /// Writes are lost that were taken under ids: those of which `is_there` says no. What became of them is not known any more.
    /// Answers what is to be stored.
    pub(super) fn lose(&mut self, is_there: impl Fn(Dot) -> bool) -> Vec<log::Item> {
        let lost: BTreeSet<Key> =
            self.known.iter().filter(|(_, dot)| !is_there(**dot)).map(|(key, _)| *key).collect();
        self.order.retain(|(_, key)| !lost.contains(key));
        let mut items = Vec::new();
        for key in &lost {
            self.known.remove(key);
            items.push(log::Item { key: Bytes::copy_from_slice(key), value: None });
            let place = self.next_place();
            self.went(client_of(key), seq_of(key), place);
        }
        items.extend(self.gone_items(lost.iter().map(client_of).collect()));
        items
    }

    /// The items of what is remembered of these clients.
    fn gone_items(&self, clients: BTreeSet<Client>) -> impl Iterator<Item = log::Item> {
        clients.into_iter().map(|client| {
            let (seq, place) = self.gone[&client];
            put(&gone_key(&client), gone_value(seq, place))
        })
    }

    /// What became of a write with this id before.
    pub(super) fn earlier(&self, id: &v1::WriteId) -> Earlier {
        let Some(key) = key(id) else { return Earlier::None };
        if let Some(dot) = self.known.get(&key) {
            return Earlier::Taken(*dot);
        }
        let gone = self.gone.get(&client_of(&key));
        if gone.is_some_and(|(seq, _)| id.seq <= *seq) { Earlier::Gone } else { Earlier::None }
    }

    /// A write is taken under this id.
    pub(super) fn take(&mut self, id: &v1::WriteId, dot: Dot, now: Ticks) {
        let Some(key) = key(id) else { return };
        self.known.insert(key, dot);
        self.fresh.push((now, key));
    }

    /// Whether the write was taken since items were given out last.
    pub(super) fn is_fresh(&self, dot: Dot) -> bool {
        self.fresh.iter().any(|(_, key)| self.known.get(key) == Some(&dot))
    }

    /// What is to be stored, and what is old enough to go.
    pub(super) fn take_items(&mut self, now: Ticks) -> Vec<log::Item> {
        let mut items = Vec::new();
        for (taken, key) in std::mem::take(&mut self.fresh) {
            let Some(dot) = self.known.get(&key).copied() else { continue };
            items.push(put(&key, value(dot, self.next_place())));
            self.order.push_back((taken, key));
        }
        // Only beside something else: nothing waits for it, and an idle node writes nothing.
        if items.is_empty() {
            return items;
        }
        let is_old = |taken: Ticks| now.0.saturating_sub(taken.0) > KEPT_TICKS;
        // Some more than come, so that a log entry stays small.
        let mut left = 2 * items.len() + REMOVED_MIN;
        let mut clients = BTreeSet::new();
        while let Some((taken, key)) = self.order.front().copied()
            && (is_old(taken) || self.order.len() > IDS_MAX)
            && left > 0
        {
            left -= 1;
            self.order.pop_front();
            self.known.remove(&key);
            items.push(log::Item { key: Bytes::copy_from_slice(&key), value: None });
            let place = self.next_place();
            self.went(client_of(&key), seq_of(&key), place);
            clients.insert(client_of(&key));
        }
        items.extend(self.gone_items(clients));
        while self.gone.len() > GONE_CLIENTS_MAX
            && let Some((_, client)) = self.gone_order.pop_first()
        {
            self.gone.remove(&client);
            items.push(log::Item { key: Bytes::copy_from_slice(&gone_key(&client)), value: None });
        }
        items
    }

    /// A client's ids up to this one are not known any more.
    fn went(&mut self, client: Client, seq: u64, place: u64) {
        let (highest, before) = self.gone.get(&client).copied().unwrap_or_default();
        self.gone_order.remove(&before);
        self.gone.insert(client, (seq.max(highest), place));
        self.gone_order.insert(place, client);
    }

    fn next_place(&mut self) -> u64 {
        self.last_place += 1;
        self.last_place
    }
}

fn key(id: &v1::WriteId) -> Option<Key> {
    let mut key = [0; KEY_BYTES];
    key[0] = KIND;
    if id.client_id.len() != CLIENT_BYTES {
        return None;
    }
    key[1..=CLIENT_BYTES].copy_from_slice(&id.client_id);
    key[1 + CLIENT_BYTES..].copy_from_slice(&id.seq.to_be_bytes());
    Some(key)
}

fn client_of(key: &Key) -> Client {
    let mut client = [0; CLIENT_BYTES];
    client.copy_from_slice(&key[1..=CLIENT_BYTES]);
    client
}

fn seq_of(key: &Key) -> u64 {
    let mut seq = [0; 8];
    seq.copy_from_slice(&key[1 + CLIENT_BYTES..]);
    u64::from_be_bytes(seq)
}

fn gone_key(client: &Client) -> [u8; 1 + CLIENT_BYTES] {
    let mut key = [GONE_KIND; 1 + CLIENT_BYTES];
    key[1..].copy_from_slice(client);
    key
}

fn put(key: &[u8], value: Bytes) -> log::Item {
    log::Item { key: Bytes::copy_from_slice(key), value: Some(value) }
}

fn value(dot: Dot, place: u64) -> Bytes {
    let mut out = BytesMut::with_capacity(VALUE_BYTES);
    out.put_slice(dot.actor.as_bytes());
    out.put_u64(dot.counter);
    out.put_u64(place);
    out.freeze()
}

fn gone_value(seq: u64, place: u64) -> Bytes {
    let mut out = BytesMut::with_capacity(16);
    out.put_u64(seq);
    out.put_u64(place);
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

    fn back(items: &[log::Item], now: Ticks) -> WriteIds {
        let mut store = BTreeMap::new();
        for item in items {
            match &item.value {
                Some(value) => store.insert(item.key.clone(), value.clone()),
                None => store.remove(&item.key),
            };
        }
        let mut back = WriteIds::default();
        // In any order.
        for (key, value) in store.iter().rev() {
            assert!(WriteIds::owns(key));
            back.restore(key, value).unwrap();
        }
        back.restored(now);
        back
    }

    #[test]
    fn of_writes_that_are_lost_nothing_is_known() {
        let mut ids = WriteIds::default();
        for seq in 1..=3 {
            ids.take(&id(seq), dot(seq), Ticks(1));
        }
        let mut items = ids.take_items(Ticks(1));
        items.extend(ids.lose(|lost| lost != dot(2)));
        for ids in [&ids, &back(&items, Ticks(5))] {
            assert_eq!(ids.earlier(&id(1)), Earlier::Taken(dot(1)));
            assert_eq!(ids.earlier(&id(2)), Earlier::Gone);
            assert_eq!(ids.earlier(&id(3)), Earlier::Taken(dot(3)));
            assert_eq!(ids.earlier(&id(4)), Earlier::None);
        }
        assert!(ids.lose(|_| true).is_empty());
    }

    #[test]
    fn ids_come_back_from_their_items_and_go_with_age() {
        let mut ids = WriteIds::default();
        ids.take(&id(1), dot(1), Ticks(20));
        ids.take(&id(2), dot(2), Ticks(40));
        let mut items = ids.take_items(Ticks(40));
        assert_eq!(items.len(), 2);
        assert!(ids.take_items(Ticks(40)).is_empty(), "given out once");
        ids.take(&id(3), dot(3), Ticks(21 + KEPT_TICKS));
        items.extend(ids.take_items(Ticks(21 + KEPT_TICKS)));
        for ids in [&ids, &back(&items, Ticks(5))] {
            assert_eq!(ids.earlier(&id(1)), Earlier::Gone);
            assert_eq!(ids.earlier(&id(2)), Earlier::Taken(dot(2)));
            assert_eq!(ids.earlier(&id(3)), Earlier::Taken(dot(3)));
            assert_eq!(ids.earlier(&id(4)), Earlier::None);
            let other = v1::WriteId { client_id: vec![6; 16].into(), ..id(1) };
            assert_eq!(ids.earlier(&other), Earlier::None);
        }
        // After a start they are as young as if they had just come, and go in the same order.
        let mut ids = back(&items, Ticks(5));
        ids.take(&id(4), dot(4), Ticks(5 + KEPT_TICKS));
        assert_eq!(ids.take_items(Ticks(5 + KEPT_TICKS)).len(), 1);
        ids.take(&id(5), dot(5), Ticks(6 + KEPT_TICKS));
        let items = ids.take_items(Ticks(6 + KEPT_TICKS));
        let removed = items.iter().filter(|item| item.value.is_none());
        assert_eq!(removed.count(), 2);
        assert_eq!(ids.earlier(&id(3)), Earlier::Gone);
        assert_eq!(ids.earlier(&id(4)), Earlier::Taken(dot(4)));
        assert!(ids.restore(b"w", b"").is_err() && ids.restore(b"W", b"").is_err());
    }

    #[test]
    fn of_too_many_clients_the_oldest_are_not_remembered() {
        let mut ids = WriteIds::default();
        let client = |number: u64| {
            let mut client = [0; CLIENT_BYTES];
            client[..8].copy_from_slice(&number.to_be_bytes());
            v1::WriteId { client_id: client.to_vec().into(), ..id(1) }
        };
        let count = GONE_CLIENTS_MAX as u64 + 10;
        for number in 0..count {
            ids.take(&client(number), dot(number + 1), Ticks(1));
        }
        let mut items = ids.take_items(Ticks(1));
        ids.take(&id(1), dot(count + 1), Ticks(3 + KEPT_TICKS));
        while ids.earlier(&client(count - 1)) != Earlier::Gone {
            ids.take(&id(2), dot(count + 2), Ticks(3 + KEPT_TICKS));
            items.extend(ids.take_items(Ticks(3 + KEPT_TICKS)));
        }
        assert_eq!(ids.gone.len(), GONE_CLIENTS_MAX);
        assert_eq!(ids.earlier(&client(0)), Earlier::None);
        assert_eq!(ids.earlier(&client(10)), Earlier::Gone);
        let back = back(&items, Ticks(1));
        assert_eq!((back.gone, back.gone_order), (ids.gone, ids.gone_order));
    }
}
