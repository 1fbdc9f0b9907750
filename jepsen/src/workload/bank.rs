//! Accounts between which clients move money, by transactions on condition that nobody has touched the
//! two accounts since they were read.

use std::collections::BTreeMap;

use client::ClientError;
use proto::v1;
use rand::RngExt;

use super::script::{Hand, Script, Step, answered, read_failed, write_failed};
use crate::operation::{Call, Function};
use crate::value::Value;

/// What each account holds at first.
const BALANCE: i64 = 100;

/// Most that is moved at once.
const AMOUNT_MAX: i64 = 20;

/// All accounts begin so.
const PREFIX: &str = "bank/";

/// One process.
#[derive(Debug)]
pub struct Bank {
    /// Accounts that there are.
    pub accounts: usize,
}

/// What an account holds, and the revision that wrote it.
type Accounts = BTreeMap<String, (i64, u64)>;

fn path(account: &str) -> String {
    format!("{PREFIX}{account}")
}

fn put(account: &str, balance: i64) -> v1::Op {
    super::put(&path(account), balance.to_string())
}

impl Script for Bank {
    fn prepare<'s>(&'s mut self, hand: &'s mut Hand) -> Step<'s> {
        Box::pin(async move {
            let accounts: Vec<String> = (0..self.accounts).map(|n| format!("a{n}")).collect();
            let request = v1::TxnRequest {
                compares: accounts.iter().map(|a| super::unchanged(&path(a), 0)).collect(),
                then_ops: accounts.iter().map(|account| put(account, BALANCE)).collect(),
                ..v1::TxnRequest::default()
            };
            // If the accounts are there already, it was an attempt before this one that made them.
            hand.client.txn(request, &super::strong()).await.is_ok()
        })
    }

    fn step<'s>(&'s mut self, hand: &'s mut Hand) -> Step<'s> {
        Box::pin(async move {
            if hand.rng.random_bool(0.4) {
                return read(hand).await;
            }
            let from = hand.rng.random_range(0..self.accounts);
            let to = (from + hand.rng.random_range(1..self.accounts)) % self.accounts;
            let amount = hand.rng.random_range(1..=AMOUNT_MAX);
            transfer(hand, &format!("a{from}"), &format!("a{to}"), amount).await
        })
    }

    fn looks(&self) -> usize {
        1
    }

    fn look<'s>(&'s mut self, hand: &'s mut Hand, _number: usize) -> Step<'s> {
        Box::pin(read(hand))
    }
}

async fn read(hand: &mut Hand) -> bool {
    let open = hand.process.invoke(Call::read(""));
    match balances(&hand.client, &hand.options).await {
        Ok((accounts, proof)) => {
            let level = hand.level;
            let shown = accounts.into_iter();
            let shown = shown.map(|(name, (balance, _))| (name, Some(Value::from(balance))));
            let shown = Value::Map(shown.collect());
            open.ok(|operation| {
                operation.value = Some(shown);
                operation.at_revision = Some(proof.revision);
                operation.node = Some(proof.node);
                operation.level = Some(level.to_owned());
            });
            true
        }
        Err(error) => read_failed(open, &error),
    }
}

async fn transfer(hand: &mut Hand, from: &str, to: &str, amount: i64) -> bool {
    let strong = super::strong();
    let value = [("from", from.into()), ("to", to.into()), ("amount", Value::from(amount))];
    let value = value.into_iter().map(|(name, value)| (name.to_owned(), Some(value))).collect();
    let open = hand.process.invoke(Call {
        key: String::new(),
        function: Function::Transfer,
        value: Some(Value::Map(value)),
        expected: None,
    });
    let accounts = match balances(&hand.client, &strong).await {
        Ok((accounts, _)) => accounts,
        Err(error) => {
            open.fail(format!("read: {error}"));
            return answered(&error);
        }
    };
    let (Some(&(has, has_revision)), Some(&(gets, gets_revision))) =
        (accounts.get(from), accounts.get(to))
    else {
        open.fail("an account is missing");
        return true;
    };
    if has < amount {
        open.fail("too little on the account");
        return true;
    }
    let request = v1::TxnRequest {
        compares: vec![
            super::unchanged(&path(from), has_revision),
            super::unchanged(&path(to), gets_revision),
        ],
        then_ops: vec![put(from, has - amount), put(to, gets + amount)],
        ..v1::TxnRequest::default()
    };
    match hand.client.txn(request, &strong).await {
        Ok(reply) if reply.succeeded => {
            open.ok(|operation| {
                operation.revision = Some(reply.revision);
                operation.node = Some(reply.proof.unwrap_or_default().node);
            });
            true
        }
        Ok(_) => {
            open.fail("somebody else moved money there");
            true
        }
        Err(error) => write_failed(open, &error),
    }
}

/// All accounts at one revision; they fit one page.
async fn balances(
    client: &client::Client,
    options: &client::CallOptions,
) -> Result<(Accounts, v1::Proof), ClientError> {
    let to = client::prefix_end(PREFIX.as_bytes());
    let level = options.level.unwrap_or_default().into();
    let range = v1::RangeRequest { from: PREFIX.into(), to, level, ..v1::RangeRequest::default() };
    let reply = client.range(range, options).await?;
    let account = |item: v1::Item| {
        let name = String::from_utf8_lossy(&item.key[PREFIX.len()..]).into_owned();
        // What is no number would be a finding; it shows as a total that is wrong.
        let balance = String::from_utf8_lossy(&item.value).parse().unwrap_or(i64::MIN / 1_000);
        (name, (balance, item.mod_rev))
    };
    Ok((reply.items.into_iter().map(account).collect(), reply.proof.unwrap_or_default()))
}
