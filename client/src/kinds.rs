//! Which kind a keyspace is of: it decides where a write may be repeated.

use std::collections::HashMap;
use std::sync::{PoisonError, RwLock};

use proto::v1::keyspace::Kind;
use proto::{Code, Failure};

use crate::config::DEFAULT_KEYSPACE;
use crate::error::ClientError;

/// Keyspaces whose kinds are remembered; beyond it all are forgotten and learned anew.
const KINDS_MAX: usize = 4_096;

/// The kinds that are known. They never change, but a name may come to stand for another keyspace.
#[derive(Debug, Default)]
pub(crate) struct Kinds(RwLock<HashMap<String, Kind>>);

impl Kinds {
    /// The kind of a keyspace, where it is known. `default` is always linearizable.
    pub(crate) fn get(&self, keyspace: &str) -> Option<Kind> {
        if keyspace == DEFAULT_KEYSPACE {
            return Some(Kind::Linearizable);
        }
        self.0.read().unwrap_or_else(PoisonError::into_inner).get(keyspace).copied()
    }

    /// Remembers what an answer says.
    pub(crate) fn learn(&self, keyspace: &str, kind: Kind) {
        if kind == Kind::Unspecified || self.get(keyspace) == Some(kind) {
            return;
        }
        let mut kinds = self.0.write().unwrap_or_else(PoisonError::into_inner);
        if kinds.len() >= KINDS_MAX {
            kinds.clear();
        }
        kinds.insert(keyspace.to_owned(), kind);
    }

    /// Forgets it: an answer does not fit.
    pub(crate) fn forget(&self, keyspace: &str) {
        self.0.write().unwrap_or_else(PoisonError::into_inner).remove(keyspace);
    }
}

/// The error for a name that no keyspace has.
pub(crate) fn no_keyspace(name: &str) -> ClientError {
    refused(Code::KeyspaceNotFound, name, "no keyspace has that name")
}

/// The error for an answer that names no kind.
pub(crate) fn no_kind(name: &str) -> ClientError {
    refused(Code::Internal, name, "a node does not say of which kind it is")
}

fn refused(code: Code, name: &str, why: &str) -> ClientError {
    ClientError::Refused(Box::new(Failure::new(code, format!("keyspace {name:?}"), why)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_are_learned_and_forgotten() {
        let kinds = Kinds::default();
        assert_eq!(kinds.get("default"), Some(Kind::Linearizable));
        assert_eq!(kinds.get("k"), None);
        kinds.learn("k", Kind::Unspecified);
        assert_eq!(kinds.get("k"), None);
        kinds.learn("k", Kind::Eventual);
        assert_eq!(kinds.get("k"), Some(Kind::Eventual));
        kinds.learn("k", Kind::Linearizable);
        assert_eq!(kinds.get("k"), Some(Kind::Linearizable));
        kinds.forget("k");
        assert_eq!(kinds.get("k"), None);
        for number in 0..=KINDS_MAX {
            kinds.learn(&number.to_string(), Kind::Eventual);
        }
        assert_eq!(kinds.get(&KINDS_MAX.to_string()), Some(Kind::Eventual));
        assert!(kinds.0.read().unwrap().len() <= KINDS_MAX);
    }
}
