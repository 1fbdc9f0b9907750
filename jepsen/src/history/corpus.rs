//! A history in little memory, for checkers that need not know more of it.

use super::interner::Interner;
use crate::operation::{Function, Operation, Outcome};
use crate::value::Value;

/// A value as a number: equal values have equal symbols.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Symbol(u32);

impl Symbol {
    /// Absence.
    pub(crate) const ABSENT: Self = Self(0);
    /// A value that the history does not hold.
    pub(crate) const FOREIGN: Self = Self(NUMBERS - 1);

    /// The number that it is.
    pub(crate) const fn number(self) -> u32 {
        self.0
    }
}

/// From here on a symbol is a whole number that stands for itself. Below are absence, then texts.
const NUMBERS: u32 = 1 << 31;

/// Stands before what is printed of a list or a map. No text begins with this byte.
const NO_TEXT: u8 = 0xff;

/// What a checker of registers wants to know of an operation, in 32 bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    /// When it was called.
    pub(crate) invoke_ns: u64,
    /// The last moment at which it can have taken effect; `u64::MAX` while that is open.
    pub(crate) end_ns: u64,
    /// The number of its key.
    pub(crate) key: u32,
    /// The value written or returned.
    pub(crate) value: Symbol,
    /// The value a cas compares with.
    pub(crate) expected: Symbol,
    /// What it does.
    pub(crate) function: Function,
    /// What the client knows.
    pub(crate) outcome: Outcome,
}

const _: () = assert!(size_of::<Entry>() == 32);

/// Where no operation came yet.
const HOLE: Entry = Entry {
    invoke_ns: 0,
    end_ns: 0,
    key: u32::MAX,
    value: Symbol::ABSENT,
    expected: Symbol::ABSENT,
    function: Function::Read,
    outcome: Outcome::Info,
};

/// A history of which only this is kept: key, function, values, times and outcome of each operation,
/// in 32 bytes, and each text once. Whole numbers below 2^31 cost nothing more.
///
/// The operations behind it, which a report wants to name, are read again from where it was read
/// ([`pick`](super::pick)) by their places in the order of calls.
#[derive(Clone, Debug, Default)]
pub struct Corpus {
    /// In the order of calls.
    entries: Vec<Entry>,
    keys: Interner,
    /// For each number of a key the one under which `keys` knows it.
    key_names: Vec<u32>,
    values: Interner,
}

impl Corpus {
    /// The compact form of operations in memory.
    ///
    /// # Panics
    ///
    /// If there are 2^32 operations, or if one ends before it begins.
    #[must_use]
    pub fn of(history: &[Operation]) -> Self {
        let mut corpus = Self { entries: Vec::with_capacity(history.len()), ..Self::default() };
        for operation in history {
            let entry = corpus.entry(operation);
            corpus.entries.push(entry);
        }
        corpus.finish();
        corpus
    }

    /// Number of operations.
    #[must_use]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Puts an operation into its place in the order of calls.
    pub(super) fn put(&mut self, place: usize, operation: &Operation) {
        if self.entries.len() <= place {
            self.entries.resize(place + 1, HOLE);
        }
        self.entries[place] = self.entry(operation);
    }

    /// To be called once all operations are there, in whatever order they came: numbers the keys in
    /// the order of their first calls.
    pub(super) fn finish(&mut self) {
        let count = self.entries.len();
        assert!(count < u32::MAX as usize, "a history has fewer than 2^32 - 1 operations");
        let mut numbers = vec![u32::MAX; self.keys.len()];
        for entry in &mut self.entries {
            assert!(entry.key != HOLE.key, "every call is handed on");
            let number = &mut numbers[entry.key as usize];
            if *number == u32::MAX {
                *number = u32::try_from(self.key_names.len()).expect("keys have 31 bits");
                self.key_names.push(entry.key);
            }
            entry.key = *number;
        }
    }

    /// All operations, in the order of calls.
    pub(crate) fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// Number of keys; the number of each is below it, in the order of their first calls.
    pub(crate) fn key_count(&self) -> usize {
        self.key_names.len()
    }

    /// A key by its number.
    pub(crate) fn key(&self, number: u32) -> &str {
        let name = self.key_names[number as usize];
        std::str::from_utf8(self.keys.bytes(name)).expect("keys are texts")
    }

    /// The symbol of a value.
    pub(crate) fn symbol(&self, value: Option<&Value>) -> Symbol {
        let bytes = match value {
            None => return Symbol::ABSENT,
            Some(Value::Text(text)) => match whole_number(text) {
                Some(number) => return number,
                None => text.as_bytes().to_owned(),
            },
            Some(other) => printed(other),
        };
        self.values.get(&bytes).map_or(Symbol::FOREIGN, Self::text_symbol)
    }

    fn entry(&mut self, operation: &Operation) -> Entry {
        let (invoke_ns, end_ns) = (operation.invoke_ns, operation.end_ns());
        assert!(invoke_ns <= end_ns, "operation ends before it starts: {operation}");
        Entry {
            invoke_ns,
            end_ns,
            key: self.keys.intern(operation.key.as_bytes()),
            value: self.intern(operation.value.as_ref()),
            expected: self.intern(operation.expected.as_ref()),
            function: operation.function,
            outcome: operation.outcome,
        }
    }

    fn intern(&mut self, value: Option<&Value>) -> Symbol {
        let number = match value {
            None => return Symbol::ABSENT,
            Some(Value::Text(text)) => match whole_number(text) {
                Some(number) => return number,
                None => self.values.intern(text.as_bytes()),
            },
            Some(other) => self.values.intern(&printed(other)),
        };
        Self::text_symbol(number)
    }

    fn text_symbol(number: u32) -> Symbol {
        let symbol = Symbol(number + 1);
        assert!(symbol.0 < Symbol::FOREIGN.0, "a history has fewer than 2^31 - 2 texts");
        symbol
    }
}

/// What is kept of a list or a map: equal ones are printed alike, others are not.
fn printed(value: &Value) -> Vec<u8> {
    let mut bytes = vec![NO_TEXT];
    bytes.extend_from_slice(value.name().as_bytes());
    bytes
}

/// The symbol of a text that is a whole number below 2^31 as it is usually written.
fn whole_number(text: &str) -> Option<Symbol> {
    let bytes = text.as_bytes();
    let usual = matches!(bytes, [b'0'] | [b'1'..=b'9', ..]) && bytes.len() <= 10;
    if !usual {
        return None;
    }
    let mut number = 0_u64;
    for byte in bytes {
        let digit = byte.wrapping_sub(b'0');
        if digit > 9 {
            return None;
        }
        number = number * 10 + u64::from(digit);
    }
    let number = u32::try_from(number).ok().filter(|&number| number < NUMBERS)?;
    Some(Symbol(NUMBERS | number))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::operation::Call;

    #[test]
    fn symbols_are_equal_where_values_are() {
        let list = |texts: &[&str]| Some(texts.iter().copied().collect::<Value>());
        let values: Vec<Option<Value>> = vec![
            None,
            Some("".into()),
            Some("0".into()),
            Some("00".into()),
            Some("+1".into()),
            Some("1".into()),
            Some("-1".into()),
            Some("2147483647".into()),
            Some("2147483648".into()),
            Some("99999999999999999999".into()),
            Some("1a".into()),
            Some("absent".into()),
            list(&[]),
            list(&["1"]),
            list(&["1", "1"]),
            Some("[\"1\"]".into()),
            Some(Value::Map([("a".to_owned(), None)].into())),
        ];
        let operation = |value: &Option<Value>| {
            let call = Call { value: value.clone(), ..Call::read("k") };
            Operation::invoked(0, call, 0)
        };
        let history: Vec<Operation> = values.iter().chain(&values).map(operation).collect();
        let corpus = Corpus::of(&history);
        for (one, a) in values.iter().enumerate() {
            assert_eq!(corpus.symbol(a.as_ref()), corpus.entries()[one].value, "{a:?}");
            for other in 0..history.len() {
                let same = one == other % values.len();
                let equal = corpus.entries()[one].value == corpus.entries()[other].value;
                assert_eq!(equal, same, "{a:?} and {:?}", values[other % values.len()]);
            }
        }
        assert_eq!(corpus.symbol(Some(&"x".into())), Symbol::FOREIGN);
        assert_eq!((corpus.key_count(), corpus.key(0)), (1, "k"));
    }
}
