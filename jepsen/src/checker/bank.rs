//! Accounts between which money is moved (model `bank`): O(n log n) in accounts read.
//!
//! A read returns the balances of all accounts at one moment; transfers move amounts between them.
//! So all reads of a bank add up to the same total, and no balance is below zero unless that is
//! allowed. Where the total is not given, it is what most reads add up to. Each key is a bank of
//! its own.
//!
//! Which transfers took place is not checked: money that moves to where nobody sent it does not
//! show here.

use std::collections::HashMap;

use super::set::by_key;
use super::stop::Stop;
use super::{Checker, Verdict};
use crate::operation::{Function, Operation, Outcome};
use crate::value::Value;

/// Checks that no money appears or vanishes.
#[derive(Clone, Copy, Debug, Default)]
pub struct BankChecker {
    /// The sum of all balances; `None`: what most reads add up to.
    pub total: Option<i64>,
    /// Whether balances may be below zero.
    pub overdrafts: bool,
}

impl Checker for BankChecker {
    fn model(&self) -> &'static str {
        "bank"
    }

    /// Unknown if a read is no map of whole numbers, or if a bank with acknowledged transfers is
    /// never read.
    fn check(&self, history: &[Operation]) -> Verdict {
        if let Some(unknown) = super::foreign(history, &[Function::Transfer, Function::Read]) {
            return unknown;
        }
        let judged = by_key(history)
            .into_iter()
            .try_for_each(|(key, places)| self.check_bank(history, key, &places));
        Stop::verdict(judged, history)
    }
}

impl BankChecker {
    fn check_bank(&self, history: &[Operation], key: &str, places: &[usize]) -> Result<(), Stop> {
        let mut totals = Vec::new();
        for &place in places {
            let read = &history[place];
            if read.function == Function::Read && read.outcome == Outcome::Ok {
                totals.push((self.total_of(key, read, place)?, place));
            }
        }
        let mut counts: HashMap<i128, (usize, usize)> = HashMap::new();
        for &(total, place) in &totals {
            counts.entry(total).or_insert((0, place)).0 += 1;
        }
        // Of totals that are as frequent, that of the first read counts.
        let usual = counts.iter().max_by_key(|(_, (count, first))| (*count, usize::MAX - first));
        let Some((&usual, &(_, example))) = usual else {
            let acknowledged = places.iter().any(|&place| history[place].outcome == Outcome::Ok);
            let never = || Stop::Unjudged(format!("the bank {key:?} is never read"));
            return if acknowledged { Err(never()) } else { Ok(()) };
        };
        let expected = self.total.map_or(usual, i128::from);
        let Some(&(total, place)) = totals.iter().find(|(total, _)| *total != expected) else {
            return Ok(());
        };
        let read = &history[place];
        match self.total {
            Some(expected) => {
                let why = format!("the balances add up to {total} instead of {expected}: {read}");
                Err(Stop::broken(key, why, [place]))
            }
            None => {
                let other = &history[example];
                let why =
                    format!("the balances add up to {total} in {read}, to {usual} in {other}");
                Err(Stop::broken(key, why, [place, example]))
            }
        }
    }

    /// The sum of all balances of a read.
    fn total_of(&self, key: &str, read: &Operation, place: usize) -> Result<i128, Stop> {
        let unreadable = || Stop::Unjudged(format!("not a map of whole numbers: {read}"));
        let accounts = read.value.as_ref().and_then(Value::as_map).ok_or_else(unreadable)?;
        let mut total = 0;
        for (account, balance) in accounts {
            let Some(balance) = balance else {
                let why = format!("account {account:?} has no balance in {read}");
                return Err(Stop::broken(key, why, [place]));
            };
            let balance = balance.as_number().ok_or_else(unreadable)?;
            if balance < 0 && !self.overdrafts {
                let why = format!("account {account:?} has the balance {balance} in {read}");
                return Err(Stop::broken(key, why, [place]));
            }
            total += i128::from(balance);
        }
        Ok(total)
    }
}
