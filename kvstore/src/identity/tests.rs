//! Records that are lost, damaged, foreign or half written.

use std::io::ErrorKind;

use proto::{Code, v1};
use rand::SeedableRng;
use rand::rngs::StdRng;
use storage::disk::{Operation, RealDisk, SimDisk};

use super::*;

fn real() -> Arc<dyn Disk> {
    Arc::new(RealDisk)
}

fn open(disk: &Arc<dyn Disk>, path: &Path) -> Result<DataDir, DataDirError> {
    DataDir::open(Arc::clone(disk), path, "n1", "prod")
}

fn formed(node: NodeId) -> Formed {
    Formed::derive("prod", [(node, "n1".to_owned()), (NodeId(7), "n2".to_owned())])
}

fn code(result: Result<DataDir, DataDirError>) -> (Code, String) {
    let error = result.unwrap_err();
    (error.code(), error.to_string())
}

#[test]
fn an_identity_is_minted_once() {
    let root = tempfile::tempdir().unwrap();
    let path = root.path().join("a/b");
    let first = open(&real(), &path).unwrap();
    let node = first.node();
    assert_ne!(node, NodeId(0));
    assert_eq!(first.formed(), None);
    drop(first);
    assert_eq!(open(&real(), &path).unwrap().node(), node);
    let other = open(&real(), &root.path().join("c")).unwrap();
    assert_ne!(other.node(), node);
}

#[test]
fn a_cluster_is_kept() {
    let root = tempfile::tempdir().unwrap();
    let mut dir = open(&real(), root.path()).unwrap();
    let formed = formed(dir.node());
    dir.save_formed(&formed).unwrap();
    assert_eq!(dir.formed(), Some(&formed));
    drop(dir);
    assert_eq!(open(&real(), root.path()).unwrap().formed(), Some(&formed));
}

#[test]
fn one_process_at_a_time() {
    let root = tempfile::tempdir().unwrap();
    let first = open(&real(), root.path()).unwrap();
    let (code, text) = code(open(&real(), root.path()));
    assert_eq!((code, code.exit()), (Code::DirectoryLocked, 1));
    assert!(text.contains(&format!("process {}", std::process::id())), "{text}");
    drop(first);
    // A lock file that a dead process left is no lock.
    std::fs::write(root.path().join("LOCK"), "12345678\n").unwrap();
    let again = open(&real(), root.path()).unwrap();
    let pid = std::fs::read_to_string(root.path().join("LOCK")).unwrap();
    assert_eq!(pid, format!("{}\n", std::process::id()));
    drop(again);
}

#[test]
fn the_directory_of_somebody_else_is_refused() {
    let root = tempfile::tempdir().unwrap();
    let mut dir = open(&real(), root.path()).unwrap();
    let node = dir.node();
    dir.save_formed(&formed(node)).unwrap();
    drop(dir);
    for (name, cluster, says) in
        [("n2", "prod", "node n1, not n2"), ("n1", "test", "prod, not test")]
    {
        let (code, text) = code(DataDir::open(real(), root.path(), name, cluster));
        assert_eq!((code, code.exit()), (Code::DataForeign, 9));
        assert!(text.contains(says), "{text}");
    }
    // Another node's cluster file.
    let other = Formed::derive("prod", [(NodeId(8), "n1".to_owned())]);
    let body = ClusterBody {
        cluster: other.cluster.0.to_vec(),
        cluster_name: "prod".into(),
        members: other.wire_members(),
        ..ClusterBody::default()
    };
    CLUSTER.write(&RealDisk, root.path(), &body).unwrap();
    let (code, text) = code(open(&real(), root.path()));
    assert_eq!(code, Code::DataForeign);
    assert!(text.contains("is not that of node n1"), "{text}");
}

#[test]
fn every_flipped_bit_and_every_cut_is_noticed() {
    let root = tempfile::tempdir().unwrap();
    let mut dir = open(&real(), root.path()).unwrap();
    let node = dir.node();
    dir.save_formed(&formed(node)).unwrap();
    drop(dir);
    for record in ["identity", "cluster"] {
        let file = root.path().join(record);
        let good = std::fs::read(&file).unwrap();
        let mut bad: Vec<Vec<u8>> = (0..good.len()).map(|len| good[..len].to_vec()).collect();
        bad.push([&good[..], b"\0"].concat());
        bad.push(vec![0; 1 << 20]);
        for bit in 0..good.len() * 8 {
            let mut flipped = good.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            bad.push(flipped);
        }
        for bytes in bad {
            std::fs::write(&file, &bytes).unwrap();
            let (code, text) = code(open(&real(), root.path()));
            assert!(matches!(code, Code::DataDamaged | Code::DataForeign), "{text}");
            assert_eq!(code.exit(), 9);
            assert!(text.starts_with(&file.display().to_string()), "{text}");
            assert_eq!(std::fs::read(&file).unwrap(), bytes, "a bad file is left as it is");
        }
        std::fs::write(&file, good).unwrap();
    }
    assert_eq!(open(&real(), root.path()).unwrap().node(), node);
}

#[test]
fn formats_are_told_apart() {
    let root = tempfile::tempdir().unwrap();
    drop(open(&real(), root.path()).unwrap());
    let file = root.path().join("identity");
    let good = std::fs::read(&file).unwrap();
    let mut newer = good.clone();
    newer[8] = 2;
    std::fs::write(&file, newer).unwrap();
    let (refused, text) = code(open(&real(), root.path()));
    assert_eq!(refused, Code::DataForeign);
    assert!(text.contains("has format 2; this version reads format 1"), "{text}");
    std::fs::write(&file, "something else entirely").unwrap();
    assert_eq!(code(open(&real(), root.path())).0, Code::DataForeign);
}

/// A directory whose node has formed.
fn formed_directory() -> tempfile::TempDir {
    let root = tempfile::tempdir().unwrap();
    let mut dir = open(&real(), root.path()).unwrap();
    let node = dir.node();
    dir.save_formed(&formed(node)).unwrap();
    root
}

#[test]
fn a_missing_record_is_not_made_anew() {
    for (data, lost, says) in [
        (Some("wal"), "cluster", "cluster: is missing, though wal exists"),
        (Some("wal"), "identity", "identity: is missing, though cluster exists"),
        (None, "identity", "identity: is missing, though cluster exists"),
        // All but the identity is gone, log and state as well.
        (None, "cluster", "cluster: is missing, though the node has formed"),
    ] {
        let root = formed_directory();
        if let Some(data) = data {
            std::fs::create_dir(root.path().join(data)).unwrap();
        }
        std::fs::remove_file(root.path().join(lost)).unwrap();
        let (code, text) = code(open(&real(), root.path()));
        assert_eq!(code, Code::DataDamaged);
        assert!(text.contains(says), "{text}");
    }
    let root = tempfile::tempdir().unwrap();
    std::fs::create_dir(root.path().join("state")).unwrap();
    let (code, text) = code(open(&real(), root.path()));
    assert_eq!(code, Code::DataDamaged);
    assert!(text.contains("identity: is missing, though state exists"), "{text}");
}

#[test]
fn every_kind_of_data_proves_that_the_node_has_formed() {
    for entry in ["wal", "wal.new", "wal.damaged-3", "state", "started", "members", "exports"] {
        let root = tempfile::tempdir().unwrap();
        std::fs::create_dir(root.path().join(entry)).unwrap();
        let (code, text) = code(open(&real(), root.path()));
        assert_eq!(code, Code::DataDamaged, "{entry}");
        assert!(text.contains(&format!("identity: is missing, though {entry} exists")), "{text}");
    }
    // Anything else is none of ours: lost+found, what an operator left.
    let root = tempfile::tempdir().unwrap();
    for entry in ["lost+found", "members.new", "wal-of-yesterday"] {
        std::fs::create_dir(root.path().join(entry)).unwrap();
    }
    assert_eq!(open(&real(), root.path()).unwrap().formed(), None);
}

#[test]
fn a_directory_with_nothing_but_a_seed_is_new() {
    let root = tempfile::tempdir().unwrap();
    // Longer than what is read at a time.
    let seed: Vec<u8> = (0..2_500_000_u32).map(|at| at.to_le_bytes()[0]).collect();
    std::fs::write(root.path().join("seed.exp"), &seed).unwrap();
    let sha: [u8; 32] = <sha2::Sha256 as sha2::Digest>::digest(&seed).into();
    let mut dir = open(&real(), root.path()).unwrap();
    assert_eq!((dir.formed(), dir.seed()), (None, Some(sha)));
    let formed = Formed::derive_from("prod", [(dir.node(), "n1".to_owned())], Some(sha));
    dir.save_formed(&formed).unwrap();
    drop(dir);
    // From then on the record says it; the file may go.
    std::fs::remove_file(root.path().join("seed.exp")).unwrap();
    let dir = open(&real(), root.path()).unwrap();
    assert_eq!((dir.formed(), dir.seed()), (Some(&formed), Some(sha)));
}

#[test]
fn a_node_that_joined_is_none_of_the_founders() {
    let root = tempfile::tempdir().unwrap();
    let mut dir = open(&real(), root.path()).unwrap();
    // Its name may have been that of a founder.
    for other in ["n1", "n2"] {
        let founder = Formed::derive("prod", [(NodeId(1), other.to_owned())]);
        assert!(
            std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| dir.save_formed(&founder)))
                .is_err()
        );
    }
    let joined = Formed { joined: true, ..Formed::derive("prod", [(NodeId(1), "n1".to_owned())]) };
    dir.save_formed(&joined).unwrap();
    drop(dir);
    assert_eq!(open(&real(), root.path()).unwrap().formed(), Some(&joined));
}

fn list(names: &[&str]) -> MemberList {
    let member = |(at, name): (usize, &&str)| v1::Member {
        id: at as u64,
        name: (*name).to_owned(),
        peer_address: format!("{name}:7611"),
        client_address: format!("{name}:7610"),
    };
    MemberList {
        members: names.iter().enumerate().map(member).collect(),
        removed: [NodeId(9), NodeId(8)].into(),
    }
}

#[test]
fn the_members_are_kept() {
    let root = formed_directory();
    let dir = open(&real(), root.path()).unwrap();
    assert_eq!(dir.members(), None);
    let file = dir.members_file();
    for names in [&["n4", "n1"][..], &["n1"], &[]] {
        file.write(&list(names)).unwrap();
    }
    file.write(&list(&["n4", "n1"])).unwrap();
    drop(dir);
    // Not beside another process.
    file.write(&list(&["n7"])).unwrap();
    let dir = open(&real(), root.path()).unwrap();
    assert_eq!(dir.members(), Some(&list(&["n4", "n1"])));
    drop(dir);
    let path = root.path().join("members");
    let good = std::fs::read(&path).unwrap();
    for bit in 0..good.len() * 8 {
        let mut flipped = good.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        std::fs::write(&path, &flipped).unwrap();
        // Header bytes may say that it is somebody else's; never is it taken for a list.
        match open(&real(), root.path()) {
            Ok(dir) => assert_eq!(dir.members(), None, "bit {bit}"),
            Err(error) => assert!(matches!(error, DataDirError::Foreign { .. }), "{error}"),
        }
    }
}

/// A crash between the two writes of forming: the next start completes them.
#[test]
fn forming_is_noted_twice() {
    let root = tempfile::tempdir().unwrap();
    let node = open(&real(), root.path()).unwrap().node();
    let all = formed(node);
    let body = ClusterBody {
        cluster: all.cluster.0.to_vec(),
        cluster_name: "prod".into(),
        members: all.wire_members(),
        ..ClusterBody::default()
    };
    CLUSTER.write(&RealDisk, root.path(), &body).unwrap();
    assert_eq!(open(&real(), root.path()).unwrap().formed(), Some(&all));
    std::fs::remove_file(root.path().join("cluster")).unwrap();
    assert_eq!(code(open(&real(), root.path())).0, Code::DataDamaged);
}

/// Power is lost at every operation of the first start: what was promised is there afterwards,
/// what was not promised is whole or absent (B26).
#[test]
fn no_crash_leaves_half_a_record() {
    let root = tempfile::tempdir().unwrap();
    let mut promises = [0; 3];
    for seed in 0..400 {
        let disk = SimDisk::new();
        let shared: Arc<dyn Disk> = Arc::new(disk.clone());
        disk.halt_at(seed % 20);
        let opened = open(&shared, root.path());
        let mut minted = None;
        let mut saved = None;
        if let Ok(mut dir) = opened {
            minted = Some(dir.node());
            let formed = formed(dir.node());
            if dir.save_formed(&formed).is_ok() {
                saved = Some(formed);
            }
        }
        promises[usize::from(minted.is_some()) + usize::from(saved.is_some())] += 1;
        disk.crash(&mut StdRng::seed_from_u64(seed));
        let dir = open(&shared, root.path()).unwrap_or_else(|error| panic!("seed {seed}: {error}"));
        if let Some(node) = minted {
            assert_eq!(dir.node(), node, "seed {seed}");
        }
        if let Some(formed) = saved {
            assert_eq!(dir.formed(), Some(&formed), "seed {seed}");
        }
    }
    assert!(promises.iter().all(|count| *count > 0), "{promises:?}");
}

/// Power is lost at every operation of a change of the list: the old one or the new one is there.
#[test]
fn b32_the_list_of_members_survives_every_crash() {
    let root = tempfile::tempdir().unwrap();
    let (old, new) = (list(&["n1"]), list(&["n1", "n2", "n3"]));
    let mut seen = [0; 3];
    for seed in 0..200 {
        let disk = SimDisk::new();
        let shared: Arc<dyn Disk> = Arc::new(disk.clone());
        let mut dir = open(&shared, root.path()).unwrap();
        let formed = formed(dir.node());
        dir.save_formed(&formed).unwrap();
        dir.members_file().write(&old).unwrap();
        disk.halt_at(disk.counters().operations + seed % 8);
        let written = dir.members_file().write(&new).is_ok();
        disk.crash(&mut StdRng::seed_from_u64(seed));
        drop(dir);
        let dir = open(&shared, root.path()).unwrap_or_else(|error| panic!("seed {seed}: {error}"));
        let kept = dir.members().unwrap();
        assert!(*kept == new || (*kept == old && !written), "seed {seed}: {written} {kept:?}");
        seen[usize::from(written) + usize::from(*kept == new)] += 1;
        assert_eq!(dir.formed(), Some(&formed));
    }
    assert!(seen.iter().all(|count| *count > 0), "{seen:?}");
}

#[test]
fn a_failing_disk_is_named() {
    let root = tempfile::tempdir().unwrap();
    for operation in [
        Operation::Create,
        Operation::Write,
        Operation::Sync,
        Operation::Rename,
        Operation::SyncDir,
        Operation::List,
    ] {
        let disk = SimDisk::new();
        disk.fail_next(operation, ErrorKind::StorageFull);
        let shared: Arc<dyn Disk> = Arc::new(disk);
        let error = open(&shared, root.path()).unwrap_err();
        assert!(matches!(&error, DataDirError::Io { .. }), "{operation:?}: {error}");
        assert_eq!(error.code().exit(), 1);
    }
}

#[test]
fn work_offline_takes_the_lock_and_mints_nothing() {
    let root = tempfile::tempdir().unwrap();
    let lock = || OfflineDir::lock(real(), root.path());
    assert_eq!(lock().unwrap().formed("n1", "prod").unwrap(), None);
    let mut dir = open(&real(), root.path()).unwrap();
    assert_eq!(lock().unwrap_err().code(), Code::DirectoryLocked);
    let formed = formed(dir.node());
    dir.save_formed(&formed).unwrap();
    drop(dir);
    let offline = lock().unwrap();
    assert_eq!(offline.formed("n1", "prod").unwrap(), Some(formed));
    assert_eq!(code(open(&real(), root.path())).0, Code::DirectoryLocked);
    assert_eq!(offline.formed("n2", "prod").unwrap_err().code(), Code::DataForeign);
    assert_eq!(offline.formed("n1", "test").unwrap_err().code(), Code::DataForeign);
    for record in ["cluster", "identity"] {
        let path = root.path().join(record);
        let bytes = std::fs::read(&path).unwrap();
        std::fs::remove_file(&path).unwrap();
        assert_eq!(offline.formed("n1", "prod").unwrap_err().code(), Code::DataDamaged, "{record}");
        std::fs::write(&path, bytes).unwrap();
    }
}
