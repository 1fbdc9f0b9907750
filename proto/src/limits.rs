//! Every limit of a request, by name, and the checks that enforce them.
//!
//! The client library runs the same checks before it sends, the server runs them before anything
//! is written; a refused request has therefore certainly not been applied.

use bytes::Bytes;

use crate::error::{Applied, Code, Failure};
use crate::{log, v1};

/// Longest key.
pub const KEY_BYTES_MAX: usize = 4 * 1024;
/// Longest value.
pub const VALUE_BYTES_MAX: usize = 1024 * 1024;
/// Longest key of an item that a node remembers by itself: the key of a client, and what it belongs to.
pub const ITEM_KEY_BYTES_MAX: usize = KEY_BYTES_MAX + 40;
/// Longest value of such an item.
pub const ITEM_VALUE_BYTES_MAX: usize = 3 * 1024 * 1024;
/// Most operations of a transaction; compares, both branches together.
pub const TXN_OPERATIONS_MAX: usize = 128;
/// Largest request, encoded.
pub const REQUEST_BYTES_MAX: usize = 1536 * 1024;
/// Largest message between peers, encoded.
pub const PEER_MESSAGE_BYTES_MAX: usize = 2 * 1024 * 1024 + 64 * 1024;
/// Most items of one page of a range.
pub const PAGE_ITEMS_MAX: usize = 1_000;
/// Most bytes of keys and values in one page of a range; the first item is always returned.
pub const PAGE_BYTES_MAX: usize = 1024 * 1024;
/// Most keys that one range delete removes.
pub const RANGE_DELETE_KEYS_MAX: usize = 10_000;
/// Longest name of a keyspace.
pub const KEYSPACE_NAME_BYTES_MAX: usize = 128;
/// Most values of a key of an eventual keyspace that live beside each other; a write that would add one more is refused.
/// What replicas took apart from each other may exceed it.
pub const SIBLINGS_MAX: usize = 32;
/// Most bytes of siblings in one reply; the first is always returned.
pub const SIBLINGS_BYTES_MAX: usize = 1024 * 1024;
/// Longest causal token.
pub const TOKEN_BYTES_MAX: usize = 4096;
/// Longest time to live: ten years.
pub const TTL_MS_MAX: u64 = 10 * 365 * 24 * 3_600_000;
/// Requests waiting in a node's admission queue.
pub const ADMISSION_REQUESTS_MAX: usize = 8_192;
/// Bytes of requests waiting in a node's admission queue.
pub const ADMISSION_BYTES_MAX: usize = 64 * 1024 * 1024;

fn refused(code: Code, subject: &str, why: String) -> Failure {
    Failure::new(code, subject, why).applied(Applied::No)
}

/// Checks the length of a key.
///
/// # Errors
/// [`Code::KeyEmpty`], [`Code::KeyTooLarge`].
pub fn check_key(key: &[u8]) -> Result<(), Failure> {
    if key.is_empty() {
        return Err(refused(Code::KeyEmpty, "key", "a key has at least one byte".into()));
    }
    if key.len() > KEY_BYTES_MAX {
        let why = format!("the key has {} bytes; at most {KEY_BYTES_MAX} are allowed", key.len());
        return Err(refused(Code::KeyTooLarge, "key", why));
    }
    Ok(())
}

/// Checks the length of a value.
///
/// # Errors
/// [`Code::ValueTooLarge`].
pub fn check_value(value: &[u8]) -> Result<(), Failure> {
    if value.len() > VALUE_BYTES_MAX {
        let why =
            format!("the value has {} bytes; at most {VALUE_BYTES_MAX} are allowed", value.len());
        return Err(refused(Code::ValueTooLarge, "value", why));
    }
    Ok(())
}

/// Checks the length of a causal token.
///
/// # Errors
/// [`Code::TokenInvalid`].
pub fn check_token(token: &[u8]) -> Result<(), Failure> {
    if token.len() > TOKEN_BYTES_MAX {
        let why =
            format!("the token has {} bytes; none is longer than {TOKEN_BYTES_MAX}", token.len());
        return Err(refused(Code::TokenInvalid, "token", why));
    }
    Ok(())
}

/// Checks a time to live.
///
/// # Errors
/// [`Code::InvalidRequest`].
pub fn check_ttl(ttl_ms: u64) -> Result<(), Failure> {
    if ttl_ms > TTL_MS_MAX {
        let why = format!("a time to live of {ttl_ms} ms; {TTL_MS_MAX} at most are allowed");
        return Err(refused(Code::InvalidRequest, "ttl", why));
    }
    Ok(())
}

/// Checks the sizes of an item that a node remembers by itself.
///
/// # Errors
/// [`Code::KeyEmpty`], [`Code::KeyTooLarge`], [`Code::ValueTooLarge`].
pub fn check_item(item: &log::Item) -> Result<(), Failure> {
    let (key, value) = (item.key.len(), item.value.as_ref().map_or(0, Bytes::len));
    if key == 0 {
        return Err(refused(Code::KeyEmpty, "item", "an item has a key".into()));
    }
    if key > ITEM_KEY_BYTES_MAX {
        let why = format!("its key has {key} bytes; at most {ITEM_KEY_BYTES_MAX} are allowed");
        return Err(refused(Code::KeyTooLarge, "item", why));
    }
    if value > ITEM_VALUE_BYTES_MAX {
        let why =
            format!("its value has {value} bytes; at most {ITEM_VALUE_BYTES_MAX} are allowed");
        return Err(refused(Code::ValueTooLarge, "item", why));
    }
    Ok(())
}

/// Checks the name of a keyspace.
///
/// # Errors
/// [`Code::InvalidRequest`].
pub fn check_keyspace(name: &str) -> Result<(), Failure> {
    if name.is_empty() || name.len() > KEYSPACE_NAME_BYTES_MAX {
        let why = format!("the name of a keyspace has 1 to {KEYSPACE_NAME_BYTES_MAX} bytes");
        return Err(refused(Code::InvalidRequest, "keyspace", why));
    }
    Ok(())
}

fn check_range_end(key: &[u8], range_end: &[u8]) -> Result<(), Failure> {
    if range_end.is_empty() {
        return Ok(());
    }
    if range_end.len() > KEY_BYTES_MAX {
        let why = format!("the end of the range has {} bytes", range_end.len());
        return Err(refused(Code::KeyTooLarge, "range end", why));
    }
    if range_end <= key {
        let why = "the end of the range is not after its start".to_owned();
        return Err(refused(Code::InvalidRequest, "range", why));
    }
    Ok(())
}

/// Checks a compare of a transaction or a condition.
///
/// # Errors
/// Those of [`check_key`] and [`check_value`]; [`Code::InvalidRequest`] without a target.
pub fn check_compare(compare: &v1::Compare) -> Result<(), Failure> {
    use v1::compare::Target;
    check_key(&compare.key)?;
    match &compare.target {
        Some(Target::Value(value)) => check_value(value),
        Some(Target::ModRev(_) | Target::CreateRev(_) | Target::Version(_) | Target::Absent(_)) => {
            Ok(())
        }
        None => {
            Err(refused(Code::InvalidRequest, "compare", "a compare names what it compares".into()))
        }
    }
}

/// Checks one operation of a transaction.
///
/// # Errors
/// Those of [`check_key`] and [`check_value`]; [`Code::InvalidRequest`] for an empty operation.
pub fn check_op(op: &v1::Op) -> Result<(), Failure> {
    use v1::op::Op;
    match &op.op {
        Some(Op::Put(put)) => check_key(&put.key).and_then(|()| check_value(&put.value)),
        Some(Op::Delete(delete)) => {
            check_key(&delete.key)?;
            check_range_end(&delete.key, &delete.range_end)
        }
        Some(Op::Get(get)) => check_key(&get.key),
        None => Err(refused(Code::InvalidRequest, "operation", "the operation is empty".into())),
    }
}

/// Checks a whole transaction: sizes, number of operations, and that no branch writes a key twice.
///
/// # Errors
/// Those of [`check_compare`] and [`check_op`]; [`Code::TooManyOperations`];
/// [`Code::KeyWrittenTwice`].
pub fn check_txn(
    compares: &[v1::Compare],
    then_ops: &[v1::Op],
    else_ops: &[v1::Op],
) -> Result<(), Failure> {
    let operations = compares.len() + then_ops.len() + else_ops.len();
    if operations > TXN_OPERATIONS_MAX {
        let why = format!("{operations} operations; at most {TXN_OPERATIONS_MAX} are allowed");
        return Err(refused(Code::TooManyOperations, "transaction", why));
    }
    compares.iter().try_for_each(check_compare)?;
    for branch in [then_ops, else_ops] {
        branch.iter().try_for_each(check_op)?;
        check_written_once(branch)?;
    }
    Ok(())
}

/// A branch writes each key at most once: otherwise one revision would hold two versions of it.
fn check_written_once(branch: &[v1::Op]) -> Result<(), Failure> {
    use v1::op::Op;
    let mut spans: Vec<(&[u8], Option<&[u8]>)> = Vec::new();
    for op in branch {
        match &op.op {
            Some(Op::Put(put)) => spans.push((&put.key, None)),
            Some(Op::Delete(delete)) if delete.range_end.is_empty() => {
                spans.push((&delete.key, None));
            }
            Some(Op::Delete(delete)) => spans.push((&delete.key, Some(&delete.range_end))),
            Some(Op::Get(_)) | None => {}
        }
    }
    spans.sort_unstable();
    for pair in spans.windows(2) {
        let (first, second) = (pair[0], pair[1]);
        let overlap = match first.1 {
            Some(end) => second.0 < end,
            None => second.0 == first.0,
        };
        if overlap {
            let why = "one branch of a transaction writes a key at most once".to_owned();
            return Err(refused(Code::KeyWrittenTwice, "transaction", why));
        }
    }
    Ok(())
}

/// Checks the bounds of a range read.
///
/// # Errors
/// [`Code::KeyTooLarge`]; [`Code::InvalidRequest`] when the end is not after the start.
pub fn check_range(from: &[u8], to: &[u8]) -> Result<(), Failure> {
    if from.len() > KEY_BYTES_MAX {
        let why = format!("the start of the range has {} bytes", from.len());
        return Err(refused(Code::KeyTooLarge, "range start", why));
    }
    check_range_end(from, to)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put(key: &'static str) -> v1::Op {
        let put = v1::PutOp { key: Bytes::from_static(key.as_bytes()), ..Default::default() };
        v1::Op { op: Some(v1::op::Op::Put(put)) }
    }

    fn delete(key: &'static str, end: &'static str) -> v1::Op {
        let delete = v1::DeleteOp {
            key: Bytes::from_static(key.as_bytes()),
            range_end: Bytes::from_static(end.as_bytes()),
            prev: false,
        };
        v1::Op { op: Some(v1::op::Op::Delete(delete)) }
    }

    #[test]
    fn sizes_are_checked_at_their_edges() {
        assert!(check_key(&[0; KEY_BYTES_MAX]).is_ok());
        assert_eq!(check_key(&[0; KEY_BYTES_MAX + 1]).unwrap_err().code, Code::KeyTooLarge);
        assert_eq!(check_key(&[]).unwrap_err().code, Code::KeyEmpty);
        assert!(check_value(&vec![0; VALUE_BYTES_MAX]).is_ok());
        let large = check_value(&vec![0; VALUE_BYTES_MAX + 1]).unwrap_err();
        assert_eq!((large.code, large.applied), (Code::ValueTooLarge, Some(Applied::No)));
    }

    #[test]
    fn items_may_be_larger_than_what_clients_write() {
        let item = |key: usize, value: usize| log::Item {
            key: vec![1; key].into(),
            value: Some(vec![2; value].into()),
        };
        assert!(check_item(&item(ITEM_KEY_BYTES_MAX, ITEM_VALUE_BYTES_MAX)).is_ok());
        let code = |item| check_item(&item).unwrap_err().code;
        assert_eq!(code(item(0, 1)), Code::KeyEmpty);
        assert_eq!(code(item(ITEM_KEY_BYTES_MAX + 1, 0)), Code::KeyTooLarge);
        assert_eq!(code(item(1, ITEM_VALUE_BYTES_MAX + 1)), Code::ValueTooLarge);
    }

    #[test]
    fn operations_are_counted_over_all_branches() {
        let ops: Vec<v1::Op> = (0..64).map(|_| v1::Op { op: put("k").op }).collect();
        let distinct: Vec<v1::Op> = vec![put("a"), put("b")];
        assert!(check_txn(&[], &distinct, &distinct).is_ok());
        let gets: Vec<v1::Op> = (0..=TXN_OPERATIONS_MAX)
            .map(|_| v1::Op {
                op: Some(v1::op::Op::Get(v1::GetOp { key: Bytes::from_static(b"g") })),
            })
            .collect();
        assert!(check_txn(&[], &gets[1..], &[]).is_ok());
        assert_eq!(check_txn(&[], &gets, &[]).unwrap_err().code, Code::TooManyOperations);
        assert_eq!(check_txn(&[], &ops, &[]).unwrap_err().code, Code::KeyWrittenTwice);
    }

    #[test]
    fn overlapping_writes_of_one_branch_are_refused() {
        let cases = [
            (vec![put("a"), put("b")], true),
            (vec![put("a"), delete("a", "")], false),
            (vec![put("b"), delete("a", "c")], false),
            (vec![put("c"), delete("a", "c")], true),
            (vec![delete("a", "d"), delete("b", "c")], false),
        ];
        for (ops, fine) in cases {
            assert_eq!(check_txn(&[], &ops, &[]).is_ok(), fine, "{ops:?}");
        }
    }

    #[test]
    fn ranges_run_forward() {
        assert!(check_range(b"a", b"").is_ok());
        assert!(check_range(b"a", b"b").is_ok());
        assert_eq!(check_range(b"b", b"b").unwrap_err().code, Code::InvalidRequest);
    }
}
