//! The node's own log: checkpoints, exports, freeing, and starts, beside those of the data group.

use std::collections::BTreeMap;
use std::path::PathBuf;

use super::*;
use crate::shell::testing::reopened;

/// Bytes of a layer at which a checkpoint begins, and of the log at which a round of exports does.
const SMALL: usize = 32 * 1024;

fn small(config: &mut NodeConfig) {
    config.checkpoint_layer_bytes = SMALL;
    config.export_log_bytes = 2 * SMALL as u64;
    config.bounds.own_entry_bytes = 4 * 1024;
}

fn item(key: u64, value: u64) -> log::Item {
    let value = [&value.to_be_bytes()[..], &[7; 500]].concat();
    log::Item { key: format!("item-{key:03}").into(), value: Some(value.into()) }
}

type Items = BTreeMap<bytes::Bytes, bytes::Bytes>;

fn items(node: &Node) -> Items {
    node.own().items().map(Result::unwrap).map(|item| (item.key, item.value.unwrap())).collect()
}

/// Items go in at each tick, and writes of clients if wanted. Returns what has to be there.
fn work(alone: &mut Alone, ticks: u64, clients: bool) -> Items {
    let mut expected = items(&alone.node);
    for n in 0..ticks {
        let put: Vec<log::Item> = (0..3).map(|k| item((n * 3 + k) % 40, n)).collect();
        for item in &put {
            expected.insert(item.key.clone(), item.value.clone().unwrap());
        }
        alone.node.remember(put);
        if clients {
            alone.request(put_request(&(n % 50).to_string(), &[7; VALUE_BYTES]));
        }
        alone.pass(1);
    }
    alone.pass(50);
    assert_eq!(items(&alone.node), expected);
    expected
}

fn start_again(alone: Alone) -> Alone {
    let Alone { node, wal, files, .. } = alone;
    drop((node, wal));
    Alone::new(reopened(files, small))
}

fn exports_of(alone: &Alone, group: GroupId) -> Vec<PathBuf> {
    let found = storage::export::exports_in(alone.files.disk.as_ref(), &alone.files.exports_dir());
    found.unwrap().into_iter().filter(|(of, ..)| *of == group).map(|(.., path)| path).collect()
}

#[test]
fn a_node_whose_log_knows_nothing_of_its_own_group_begins_it_once() {
    let disk = SimDisk::new();
    let alone = Alone::new(opened_with(&disk, small));
    let state = alone.wal.group_state(GroupId::EVENTUAL).expect("it was begun").clone();
    assert_eq!((state.start_index, &*state.state_dir), (0, "2-0"));
    let mut again = start_again(alone);
    let kinds: Vec<_> = again.node.poll();
    assert!(kinds.is_empty(), "{kinds:?}");
    work(&mut again, 3, false);
    assert_eq!(start_again(again).node.own().applied(), LogIndex(3));
}

#[test]
fn both_states_have_checkpoints_and_exports_and_the_log_is_freed_behind_both() {
    let mut alone = Alone::new(opened_with(&SimDisk::new(), small));
    let expected = work(&mut alone, 600, true);
    for group in [GroupId::DATA, GroupId::EVENTUAL] {
        let state = alone.wal.group_state(group).unwrap();
        let covered = alone.node.exports.newest(group).expect("it was exported").header.index;
        assert_eq!(state.start_index, covered.get(), "the log begins behind the export");
        assert!(covered > LogIndex(100) && state.checkpoint >= covered.get());
    }
    let most = 12 * alone.files.wal.segment_bytes;
    assert!(alone.wal.bytes_on_disk() < most, "{} bytes", alone.wal.bytes_on_disk());
    let applied = (alone.node.machine().applied(), alone.node.own().applied());
    let digest = alone.node.own().machine().digest().unwrap();
    let again = start_again(alone);
    assert_eq!(items(&again.node), expected);
    assert_eq!(again.node.own().applied(), applied.1);
    assert_eq!(again.node.own().machine().digest().unwrap(), digest);
    assert!(again.node.machine().applied() >= applied.0);
}

/// Nobody writes but the node itself: a round covers both groups all the same.
#[test]
fn the_log_is_freed_where_only_items_are_written() {
    let mut alone = Alone::new(opened_with(&SimDisk::new(), small));
    work(&mut alone, 600, false);
    let most = 12 * alone.files.wal.segment_bytes;
    assert!(alone.wal.bytes_on_disk() < most, "{} bytes", alone.wal.bytes_on_disk());
    assert!(alone.node.exports.newest(GroupId::EVENTUAL).is_some());
    // What was replaced has left the state as well.
    let stored = alone.node.own().machine().store().scan(&[0; 7], &[0xff; 8]).count();
    assert!(stored < 200, "{stored} items of the store for 40");
}

#[test]
fn a_state_that_is_gone_is_rebuilt_from_export_and_log() {
    let mut alone = Alone::new(opened_with(&SimDisk::new(), small));
    let expected = work(&mut alone, 400, true);
    let digest = alone.node.own().machine().digest().unwrap();
    for name in alone.files.states.list().unwrap() {
        alone.files.states.remove(&name).unwrap();
    }
    let again = start_again(alone);
    assert_eq!(items(&again.node), expected);
    assert_eq!(again.node.own().machine().digest().unwrap(), digest);
}

/// As with the disk, what the node remembered is lost; but not what it has in common with others.
#[test]
fn without_state_and_export_it_begins_with_nothing_and_goes_on_numbering() {
    let mut alone = Alone::new(opened_with(&SimDisk::new(), small));
    work(&mut alone, 400, true);
    let (applied, data) = (alone.node.own().applied(), alone.node.machine().applied());
    let dir = alone.node.own().state_dir().to_owned();
    alone.files.states.remove(&dir).unwrap();
    let exports = exports_of(&alone, GroupId::EVENTUAL);
    for path in &exports {
        alone.files.disk.remove_file(path).unwrap();
    }
    assert!(!exports.is_empty());
    let mut again = start_again(alone);
    assert_eq!((items(&again.node), again.node.own().applied()), (Items::new(), applied));
    assert!(again.node.machine().applied() >= data);
    assert_ne!(again.node.own().state_dir(), dir);
    let expected = work(&mut again, 300, true);
    let last = start_again(again);
    assert_eq!(items(&last.node), expected);
    assert!(last.node.own().applied().get() >= applied.get() + 300);
}

/// What an earlier log has left would be taken for a part of the new one once that is as long.
#[test]
fn what_a_lost_log_has_left_is_set_aside() {
    let mut alone = Alone::new(opened_with(&SimDisk::new(), small));
    work(&mut alone, 300, false);
    let exports = exports_of(&alone, GroupId::EVENTUAL);
    assert!(!exports.is_empty());
    let mut states = BTreeMap::new();
    for group in [GroupId::META, GroupId::DATA] {
        states.insert(group, alone.wal.group_state(group).unwrap().clone());
    }
    // As a repair does it: the new log begins behind the exports of the other groups.
    for (group, state) in &mut states {
        let header = &alone.node.exports.newest(*group).expect("a round has ended").header;
        state.start_index = header.index.get();
        state.start_term = header.term.get();
        (state.last_index, state.last_term) = (state.start_index, state.start_term);
        state.hard_state.as_mut().unwrap().commit = state.start_index;
        state.checkpoint = 0;
        if *group == GroupId::DATA {
            state.state_dir = "1-77".to_owned();
        }
    }
    let Alone { node, wal, files, .. } = alone;
    drop((node, wal));
    drop(Wal::replace(files.disk.clone(), &files.dir, files.wal.clone(), states).unwrap());
    let mut again = Alone::new(reopened(files, small));
    assert_eq!((items(&again.node), again.node.own().applied()), (Items::new(), LogIndex(0)));
    assert!(exports_of(&again, GroupId::EVENTUAL).is_empty());
    let names = again.files.disk.list(&again.files.exports_dir()).unwrap();
    assert!(names.iter().any(|name| name.ends_with(".aside")), "{names:?}");
    let expected = work(&mut again, 400, false);
    assert_eq!(items(&start_again(again).node), expected);
}

#[test]
fn a_store_of_items_that_outgrows_them_is_renewed() {
    let mut alone = Alone::new(opened_with(&SimDisk::new(), |config| {
        small(config);
        config.bounds.copy_times = 1;
        config.bounds.store_times = 1;
        config.bounds.store_slack_bytes = 0;
    }));
    let mut renewed = None;
    for n in 0..1_000 {
        alone.node.remember((0..4).map(|k| item(n * 4 + k, n)).collect());
        alone.pass(1);
        // Nearly all of it goes again.
        let gone = |k| log::Item { value: None, ..item(n * 4 + k, n) };
        alone.node.remember((0..4).map(gone).collect());
        alone.pass(1);
        let of_items = |(dir, _): &(String, _)| dir.starts_with("2-");
        if alone.renewing.as_ref().is_some_and(of_items) {
            renewed = Some(alone.node.own().state_dir().to_owned());
            alone.finish_renewal();
            break;
        } else if alone.renewing.is_some() {
            alone.finish_renewal();
        }
    }
    let old = renewed.expect("it was renewed");
    assert_ne!(alone.node.own().state_dir(), old);
    assert!(alone.removed.contains(&old));
    let state = alone.wal.group_state(GroupId::EVENTUAL).unwrap();
    assert_eq!(state.state_dir, alone.node.own().state_dir());
    let expected = work(&mut alone, 50, false);
    assert_eq!(items(&start_again(alone).node), expected);
}

#[test]
fn a_store_that_cannot_be_exported_is_given_up_alone_and_ends_the_node_in_time() {
    let mut alone = Alone::new(opened_with(&SimDisk::new(), |config| {
        small(config);
        config.export_log_bytes = u64::MAX / 64;
    }));
    alone.node.remember(vec![item(1, 1)]);
    alone.ask(put_request("a", b"1")).unwrap();
    alone.request(Request::Export);
    while !alone.exporting.iter().any(|(group, _)| *group == GroupId::EVENTUAL) {
        alone.node.step(Input::Tick);
        alone.poll();
    }
    let running = alone.exporting.iter().position(|(group, _)| *group == GroupId::EVENTUAL);
    drop(alone.exporting.remove(running.unwrap()));
    let result = Err(ExportFailed::Store(StateError::Poisoned));
    alone.node.step(Input::Exported { group: GroupId::EVENTUAL, result });
    alone.pass(20);
    assert!(matches!(alone.replies.pop(), Some(Ok(Reply::Export(_)))), "the data group has one");
    alone.ask(put_request("b", b"1")).unwrap();
    let checkpointed = alone.node.own().machine().checkpointed();
    let mut ended = None;
    for n in 0..4_000 {
        alone.node.remember((0..4).map(|k| item(n * 4 + k, n)).collect());
        alone.node.step(Input::Tick);
        for effect in alone.node.poll() {
            match effect {
                Effect::Fatal(why) => ended = Some(why),
                effect if ended.is_none() => alone.carry_out(effect),
                _ => {}
            }
        }
        if ended.is_some() {
            break;
        }
    }
    assert!(ended.expect("it ends").contains("a start rebuilds"));
    assert_eq!(alone.suspects, ["2-0"], "and not the state of the data group");
    assert_eq!(alone.node.own().machine().checkpointed(), checkpointed);
}

#[test]
fn items_are_taken_while_there_is_room_and_exports_keep_up() {
    let mut alone = Alone::new(opened_with(&SimDisk::new(), |config| {
        small(config);
        config.bounds.layer_bytes = SMALL;
        config.bounds.ahead_bytes = SMALL / 4;
    }));
    assert!(alone.node.own().takes());
    alone.node.step(Input::LogFull(true));
    assert!(!alone.node.own().takes());
    alone.node.step(Input::LogFull(false));
    assert!(alone.node.own().takes());
    // A layer of three times its bound at once, of which no checkpoint is finished yet.
    alone.node.remember((0..200).map(|n| item(n, n)).collect());
    for effect in alone.node.poll() {
        if !matches!(effect, Effect::Checkpoint { .. }) {
            alone.carry_out(effect);
        }
    }
    alone.node.step(Input::Tick);
    assert!(alone.node.own().is_overloaded());
}

/// The keys of the versions in an export.
fn keys_in(path: &std::path::Path) -> Vec<bytes::Bytes> {
    let mut reader = storage::export::ExportReader::open(&storage::disk::RealDisk, path).unwrap();
    assert_eq!(reader.header().group, GroupId::DATA);
    let mut keys = Vec::new();
    while let Some(record) = reader.next().unwrap() {
        if let Some(log::export_record::Body::Version(version)) = record.body {
            keys.push(version.key);
        }
    }
    keys
}

/// The state of the node's own log may be ahead of a log that is cut where it is damaged, and of everything that
/// is left of the data group.
#[test]
fn a_recovery_is_about_the_data_and_not_about_items() {
    use crate::durable::{SledDirs, first_states};
    use crate::offline::recover::Salvage;

    let dir = tempfile::tempdir().unwrap();
    let disk: Arc<dyn storage::disk::Disk> = Arc::new(storage::disk::RealDisk);
    let (_, _, files) = opened(&SimDisk::new());
    let files = DataFiles {
        disk: Arc::clone(&disk),
        dir: dir.path().to_owned(),
        states: Arc::new(SledDirs::new(dir.path())),
        ..files
    };
    let founding = Founding { members: vec![(NodeId(1), "n1".into())], joined: false };
    let states = first_states(&founding);
    drop(Wal::create(Arc::clone(&disk), &files.wal_dir(), files.wal.clone(), states).unwrap());
    let mut alone = Alone::new(reopened(files.clone(), small));
    alone.ask(put_request("first", b"1")).unwrap();
    work(&mut alone, 200, false);
    let own = alone.node.own().machine().checkpointed();
    assert!(own > alone.node.machine().applied(), "the own log is the longer one");
    drop(alone);
    let salvage = |to: &str| {
        let (data_dir, scratch) = (dir.path().to_owned(), dir.path().join("recovering"));
        let (disk, wal, founding) = (Arc::clone(&disk), files.wal.clone(), founding.clone());
        let to = dir.path().join(to);
        let name = "n1".to_owned();
        let says = Salvage { disk, data_dir, scratch, wal, founding, name }.export(&to).unwrap();
        (says, keys_in(&to))
    };
    let (says, keys) = salvage("whole.exp");
    assert!(says.contains("the log is whole"), "{says}");
    assert_eq!(keys, ["first"]);
    // A segment decays in the middle: the newest one that is in use, for what is prepared holds nothing.
    let mut segments: Vec<PathBuf> =
        std::fs::read_dir(files.wal_dir()).unwrap().map(|entry| entry.unwrap().path()).collect();
    segments.retain(|path| path.extension().is_some_and(|extension| extension == "seg"));
    segments.sort();
    let cut = segments.iter().rev().find_map(|path| {
        let whole = std::fs::read(path).unwrap();
        let said: Vec<usize> = (0..whole.len()).filter(|at| whole[*at] != 0).collect();
        let mut bytes = whole.clone();
        bytes[said[said.len() / 2]] ^= 1;
        std::fs::write(path, bytes).unwrap();
        let (says, keys) = salvage("cut.exp");
        std::fs::write(path, whole).unwrap();
        (!says.contains("the log is whole")).then_some((says, keys))
    });
    let (says, keys) = cut.expect("some segment is in use");
    assert_eq!(keys, ["first"], "{says}");
}
