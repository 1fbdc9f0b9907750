//! Sets to which clients add: a key for each element, read as a range at one revision.
//!
//! A set that has got all its elements is followed by the next one, so that reads stay short.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use client::{ClientError, Pages};
use proto::v1;
use rand::RngExt;

use super::script::{Hand, Script, Step, read_failed, write_failed};
use crate::operation::{Call, Function};
use crate::value::Value;

/// Elements of a set.
const ELEMENTS: u64 = 150;

/// One process.
#[derive(Debug)]
pub struct Set {
    /// The next element; all processes take from it.
    pub next: Arc<AtomicU64>,
}

fn name(element: u64) -> String {
    format!("s{}", element / ELEMENTS)
}

impl Script for Set {
    fn step<'s>(&'s mut self, hand: &'s mut Hand) -> Step<'s> {
        Box::pin(async move {
            if hand.rng.random_bool(0.7) {
                return add(hand, self.next.fetch_add(1, Ordering::Relaxed)).await;
            }
            // Mostly the set that grows, else the one before it.
            let back = if hand.rng.random_bool(0.7) { 0 } else { ELEMENTS };
            let element = self.next.load(Ordering::Relaxed).saturating_sub(1 + back);
            read(hand, name(element)).await
        })
    }

    fn looks(&self) -> usize {
        let sets = self.next.load(Ordering::Relaxed).div_ceil(ELEMENTS);
        usize::try_from(sets).expect("a run has fewer sets than there are numbers")
    }

    fn look<'s>(&'s mut self, hand: &'s mut Hand, number: usize) -> Step<'s> {
        Box::pin(read(hand, format!("s{number}")))
    }
}

async fn add(hand: &mut Hand, element: u64) -> bool {
    let key = name(element);
    let path = format!("{key}/{element}");
    let value = Some(Value::from(element.to_string()));
    let open = hand.process.invoke(Call { key, function: Function::Add, value, expected: None });
    let put = v1::PutRequest { key: path.into(), value: "1".into(), ..v1::PutRequest::default() };
    match hand.client.put(put, &super::strong()).await {
        Ok(reply) => {
            open.ok(|operation| {
                operation.revision = Some(reply.revision);
                operation.node = Some(reply.proof.unwrap_or_default().node);
            });
            true
        }
        Err(error) => write_failed(open, &error),
    }
}

async fn read(hand: &mut Hand, key: String) -> bool {
    let open = hand.process.invoke(Call::read(&key));
    match elements(hand.client.clone(), &key, hand.options.clone()).await {
        Ok((elements, proof)) => {
            let level = hand.level;
            open.ok(|operation| {
                operation.value = Some(elements.into_iter().collect());
                operation.at_revision = Some(proof.revision);
                operation.node = Some(proof.node);
                operation.level = Some(level.to_owned());
            });
            true
        }
        Err(error) => read_failed(open, &error),
    }
}

/// All elements of a set, and what proves the first page.
async fn elements(
    client: client::Client,
    key: &str,
    options: client::CallOptions,
) -> Result<(Vec<String>, v1::Proof), ClientError> {
    let prefix = format!("{key}/");
    let to = client::prefix_end(prefix.as_bytes());
    let level = options.level.unwrap_or_default().into();
    let from = prefix.clone().into();
    let range =
        v1::RangeRequest { from, to, level, keys_only: true, ..v1::RangeRequest::default() };
    let mut pages = Pages::new(&client, range, None, options);
    let (mut found, mut proof) = (Vec::new(), None);
    while let Some(page) = pages.next().await? {
        let keys = page.items.iter().map(|item| String::from_utf8_lossy(&item.key).into_owned());
        found.extend(keys.map(|key| key[prefix.len()..].to_owned()));
        proof = proof.or(page.proof);
    }
    Ok((found, proof.unwrap_or_default()))
}
