//! What a write came to, in the form that is kept for retries: without values.

use proto::{ClientId, LogIndex, Revision, WriteSeq, log, v1};

use v1::op_result::Result as OpResult;

/// The outcome of a write that was executed, without the items it returned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// Revision of the keyspace after the write; 0 when there is no such keyspace.
    pub revision: Revision,
    /// The compares held.
    pub succeeded: bool,
    /// Number of the code with which the write was refused; 0 when it was executed.
    pub refused: u32,
    /// What each operation did.
    pub effects: Effects,
}

/// What the operations of a write did, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effects {
    /// One put: the usual case, which needs no memory of its own.
    OnePut,
    /// Anything else.
    Other(Box<[Effect]>),
}

/// What one operation did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// It put a key.
    Put,
    /// It read a key.
    Get,
    /// It deleted this many keys.
    Delete(u64),
}

impl Outcome {
    /// The outcome as it is kept.
    pub fn strip(outcome: &log::WriteOutcome) -> Self {
        Self {
            revision: Revision(outcome.revision),
            succeeded: outcome.succeeded,
            refused: outcome.refused,
            effects: Effects::strip(&outcome.results),
        }
    }

    /// The answer to a retry.
    pub fn replay(&self) -> log::WriteOutcome {
        log::WriteOutcome {
            revision: self.revision.get(),
            succeeded: self.succeeded,
            results: self.effects.iter().map(|effect| effect.to_result()).collect(),
            replayed: true,
            refused: self.refused,
        }
    }
}

impl Effects {
    fn strip(results: &[v1::OpResult]) -> Self {
        let effects: Box<[Effect]> = match results {
            [v1::OpResult { result: Some(OpResult::Put(_)) }] => return Self::OnePut,
            results => results.iter().map(Effect::of).collect(),
        };
        Self::Other(effects)
    }

    fn from_vec(effects: Vec<Effect>) -> Self {
        if effects == [Effect::Put] { Self::OnePut } else { Self::Other(effects.into()) }
    }

    /// The effects in order.
    pub fn iter(&self) -> impl Iterator<Item = &Effect> {
        match self {
            Self::OnePut => [Effect::Put].iter(),
            Self::Other(effects) => effects.iter(),
        }
    }

    /// Number of effects that take memory of their own.
    pub fn allocated(&self) -> usize {
        match self {
            Self::OnePut => 0,
            Self::Other(effects) => effects.len(),
        }
    }
}

impl Effect {
    fn of(result: &v1::OpResult) -> Self {
        match &result.result {
            Some(OpResult::Put(_)) => Self::Put,
            Some(OpResult::Delete(delete)) => Self::Delete(delete.deleted),
            Some(OpResult::Get(_)) => Self::Get,
            None => unreachable!("each operation has a result of its kind"),
        }
    }

    fn to_result(self) -> v1::OpResult {
        let result = match self {
            Self::Put => OpResult::Put(v1::PutResult { prev: None }),
            Self::Get => OpResult::Get(v1::GetResult { item: None }),
            Self::Delete(deleted) => {
                OpResult::Delete(v1::DeleteResult { deleted, prev: Vec::new() })
            }
        };
        v1::OpResult { result: Some(result) }
    }

    /// The effect as one number: 0 put, 1 get, 2 and more a delete of that many keys less 2.
    fn number(self) -> u64 {
        match self {
            Self::Put => 0,
            Self::Get => 1,
            Self::Delete(deleted) => deleted + 2,
        }
    }

    fn from_number(number: u64) -> Self {
        match number {
            0 => Self::Put,
            1 => Self::Get,
            more => Self::Delete(more - 2),
        }
    }
}

/// An outcome with the write it belongs to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kept {
    /// Who wrote.
    pub client: ClientId,
    /// Which write of this client.
    pub seq: WriteSeq,
    /// The highest `first_open` that the client had sent up to and with this write.
    pub first_open: WriteSeq,
    /// What it came to.
    pub outcome: Outcome,
}

/// The record of an outcome in the state store.
#[derive(Clone, PartialEq, prost::Message)]
pub struct OutcomeRecord {
    #[prost(bytes = "bytes", tag = "1")]
    client: bytes::Bytes,
    #[prost(uint64, tag = "2")]
    seq: u64,
    #[prost(uint64, tag = "3")]
    first_open: u64,
    #[prost(uint64, tag = "4")]
    revision: u64,
    #[prost(bool, tag = "5")]
    succeeded: bool,
    #[prost(uint32, tag = "6")]
    refused: u32,
    #[prost(uint64, repeated, tag = "7")]
    effects: Vec<u64>,
    #[prost(uint64, tag = "8")]
    index: u64,
}

impl OutcomeRecord {
    /// The record of the outcome of the write at `index`.
    pub fn new(index: LogIndex, kept: &Kept) -> Self {
        Self {
            client: bytes::Bytes::copy_from_slice(&kept.client.0),
            seq: kept.seq.get(),
            first_open: kept.first_open.get(),
            revision: kept.outcome.revision.get(),
            succeeded: kept.outcome.succeeded,
            refused: kept.outcome.refused,
            effects: kept.outcome.effects.iter().map(|effect| effect.number()).collect(),
            index: index.get(),
        }
    }

    /// What the record says; `None` when it is not one of ours, or not that of `index`.
    pub fn read(self, index: LogIndex) -> Option<Kept> {
        let client = ClientId::from_slice(&self.client).filter(|_| self.index == index.get())?;
        Some(Kept {
            client,
            seq: WriteSeq(self.seq),
            first_open: WriteSeq(self.first_open),
            outcome: Outcome {
                revision: Revision(self.revision),
                succeeded: self.succeeded,
                refused: self.refused,
                effects: Effects::from_vec(
                    self.effects.into_iter().map(Effect::from_number).collect(),
                ),
            },
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use prost::Message;

    fn results(results: Vec<OpResult>) -> Vec<v1::OpResult> {
        results.into_iter().map(|result| v1::OpResult { result: Some(result) }).collect()
    }

    #[test]
    fn a_replay_is_the_first_answer_without_values() {
        let item = || Some(v1::Item { key: "k".into(), value: "v".into(), ..Default::default() });
        let put = |prev| OpResult::Put(v1::PutResult { prev });
        let get = |item| OpResult::Get(v1::GetResult { item });
        let delete = |prev| OpResult::Delete(v1::DeleteResult { deleted: 3, prev });
        let cases = [
            (vec![], vec![]),
            (vec![put(item())], vec![put(None)]),
            (vec![get(item())], vec![get(None)]),
            (
                vec![put(None), get(item()), delete(vec![item().unwrap()])],
                vec![put(None), get(None), delete(vec![])],
            ),
        ];
        for (given, replayed) in cases {
            let first = log::WriteOutcome {
                revision: 9,
                succeeded: true,
                results: results(given),
                replayed: false,
                refused: 0,
            };
            let expected =
                log::WriteOutcome { results: results(replayed), replayed: true, ..first.clone() };
            assert_eq!(Outcome::strip(&first).replay(), expected);
        }
    }

    #[test]
    fn records_survive_the_store() {
        let effects = [
            Effects::OnePut,
            Effects::Other(Box::new([])),
            Effects::Other(Box::new([Effect::Delete(0), Effect::Get, Effect::Put])),
            Effects::Other(Box::new([Effect::Delete(10_000)])),
        ];
        for effects in effects {
            let outcome =
                Outcome { revision: Revision(7), succeeded: true, refused: 1011, effects };
            let (client, seq) = (ClientId([3; 16]), WriteSeq(8));
            let kept = Kept { client, seq, first_open: WriteSeq(5), outcome };
            let bytes = OutcomeRecord::new(LogIndex(70), &kept).encode_to_vec();
            let read = OutcomeRecord::decode(&bytes[..]).unwrap();
            assert_eq!(read.clone().read(LogIndex(70)), Some(kept));
            assert_eq!(read.read(LogIndex(71)), None, "a record in the wrong place is noticed");
        }
    }
}
