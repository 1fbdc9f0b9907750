//! What only a real process shows: signals and pipes.
#![cfg(unix)]

mod fake;

use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Child, Command, Stdio};

use fake::{Act, FakeCluster, operators};

fn kv(cluster: &FakeCluster, line: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_kv"));
    command
        .args(line.split_whitespace())
        .env_clear()
        .env("KV_ENDPOINTS", cluster.endpoints().join(","))
        .env("KV_CA", cluster.pki.path("ca.crt"))
        .env("KV_CERT", cluster.pki.path("alice.crt"))
        .env("KV_KEY", cluster.pki.path("alice.key"))
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

fn interrupt(child: &Child) {
    let killed = Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap();
    assert!(killed.success());
}

async fn until(what: impl Fn() -> bool) {
    while !what() {
        tokio::task::yield_now().await;
    }
}

/// Waits for the end of a process without holding up the cluster, which runs in this runtime.
async fn finish(child: Child) -> (Option<i32>, String) {
    tokio::task::spawn_blocking(|| {
        let output = child.wait_with_output().unwrap();
        (output.status.code(), String::from_utf8(output.stdout).unwrap())
    })
    .await
    .unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_interrupt_ends_a_command_with_130() {
    let cluster = FakeCluster::start(1).await;
    cluster.nodes[0].always(Act::Hang);
    let child = kv(&cluster, "put a 1 --timeout 1h").spawn().unwrap();
    until(|| !cluster.seen().is_empty()).await;
    interrupt(&child);
    assert_eq!(finish(child).await, (Some(130), String::new()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_interrupted_measurement_prints_what_it_has() {
    let cluster = FakeCluster::start(1).await;
    let child = kv(&cluster, "bench put --duration 1h --keys 10 -o json").spawn().unwrap();
    until(|| cluster.seen().len() > 200).await;
    interrupt(&child);
    let (code, out) = finish(child).await;
    assert_eq!(code, Some(130));
    let found: serde_json::Value = serde_json::from_str(&out).unwrap();
    assert!(found["rows"][0]["ok"].as_u64().unwrap() >= 100, "{out}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_closed_pipe_ends_a_command_quietly() {
    let cluster = FakeCluster::start(1).await;
    let client = cluster.client();
    // More than a pipe holds, so that the command is still writing when its reader leaves.
    for at in 0..200 {
        let key = format!("{at:03}{}", "x".repeat(2_000));
        client.put_value(key, "1", &client::CallOptions::default()).await.unwrap();
    }
    let mut child = kv(&cluster, "ls --keys-only").spawn().unwrap();
    let (code, err) = tokio::task::spawn_blocking(move || {
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        assert!(line.starts_with("000x"));
        let mut err = String::new();
        child.stderr.take().unwrap().read_to_string(&mut err).unwrap();
        (child.wait().unwrap().code(), err)
    })
    .await
    .unwrap();
    assert_eq!((code, err.as_str()), (Some(0), ""));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_interrupted_import_ends_what_is_open_and_says_how_far_it_came() {
    let cluster = FakeCluster::start(1).await;
    let mut child = kv(&cluster, "import - -o json").stdin(Stdio::piped()).spawn().unwrap();
    // The pipe stays open: more lines may come at any time.
    let mut lines = child.stdin.take().unwrap();
    for at in 0..5 {
        writeln!(lines, "{{\"key\":\"k{at}\",\"value\":\"1\"}}").unwrap();
    }
    lines.flush().unwrap();
    until(|| cluster.value("k4").is_some()).await;
    interrupt(&child);
    let (code, out) = finish(child).await;
    drop(lines);
    assert_eq!(code, Some(130), "{out}");
    let found: serde_json::Value = serde_json::from_str(&out).unwrap();
    assert_eq!((&found["written"], &found["complete"]), (&5.into(), &false.into()), "{out}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_interrupted_snapshot_leaves_no_file() {
    let cluster = FakeCluster::start(1).await;
    {
        let mut shared = cluster.shared.lock().unwrap();
        shared.operators.snapshot = operators::parts(b"0123456789", 4);
        shared.operators.snapshot.pop();
        shared.operators.snapshot_hangs = true;
    }
    let dir = tempfile::tempdir().unwrap();
    let part = dir.path().join("backup.exp.part");
    let line = format!("snapshot save {}", dir.path().join("backup.exp").display());
    let child = kv(&cluster, &line).spawn().unwrap();
    until(|| std::fs::read(&part).is_ok_and(|bytes| bytes.len() == 8)).await;
    interrupt(&child);
    assert_eq!(finish(child).await, (Some(130), String::new()));
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_watch_goes_on_until_it_is_interrupted() {
    let cluster = FakeCluster::start(1).await;
    let mut child = kv(&cluster, "cluster status --watch=10ms -o json").spawn().unwrap();
    let mut out = BufReader::new(child.stdout.take().unwrap());
    let out = tokio::task::spawn_blocking(move || {
        let mut line = String::new();
        for _ in 0..3 {
            line.clear();
            out.read_line(&mut line).unwrap();
        }
        assert!(line.starts_with("{\"schema\":1,"), "{line}");
        out
    })
    .await
    .unwrap();
    interrupt(&child);
    assert_eq!(finish(child).await.0, Some(130));
    drop(out);
}

#[test]
fn the_lab_is_the_program_beside_or_on_the_path() {
    // Written by other processes: a file that is open for writing in this one, or in a child that
    // another test is just starting, cannot be executed.
    let shell = |script: &str, arguments: [&std::ffi::OsStr; 2]| {
        let done = Command::new("sh").args(["-c", script, "sh"]).args(arguments).status().unwrap();
        assert!(done.success());
    };
    let dir = tempfile::tempdir().unwrap();
    let kv = dir.path().join("kv");
    shell("cp \"$1\" \"$2\"", [env!("CARGO_BIN_EXE_kv").as_ref(), kv.as_ref()]);
    let run = |path: &std::path::Path| {
        let mut command = Command::new(&kv);
        command.args(["lab", "run", "bank", "-o", "json"]).env_clear().env("PATH", path);
        command.output().unwrap()
    };
    let absent = run(dir.path());
    assert_eq!(absent.status.code(), Some(3), "{absent:?}");
    let told = String::from_utf8(absent.stderr).unwrap();
    assert!(told.contains("kv-lab") && told.contains("nor on PATH"), "{told}");

    let elsewhere = tempfile::tempdir().unwrap();
    for (place, exit) in [(elsewhere.path(), 9), (dir.path(), 10)] {
        let lab = place.join("kv-lab");
        let content = format!("#!/bin/sh\necho \"$@\"\nexit {exit}\n");
        let write = "printf %s \"$1\" > \"$2\" && chmod +x \"$2\"";
        shell(write, [content.as_ref(), lab.as_ref()]);
        let done = run(elsewhere.path());
        assert_eq!(done.status.code(), Some(exit), "{done:?}");
        assert_eq!(String::from_utf8(done.stdout).unwrap(), "run bank -o json\n");
    }
}
