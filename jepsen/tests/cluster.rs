//! The cluster of processes, with a shell script in the place of the server.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::time::Duration;

use jepsen::LabError;
use jepsen::cluster::{Cluster, ClusterOptions};

const PATIENCE: Duration = Duration::from_secs(20);

/// Says it is ready unless a file `mute` lies beside its configuration; ends at once if there is a
/// file `broken`. Leaves its process id in `pid`.
const SERVER: &str = r#"#!/bin/sh
[ "$1" = serve ] && [ "$2" = --config ] || exit 2
dir=$(dirname "$3")
name=$(basename "$dir")
echo $$ > "$dir/pid"
echo "starting $name"
echo "a line of the log" >&2
if [ -e "$dir/broken" ]; then echo "cannot start" >&2; exit 3; fi
if [ ! -e "$dir/mute" ]; then echo "ready node=$name client=x peer=y admin=z"; fi
exec sleep 1000
"#;

/// Written once, before any test starts a process: a file open for writing cannot be executed.
fn server() -> PathBuf {
    static DIR: OnceLock<tempfile::TempDir> = OnceLock::new();
    let dir = DIR.get_or_init(|| {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("server");
        fs::write(&path, SERVER).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        dir
    });
    dir.path().join("server")
}

fn options(nodes: usize) -> ClusterOptions {
    ClusterOptions { binary: server(), nodes, dir: None }
}

fn pid(cluster: &Cluster, node: usize) -> String {
    let path = cluster.dir().join(cluster.name(node)).join("pid");
    fs::read_to_string(path).unwrap().trim().to_owned()
}

/// The state letter of a process, `None` if there is none.
fn state(pid: &str) -> Option<char> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit_once(')')?.1.trim().chars().next()
}

#[tokio::test]
async fn nodes_are_started_killed_and_started_again() {
    let mut cluster = Cluster::boot(&options(3), PATIENCE).await.unwrap();
    assert_eq!(cluster.endpoints().len(), 3);
    assert_eq!((cluster.name(1), cluster.find("n2"), cluster.find("n9")), ("n2", Some(1), None));
    let before = pid(&cluster, 1);
    cluster.kill(1);
    assert!(!cluster.is_started(1));
    assert_eq!(state(&before), None);
    cluster.check_alive().unwrap();
    cluster.start(1).unwrap();
    cluster.wait_ready(1, PATIENCE).await.unwrap();
    assert_ne!(pid(&cluster, 1), before);
    let log = fs::read_to_string(cluster.log(1)).unwrap();
    for line in ["starting n2", "a line of the log", "ready node=n2 "] {
        assert_eq!(log.matches(line).count(), 2, "{line}\n{log}");
    }
    let again = cluster.start(1).unwrap_err();
    assert!(again.to_string().contains("n2: is running already"), "{again}");
}

#[tokio::test]
async fn a_dropped_cluster_leaves_nothing_behind() {
    let cluster = Cluster::boot(&options(2), PATIENCE).await.unwrap();
    let pids = [pid(&cluster, 0), pid(&cluster, 1)];
    let dir = cluster.dir().to_owned();
    drop(cluster);
    assert_eq!(pids.map(|pid| state(&pid)), [None, None]);
    assert!(!dir.exists());
}

#[tokio::test]
async fn a_kept_or_given_directory_stays() {
    let parent = tempfile::tempdir().unwrap();
    let given = ClusterOptions { dir: Some(parent.path().join("c")), ..options(1) };
    let cluster = Cluster::create(&given).unwrap();
    assert!(fs::read_to_string(cluster.config(0)).unwrap().contains("[tls]"));
    drop(cluster);
    assert!(given.dir.as_ref().unwrap().join("pki/ca.crt").exists());
    let again = Cluster::create(&given).unwrap_err();
    assert!(matches!(again, LabError::Parameters(_)), "{again}");

    let mut cluster = Cluster::create(&options(1)).unwrap();
    let dir = cluster.dir().to_owned();
    cluster.keep();
    drop(cluster);
    assert!(dir.exists());
    fs::remove_dir_all(dir).unwrap();
}

#[tokio::test]
async fn a_node_can_be_paused_and_asked_to_stop() {
    let mut cluster = Cluster::boot(&options(1), PATIENCE).await.unwrap();
    let process = pid(&cluster, 0);
    cluster.pause(0).unwrap();
    wait_for(|| state(&process) == Some('T')).await;
    cluster.resume(0).unwrap();
    wait_for(|| state(&process) == Some('S')).await;
    let status = cluster.terminate(0, PATIENCE).await.unwrap();
    assert_eq!(status.signal(), Some(15));
    assert_eq!(state(&process), None);
    assert!(cluster.pause(0).unwrap_err().to_string().contains("is not running"));
}

#[tokio::test]
async fn a_node_that_ends_by_itself_is_an_error_with_its_log() {
    let mut cluster = Cluster::create(&options(1)).unwrap();
    let home = cluster.dir().join("n1");
    fs::write(home.join("broken"), "").unwrap();
    cluster.start_all().unwrap();
    let error = cluster.wait_all_ready(PATIENCE).await.unwrap_err().to_string();
    assert!(error.contains("n1: ended by itself with exit status: 3"), "{error}");
    assert!(error.contains("cannot start"), "{error}");
    assert!(cluster.check_alive().is_err());
}

#[tokio::test]
async fn a_node_that_is_not_ready_in_time_is_an_error() {
    let mut cluster = Cluster::create(&options(1)).unwrap();
    fs::write(cluster.dir().join("n1").join("mute"), "").unwrap();
    cluster.start(0).unwrap();
    let error = cluster.wait_ready(0, Duration::from_millis(50)).await.unwrap_err().to_string();
    assert!(error.contains("n1: is not ready after 50"), "{error}");
    cluster.check_alive().unwrap();
}

#[test]
fn nonsense_is_refused() {
    for nodes in [0, 10] {
        let refused = Cluster::create(&options(nodes)).unwrap_err();
        assert!(matches!(refused, LabError::Parameters(_)), "{refused}");
    }
    let binary = Path::new("/nowhere/kvstore").to_owned();
    let missing = Cluster::create(&ClusterOptions { binary, ..options(1) }).unwrap_err();
    assert!(matches!(missing, LabError::Io { .. }), "{missing}");
}

async fn wait_for(condition: impl Fn() -> bool) {
    let wait = async {
        while !condition() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    tokio::time::timeout(PATIENCE, wait).await.unwrap();
}
