use tokio::sync::watch;

use super::*;
use crate::nemesis::NemesisKind;
use crate::workload::WorkloadKind;

/// A record as a run of that case would leave it.
fn record(case: &str, verdict: &str, ok: usize, effects: u64) -> (Case, Record) {
    let case: Case = case.parse().unwrap();
    let did = |kind: &NemesisKind| (kind.to_string(), Did { faults: 2, effects });
    let did: std::collections::BTreeMap<String, Did> = case.nemeses.iter().map(did).collect();
    let record = serde_json::json!({
        "schema": 1, "run": case.to_string(), "matrix_seed": "4", "time_limit_ms": 20_000,
        "nodes": 3, "clients": 6, "keys": 3, "attempt": 1, "seed": "77",
        "server": "kvstore 0.1.0", "verdict": verdict, "model": "bank",
        "explanation": (verdict != "valid").then_some("node n1: it ended (log: /a/place)"),
        "failed": verdict == "unknown", "ok": ok, "fail": 1, "info": 0, "did": did, "dir": null, "replay": "kv-lab run x",
    });
    (case, serde_json::from_value(record).unwrap())
}

fn matrix(records: Vec<(Case, Record)>) -> Matrix {
    Matrix { records, left_out: Vec::new(), interrupted: false }
}

fn options(dir: &Path, cases: Vec<Case>) -> MatrixOptions {
    MatrixOptions {
        dir: dir.to_owned(),
        cases,
        server: "/nowhere/kvstore".into(),
        lab_server: None,
        nodes: 3,
        time_limit: Duration::from_secs(20),
        seed: 4,
        load: Load::default(),
        budget: None,
        again: Again::Nothing,
        table: None,
        command: "kv-lab matrix --seed 4".to_owned(),
    }
}

#[test]
fn a_cell_says_the_worst_of_its_runs_and_what_was_never_shown() {
    let records = [
        record("bank:kill+pause", "valid", 100, 3),
        record("bank:kill", "invalid", 200, 1),
        record("set:reset", "valid", 100, 0),
        record("set:delay", "valid", 49, 5),
        record("cas:leader+reset", "unknown", 0, 0),
        record("cas", "valid", 50, 0),
    ];
    let table = Table::of(records.iter().map(|(case, record)| (case, record)));
    let shown = table.markdown();
    let cell = |workload: &str, kind: NemesisKind| {
        let row = shown.lines().find(|line| line.starts_with(&format!("| `{workload}` |")));
        let place = NemesisKind::ALL.iter().position(|known| *known == kind).unwrap();
        row.unwrap().split(" | ").nth(place + 1).unwrap().trim_end_matches(" |").to_owned()
    };
    assert_eq!(cell("bank", NemesisKind::Kill), "**invalid** 300/4");
    assert_eq!(cell("bank", NemesisKind::Pause), "valid 100/3");
    assert_eq!(cell("bank", NemesisKind::None), "-");
    assert_eq!(cell("set", NemesisKind::Reset), "**no effect** 100/0");
    assert_eq!(cell("set", NemesisKind::Delay), "**too few** 49/5");
    assert_eq!(cell("cas", NemesisKind::Leader), "**unknown** 0/0");
    assert_eq!(cell("cas", NemesisKind::None), "valid 50");
    assert_eq!(table.idle(), [NemesisKind::Reset, NemesisKind::Leader]);
    assert_eq!(shown.lines().count(), 2 + WorkloadKind::ALL.len());
}

#[test]
fn the_verdict_is_the_worst_one_and_what_showed_nothing_is_unknown() {
    let valid = || record("bank:kill", "valid", 100, 3);
    let idle = || record("bank:pause", "valid", 100, 0);
    let verdict = |records, bounded| matrix(records).verdict(bounded);
    assert_eq!(verdict(vec![valid()], false), Word::Valid);
    assert_eq!(verdict(vec![], false), Word::Unknown);
    assert_eq!(verdict(vec![valid(), idle()], false), Word::Unknown);
    assert_eq!(matrix(vec![valid(), idle()]).doubtful(), ["bank:pause (no effect)"]);
    // Who bounds the time accepts that something is left out.
    assert_eq!(verdict(vec![valid(), idle()], true), Word::Valid);
    let bad = || record("set:kill", "invalid", 10, 0);
    assert_eq!(verdict(vec![valid(), idle(), bad()], true), Word::Invalid);
    let lost = record("set:pause", "unknown", 10, 0);
    assert_eq!(verdict(vec![valid(), lost], true), Word::Unknown);
    // A run in which clients got nothing done has not failed, and has shown nothing.
    let starved = || {
        let (case, mut record) = record("set:pause", "unknown", 6, 1);
        record.failed = false;
        (case, record)
    };
    assert_eq!(matrix(vec![starved()]).doubtful(), ["set:pause (too few)"]);
    assert_eq!(verdict(vec![valid(), starved()], false), Word::Unknown);
    assert_eq!(verdict(vec![valid(), starved()], true), Word::Valid);
    assert_eq!(verdict(vec![starved()], true), Word::Unknown);
    // What one run did not show, another one may.
    assert_eq!(
        verdict(vec![idle(), record("bank:kill+pause", "valid", 90, 1)], false),
        Word::Valid
    );
}

#[test]
fn records_survive_their_files_and_the_page_is_stable() {
    let dir = tempfile::tempdir().unwrap();
    let mut records = Records::load(&dir.path().join("absent")).unwrap();
    assert_eq!(records.iter().count(), 0);
    for (case, record) in [record("set:kill", "unknown", 9, 1), record("bank:kill", "valid", 90, 1)]
    {
        records.put(dir.path(), &case, record).unwrap();
    }
    let again = Records::load(dir.path()).unwrap();
    let all = |records: &Records| -> Vec<(Case, Record)> {
        records.iter().map(|(case, record)| (case.clone(), record.clone())).collect()
    };
    assert_eq!(all(&again), all(&records));
    let left_out = ["set:pause".parse().unwrap()];
    let shown = page("kv-lab matrix --seed 4", &again, &left_out);
    assert_eq!(shown, page("kv-lab matrix --seed 4", &records, &left_out));
    for words in [
        "\nkv-lab matrix --seed 4\n",
        "2 runs of kvstore 0.1.0.",
        "- `set:kill`, seed 77: unknown, model `bank`: node n1: it ended (log: (a file)",
        "no time for 1 runs: `set:pause`",
    ] {
        assert!(shown.contains(words), "{words}\n{shown}");
    }
    assert!(!shown.contains("/a/place"), "{shown}");
    fs::write(dir.path().join("bank-kill.json"), "{}").unwrap();
    assert!(Records::load(dir.path()).unwrap_err().to_string().contains("bank-kill.json"));
}

#[test]
fn what_is_doubtful_is_run_again_if_asked_for() {
    let mut options = options(Path::new("x"), Vec::new());
    let all = [
        record("bank:kill", "valid", 100, 1),
        record("bank:kill", "valid", 100, 0),
        record("bank:kill", "valid", 49, 1),
        record("bank:kill", "unknown", 100, 1),
        record("bank:kill", "invalid", 100, 1),
    ];
    let mut runs = |again| {
        options.again = again;
        all.each_ref().map(|(_, record)| options.runs_again(record))
    };
    assert_eq!(runs(Again::Nothing), [false; 5]);
    assert_eq!(runs(Again::Doubtful), [false, true, true, true, true]);
    assert_eq!(runs(Again::All), [true; 5]);
}

#[tokio::test(start_paused = true)]
async fn what_has_a_record_is_not_run_and_without_time_nothing_is() {
    let dir = tempfile::tempdir().unwrap();
    let (case, judged) = record("bank:kill", "valid", 100, 3);
    Records::default().put(dir.path(), &case, judged).unwrap();
    let other: Case = "set:kill".parse().unwrap();
    let mut options = options(dir.path(), vec![case.clone(), other.clone()]);
    let (_sender, calm) = watch::channel(0);
    // There is no server, so that a run would not be valid.
    options.budget = Some(options.time_limit - Duration::from_millis(1));
    let late = run(&options, calm.clone()).await.unwrap();
    assert_eq!((late.records.len(), &late.left_out[..]), (1, &[other.clone()][..]));
    assert!(!late.interrupted);
    assert_eq!(late.verdict(true), Word::Valid);
    options.budget = None;
    let (_sender, pressed) = watch::channel(1);
    let stopped = run(&options, pressed).await.unwrap();
    assert!(stopped.interrupted);
    assert_eq!((stopped.records.len(), &stopped.left_out[..]), (1, &[other.clone()][..]));
    // With time it is run, and fails for want of a server: that is its record.
    let tried = run(&options, calm.clone()).await.unwrap();
    assert_eq!(tried.verdict(false), Word::Unknown);
    let (_, tried) = tried.records.iter().find(|(case, _)| *case == other).unwrap();
    assert!(tried.explanation.as_deref().unwrap().contains("/nowhere/kvstore"), "{tried:?}");
    // Runs of other settings do not belong to the same table.
    options.seed = 5;
    let refused = run(&options, calm).await.unwrap_err().to_string();
    assert!(refused.contains("--seed 4 --time 20000ms"), "{refused}");
}

#[tokio::test]
async fn faults_of_the_server_itself_need_a_server_that_has_them() {
    let dir = tempfile::tempdir().unwrap();
    let options = options(dir.path(), vec!["bank:disk".parse().unwrap()]);
    let refused = run(&options, watch::channel(0).1).await.unwrap_err().to_string();
    assert!(refused.contains("bank:disk needs a server built with the feature `lab`"), "{refused}");
}
