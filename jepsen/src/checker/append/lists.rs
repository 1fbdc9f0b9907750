//! What single reads say, and the order of the elements of each list.

use std::collections::{HashMap, HashSet};

use super::txn::{Element, Micro, Transactions};
use crate::checker::stop::Stop;
use crate::operation::{Operation, Outcome};

/// What a transaction found in a list before it appended to it.
#[derive(Clone, Copy, Debug)]
pub struct Sight {
    /// The transaction.
    pub txn: u32,
    /// The key of the list.
    pub key: u32,
    /// How many elements it found.
    pub length: usize,
}

/// The longest list that was read of a key.
#[derive(Clone, Debug, Default)]
pub struct Longest {
    /// Its elements.
    pub list: Vec<Element>,
    /// The transaction that read it; `None` if the key was not read.
    pub reader: Option<u32>,
}

/// The order of the elements of all lists.
#[derive(Debug)]
pub struct Lists {
    /// The longest list read, of each key.
    pub longest: Vec<Longest>,
    /// What was found from outside, at most once for each transaction and key; sorted by key.
    pub sights: Vec<Sight>,
}

impl Lists {
    /// Checks all reads one by one and against each other.
    pub fn new(txns: &Transactions<'_>) -> Result<Self, Stop> {
        let mut lists =
            Self { longest: vec![Longest::default(); txns.keys.len()], sights: Vec::new() };
        let ok = |number: &u32| txns.txn(*number).operation.outcome == Outcome::Ok;
        for number in (0..).take(txns.txns.len()).filter(ok) {
            Reader { txns, number }.check(&mut lists.sights)?;
        }
        lists.sights.sort_by_key(|sight| sight.key);
        for number in (0..).take(txns.txns.len()).filter(ok) {
            for step in &txns.txn(number).steps {
                let Micro::Read { key, list } = step else { continue };
                let longest = &mut lists.longest[*key as usize];
                if longest.reader.is_none() || list.len() > longest.list.len() {
                    *longest = Longest { list: list.clone(), reader: Some(number) };
                }
            }
        }
        for number in (0..).take(txns.txns.len()).filter(ok) {
            for step in &txns.txn(number).steps {
                let Micro::Read { key, list } = step else { continue };
                let longest = &lists.longest[*key as usize];
                if !longest.list.starts_with(list) {
                    let other = longest.reader.expect("a list that was read has a reader");
                    let key = txns.keys[*key as usize];
                    let why = format!(
                        "incompatible orders: of the lists of key {key:?} in {} and {} neither is \
                         the beginning of the other",
                        txns.txn(number).operation,
                        txns.txn(other).operation
                    );
                    let places = [txns.txn(number).place, txns.txn(other).place];
                    return Err(Stop::broken(key, why, places));
                }
            }
        }
        for (key, longest) in (0..).zip(&lists.longest) {
            in_order(txns, key, longest)?;
        }
        Ok(lists)
    }

    /// What was found in the list of one key.
    pub fn sights_of(&self, key: u32) -> impl Iterator<Item = &Sight> {
        let start = self.sights.partition_point(|sight| sight.key < key);
        self.sights[start..].iter().take_while(move |sight| sight.key == key)
    }
}

/// A list shows the appends of each transaction in its order and leaves out none between them.
fn in_order(txns: &Transactions<'_>, key: u32, longest: &Longest) -> Result<(), Stop> {
    let mut counts: HashMap<u32, u32> = HashMap::new();
    for &element in &longest.list {
        let Some(append) = txns.origins[element as usize].append else { continue };
        let count = counts.entry(append.txn).or_default();
        if append.before != *count {
            let reader = longest.reader.expect("a list that was read has a reader");
            let key = txns.keys[key as usize];
            let why = format!(
                "wrong order: {} shows {} in key {key:?} before what the same transaction had \
                 appended before: {}",
                txns.txn(reader).operation,
                txns.value(element),
                txns.txn(append.txn).operation
            );
            return Err(Stop::broken(key, why, [reader, append.txn].map(|n| txns.txn(n).place)));
        }
        *count += 1;
    }
    Ok(())
}

/// One successful transaction.
struct Reader<'t, 'h> {
    txns: &'t Transactions<'h>,
    number: u32,
}

/// What a transaction knows of one list.
#[derive(Default)]
struct Own<'t> {
    /// What it read last.
    read: Option<&'t [Element]>,
    /// What it appended since then.
    appended: Vec<Element>,
}

impl<'t, 'h> Reader<'t, 'h> {
    fn check(&self, sights: &mut Vec<Sight>) -> Result<(), Stop> {
        let mut known: HashMap<u32, Own<'t>> = HashMap::new();
        for step in &self.txns.txn(self.number).steps {
            match step {
                Micro::Append { key, element } => {
                    known.entry(*key).or_default().appended.push(*element);
                }
                Micro::Read { key, list } => {
                    let own = known.entry(*key).or_default();
                    let outside = self.outside(*key, list, own)?;
                    if own.read.is_none() {
                        self.check_outside(*key, list, outside)?;
                        sights.push(Sight { txn: self.number, key: *key, length: outside });
                    }
                    own.read = Some(list);
                    own.appended.clear();
                }
            }
        }
        Ok(())
    }

    /// How many elements of a list were there before the transaction.
    fn outside(&self, key: u32, list: &'t [Element], own: &Own<'t>) -> Result<usize, Stop> {
        let contradicts = |what: &str| {
            let operation = self.operation();
            self.broken(key, format!("internal: {operation} {what} in key {:?}", self.key(key)), [])
        };
        if let Some(before) = own.read {
            let expected = before.iter().chain(&own.appended);
            if !expected.eq(list) {
                return Err(contradicts("reads something else than what it read and appended"));
            }
            return Ok(list.len());
        }
        if !list.ends_with(&own.appended) {
            return Err(contradicts("does not read what it appended"));
        }
        let outside = list.len() - own.appended.len();
        let mine = |&element: &Element| self.txns.writer(element) == Some(self.number);
        if list[..outside].iter().any(mine) {
            return Err(contradicts("reads what it only appends later"));
        }
        Ok(outside)
    }

    /// Rules for what others appended. Elements after `outside` are the transaction's own.
    fn check_outside(&self, key: u32, list: &[Element], outside: usize) -> Result<(), Stop> {
        let (operation, name) = (self.operation(), self.key(key));
        let mut seen = HashSet::with_capacity(list.len());
        let mut aborted: Option<(Element, u32)> = None;
        for &element in list {
            let value = self.txns.value(element);
            if !seen.insert(element) {
                let why =
                    format!("duplicate elements: {operation} reads {value} twice in key {name:?}");
                return Err(self.broken(key, why, self.txns.writer(element)));
            }
            let Some(writer) = self.txns.writer(element) else {
                let why = format!(
                    "unexpected element: {operation} reads {value} in key {name:?}, which nobody appended"
                );
                return Err(self.broken(key, why, []));
            };
            let txn = self.txns.txn(writer).operation;
            if let Some((left, failed)) = aborted
                && txn.outcome != Outcome::Fail
            {
                let why = format!(
                    "dirty update: {txn} appended {value} to key {name:?} after {}, which a failed \
                     transaction left, as {operation} shows",
                    self.txns.value(left)
                );
                return Err(self.broken(key, why, [writer, failed]));
            }
            if txn.outcome == Outcome::Fail && aborted.is_none() {
                aborted = Some((element, writer));
            }
        }
        if let Some((left, failed)) = aborted {
            let why = format!(
                "aborted read (G1a): {operation} reads {} in key {name:?}, which a failed \
                 transaction appended: {}",
                self.txns.value(left),
                self.txns.txn(failed).operation
            );
            return Err(self.broken(key, why, [failed]));
        }
        let last = outside.checked_sub(1).map(|last| list[last]);
        if let Some(last) = last
            && let Some(append) = self.txns.origins[last as usize].append
            && !append.last
        {
            let why = format!(
                "intermediate read (G1b): {operation} reads {} as the end of key {name:?}, which \
                 is not the last that its transaction appended: {}",
                self.txns.value(last),
                self.txns.txn(append.txn).operation
            );
            return Err(self.broken(key, why, [append.txn]));
        }
        Ok(())
    }

    fn operation(&self) -> &'h Operation {
        self.txns.txn(self.number).operation
    }

    fn key(&self, key: u32) -> &'h str {
        self.txns.keys[key as usize]
    }

    fn broken(&self, key: u32, why: String, others: impl IntoIterator<Item = u32>) -> Stop {
        let places = others.into_iter().chain([self.number]).map(|txn| self.txns.txn(txn).place);
        Stop::broken(self.key(key), why, places)
    }
}
