//! Transactions that append to lists and read them. A list is one key that holds its elements, with a
//! blank between them.
//!
//! A transaction reads the lists that it needs, then appends on condition that none of them has
//! changed: all of it then holds at the moment of its commit. One that only reads is one request.
//! Lists that have got many elements are left, and others are begun.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use client::ClientError;
use proto::v1;
use rand::RngExt;

use super::script::{Hand, Script, Step, answered, write_failed};
use crate::operation::{Call, Function, Operation};
use crate::value::Value;
use crate::wire;

/// Appends after which another list takes the place of one.
const LENGTH: u64 = 40;

/// Most micro-operations of a transaction.
const PARTS_MAX: usize = 4;

/// One process.
#[derive(Debug)]
pub struct ListAppend {
    /// Lists in use at a time.
    pub keys: usize,
    /// The next element; all processes take from it.
    pub next: Arc<AtomicU64>,
}

/// A micro-operation: the key, and the element to append or nothing for a read.
type Part = (String, Option<u64>);

/// A list and the revision that wrote it, 0 for one that is absent.
type Lists = BTreeMap<String, (Vec<String>, u64)>;

impl ListAppend {
    /// The number of a list in use, given how many elements there are.
    fn list(&self, place: u64, elements: u64) -> u64 {
        let keys = self.keys as u64;
        // Each place has lists of its own, which begin one after the other.
        place + keys * (elements / (LENGTH * keys))
    }

    fn plan(&self, hand: &mut Hand) -> Vec<Part> {
        let count = hand.rng.random_range(1..=PARTS_MAX);
        let part = |hand: &mut Hand| {
            let elements = self.next.load(Ordering::Relaxed);
            let list = self.list(hand.rng.random_range(0..self.keys as u64), elements);
            let appends = hand.rng.random_bool(0.5);
            let element = appends.then(|| self.next.fetch_add(1, Ordering::Relaxed));
            (format!("l{list}"), element)
        };
        (0..count).map(|_| part(hand)).collect()
    }
}

impl Script for ListAppend {
    fn step<'s>(&'s mut self, hand: &'s mut Hand) -> Step<'s> {
        Box::pin(async move {
            let parts = self.plan(hand);
            txn(hand, &parts).await
        })
    }

    fn looks(&self) -> usize {
        let elements = self.next.load(Ordering::Relaxed);
        let lists = self.list(self.keys as u64 - 1, elements) + 1;
        usize::try_from(lists).expect("a run has fewer lists than there are numbers")
    }

    fn look<'s>(&'s mut self, hand: &'s mut Hand, number: usize) -> Step<'s> {
        Box::pin(async move { txn(hand, &[(format!("l{number}"), None)]).await })
    }
}

/// Does a transaction. False if nobody answered, or for one that only reads if it failed.
async fn txn(hand: &mut Hand, parts: &[Part]) -> bool {
    let asked: Value = parts.iter().map(|(key, element)| shown(key, *element, None)).collect();
    let call =
        Call { key: String::new(), function: Function::Txn, value: Some(asked), expected: None };
    let open = hand.process.invoke(call);
    if parts.iter().all(|(_, element)| element.is_none()) {
        return match read_only(&hand.client, parts).await {
            Ok((lists, reply)) => {
                let value = executed(parts, lists).0;
                open.ok(|operation| fill(operation, value, &reply));
                true
            }
            Err(error) => {
                open.fail(error.to_string());
                false
            }
        };
    }
    let lists = match read_each(&hand.client, parts).await {
        Ok(lists) => lists,
        Err(error) => {
            open.fail(format!("read: {error}"));
            return answered(&error);
        }
    };
    let compares = lists.iter().map(|(key, (_, revision))| super::unchanged(key, *revision));
    let compares = compares.collect();
    let (value, after) = executed(parts, lists);
    let changed = after
        .iter()
        .filter(|(key, _)| parts.iter().any(|(other, element)| other == *key && element.is_some()));
    let then_ops = changed.map(|(key, (list, _))| super::put(key, list.join(" "))).collect();
    let request = v1::TxnRequest { compares, then_ops, ..v1::TxnRequest::default() };
    match hand.client.txn(request, &super::strong()).await {
        Ok(reply) if reply.succeeded => {
            open.ok(|operation| fill(operation, value, &reply));
            true
        }
        Ok(_) => {
            open.fail("somebody else changed a list");
            true
        }
        Err(error) => write_failed(open, &error),
    }
}

fn fill(operation: &mut Operation, value: Value, reply: &v1::TxnReply) {
    operation.value = Some(value);
    operation.at_revision = Some(reply.revision);
    operation.node = reply.proof.as_ref().map(|proof| proof.node.clone());
}

/// What the transaction returns, and the lists after it.
fn executed(parts: &[Part], mut lists: Lists) -> (Value, Lists) {
    let mut results = Vec::new();
    for (key, element) in parts {
        let (list, _) = lists.entry(key.clone()).or_default();
        if let Some(element) = element {
            list.push(element.to_string());
        }
        results.push(shown(key, *element, Some(list)));
    }
    (results.into_iter().collect(), lists)
}

/// A micro-operation as the history has it.
fn shown(key: &str, element: Option<u64>, list: Option<&[String]>) -> Value {
    let read = || list.map(|list| list.iter().map(String::as_str).collect());
    let (function, value) = match element {
        Some(element) => ("append", Some(Value::from(element.to_string()))),
        None => ("r", read()),
    };
    Value::List(vec![Some(function.into()), Some(key.into()), value])
}

fn list_of(text: &str) -> Vec<String> {
    text.split_whitespace().map(str::to_owned).collect()
}

/// Reads the lists one after the other.
async fn read_each(client: &client::Client, parts: &[Part]) -> Result<Lists, ClientError> {
    let mut lists = Lists::new();
    for (key, _) in parts {
        if !lists.contains_key(key) {
            let seen = wire::read(client, key, &super::strong()).await?;
            let list = seen.value.as_ref().and_then(Value::as_text).map(list_of);
            lists.insert(key.clone(), (list.unwrap_or_default(), seen.revision.unwrap_or(0)));
        }
    }
    Ok(lists)
}

/// Reads all lists in one transaction.
async fn read_only(
    client: &client::Client,
    parts: &[Part],
) -> Result<(Lists, v1::TxnReply), ClientError> {
    let get =
        |key: &String| v1::Op { op: Some(v1::op::Op::Get(v1::GetOp { key: key.clone().into() })) };
    let then_ops = parts.iter().map(|(key, _)| get(key)).collect();
    let request = v1::TxnRequest { then_ops, ..v1::TxnRequest::default() };
    // A reply that was lost and is told again has no values; as nothing was written, another one is asked.
    let reply = loop {
        let reply = client.txn(request.clone(), &super::strong()).await?;
        if !reply.proof.as_ref().is_some_and(|proof| proof.replayed) {
            break reply;
        }
    };
    let items = reply.results.iter().map(|result| match &result.result {
        Some(v1::op_result::Result::Get(got)) => got.item.as_ref(),
        _ => None,
    });
    let lists = parts.iter().zip(items).map(|((key, _), item)| {
        let text = item.map(|item| String::from_utf8_lossy(&item.value).into_owned());
        let revision = item.map_or(0, |item| item.mod_rev);
        (key.clone(), (list_of(&text.unwrap_or_default()), revision))
    });
    Ok((lists.collect(), reply))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_transaction_reads_what_it_appended() {
        let parts = [("l1".to_owned(), None), ("l1".to_owned(), Some(7)), ("l1".to_owned(), None)];
        let lists = Lists::from([("l1".to_owned(), (vec!["3".to_owned()], 9))]);
        let (value, after) = executed(&parts, lists);
        let expected = r#"[["r" "l1" ["3"]] ["append" "l1" "7"] ["r" "l1" ["3" "7"]]]"#;
        assert_eq!(value.to_string(), expected);
        assert_eq!(after["l1"], (vec!["3".to_owned(), "7".to_owned()], 9));
    }

    #[test]
    fn lists_are_left_after_their_length_and_none_is_used_twice() {
        let script = ListAppend { keys: 3, next: Arc::default() };
        let mut used: BTreeMap<u64, Vec<u64>> = BTreeMap::new();
        for elements in 0..LENGTH * 30 {
            let list = script.list(elements % 3, elements);
            used.entry(list).or_default().push(elements);
        }
        assert_eq!(used.len(), 30);
        assert!(used.values().all(|appends| appends.len() as u64 == LENGTH));
        script.next.store(LENGTH * 30 - 1, Ordering::Relaxed);
        assert_eq!(script.looks(), 30);
    }
}
