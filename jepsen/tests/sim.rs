//! The commands below `kv-lab sim`.

use std::io::{BufRead, BufReader, Read};
use std::process::{Command, Output, Stdio};

use serde_json::Value;

fn sim(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_kv-lab"))
        .arg("sim")
        .args(args)
        .stdin(Stdio::null())
        .output()
        .unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_owned()).unwrap()
}

fn object(output: &Output) -> Value {
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    serde_json::from_slice(&output.stdout).unwrap()
}

#[test]
fn spread_prints_a_table_and_the_same_figures_as_json() {
    let args = ["spread", "--strategy", "rumor", "--k", "2", "--runs", "200", "--seed", "7"];
    let shown = sim(&args);
    assert_eq!(shown.status.code(), Some(0), "{shown:?}");
    let shown = text(&shown.stdout);
    assert!(
        shown.starts_with("rumor, push, feedback, counter k=2, judged by the start"),
        "{shown}"
    );
    assert!(
        shown.contains("1000 nodes, no loss, a tree of routers, 16 below each, 200 runs, seed 7")
    );
    let object = object(&sim(&[&args[..], &["-o", "json"]].concat()));
    assert_eq!((object["schema"].as_u64(), object["complete"].as_bool()), (Some(1), Some(true)));
    let case = &object["cases"][0];
    assert_eq!((case["strategy"].as_str(), case["k"].as_u64()), (Some("rumor"), Some(2)));
    assert_eq!(case["seed"].as_str(), Some("7"));
    let findings = &case["findings"];
    for (name, key) in [
        ("traffic m, updates a node", "traffic"),
        ("residue s", "residue"),
        ("t_last, rounds", "t_last"),
        ("link stress, most", "stress_most"),
        ("stretch, mean", "stretch_mean"),
    ] {
        let line = shown.lines().find(|line| line.starts_with(name)).expect(name);
        let mean: f64 = line[name.len()..].split_whitespace().next().unwrap().parse().unwrap();
        let exact = findings[key]["mean"].as_f64().unwrap();
        assert!((mean - exact).abs() <= 0.001 * exact.abs().max(0.05), "{line} and {exact}");
    }
    assert_eq!(findings["residue"]["theory"]["by"].as_str(), Some("e^-m of the m above"));
}

#[test]
fn lists_are_cases_and_each_is_a_row() {
    let args = [
        "spread",
        "--strategy",
        "flood,tree,anti-entropy,rumor",
        "--nodes",
        "50,100",
        "--direction",
        "push,pull",
        "--runs",
        "5",
        "--seed",
        "1",
    ];
    let cases = object(&sim(&[&args[..], &["-o", "json"]].concat()));
    // Floods and trees have no direction.
    assert_eq!(cases["cases"].as_array().unwrap().len(), 2 + 2 + 4 + 4);
    let shown = text(&sim(&args).stdout);
    let (_, table) = shown.split_once("\n\n").unwrap();
    assert_eq!(table.lines().count(), 1 + 12, "{shown}");

    let args = ["detect", "--detector", "central,ring,all-to-all,gossip,swim", "--members", "20"];
    let args = [&args[..], &["--runs", "2", "--seed", "1"]].concat();
    let shown = text(&sim(&args).stdout);
    let (_, table) = shown.split_once("\n\n").unwrap();
    assert_eq!(table.lines().count(), 1 + 5, "{shown}");
    let object = object(&sim(&[&args[..], &["-o", "json"]].concat()));
    assert_eq!(object["simulation"].as_str(), Some("detect"));
    for case in object["cases"].as_array().unwrap() {
        assert_eq!(case["findings"]["all"]["runs"].as_u64(), Some(2), "{case}");
    }
}

#[test]
fn detect_prints_a_table() {
    let args = ["detect", "--runs", "40", "--seed", "3", "--phase", "aligned", "--suspicion", "0"];
    let shown = text(&sim(&args).stdout);
    assert!(shown.starts_with("swim, random probes, 3 indirect, suspicion 0 periods\n"), "{shown}");
    assert!(shown.contains("all found it in 40 of 40 runs"), "{shown}");
    assert!(shown.contains("e / (e - 1) periods"), "{shown}");
}

#[test]
fn charts_are_single_files() {
    let dir = tempfile::tempdir().unwrap();
    for (command, name) in [("spread", "a.html"), ("spread", "b.svg"), ("detect", "c.html")] {
        let path = dir.path().join(name);
        let args = [command, "--runs", "3", "--seed", "1", "--chart", path.to_str().unwrap()];
        let done = sim(&args);
        assert_eq!(done.status.code(), Some(0), "{done:?}");
        assert!(text(&done.stderr).contains(name), "{done:?}");
        let chart = std::fs::read_to_string(&path).unwrap();
        assert!(chart.contains("<path class=\"line c0\""), "{name}");
        assert_eq!(chart.starts_with("<svg"), name.ends_with("svg"));
        assert!(!chart.contains("<script"));
    }
    let nowhere = dir.path().join("absent").join("a.svg");
    let done =
        sim(&["spread", "--runs", "1", "--nodes", "10", "--chart", nowhere.to_str().unwrap()]);
    assert_eq!(done.status.code(), Some(3), "{done:?}");
}

#[test]
fn what_makes_no_sense_is_a_usage_error() {
    for (args, expected) in [
        (&["spread", "--nodes", "1"][..], "nodes is 1: takes 2 to 1000000"),
        (&["spread", "--nodes", "x"], "invalid value 'x'"),
        (&["spread", "--loss", "1"], "loss is 1"),
        (&["spread", "--k", "3"], "--k says nothing about the strategies"),
        (&["spread", "--strategy", "flood", "--graph", "ring", "--degree", "3"], "random graphs"),
        (&["spread", "--strategy", "flod"], "a similar value exists: 'flood'"),
        (&["spread", "--chart", "a.png"], "ends with .html or .svg"),
        (&["spread", "--strategy", "flood", "--graph", "hypercube"], "a power of two"),
        (&["detect", "--members", "2"], "members is 2"),
        (&["detect", "--timeout", "3"], "--timeout says nothing about the detectors"),
        (&["detect", "--time", "1s"], "at least"),
        (&["detect", "--latency", "1s"], "at least 20 times the latency"),
        (&["detect", "--detector", "gossip", "--members", "100000"], "takes 3 to 2000"),
        (&[], "Usage"),
    ] {
        let done = sim(args);
        assert_eq!(done.status.code(), Some(2), "{args:?}: {done:?}");
        assert!(text(&done.stderr).contains(expected), "{args:?}: {done:?}");
        assert!(done.stdout.is_empty(), "{args:?}: {done:?}");
    }
}

#[test]
fn help_has_examples_and_exit_codes() {
    for command in ["spread", "detect"] {
        let help = text(&sim(&[command, "--help"]).stdout);
        assert!(help.contains("Examples:\n  kv-lab sim "), "{help}");
        assert!(help.contains("Exit codes: 0 done"), "{help}");
    }
}

/// What was done is printed although the rest is not.
#[test]
fn the_first_ctrl_c_prints_what_was_done_until_then() {
    // Would take hours; each run takes little.
    let mut child = Command::new(env!("CARGO_BIN_EXE_kv-lab"))
        .args([
            "sim", "spread", "--nodes", "1000", "--runs", "1000000", "--seed", "1", "-o", "json",
        ])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // It says how far it is, after a few seconds.
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
    let line = lines.next().unwrap().unwrap();
    assert!(line.starts_with("run ") && line.contains(" of 1000000"), "{line}");
    let interrupt = Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap();
    assert!(interrupt.success());
    let mut printed = String::new();
    child.stdout.take().unwrap().read_to_string(&mut printed).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(130));
    let object: Value = serde_json::from_str(&printed).unwrap();
    assert_eq!(object["complete"].as_bool(), Some(false));
    assert!(object["cases"][0]["findings"]["residue"]["runs"].as_u64().unwrap() > 0);
}

#[test]
fn cluster_says_its_verdict_first_and_counts_what_happened() {
    let args = ["cluster", "--seeds", "3..23", "--steps", "100", "--time-based"];
    let shown = sim(&args);
    assert_eq!(shown.status.code(), Some(0), "{shown:?}");
    let shown = text(&shown.stdout);
    assert!(shown.starts_with("valid: 20 of 20 schedules of 100 steps, seeds 3..23\n"), "{shown}");
    assert!(shown.contains("certificates dropped after 60 min: "), "{shown}");
    let object = object(&sim(&[&args[..], &["-o", "json"]].concat()));
    assert_eq!(object["verdict"].as_str(), Some("valid"));
    assert_eq!((object["schedules"].as_u64(), object["failure"].is_null()), (Some(20), true));
    let puts = object["counts"]["puts"].as_u64().unwrap();
    let line = shown.lines().find(|line| line.starts_with("puts ")).unwrap();
    assert_eq!(line.split_whitespace().nth(1), Some(puts.to_string().as_str()));
    let returned = object["time_based"]["schedules"].as_u64().unwrap();
    assert!(shown.contains(&format!("came back in {returned} of 20 schedules")), "{shown}");
    let broken = sim(&["cluster", "--broken", "token-lost"]);
    assert_eq!(broken.status.code(), Some(9), "{broken:?}");
    let broken = text(&broken.stdout);
    assert!(broken.starts_with("invalid: seed "), "{broken}");
    let again = broken.lines().find_map(|line| line.strip_prefix("play it again: kv-lab sim "));
    let again = sim(&again.unwrap().split(' ').collect::<Vec<_>>());
    assert_eq!(again.status.code(), Some(9), "{again:?}");
    assert_eq!(text(&again.stdout).lines().next(), broken.lines().next());
    for wrong in [
        &["cluster", "--broken", "everything"][..],
        &["cluster", "--seeds", "5..5"],
        &["cluster", "--seeds", "5"],
        &["cluster", "--seed", "1", "--seeds", "1..2"],
        &["cluster", "--loss", "1"],
        &["cluster", "--nodes", "1"],
    ] {
        assert_eq!(sim(wrong).status.code(), Some(2), "{wrong:?}");
    }
}
