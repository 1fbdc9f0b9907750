//! How many connections one identity may hold.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use client::pki::Identity;

/// Counts open connections by identity.
#[derive(Debug)]
pub(super) struct IdentityLimits {
    max: usize,
    open: Mutex<HashMap<Identity, usize>>,
}

/// One open connection; gives its place back when dropped.
#[derive(Debug)]
pub(super) struct Slot {
    limits: Arc<IdentityLimits>,
    identity: Identity,
}

impl IdentityLimits {
    pub(super) fn new(max: usize) -> Arc<Self> {
        Arc::new(Self { max, open: Mutex::default() })
    }

    /// Takes a place; `None` when the identity holds all it may.
    pub(super) fn take(self: &Arc<Self>, identity: &Identity) -> Option<Slot> {
        let mut open = self.open.lock().expect("nothing panics under this lock");
        let count = open.get(identity).copied().unwrap_or(0);
        if count >= self.max {
            return None;
        }
        open.insert(identity.clone(), count + 1);
        Some(Slot { limits: Arc::clone(self), identity: identity.clone() })
    }
}

impl Slot {
    pub(super) fn identity(&self) -> &Identity {
        &self.identity
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        let mut open = self.limits.open.lock().expect("nothing panics under this lock");
        if let Some(count) = open.get_mut(&self.identity) {
            *count -= 1;
            if *count == 0 {
                open.remove(&self.identity);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_counted_and_given_back() {
        let limits = IdentityLimits::new(2);
        let alice: Identity = "kv:///client/alice".parse().unwrap();
        let bob: Identity = "kv:///client/bob".parse().unwrap();
        let first = limits.take(&alice).unwrap();
        let second = limits.take(&alice).unwrap();
        assert!(limits.take(&alice).is_none());
        assert_eq!(limits.take(&bob).unwrap().identity(), &bob);
        drop(first);
        let third = limits.take(&alice).unwrap();
        drop((second, third));
        assert!(limits.open.lock().unwrap().is_empty());
    }
}
