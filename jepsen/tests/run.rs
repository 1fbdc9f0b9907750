//! Runs that cannot end well, with shell scripts in the place of the server: they end all the same,
//! say why, and leave nothing behind.

mod fake;

use std::fs;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, SystemTime};

use fake::{interrupt_twice, lives, nodes, server, until};

fn lab(args: &[&str], server_name: &str, dir: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_kv-lab"));
    command.args(args).arg("--binary").arg(server(server_name)).arg("--dir").arg(dir);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

fn ended(child: Child) -> Output {
    let mut child = child;
    until("end of the lab", || child.try_wait().unwrap().is_some());
    child.wait_with_output().unwrap()
}

#[test]
fn a_node_that_does_not_start_makes_the_verdict_unknown_with_a_reason() {
    let dir = tempfile::tempdir().unwrap();
    let run = dir.path().join("run");
    let output = lab(&["run", "bank:partition", "--seed", "5"], "broken", &run).output().unwrap();
    assert_eq!(output.status.code(), Some(10), "{output:?}");
    let stdout = String::from_utf8(output.stdout).unwrap();
    assert!(stdout.starts_with("unknown: 0 operations"), "{stdout}");
    let result: serde_json::Value =
        serde_json::from_slice(&fs::read(run.join("result.json")).unwrap()).unwrap();
    assert_eq!(result["verdict"], "unknown");
    assert!(result["error"].as_str().unwrap().contains("cannot start"), "{result}");
    assert!(result["replay"].as_str().unwrap().contains("run bank:partition --binary"), "{result}");
    assert!(fs::read_to_string(run.join("junit.xml")).unwrap().contains("<error message="));
    assert!(fs::read(run.join("history.jsonl")).unwrap().is_empty());
    let page = fs::read_to_string(run.join("report.html")).unwrap();
    assert!(page.contains("Nobody knows") && page.contains("cannot start"), "{page}");

    // The report can be written anew, of a run that has ended.
    fs::remove_file(run.join("report.html")).unwrap();
    let report = |of: &Path| {
        Command::new(env!("CARGO_BIN_EXE_kv-lab")).arg("report").arg(of).output().unwrap()
    };
    let written = report(&run);
    assert_eq!(written.status.code(), Some(0), "{written:?}");
    assert_eq!(fs::read_to_string(run.join("report.html")).unwrap(), page);
    assert_eq!(report(dir.path()).status.code(), Some(3));

    // The run can be repeated from its directory, and from its seed; and it is listed.
    let again = dir.path().join("again");
    let replayed = lab(&["replay", run.to_str().unwrap()], "broken", &again).output().unwrap();
    assert_eq!(replayed.status.code(), Some(10), "{replayed:?}");
    let third = dir.path().join("third");
    let runs = dir.path().to_str().unwrap();
    let by_seed = lab(&["replay", "5", "--runs", runs], "broken", &third).output().unwrap();
    assert_eq!(by_seed.status.code(), Some(10), "{by_seed:?}");
    let parameters = |dir: &Path| {
        let text = fs::read_to_string(dir.join("run.toml")).unwrap();
        text.lines().find(|line| line.starts_with("replay = ")).unwrap().to_owned()
    };
    assert_eq!(parameters(&third), parameters(&run));

    // The files say which binary it was, and when.
    let hash = Command::new("sha256sum").arg(server("broken")).output().unwrap();
    let hash = String::from_utf8(hash.stdout).unwrap();
    assert_eq!(result["server_sha256"].as_str(), hash.split_whitespace().next());
    let text = fs::read_to_string(run.join("run.toml")).unwrap();
    let stored: toml::Table = text.parse().unwrap();
    assert_eq!(stored["server_sha256"].as_str(), result["server_sha256"].as_str());
    assert_eq!(stored["begun"].as_str(), result["begun"].as_str());
    let begun = humantime::parse_rfc3339(stored["begun"].as_str().unwrap()).unwrap();
    let age = SystemTime::now().duration_since(begun).unwrap();
    assert!(age < Duration::from_secs(600), "{begun:?}");
    assert!(page.contains(stored["begun"].as_str().unwrap()), "{page}");
    let listed = Command::new(env!("CARGO_BIN_EXE_kv-lab")).args(["ls", runs]).output().unwrap();
    let listed = String::from_utf8(listed.stdout).unwrap();
    let shown = format!("{} unknown: bank:partition, seed 5", run.display());
    for words in [shown.as_str(), "list-append", "[bank]", "one way", "revision"] {
        assert!(listed.contains(words), "{words}\n{listed}");
    }
}

#[test]
fn a_seed_that_nobody_ran_and_nonsense_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let runs = dir.path().to_str().unwrap();
    let out = dir.path().join("out");
    let unknown = lab(&["replay", "5", "--runs", runs], "mute", &out).output().unwrap();
    assert_eq!(unknown.status.code(), Some(2), "{unknown:?}");
    for wrong in ["stack", "bank:flood", "bank:kill+kill"] {
        let refused = lab(&["run", wrong], "mute", &out).output().unwrap();
        assert_eq!(refused.status.code(), Some(2), "{wrong}: {refused:?}");
    }
}

/// Without what moves clocks the run goes on, and says so wherever it says anything.
#[test]
fn clocks_that_cannot_be_moved_are_skipped_and_that_is_said() {
    let home = tempfile::tempdir().unwrap();
    let run = home.path().join("run");
    let mut command = lab(&["run", "register:clock"], "broken", &run);
    let output = command.env("KVLAB_FAKETIME", home.path().join("absent.so")).output().unwrap();
    // The nodes were started, which these cannot be.
    assert_eq!(output.status.code(), Some(10), "{output:?}");
    let stderr = String::from_utf8(output.stderr).unwrap();
    let said = stderr.lines().find(|line| line.starts_with("skipped: nemesis clock: "));
    let why = said.unwrap().strip_prefix("skipped: nemesis clock: ").unwrap();
    assert!(
        why.starts_with("KVLAB_FAKETIME names ") && why.ends_with("absent.so, no file"),
        "{why}"
    );
    let result: serde_json::Value =
        serde_json::from_slice(&fs::read(run.join("result.json")).unwrap()).unwrap();
    assert_eq!(result["skipped"], serde_json::json!([{ "nemesis": "clock", "why": why }]));
    // It can be repeated where there is what it needs.
    assert!(result["replay"].as_str().unwrap().contains("run register:clock "), "{result}");
    for name in ["report.html", "run.toml"] {
        let text = fs::read_to_string(run.join(name)).unwrap();
        assert!(text.contains(why), "{name}: {text}");
    }
    assert!(fs::read_to_string(run.join("report.html")).unwrap().contains("Skipped: clock: "));
    // A node has no clock of its own then.
    assert!(!run.join("cluster/n1/clock").exists());
}

#[test]
fn a_second_interrupt_ends_the_run_at_once_and_no_node_is_left() {
    let dir = tempfile::tempdir().unwrap();
    let run = dir.path().join("run");
    let child = lab(&["run", "register:partition", "--time", "60s"], "mute", &run).spawn().unwrap();
    let pids = nodes(&run);
    assert!(pids.iter().all(|pid| lives(pid)));
    interrupt_twice(&child);
    let output = ended(child);
    assert_eq!(output.status.code(), Some(130), "{output:?}");
    until("end of the nodes", || !pids.iter().any(|pid| lives(pid)));
}

#[test]
fn a_lab_that_is_killed_leaves_no_node_behind() {
    let dir = tempfile::tempdir().unwrap();
    let run = dir.path().join("run");
    let mut child = lab(&["run", "register", "--time", "60s"], "mute", &run).spawn().unwrap();
    let pids = nodes(&run);
    child.kill().unwrap();
    child.wait().unwrap();
    until("end of the nodes", || !pids.iter().any(|pid| lives(pid)));
}
