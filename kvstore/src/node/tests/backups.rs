//! Backups of a node of one, and clusters that begin with them.

use std::path::Path;

use bytes::Bytes;
use proto::log::put_keyspace::Step;
use proto::v1::keyspace::Kind;
use proto::{ClusterId, v1};
use storage::backup::encode_head;
use storage::disk::{Disk as _, OpenMode, RealDisk};

use super::*;
use crate::durable::{MemoryDirs, first_states};
use crate::offline::verify::verify;
use crate::replication::EventualOptions;
use crate::secrets::Entropy;
use crate::shell::testing::reopened;

const RESTORED: ClusterId = ClusterId([6; 16]);

/// Lets the node draw its secrets and its replica begin.
fn serving(opened: (Node, Wal, DataFiles)) -> Alone {
    let mut alone = Alone::new(opened);
    alone.node.step(Input::Time { monotonic_us: 1_000, wall_us: 1_000_000_000 });
    alone.pass(200);
    assert!(alone.node.eventual.serves());
    alone
}

fn manage(alone: &mut Alone, body: log::command::Body) {
    let command = log::Command { body: Some(body) };
    assert!(matches!(alone.ask(Request::Manage(command)), Ok(Reply::Managed(_))));
    alone.pass(20);
}

fn put_keyspace(alone: &mut Alone, step: Step, keyspace: v1::Keyspace) {
    let put = log::PutKeyspace { step: step.into(), keyspace: Some(keyspace) };
    manage(alone, log::command::Body::PutKeyspace(put));
}

fn create(alone: &mut Alone, name: &str, kind: Kind) {
    let keyspace = v1::Keyspace { name: name.into(), kind: kind.into(), ..v1::Keyspace::default() };
    put_keyspace(alone, Step::Create, keyspace);
}

/// Writes to keyspace `carts`; without a value a delete. Returns the token.
fn write(
    alone: &mut Alone,
    key: &str,
    value: Option<&str>,
    causal: Bytes,
) -> Result<Bytes, Failure> {
    let key = Bytes::copy_from_slice(key.as_bytes());
    let op = match value {
        Some(value) => {
            let value = Bytes::copy_from_slice(value.as_bytes());
            v1::op::Op::Put(v1::PutOp { key, value, prev: false })
        }
        None => v1::op::Op::Delete(v1::DeleteOp { key, ..v1::DeleteOp::default() }),
    };
    // Ids are in the cut, so no two nodes may give the same.
    let seq = 1_000 * alone.node.config.seed + alone.requests + 1;
    let id = v1::WriteId { client_id: vec![9; 16].into(), seq, ..v1::WriteId::default() };
    let then_ops = vec![v1::Op { op: Some(op) }];
    let write = log::Write { id: Some(id), then_ops, ..log::Write::default() };
    let options = EventualOptions { causal, ..EventualOptions::default() };
    match alone.ask(Request::Write { keyspace: "carts".into(), write, options })? {
        Reply::Write { written: Some(written), .. } => Ok(written.context),
        other => panic!("{other:?}"),
    }
}

fn put(alone: &mut Alone, key: &str, value: &str) -> Bytes {
    write(alone, key, Some(value), Bytes::new()).unwrap()
}

fn values(alone: &mut Alone, key: &str) -> Vec<Bytes> {
    let key = Bytes::copy_from_slice(key.as_bytes());
    let level = v1::Level::Eventual.into();
    let get = v1::GetRequest { keyspace: "carts".into(), key, level, ..Default::default() };
    match alone.ask(Request::Get(get)).unwrap() {
        Reply::Get(reply) => {
            let mut values: Vec<_> = reply.siblings.into_iter().map(|s| s.value).collect();
            values.sort();
            values
        }
        other => panic!("{other:?}"),
    }
}

fn backup(alone: &mut Alone) -> Backup {
    match alone.ask(Request::Backup) {
        Ok(Reply::Backup(backup)) => *backup,
        other => panic!("{other:?}"),
    }
}

/// The bytes of a backup.
fn content(alone: &Alone, backup: &Backup) -> Vec<u8> {
    let mut bytes = backup.head.as_ref().map(encode_head).unwrap_or_default();
    for file in &backup.files {
        let opened = alone.files.disk.open(&file.path, OpenMode::Read).unwrap();
        let mut part = vec![0; file.bytes as usize];
        assert_eq!(opened.read_at(0, &mut part).unwrap(), part.len());
        bytes.extend(part);
    }
    bytes
}

/// The files of a node of another cluster that begins with a backup.
fn restored(bytes: &[u8]) -> DataFiles {
    let files = DataFiles {
        disk: Arc::new(SimDisk::new()),
        dir: "/data".into(),
        cluster: RESTORED,
        states: Arc::new(MemoryDirs::default()),
        wal: storage::wal::WalOptions::new(RESTORED),
        machine: storage::mvcc::MachineOptions::default(),
    };
    files.disk.create_dir_all(&files.dir).unwrap();
    let mut seed = files.disk.open(&files.seed_path(), OpenMode::CreateNew).unwrap();
    seed.write_at(0, bytes).unwrap();
    let founding = Founding { members: vec![(NodeId(1), "n1".into())], joined: false };
    let states = files.plant_seed(&founding).unwrap();
    Wal::create(files.disk.clone(), &files.wal_dir(), files.wal.clone(), states).unwrap();
    files
}

/// A node that starts from them, for the so manieth time; `number` decides which secrets its cluster draws.
fn started(files: DataFiles, number: u64, boot: u64) -> Alone {
    serving(reopened(files, |config| {
        config.cluster = RESTORED;
        config.epoch = 1;
        config.boot = boot;
        config.seed = 100 * boot + number;
        config.entropy = Entropy::predictable(number);
    }))
}

#[test]
fn a_cluster_begins_with_what_a_replica_had() {
    let mut alone = serving(opened(&SimDisk::new()));
    create(&mut alone, "carts", Kind::Eventual);
    let stale = put(&mut alone, "k", "first");
    for value in ["left", "right"] {
        write(&mut alone, "k", Some(value), stale.clone()).unwrap();
    }
    put(&mut alone, "gone", &"x".repeat(5_000));
    write(&mut alone, "gone", None, Bytes::new()).unwrap();
    put(&mut alone, "large", &"y".repeat(5_000));
    alone.ask(put_request("plain", b"1")).unwrap();
    let backup = backup(&mut alone);
    let head = backup.head.clone().unwrap();
    assert_eq!((head.covered.as_slice(), head.missing.len()), (&["n1".to_owned()][..], 0));
    let bytes = content(&alone, &backup);
    // What comes later is not in it.
    put(&mut alone, "later", "1");
    let clock = alone.node.eventual.clock_for_tests();

    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("backup.exp");
    std::fs::write(&path, &bytes).unwrap();
    let report = verify(&RealDisk, &path).unwrap().report(true);
    let report: serde_json::Value = serde_json::from_str(&report).unwrap();
    let carts = &report["eventual"]["keyspaces"][0];
    assert_eq!((&carts["name"], &carts["keys"]), (&"carts".into(), &2.into()), "{report}");
    assert_eq!(carts["values"], 3, "{report}");
    assert_eq!(report["bytes"], bytes.len(), "{report}");
    assert_eq!(report["epoch"], 0);

    // Whatever secrets the new cluster draws, even the same, tokens of the old one say nothing to it.
    for (number, refusal) in [(1, Code::TokenExpired), (2, Code::TokenInvalid)] {
        let mut new = started(restored(&bytes), number, 1);
        assert_eq!(values(&mut new, "k"), ["left", "right"]);
        assert_eq!(values(&mut new, "large"), ["y".repeat(5_000)]);
        assert!(values(&mut new, "gone").is_empty() && values(&mut new, "later").is_empty());
        assert!(new.node.machine().get(KeyspaceId::DEFAULT, b"plain", None).unwrap().is_some());
        let refused = write(&mut new, "k", Some("old"), stale.clone()).unwrap_err();
        assert_eq!((refused.code, refused.applied), (refusal, Some(Applied::No)), "{number}");
        assert_eq!(values(&mut new, "k"), ["left", "right"]);
        let own = new.node.eventual.clock_for_tests();
        let actors = |clock: &gossip::clock::Clock| -> Vec<gossip::ActorId> {
            clock.tracks().map(|(actor, _)| *actor).collect()
        };
        let before = actors(&own);
        assert!(!before.is_empty() && clock.covers(&own), "all of it came from the cut");
        put(&mut new, "k", "merged");
        assert_eq!(values(&mut new, "k"), ["merged"]);
        let after = actors(&new.node.eventual.clock_for_tests());
        assert_eq!(after.len(), before.len() + 1, "an actor of its own");
        create(&mut new, "more", Kind::Eventual);
        let ids: Vec<u64> = new.node.meta.machine().keyspaces().iter().map(|k| k.id).collect();
        assert_eq!(ids, [1, 2, 3], "no id is used again");
        // A second backup is of the new epoch, and a start finds all of it.
        let again = self::backup(&mut new);
        assert_eq!(again.head.as_ref().unwrap().epoch, 1);
        let Alone { node, wal, files, .. } = new;
        drop((node, wal));
        let mut new = started(files, number, 2);
        assert_eq!(values(&mut new, "k"), ["merged"]);
        assert!(values(&mut new, "gone").is_empty());
    }
}

#[test]
fn a_keyspace_that_nobody_wrote_to_is_empty_after_a_restore_and_not_lost() {
    let mut alone = serving(opened(&SimDisk::new()));
    create(&mut alone, "carts", Kind::Eventual);
    let backup = backup(&mut alone);
    let bytes = content(&alone, &backup);
    let mut new = started(restored(&bytes), 2, 1);
    assert!(!new.node.eventual.is_new(), "it does not look like a directory that lost something");
    assert!(!new.node.eventual.is_recovering());
    assert!(values(&mut new, "k").is_empty());
}

#[test]
fn without_eventual_keyspaces_a_backup_is_the_export_of_the_data_group() {
    let mut alone = serving(opened(&SimDisk::new()));
    alone.ask(put_request("plain", b"1")).unwrap();
    let backup = backup(&mut alone);
    assert!(backup.head.is_none());
    let groups: Vec<GroupId> = backup.files.iter().map(|file| file.header.group).collect();
    assert_eq!(groups, [GroupId::DATA]);
    // As every backup of a version before.
    let new = started(restored(&content(&alone, &backup)), 2, 1);
    assert!(new.node.machine().get(KeyspaceId::DEFAULT, b"plain", None).unwrap().is_some());
    assert!(new.node.meta.machine().eventual("carts").is_none());
}

#[test]
fn a_backup_of_which_an_export_failed_is_refused() {
    let mut alone = serving(opened(&SimDisk::new()));
    create(&mut alone, "carts", Kind::Eventual);
    put(&mut alone, "k", "v");
    alone.request(Request::Backup);
    while !alone.exporting.iter().any(|(group, _)| *group == GroupId::EVENTUAL) {
        alone.node.step(Input::Tick);
        alone.poll();
    }
    let running = alone.exporting.iter().position(|(group, _)| *group == GroupId::EVENTUAL);
    let (group, task) = alone.exporting.remove(running.unwrap()).unwrap();
    task.give_up();
    let result = Err(ExportFailed::File("no room".to_owned()));
    alone.node.step(Input::Exported { group, result });
    alone.pass(20);
    let Some(Err(failure)) = alone.replies.pop() else { panic!("it is refused") };
    assert_eq!(failure.code, Code::ExportFailed);
    // The next one is whole.
    put(&mut alone, "k", "w");
    let bytes = backup(&mut alone);
    assert_eq!(bytes.files.len(), 3);
}

#[test]
fn a_node_whose_replica_does_not_serve_gives_no_backup_of_eventual_keyspaces() {
    // It never hears what time it is.
    let mut alone = Alone::new(opened(&SimDisk::new()));
    create(&mut alone, "carts", Kind::Eventual);
    assert!(!alone.node.eventual.serves());
    let failure = alone.ask(Request::Backup).unwrap_err();
    assert_eq!(failure.code, Code::Recovering);
}

#[test]
fn a_seed_that_does_not_verify_begins_nothing() {
    let mut alone = serving(opened(&SimDisk::new()));
    create(&mut alone, "carts", Kind::Eventual);
    put(&mut alone, "k", "v");
    let backup = backup(&mut alone);
    let good = content(&alone, &backup);
    let founding = Founding { members: vec![(NodeId(1), "n1".into())], joined: false };
    let begins = |bytes: &[u8]| {
        let files = DataFiles { disk: Arc::new(SimDisk::new()), ..alone.files.clone() };
        files.disk.create_dir_all(&files.dir).unwrap();
        let mut seed = files.disk.open(&files.seed_path(), OpenMode::CreateNew).unwrap();
        seed.write_at(0, bytes).unwrap();
        files.plant_seed(&founding).map(|states| states.len())
    };
    assert_eq!(begins(&good).unwrap(), first_states(&founding).len() + 1);
    let parts: u64 = backup.files.iter().map(|file| file.bytes).sum();
    let head = good.len() - parts as usize;
    for at in (0..head).step_by(7).chain((head..good.len()).step_by(97)) {
        let mut bad = good.clone();
        bad[at] ^= 1;
        assert!(begins(&bad).is_err(), "byte {at}");
    }
}

#[test]
fn b30_every_flipped_byte_of_a_backup_is_noticed_when_it_is_verified() {
    let mut alone = serving(opened(&SimDisk::new()));
    create(&mut alone, "carts", Kind::Eventual);
    put(&mut alone, "k", "v");
    write(&mut alone, "k", None, Bytes::new()).unwrap();
    let backup = backup(&mut alone);
    let good = content(&alone, &backup);
    let verified = |bytes: &[u8]| {
        let (disk, path) = (SimDisk::new(), Path::new("/b/backup.exp"));
        disk.create_dir_all(Path::new("/b")).unwrap();
        disk.open(path, OpenMode::CreateNew).unwrap().write_at(0, bytes).unwrap();
        verify(&disk, path)
    };
    verified(&good).unwrap();
    for at in 0..good.len() {
        let mut bad = good.clone();
        bad[at] ^= 1 << (at % 8);
        assert_eq!(verified(&bad).unwrap_err().exit(), 9, "byte {at}");
    }
    for length in (0..good.len()).step_by(13) {
        assert_eq!(verified(&good[..length]).unwrap_err().exit(), 9, "{length} bytes");
    }
    assert_eq!(verified(&[&good[..], b"x"].concat()).unwrap_err().exit(), 9);
}

#[test]
fn the_catalogue_of_a_restored_cluster_is_the_old_one_with_other_members() {
    let mut alone = serving(opened(&SimDisk::new()));
    for (name, kind) in
        [("carts", Kind::Eventual), ("plain", Kind::Linearizable), ("gone", Kind::Linearizable)]
    {
        create(&mut alone, name, kind);
    }
    create(&mut alone, "last", Kind::Eventual);
    for name in ["gone", "last"] {
        let gone = v1::Keyspace { name: name.into(), ..v1::Keyspace::default() };
        put_keyspace(&mut alone, Step::Remove, gone);
    }
    let settings = v1::keyspace::Settings { keys_max: 7, ..Default::default() };
    let settings = Some(settings);
    let set = v1::Keyspace { name: "plain".into(), settings, ..v1::Keyspace::default() };
    put_keyspace(&mut alone, Step::Set, set);
    let backup = backup(&mut alone);
    let old = alone.node.meta.machine().export();
    assert_eq!((old.keyspaces.len(), old.next_keyspace, old.secrets.len()), (3, 6, 2));
    let bytes = content(&alone, &backup);
    let mut new = started(restored(&bytes), 2, 1);
    let begun = new.node.meta.machine().export();
    assert_eq!((&begun.keyspaces, begun.next_keyspace), (&old.keyspaces, 6));
    assert_ne!(begun.secrets, old.secrets, "others were drawn");
    create(&mut new, "next", Kind::Eventual);
    assert_eq!(new.node.meta.machine().eventual("next").unwrap().id, 6);
}

#[test]
fn without_a_majority_there_is_no_backup_of_eventual_keyspaces() {
    let mut alone = serving(opened(&SimDisk::new()));
    create(&mut alone, "carts", Kind::Eventual);
    put(&mut alone, "k", "v");
    let kind = log::change_member::Kind::Add.into();
    let (name, peer_address) = ("n2".to_owned(), "n2:1".to_owned());
    let add = log::ChangeMember {
        kind,
        name: name.clone(),
        peer_address,
        stay_learner: true,
        ..log::ChangeMember::default()
    };
    manage(&mut alone, log::command::Body::ChangeMember(add));
    // As long as it has not started it has nothing.
    assert_eq!(backup(&mut alone).head.unwrap().missing, [""; 0]);
    let bind = log::BindMember { name, id: 2 };
    manage(&mut alone, log::command::Body::BindMember(bind));
    let failure = alone.ask(Request::Backup).unwrap_err();
    assert_eq!(failure.code, Code::ReplicasMissing);
    assert!(failure.why.contains("asked n1, not n2"), "{failure:?}");
    assert!(alone.node.backups.is_empty());
}

#[test]
fn several_backups_at_a_time_are_all_answered() {
    let mut alone = serving(opened(&SimDisk::new()));
    create(&mut alone, "carts", Kind::Eventual);
    put(&mut alone, "k", "v");
    for _ in 0..3 {
        alone.request(Request::Backup);
        alone.poll();
    }
    alone.pass(100);
    assert_eq!(alone.replies.len(), 3);
    for reply in std::mem::take(&mut alone.replies) {
        let Ok(Reply::Backup(backup)) = reply else { panic!("{reply:?}") };
        assert_eq!(backup.files.len(), 3);
    }
    assert!(alone.node.backups.is_empty());
}

/// What one node has is all there is when no majority is left, also where its store has lost something.
#[test]
fn what_is_left_of_a_damaged_store_is_recovered() {
    use crate::durable::SledDirs;
    use crate::offline::recover::Salvage;

    let dir = tempfile::tempdir().unwrap();
    let (_, _, files) = opened(&SimDisk::new());
    let files = DataFiles {
        disk: Arc::new(RealDisk),
        dir: dir.path().to_owned(),
        states: Arc::new(SledDirs::new(dir.path())),
        ..files
    };
    let mut alone = serving(reopened(files.clone(), |_| {}));
    create(&mut alone, "carts", Kind::Eventual);
    for key in ["lost", "kept"] {
        put(&mut alone, key, "v");
    }
    let mut items = alone.node.own().items().map(|item| item.unwrap().key);
    let lost = items.find(|key| key.starts_with(b"e") && key.ends_with(b"lost")).unwrap();
    drop(items);
    alone.node.remember(vec![log::Item { key: lost, value: None }]);
    alone.pass(20);
    drop(alone);
    let to = dir.path().join("recovered.exp");
    let says = Salvage {
        disk: Arc::clone(&files.disk),
        data_dir: dir.path().to_owned(),
        scratch: dir.path().join("recovering"),
        wal: files.wal.clone(),
        founding: Founding { members: vec![(NodeId(1), "n1".into())], joined: false },
        name: "n1".to_owned(),
    }
    .export(&to);
    let says = says.unwrap();
    assert!(says.contains("but for something that its store has lost"), "{says}");
    let mut new = started(restored(&std::fs::read(&to).unwrap()), 2, 1);
    assert!(!new.node.eventual.is_recovering(), "it begins with what there is");
    assert_eq!(values(&mut new, "kept"), ["v"]);
    assert!(values(&mut new, "lost").is_empty());
}
