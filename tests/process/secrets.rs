//! The cluster's own secrets: every node has them, in one directory that only its owner reads, and nothing
//! else holds them.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use proto::Hex;

use crate::fleet::{Fleet, until};

const NAMES: [&str; 2] = ["token-1", "tree-1"];
/// Where the bytes of a secret are in its file (docs/disk.md).
const SECRET: std::ops::Range<usize> = 28..60;

/// The bytes of the secrets in a data directory; none while one is missing.
fn secrets(data_dir: &Path) -> Option<Vec<Vec<u8>>> {
    let read = |name| std::fs::read(data_dir.join("secrets").join(name)).ok();
    NAMES.map(|name| Some(read(name)?[SECRET].to_vec())).into_iter().collect()
}

fn files_below(dir: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    let below = |path: PathBuf| if path.is_dir() { files_below(&path) } else { vec![path] };
    entries.flat_map(below).collect()
}

/// Whether a file holds the bytes as they are, in hexadecimal or as a list of numbers.
fn holds(path: &Path, secret: &[u8]) -> bool {
    let Ok(content) = std::fs::read(path) else { return false };
    let list = format!("{:?}", &secret[..8]);
    let forms = [secret.to_vec(), Hex(secret).to_string().into(), list[1..list.len() - 1].into()];
    forms.iter().any(|form| content.windows(form.len()).any(|window| window == form))
}

#[tokio::test(flavor = "multi_thread")]
async fn all_nodes_have_the_secrets_and_nothing_else_holds_them() {
    let mut fleet = Fleet::boot(3, 0).await;
    let dirs: Vec<PathBuf> = (0..3).map(|node| fleet.cluster.data_dir(node)).collect();
    for node in ["n1", "n2", "n3"] {
        assert_eq!(fleet.kv().outcome(&["node", "log-level", node, "--set", "trace"]).0, 0);
    }
    let same = |dirs: &[PathBuf]| {
        let all: Vec<_> = dirs.iter().map(|dir| secrets(dir)).collect();
        all[0].is_some() && all.iter().all(|found| *found == all[0])
    };
    until("the secrets on all nodes", || same(&dirs)).await;
    let drawn = secrets(&dirs[0]).unwrap();
    assert_ne!(drawn[0], drawn[1]);
    let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&dirs[0].join("secrets")), 0o700);
    assert_eq!(mode(&dirs[0].join("secrets").join(NAMES[0])), 0o600);

    // One node loses them, and gets them again.
    fleet.stop(2).await;
    std::fs::remove_dir_all(dirs[2].join("secrets")).unwrap();
    fleet.start(2).await;
    fleet.ready(2).await;
    until("the secrets of the third node", || same(&dirs)).await;
    assert_eq!(secrets(&dirs[2]).unwrap(), drawn);

    // Log, exports, states, a backup, and what the nodes have said.
    let backup = fleet.cluster.dir().join("backup.exp");
    let (code, _, err) = fleet.kv().outcome(&["snapshot", "save", backup.to_str().unwrap()]);
    assert_eq!(code, 0, "{err}");
    for node in ["n1", "n2", "n3"] {
        assert_eq!(fleet.kv().outcome(&["node", "compact", node]).0, 0);
    }
    let files = files_below(fleet.cluster.dir());
    assert!(files.len() > 20 && files.contains(&backup), "{files:?}");
    for secret in &drawn {
        let holders: Vec<_> = files.iter().filter(|path| holds(path, secret)).collect();
        let right = |path: &&PathBuf| path.parent().unwrap().ends_with("secrets");
        assert!(holders.len() == 3 && holders.iter().all(right), "{holders:?}");
    }
}
