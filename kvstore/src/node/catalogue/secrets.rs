//! What the catalogue records of the cluster's secrets: which there are, never what they are.

use std::collections::BTreeMap;

use proto::{Code, log};

use super::Verdict;
use crate::secrets::{Fingerprint, SecretId, SecretKind};

/// Fingerprints of the secrets of the cluster.
///
/// Invariant: per kind the numbers are consecutive. All that is recorded is wanted: the newest of each kind
/// is in use, older ones verify.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SecretRecords(BTreeMap<SecretId, Fingerprint>);

impl SecretRecords {
    /// The records of an export; what is not understood is left out.
    pub(super) fn restored(records: &[log::SecretRecord]) -> Self {
        Self(records.iter().filter_map(read).collect())
    }

    pub(super) fn exported(&self) -> Vec<log::SecretRecord> {
        self.iter().map(|(id, fingerprint)| record(id, fingerprint)).collect()
    }

    /// All of them, by kind and number.
    pub fn iter(&self) -> impl Iterator<Item = (SecretId, Fingerprint)> {
        self.0.iter().map(|(id, fingerprint)| (*id, *fingerprint))
    }

    /// The fingerprint of this secret.
    #[must_use]
    pub fn get(&self, id: SecretId) -> Option<Fingerprint> {
        self.0.get(&id).copied()
    }

    /// The newest of a kind.
    #[must_use]
    pub fn newest(&self, kind: SecretKind) -> Option<(SecretId, Fingerprint)> {
        self.iter().filter(|(id, _)| id.kind == kind).last()
    }

    /// Records a secret; returns its number. The first proposal for a number wins.
    pub(super) fn put(&mut self, put: &log::PutSecret) -> Verdict {
        let wanted = put.secret.as_ref().and_then(read);
        let (id, fingerprint) = wanted.ok_or(Code::InvalidRequest)?;
        if self.get(id) == Some(fingerprint) {
            return Ok(id.number.into());
        }
        let next = self.newest(id.kind).map_or(Some(1), |(newest, _)| newest.number.checked_add(1));
        if Some(id.number) != next {
            return Err(Code::ConditionFailed);
        }
        if put.lost {
            self.0.retain(|known, _| known.kind != id.kind);
        }
        self.0.insert(id, fingerprint);
        Ok(id.number.into())
    }
}

/// The command that records a secret.
pub(in crate::node) fn record(id: SecretId, fingerprint: Fingerprint) -> log::SecretRecord {
    let fingerprint = fingerprint.0.to_vec().into();
    log::SecretRecord { kind: id.wire_kind(), number: id.number, fingerprint }
}

fn read(record: &log::SecretRecord) -> Option<(SecretId, Fingerprint)> {
    let id = SecretId::from_wire(record.kind, record.number)?;
    Some((id, Fingerprint::from_slice(&record.fingerprint)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(name: &str) -> SecretId {
        SecretId::parse(name).unwrap()
    }

    fn put(records: &mut SecretRecords, name: &str, bytes: u8, lost: bool) -> Verdict {
        let secret = Some(record(id(name), Fingerprint([bytes; 32])));
        records.put(&log::PutSecret { secret, lost })
    }

    #[test]
    fn the_first_proposal_for_a_number_wins() {
        let mut records = SecretRecords::default();
        assert_eq!(put(&mut records, "token-2", 1, false), Err(Code::ConditionFailed));
        assert_eq!(put(&mut records, "token-1", 1, false), Ok(1));
        assert_eq!(put(&mut records, "token-1", 2, false), Err(Code::ConditionFailed));
        assert_eq!(put(&mut records, "token-1", 1, false), Ok(1), "said again");
        assert_eq!(put(&mut records, "token-2", 2, false), Ok(2));
        assert_eq!(put(&mut records, "tree-1", 3, false), Ok(1), "kinds are counted apart");
        assert_eq!(records.newest(SecretKind::Token), Some((id("token-2"), Fingerprint([2; 32]))));
        assert_eq!(records.get(id("token-1")), Some(Fingerprint([1; 32])));
        assert_eq!(SecretRecords::restored(&records.exported()), records);
    }

    #[test]
    fn what_is_lost_is_forgotten_once_there_is_another_one() {
        let mut records = SecretRecords::default();
        for (name, bytes) in [("tree-1", 1), ("token-1", 2), ("token-2", 3)] {
            put(&mut records, name, bytes, false).unwrap();
        }
        assert_eq!(put(&mut records, "token-2", 9, true), Err(Code::ConditionFailed));
        assert_eq!(put(&mut records, "token-3", 9, true), Ok(3));
        let left: Vec<_> = records.iter().map(|(id, _)| id.to_string()).collect();
        assert_eq!(left, ["tree-1", "token-3"]);
        // The order that was refused comes late.
        assert_eq!(put(&mut records, "token-3", 8, true), Err(Code::ConditionFailed));
    }

    #[test]
    fn what_is_no_record_is_refused() {
        let mut records = SecretRecords::default();
        let good = record(id("tree-1"), Fingerprint([1; 32]));
        for bad in [
            None,
            Some(log::SecretRecord { kind: 0, ..good.clone() }),
            Some(log::SecretRecord { number: 0, ..good.clone() }),
            Some(log::SecretRecord { fingerprint: vec![1; 31].into(), ..good }),
        ] {
            let put = log::PutSecret { secret: bad, lost: true };
            assert_eq!(records.put(&put), Err(Code::InvalidRequest));
        }
        assert_eq!(records, SecretRecords::default());
    }
}
