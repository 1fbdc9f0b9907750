//! What a client has seen of the keys of eventual keyspaces: their causal tokens, for its next writes.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Mutex, MutexGuard, PoisonError};

use bytes::Bytes;

/// Bytes of keyspaces, keys and tokens that are remembered; what was not used for the longest time is
/// forgotten first. A write of a forgotten key supersedes what the replica holds that takes it.
const REMEMBERED_BYTES_MAX: usize = 16 * 1024 * 1024;
/// What an entry takes besides its keyspace (once in each of two maps), key and token, about.
const ENTRY_BYTES: usize = 256;

/// The tokens by keyspace and key.
///
/// Invariants: `turns` holds each key of `tokens` once, under its turn; `bytes` is the sum over all.
#[derive(Debug, Default)]
pub(crate) struct Contexts(Mutex<Remembered>);

#[derive(Debug, Default)]
struct Remembered {
    tokens: HashMap<Key, Token>,
    /// In the order of their last use.
    turns: BTreeMap<u64, Key>,
    turn: u64,
    bytes: usize,
}

type Key = (String, Bytes);

#[derive(Debug)]
struct Token {
    bytes: Bytes,
    turn: u64,
}

impl Contexts {
    fn lock(&self) -> MutexGuard<'_, Remembered> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The token of a key; empty when none is remembered.
    pub(crate) fn get(&self, keyspace: &str, key: &Bytes) -> Bytes {
        let mut remembered = self.lock();
        let key = (keyspace.to_owned(), key.clone());
        let token = remembered.forget(&key);
        if let Some(token) = token.clone() {
            remembered.put(key, token);
        }
        token.unwrap_or_default()
    }

    /// Remembers the token of a key in place of the one before. An empty one says that the token would
    /// be too long: then the one before stays, which covers less and is as good.
    pub(crate) fn put(&self, keyspace: &str, key: &Bytes, token: &Bytes) {
        if token.is_empty() {
            return;
        }
        let mut remembered = self.lock();
        // Parts of a message would keep all of it in memory.
        let copy = |bytes: &Bytes| Bytes::copy_from_slice(bytes);
        let key = (keyspace.to_owned(), copy(key));
        remembered.forget(&key);
        remembered.put(key, copy(token));
        while remembered.bytes > REMEMBERED_BYTES_MAX {
            let (_, oldest) = remembered.turns.first_key_value().expect("what takes room is there");
            let oldest = oldest.clone();
            remembered.forget(&oldest);
        }
    }

    /// Forgets the token of a key: it is of no use any more.
    pub(crate) fn forget(&self, keyspace: &str, key: &Bytes) {
        self.lock().forget(&(keyspace.to_owned(), key.clone()));
    }
}

impl Remembered {
    fn put(&mut self, key: Key, token: Bytes) {
        self.turn += 1;
        self.bytes += size(&key, &token);
        self.turns.insert(self.turn, key.clone());
        self.tokens.insert(key, Token { bytes: token, turn: self.turn });
    }

    fn forget(&mut self, key: &Key) -> Option<Bytes> {
        let Token { bytes, turn } = self.tokens.remove(key)?;
        self.turns.remove(&turn);
        self.bytes -= size(key, &bytes);
        Some(bytes)
    }
}

fn size((keyspace, key): &Key, token: &Bytes) -> usize {
    2 * keyspace.len() + key.len() + token.len() + ENTRY_BYTES
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_token_of_a_key_is_remembered() {
        let contexts = Contexts::default();
        let key = Bytes::from_static(b"a");
        assert_eq!(contexts.get("k", &key), "");
        contexts.put("k", &key, &Bytes::from_static(b"1"));
        contexts.put("other", &key, &Bytes::from_static(b"2"));
        assert_eq!(
            (contexts.get("k", &key), contexts.get("other", &key)),
            ("1".into(), "2".into())
        );
        contexts.put("k", &key, &Bytes::from_static(b"3"));
        contexts.put("k", &key, &Bytes::new());
        assert_eq!(contexts.get("k", &key), "3", "an empty one says nothing");
        contexts.forget("k", &key);
        assert_eq!((contexts.get("k", &key), contexts.get("other", &key)), ("".into(), "2".into()));
    }

    #[test]
    fn what_was_not_used_for_the_longest_time_goes_first() {
        let contexts = Contexts::default();
        let key = |number: usize| Bytes::from(format!("{number:08}"));
        let token = Bytes::from(vec![7; 1_000]);
        let fits = REMEMBERED_BYTES_MAX / size(&("k".to_owned(), key(0)), &token);
        for number in 0..fits {
            contexts.put("k", &key(number), &token);
        }
        assert_eq!(contexts.get("k", &key(0)), token);
        contexts.put("k", &key(fits), &token);
        assert_eq!(contexts.get("k", &key(0)), token, "it was used since");
        assert_eq!(contexts.get("k", &key(1)), "");
        let remembered = contexts.lock();
        assert_eq!(remembered.tokens.len(), fits);
        assert_eq!(remembered.turns.len(), fits);
        assert!(remembered.bytes <= REMEMBERED_BYTES_MAX);
    }
}
