//! Reading all items of a node's own log.

use bytes::Bytes;
use proto::{KeyspaceId, log, v1};
use storage::mvcc::{Machine, RangeQuery, ReadError};
use storage::state::StateError;

/// Iterator over all items, in the order of their keys. Ends after the first error, which is one of the
/// state store.
#[derive(Debug)]
pub struct Items<'a> {
    machine: &'a Machine,
    page: std::vec::IntoIter<v1::Item>,
    /// Where the next page begins; `None` behind the last one.
    next: Option<Bytes>,
}

impl<'a> Items<'a> {
    /// All items of a machine.
    pub(super) fn new(machine: &'a Machine) -> Self {
        Self { machine, page: Vec::new().into_iter(), next: Some(Bytes::new()) }
    }
}

impl Iterator for Items<'_> {
    type Item = Result<log::Item, StateError>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if let Some(item) = self.page.next() {
                return Some(Ok(log::Item { key: item.key, value: Some(item.value) }));
            }
            let query = RangeQuery { from: self.next.take()?, ..RangeQuery::default() };
            match self.machine.range(KeyspaceId::DEFAULT, &query) {
                Ok(page) => {
                    self.page = page.items.into_iter();
                    self.next = page.more.then_some(page.next);
                }
                Err(error) => return Some(Err(of_store(error))),
            }
        }
    }
}

/// The value of one item.
pub(super) fn one(machine: &Machine, key: &[u8]) -> Result<Option<Bytes>, StateError> {
    let item = machine.get(KeyspaceId::DEFAULT, key, None).map_err(of_store)?;
    Ok(item.map(|item| item.value))
}

fn of_store(error: ReadError) -> StateError {
    match error {
        ReadError::State(error) => error,
        ReadError::UnknownKeyspace | ReadError::Compacted { .. } | ReadError::Future { .. } => {
            unreachable!("keyspace 1 is always open, and is read at its newest revision")
        }
    }
}
