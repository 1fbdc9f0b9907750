//! The page for operators is run: every command of `docs/operations.md`, in its order.

use std::net::{Ipv4Addr, TcpListener};
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;

use crate::fleet::{Fleet, until_async};
use crate::programs;

const PAGE: &str = include_str!("../../docs/operations.md");

/// The only block that is not run: a release build, and files below `/usr/local`.
const NOT_RUN: &str = "# not run by the test";

/// Where the ports of the page begin: `7610` is `76` and `10`.
const PORTS_OF_PAGE: &str = "127.0.0.1:76";
/// What stands behind it on the page.
const PORT_ENDS: [u32; 12] = [10, 11, 12, 20, 21, 22, 30, 31, 32, 40, 41, 42];

/// Seconds that all commands may take together.
const SECONDS_MAX: &str = "180";

/// The commands of the page, block by block.
fn blocks() -> Vec<&'static str> {
    let mut blocks = Vec::new();
    let mut rest = PAGE;
    while let Some((_, from)) = rest.split_once("```sh\n") {
        let (block, after) = from.split_once("```").expect("a block has an end");
        blocks.push(block);
        rest = after;
    }
    blocks
}

/// What to put for [`PORTS_OF_PAGE`] so that all ports are free at this moment. They are below those
/// that systems give to outgoing connections.
fn free_ports() -> String {
    let free = |begin: &u32| {
        PORT_ENDS.iter().all(|end| {
            let port = u16::try_from(begin * 100 + end).expect("a port has 16 bits");
            TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok()
        })
    };
    let begin = (120..300).rev().find(free).expect("twelve free ports");
    format!("127.0.0.1:{begin}")
}

#[test]
fn every_command_of_the_page_for_operators_works() {
    let dir = tempfile::tempdir().unwrap();
    let bin = dir.path().join("bin");
    std::fs::create_dir(&bin).unwrap();
    for name in ["kv", "kvstore"] {
        symlink(programs::server(), bin.join(name)).unwrap();
    }
    let run: Vec<&str> = blocks().into_iter().filter(|block| !block.contains(NOT_RUN)).collect();
    assert_eq!(run.len() + 1, blocks().len(), "one block is not run");
    assert!(run.len() >= 12, "{} blocks", run.len());
    // Whatever happens, the nodes that the script has started end with it.
    let end = "trap 'kill -9 $(jobs -p) 2>/dev/null' EXIT\n";
    let script = format!("{end}set -eux\n{}", run.concat().replace(PORTS_OF_PAGE, &free_ports()));
    let path = std::env::var_os("PATH").unwrap_or_default();
    let paths = std::iter::once(bin).chain(std::env::split_paths(&path));
    let output = Command::new("timeout")
        .args(["-k", "5", SECONDS_MAX, "bash", "-c", &script])
        .current_dir(dir.path())
        .env("PATH", std::env::join_paths(paths).unwrap())
        .env("KV_CONFIG_DIR", dir.path().join("config"))
        .output()
        .unwrap();
    let (out, err) =
        (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    let tail = |text: &str| text.chars().skip(text.chars().count().saturating_sub(6_000)).collect();
    let (out_tail, err_tail): (String, String) = (tail(&out), tail(&err));
    assert!(
        output.status.success(),
        "{}\n{out_tail}\n{err_tail}{}",
        output.status,
        logs(dir.path())
    );
    // The greeting was read before and after the restore and the recovery.
    assert_eq!(out.matches("hello").count(), 3, "{out_tail}\n{err_tail}");
    let log = std::fs::read_to_string(dir.path().join("n3").join("log")).unwrap();
    assert!(log.contains("KV1707"), "the node without its disk was refused");
}

/// The ends of the logs of all nodes.
fn logs(dir: &Path) -> String {
    let log = |name: &str| std::fs::read_to_string(dir.join(name).join("log")).unwrap_or_default();
    let end =
        |text: String| text.lines().rev().take(10).map(|l| format!("\n{l}")).collect::<String>();
    ["n1", "n2", "n3", "n4"].iter().map(|name| format!("\n{name}:{}", end(log(name)))).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_metric_of_the_page_for_operators_exists() {
    let mut fleet = Fleet::boot(2, 0).await;
    fleet.fill("k", 3, 10).await;
    let leader = fleet.leader().await;
    // What is said of a peer is there once both have compared what they have.
    until_async(
        "the replicas have compared, asked for the time and looked for each other",
        || async {
            let (_, text) = fleet.probe(leader, "/metrics").await.unwrap();
            let said = ["roots_agree", "peer_offset_seconds", "peer_up"];
            said.iter().all(|name| text.contains(&format!("kvstore_gossip_{name}{{")))
        },
    )
    .await;
    let (_, one) = fleet.probe(leader, "/metrics").await.unwrap();
    // Some metrics are there once there was such an event, such as a write without a majority.
    fleet.cluster.kill(1 - leader);
    let (code, _, err) = fleet.kv_at(leader).outcome(&["put", "k", "1", "--timeout", "700ms"]);
    assert_eq!(code, 6, "{err}");
    let (_, other) = fleet.probe(leader, "/metrics").await.unwrap();
    let mut names = PAGE.split('`').filter(|word| word.starts_with("kvstore_")).peekable();
    assert!(names.peek().is_some());
    for name in names {
        let described = name.strip_suffix("_total").unwrap_or(name);
        let known = |text: &str| text.contains(&format!("# TYPE {described} "));
        assert!(known(&one) || known(&other), "{name}");
    }
}
