//! `kv-lab matrix`, with shell scripts in the place of the server.

mod fake;

use std::fs;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use fake::{interrupt_twice, lives, nodes, server, until};

fn lab(server: &Path, dir: &Path, args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_kv-lab"));
    command.arg("matrix").args(args).arg("--binary").arg(server).arg("--dir").arg(dir);
    // The same on every machine: none can move clocks.
    command.env("KVLAB_FAKETIME", dir.join("absent.so"));
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

fn ended(output: &Output, code: i32) -> String {
    assert_eq!(output.status.code(), Some(code), "{output:?}");
    text(&output.stdout)
}

#[test]
fn a_matrix_is_taken_up_again_where_it_was_and_keeps_what_is_not_valid() {
    let home = tempfile::tempdir().unwrap();
    let server = server("broken");
    let dir = home.path().join("matrix");
    let args = ["--workload", "bank", "--nemesis", "kill,pause,disk,clock", "--time", "1s"];
    let run = |more: &[&str]| lab(&server, &dir, &[&args[..], more].concat()).output().unwrap();
    // What was given up in the middle is no record, and does not stand in the way.
    fs::create_dir_all(dir.join("bank-kill/cluster")).unwrap();
    let table = home.path().join("table.md");
    let first = run(&["--seed", "3", "--table", table.to_str().unwrap()]);
    let shown = ended(&first, 10);
    assert!(shown.starts_with("unknown: 2 runs"), "{shown}");
    assert!(shown.contains("again: kv-lab run bank:kill --binary"), "{shown}");
    let said = text(&first.stderr);
    assert!(said.contains("left out, for want of a --lab-binary: disk"), "{said}");
    let line = said.lines().find(|line| line.ends_with("absent.so, no file: clock"));
    assert!(line.is_some_and(|line| line.starts_with("left out, KVLAB_FAKETIME names ")), "{said}");
    assert!(said.contains("1/2 bank:kill: unknown, 0 ok; kill 0 effects of 0 faults"), "{said}");
    for name in ["bank-kill/history.jsonl", "bank-kill/cluster/n1/log", "bank-pause/report.html"] {
        assert!(dir.join(name).is_file(), "{name}");
    }
    let page = fs::read_to_string(&table).unwrap();
    assert!(page.contains("| `bank` | - | **unknown** 0/0 | **unknown** 0/0 | - |"), "{page}");
    assert!(!page.contains(home.path().to_str().unwrap()), "{page}");
    assert_eq!(fs::read_to_string(dir.join("table.md")).unwrap(), page);

    // Nothing is run a second time, and the seed is known.
    let record = || fs::read_to_string(dir.join("bank-kill.json")).unwrap();
    let before = record();
    let second = run(&[]);
    assert_eq!(ended(&second, 10), shown);
    assert!(!text(&second.stderr).contains("bank:kill: unknown"), "{second:?}");
    assert_eq!(record(), before);

    // Unless asked for; then with another seed, and beside what was kept.
    ended(&run(&["--again", "doubtful"]), 10);
    let seed = |record: &str| {
        let record: serde_json::Value = serde_json::from_str(record).unwrap();
        record["seed"].as_str().unwrap().to_owned()
    };
    assert_ne!(seed(&record()), seed(&before));
    assert!(dir.join("bank-kill/run.toml").is_file() && dir.join("bank-kill-2/run.toml").is_file());

    // One directory has runs of one kind.
    let other = run(&["--seed", "4"]);
    assert_eq!(other.status.code(), Some(2), "{other:?}");
    assert!(text(&other.stderr).contains("--seed 3 --time 1000ms"), "{other:?}");
}

#[test]
fn without_time_no_run_begins_and_that_is_said() {
    let home = tempfile::tempdir().unwrap();
    let server = server("broken");
    let dir = home.path().join("matrix");
    let args = ["--pairs", "--together", "3", "--budget", "5s", "--time", "6s", "-o", "json"];
    let output = lab(&server, &dir, &args).output().unwrap();
    let shown: serde_json::Value = serde_json::from_str(&ended(&output, 10)).unwrap();
    assert_eq!((&shown["verdict"], &shown["runs"]), (&"unknown".into(), &serde_json::json!([])));
    // 8 workloads with 9 nemeses, 3 at a time.
    assert!(shown["left_out"].as_array().unwrap().len() >= 24, "{shown}");
    assert_eq!(shown["nemeses_left_out"], serde_json::json!(["disk", "messages", "clock"]));
    assert!(fs::read_to_string(dir.join("table.md")).unwrap().contains("## Left out"));
}

#[test]
fn nonsense_is_refused() {
    let home = tempfile::tempdir().unwrap();
    let server = server("broken");
    let dir = home.path().join("matrix");
    for wrong in [
        &["--together", "3"][..],
        &["--pairs", "--together", "1"],
        &["--nemesis", "flood"],
        &["--nodes", "1"],
    ] {
        let refused = lab(&server, &dir, wrong).output().unwrap();
        assert_eq!(refused.status.code(), Some(2), "{wrong:?}: {refused:?}");
    }
    let missing = lab(&home.path().join("absent"), &dir, &[]).output().unwrap();
    assert_eq!(missing.status.code(), Some(3), "{missing:?}");
    assert!(!dir.exists());
}

#[test]
fn an_interrupted_matrix_leaves_no_node_and_no_record() {
    let home = tempfile::tempdir().unwrap();
    let server = server("mute");
    let dir = home.path().join("matrix");
    let args = ["--workload", "register", "--nemesis", "pause", "--time", "60s"];
    let mut child = lab(&server, &dir, &args).spawn().unwrap();
    let pids = nodes(&dir.join("register-pause"));
    interrupt_twice(&child);
    until("end of the lab", || child.try_wait().unwrap().is_some());
    assert_eq!(child.wait().unwrap().code(), Some(130));
    until("end of the nodes", || !pids.iter().any(|pid| lives(pid)));
    assert!(!dir.join("register-pause.json").exists());
}
