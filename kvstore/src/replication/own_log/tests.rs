use std::path::Path;
use std::sync::Arc;

use proto::ClusterId;
use storage::disk::SimDisk;
use storage::mvcc::{CheckpointProgress, MachineOptions};
use storage::state::{MemoryStore, StateStore};
use storage::wal::{Wal, WalOptions};

use super::*;

const ENTRY_BYTES: usize = 400;

/// A log on a disk in memory, and its state.
struct Bench {
    own: OwnLog,
    wal: Wal,
    disk: SimDisk,
    store: MemoryStore,
    tickets: u64,
}

fn options() -> WalOptions {
    WalOptions { segment_bytes: 64 * 1024, ..WalOptions::new(ClusterId([1; 16])) }
}

fn machine(store: &MemoryStore) -> Machine {
    Machine::open(Arc::new(store.clone()), MachineOptions::default()).unwrap()
}

impl Bench {
    fn new() -> Self {
        let (disk, store) = (SimDisk::new(), MemoryStore::new());
        let dir = Path::new("/wal");
        let mut wal = Wal::create(Arc::new(disk.clone()), dir, options(), [].into()).unwrap();
        let group = RecoveredGroup { state_dir: "2-0".into(), ..RecoveredGroup::default() };
        let start = OwnStart { machine: machine(&store), group, begins: true };
        let mut out = Outbox::new(Ticket(1));
        let own = OwnLog::new(start, ENTRY_BYTES, &mut out);
        assert!(out.sync);
        wal.append(&out.frames);
        wal.sync().unwrap();
        Self { own, wal, disk, store, tickets: 1 }
    }

    /// Appends without a sync, and hands on the first `frames` of what the log is to take.
    fn put(&mut self, items: Vec<log::Item>) -> (LogIndex, Ticket) {
        self.tickets += 1;
        let mut out = Outbox::new(Ticket(self.tickets));
        let index = self.own.append(items, &mut out);
        assert!(out.sync);
        self.wal.append(&out.frames);
        (index, out.ticket)
    }

    fn put_durably(&mut self, items: Vec<log::Item>) {
        let (index, ticket) = self.put(items);
        self.wal.sync().unwrap();
        self.own.durable(ticket).unwrap();
        assert_eq!(self.own.applied(), index);
    }

    /// Starts again with what is on the disk.
    fn restart(self) -> Self {
        let Self { own, wal, disk, store, tickets } = self;
        drop((own, wal));
        let (wal, recovered) =
            Wal::open(Arc::new(disk.clone()), Path::new("/wal"), options()).unwrap();
        let group = recovered.groups[&GroupId::EVENTUAL].clone();
        let start = OwnStart { machine: machine(&store), group, begins: false };
        let mut out = Outbox::new(Ticket(1));
        let mut own = OwnLog::new(start, ENTRY_BYTES, &mut out);
        assert!(out.frames.is_empty());
        own.durable(Ticket(0)).unwrap();
        Self { own, wal, disk, store, tickets }
    }

    fn checkpoint(&mut self) {
        let machine = self.own.machine_mut();
        let mut job = machine.begin_checkpoint().unwrap();
        while job.step(&self.store as &dyn StateStore).unwrap() == CheckpointProgress::Continue {}
        machine.finish_checkpoint(job.index());
    }

    fn items(&self) -> Vec<(Bytes, Bytes)> {
        let pair = |item: log::Item| (item.key, item.value.unwrap());
        self.own.items().map(|item| pair(item.unwrap())).collect()
    }
}

fn item(key: &str, value: &str) -> log::Item {
    log::Item { key: key.to_owned().into(), value: Some(value.to_owned().into()) }
}

fn pair(key: &str, value: &str) -> (Bytes, Bytes) {
    (key.to_owned().into(), value.to_owned().into())
}

/// More than fits into one entry.
fn many(value: &str) -> Vec<log::Item> {
    (0..30).map(|n| item(&format!("key-{n:02}"), value)).collect()
}

#[test]
fn nothing_is_read_before_it_is_durable() {
    let mut bench = Bench::new();
    let (first, early) = bench.put(vec![item("a", "1"), item("b", "1")]);
    let (second, late) = bench.put(vec![item("a", "2")]);
    assert_eq!((first, second, bench.own.last()), (LogIndex(1), LogIndex(2), LogIndex(2)));
    assert_eq!((bench.own.applied(), bench.items()), (LogIndex(0), vec![]));
    bench.own.durable(early).unwrap();
    assert_eq!(bench.own.applied(), first);
    assert_eq!(bench.own.item(b"a").unwrap().unwrap(), "1");
    bench.own.durable(late).unwrap();
    let removed = log::Item { key: "b".into(), value: None };
    let (third, ticket) = bench.put(vec![removed]);
    bench.own.durable(ticket).unwrap();
    assert_eq!((bench.own.applied(), bench.items()), (third, vec![pair("a", "2")]));
    assert_eq!(bench.own.append(vec![], &mut Outbox::new(Ticket(9))), third, "nothing to append");
}

#[test]
fn a_start_applies_what_is_durable_with_and_without_a_checkpoint() {
    let mut bench = Bench::new();
    bench.put_durably(vec![item("a", "1")]);
    bench.put_durably(many("x"));
    bench = bench.restart();
    assert_eq!(bench.items().len(), 31);
    bench.checkpoint();
    bench.put_durably(many("y"));
    let applied = bench.own.applied();
    bench.put(vec![item("a", "lost")]);
    bench = bench.restart();
    assert_eq!(bench.own.applied(), applied);
    assert_eq!(bench.own.last(), applied, "what was never synced is gone");
    assert_eq!(bench.own.item(b"key-07").unwrap().unwrap(), "y");
    assert_eq!(bench.own.item(b"a").unwrap().unwrap(), "1");
    bench.put_durably(vec![item("a", "2")]);
    assert_eq!(bench.restart().own.item(b"a").unwrap().unwrap(), "2");
}

#[test]
fn what_is_put_together_takes_effect_together() {
    let mut bench = Bench::new();
    bench.put_durably(many("old"));
    let before = bench.own.applied();
    bench.tickets += 1;
    let mut out = Outbox::new(Ticket(bench.tickets));
    let last = bench.own.append(many("new"), &mut out);
    assert!(last > before.next().next(), "it takes several entries");
    let Some(Body::Entries(log::Entries { mut entries })) = out.frames.remove(0).body else {
        panic!("entries are appended")
    };
    assert!(entries.iter().all(|entry| entry.data.len() <= ENTRY_BYTES));
    // Power fails before the last one is written.
    entries.pop();
    let body = Some(Body::Entries(log::Entries { entries }));
    bench.wal.append(&[log::Frame { group: GroupId::EVENTUAL.get(), body }]);
    bench.wal.sync().unwrap();
    bench = bench.restart();
    assert_eq!((bench.own.applied(), bench.own.last()), (before, before));
    assert!(bench.items().iter().all(|(_, value)| *value == "old"));
    bench.put_durably(vec![item("b", "1")]);
    assert_eq!(bench.own.applied(), before.next(), "it takes the place of what was dropped");
    bench = bench.restart();
    assert_eq!(bench.own.applied(), before.next());
    assert_eq!(bench.items().len(), 31);
    bench.put_durably(many("new"));
    bench = bench.restart();
    assert_eq!(bench.items().iter().filter(|(_, value)| *value == "new").count(), 30);
}

#[test]
fn items_are_read_page_by_page() {
    let mut bench = Bench::new();
    let value = "v".repeat(300_000);
    for n in 0..8 {
        let large = log::Item { key: format!("large-{n}").into(), value: None };
        bench.own.durable(Ticket(u64::MAX)).unwrap();
        let mut out = Outbox::new(Ticket(1));
        let large = log::Item { value: Some(value.clone().into()), ..large };
        bench.own.append(vec![large], &mut out);
    }
    let small = (0..2_500).map(|n| item(&format!("small-{n:04}"), "1")).collect();
    bench.own.append(small, &mut Outbox::new(Ticket(1)));
    bench.own.durable(Ticket(1)).unwrap();
    let all = bench.items();
    assert_eq!(all.len(), 2_508);
    assert!(all.is_sorted());
    assert!(all[..8].iter().all(|(_, found)| *found == value));
}

#[test]
fn a_log_says_whether_it_takes_items() {
    let mut own = Bench::new().own;
    assert!(own.takes());
    own.set_read_only(true);
    assert!(!own.takes() && own.is_read_only());
    own.set_read_only(false);
    own.set_overloaded(true);
    assert!(!own.takes() && own.is_overloaded());
}
