//! The lab's own runs, small: each nemesis with some workload, on real processes.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use client::CallOptions;
use jepsen::checker::MODELS;
use jepsen::cluster::ClockLibrary;
use jepsen::judgement::Word;
use jepsen::matrix::{Again, Case, MatrixOptions};
use jepsen::nemesis::NemesisKind;
use jepsen::run::{self, KeyspaceState, Parameters, RunOptions, RunResult, System};
use jepsen::target::Given;
use jepsen::workload::{Load, WorkloadKind};
use proto::v1;

use crate::programs;

/// How long clients work.
const TIME_LIMIT: Duration = Duration::from_secs(10);

/// How long a call on an undisturbed cluster may take.
const PATIENCE: Duration = Duration::from_secs(30);

/// Does a run. It must come to its end, and no model that this lab can judge may be in doubt.
async fn judged(workload: WorkloadKind, nemeses: &[NemesisKind], seed: u64) -> RunResult {
    let dir = tempfile::tempdir().unwrap();
    let parameters = Parameters {
        system: System::Own { binary: programs::server(), nodes: 3 },
        workload,
        nemeses: nemeses.to_vec(),
        time_limit: TIME_LIMIT,
        seed,
        load: Load::default(),
    };
    let options = RunOptions { parameters, dir: dir.path().join("run"), progress: false };
    let result = run::run(&options, std::future::pending()).await.unwrap();
    assert!(result.failure.is_none(), "{result:#?}");
    for judgement in &result.judgements {
        let judges = MODELS.contains(&judgement.model.as_str());
        assert!(!judges || judgement.verdict == Word::Valid, "{judgement}");
    }
    assert!(result.summary.ok >= 50, "{:?}", result.summary);
    for fault in &result.faults {
        assert!(fault.end_ns.is_some(), "{fault:?}");
    }
    for name in ["history.jsonl", "run.toml", "result.json", "junit.xml"] {
        assert!(options.dir.join(name).is_file(), "{name}");
    }
    // The parameters can be read again: the run can be repeated.
    Parameters::load(&options.dir).unwrap();
    result
}

/// How often the faults of a nemesis had an effect.
fn effects(result: &RunResult, nemesis: NemesisKind) -> u64 {
    let own = result.faults.iter().filter(|fault| fault.nemesis == nemesis);
    own.filter_map(|fault| fault.effects).sum()
}

#[tokio::test(flavor = "multi_thread")]
async fn accounts_keep_their_total_while_the_network_parts() {
    let nemeses = [NemesisKind::Partition, NemesisKind::Kill];
    let result = judged(WorkloadKind::Bank, &nemeses, 1).await;
    assert!(nemeses.into_iter().all(|kind| effects(&result, kind) > 0), "{:#?}", result.faults);
}

#[tokio::test(flavor = "multi_thread")]
async fn sets_keep_their_elements_on_slow_lines() {
    let nemeses = [NemesisKind::Delay, NemesisKind::Throttle];
    let result = judged(WorkloadKind::Set, &nemeses, 2).await;
    assert!(nemeses.into_iter().all(|kind| effects(&result, kind) > 0), "{:#?}", result.faults);
}

#[tokio::test(flavor = "multi_thread")]
async fn counters_count_once_while_connections_are_reset() {
    let nemeses = [NemesisKind::Reset, NemesisKind::Pause];
    let result = judged(WorkloadKind::Counter, &nemeses, 3).await;
    assert!(nemeses.into_iter().all(|kind| effects(&result, kind) > 0), "{:#?}", result.faults);
}

#[tokio::test(flavor = "multi_thread")]
async fn lists_grow_in_one_order_while_members_and_leaders_change() {
    let nemeses = [NemesisKind::Members, NemesisKind::Leader];
    let result = judged(WorkloadKind::ListAppend, &nemeses, 4).await;
    assert!(nemeses.into_iter().all(|kind| effects(&result, kind) > 0), "{:#?}", result.faults);
}

#[tokio::test(flavor = "multi_thread")]
async fn sessions_never_go_back_while_files_are_damaged() {
    let result = judged(WorkloadKind::Session, &[NemesisKind::Files], 5).await;
    assert!(!result.faults.is_empty());
    let places = result.faults.iter().map(|fault| fault.place.as_str());
    let damaged = places.filter(|place| {
        ["flipped", "cut to", "a copy", "removed"].iter().any(|word| place.contains(word))
    });
    assert!(damaged.count() > 0, "{:#?}", result.faults);
}

#[tokio::test(flavor = "multi_thread")]
async fn eventual_keyspaces_lose_nothing_while_the_network_parts_and_nodes_die() {
    let nemeses = [NemesisKind::Partition, NemesisKind::Kill];
    let result = judged(WorkloadKind::Eventual, &nemeses, 12).await;
    assert!(nemeses.into_iter().all(|kind| effects(&result, kind) > 0), "{:#?}", result.faults);
}

#[tokio::test(flavor = "multi_thread")]
async fn eventual_keyspaces_lose_what_a_disk_had_alone_and_nothing_else() {
    let result = judged(WorkloadKind::Eventual, &[NemesisKind::Members], 13).await;
    assert!(effects(&result, NemesisKind::Members) > 0, "{:#?}", result.faults);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_given_cluster_is_worked_on_and_left_alone() {
    let cluster = programs::cluster().await;
    let client = cluster.client(cluster.endpoints(), PATIENCE).unwrap();
    let (kind, settings) = (v1::keyspace::Kind::Linearizable, v1::keyspace::Settings::default());
    let options = CallOptions::default();
    client.keyspaces().create("orders", kind, settings, &options).await.unwrap();
    // Of its own; one that exists; one that does not.
    for (keyspace, exit) in [(None, 0), (Some("orders"), 0), (Some("nowhere"), 10)] {
        let dir = tempfile::tempdir().unwrap();
        let keyspace = keyspace.map(str::to_owned);
        let parameters = Parameters {
            system: System::Given(Given { keyspace: keyspace.clone(), ..cluster.given() }),
            workload: WorkloadKind::Cas,
            // Its clocks are not the lab's to move: that is skipped and said.
            nemeses: vec![NemesisKind::Clock],
            time_limit: Duration::from_secs(3),
            seed: 6,
            load: Load::default(),
        };
        let options = RunOptions { parameters, dir: dir.path().join("run"), progress: false };
        let result = run::run(&options, std::future::pending()).await.unwrap();
        assert_eq!(run::exit(&result), exit, "{result:#?}");
        assert!(result.faults.is_empty());
        let skipped = result.skipped.iter();
        let skipped: Vec<_> =
            skipped.map(|skipped| (skipped.nemesis, skipped.why.as_str())).collect();
        assert_eq!(skipped, [(NemesisKind::Clock, "the lab did not start these nodes")]);
        let used = result.keyspace.unwrap();
        let expected = if keyspace.is_some() { KeyspaceState::Found } else { KeyspaceState::Gone };
        assert_eq!(used.state, expected, "{used:?}");
        assert_eq!(keyspace.unwrap_or_else(|| used.name.clone()), used.name);
    }
    let left = client.keyspaces().list(None, &options).await.unwrap();
    let keys = |view: &v1::KeyspaceView| {
        let keyspace = view.keyspace.as_ref().unwrap();
        (keyspace.name.clone(), view.live_keys > 0)
    };
    let mut left: Vec<(String, bool)> = left.iter().map(keys).collect();
    left.sort();
    assert_eq!(left, [("default".to_owned(), false), ("orders".to_owned(), true)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn registers_are_linearizable_while_clocks_jump_and_drift() {
    let nemeses = [NemesisKind::Clock, NemesisKind::Kill];
    let result = judged(WorkloadKind::Register, &nemeses, 11).await;
    if let Err(why) = ClockLibrary::find() {
        assert_eq!(result.skipped.len(), 1, "{:?}", result.skipped);
        assert_eq!((result.skipped[0].nemesis, &result.skipped[0].why), (NemesisKind::Clock, &why));
        assert!(result.faults.iter().all(|fault| fault.nemesis == NemesisKind::Kill));
        return;
    }
    assert!(result.skipped.is_empty(), "{:?}", result.skipped);
    // Some node has told a time that was not.
    assert!(nemeses.into_iter().all(|kind| effects(&result, kind) > 0), "{:#?}", result.faults);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_interrupted_run_is_judged() {
    let dir = tempfile::tempdir().unwrap();
    let parameters = Parameters {
        system: System::Own { binary: programs::server(), nodes: 3 },
        workload: WorkloadKind::Register,
        nemeses: vec![NemesisKind::Pause],
        time_limit: Duration::from_secs(600),
        seed: 7,
        load: Load::default(),
    };
    let options = RunOptions { parameters, dir: dir.path().join("run"), progress: false };
    let history = tokio::time::sleep(Duration::from_secs(3));
    let result = run::run(&options, history).await.unwrap();
    assert!(result.interrupted && result.failure.is_none(), "{result:#?}");
    assert_eq!((result.worst().verdict, run::exit(&result)), (Word::Valid, 130), "{result:#?}");
}

/// A server that starts once for each directory, and not again.
fn fragile_server(home: &Path) -> PathBuf {
    let script = format!(
        "#!/bin/sh\nif [ \"$1\" = serve ]; then\n  once=$(dirname \"$3\")/once\n  if [ -e \"$once\" ]; \
         then echo 'does not come back' >&2; exit 3; fi\n  : > \"$once\"\nfi\nexec {} \"$@\"\n",
        programs::server().display()
    );
    let (text, server) = (home.join("server.txt"), home.join("server"));
    std::fs::write(&text, script).unwrap();
    std::fs::set_permissions(&text, Permissions::from_mode(0o755)).unwrap();
    // By a process of its own: a file that this one had open for writing could not be executed, should
    // another test start a process at that moment.
    assert!(Command::new("cp").arg(&text).arg(&server).status().unwrap().success());
    server
}

/// The processes whose command line names something.
fn processes_of(what: &Path) -> Vec<PathBuf> {
    let what = what.to_str().unwrap().as_bytes();
    let all = std::fs::read_dir("/proc").unwrap().map(|entry| entry.unwrap().path());
    let names = |process: &PathBuf| {
        let words = std::fs::read(process.join("cmdline")).unwrap_or_default();
        words.windows(what.len()).any(|window| window == what)
    };
    all.filter(names).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_does_not_come_back_ends_the_run_which_is_judged_until_then() {
    let home = tempfile::tempdir().unwrap();
    let parameters = Parameters {
        system: System::Own { binary: fragile_server(home.path()), nodes: 3 },
        workload: WorkloadKind::Register,
        nemeses: vec![NemesisKind::Kill],
        time_limit: Duration::from_secs(600),
        seed: 9,
        load: Load::default(),
    };
    let options = RunOptions { parameters, dir: home.path().join("run"), progress: false };
    let result = run::run(&options, std::future::pending()).await.unwrap();
    let failure = result.failure.as_ref().expect("a node has not come back").to_string();
    assert!(failure.contains("does not come back"), "{failure}");
    assert_eq!((result.worst().verdict, run::exit(&result)), (Word::Unknown, 10));
    // What clients saw before was judged, and the fault that did not end is told.
    assert!(result.summary.ok > 0, "{:?}", result.summary);
    for model in ["register", "revision"] {
        let judged = result.judgements.iter().find(|judgement| judgement.model == model).unwrap();
        assert_eq!(judged.verdict, Word::Valid, "{judged}");
    }
    let open: Vec<_> = result.faults.iter().filter(|fault| fault.end_ns.is_none()).collect();
    assert!(open.iter().any(|fault| fault.nemesis == NemesisKind::Kill), "{:?}", result.faults);
    let page = std::fs::read_to_string(options.dir.join("report.html")).unwrap();
    assert!(page.contains("does not come back"));
    assert_eq!(processes_of(home.path()), Vec::<PathBuf>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_matrix_keeps_of_valid_runs_small_records_only() {
    let home = tempfile::tempdir().unwrap();
    let cases: Vec<Case> = ["set:reset", "cas"].map(|text| text.parse().unwrap()).to_vec();
    let options = MatrixOptions {
        dir: home.path().join("matrix"),
        cases: cases.clone(),
        server: programs::server(),
        lab_server: None,
        nodes: 3,
        time_limit: Duration::from_secs(6),
        seed: 10,
        load: Load::default(),
        budget: None,
        again: Again::Nothing,
        table: Some(home.path().join("table.md")),
        command: "kv-lab matrix".to_owned(),
    };
    let (_calm, interrupts) = tokio::sync::watch::channel(0);
    let matrix = jepsen::matrix::run(&options, interrupts.clone()).await.unwrap();
    assert_eq!(matrix.verdict(false), Word::Valid, "{matrix:#?}");
    assert!(matrix.left_out.is_empty() && !matrix.interrupted);
    let (_, record) = &matrix.records[0];
    assert!(record.did(NemesisKind::Reset).effects > 0, "{record:?}");
    let entries = std::fs::read_dir(&options.dir).unwrap();
    let mut names: Vec<String> =
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    assert_eq!(names, ["cas-none.json", "set-reset.json", "table.md"]);
    let table = std::fs::read_to_string(home.path().join("table.md")).unwrap();
    assert!(table.contains("| `set` | - |") && table.contains("| `cas` | valid "), "{table}");
    // The second time there is nothing to do, and the same to say.
    let again = jepsen::matrix::run(&options, interrupts).await.unwrap();
    assert_eq!(again.records, matrix.records);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_server_that_is_shipped_knows_no_faults_of_the_lab() {
    let server = programs::server();
    let bytes = std::fs::read(&server).unwrap();
    let holds = |word: &[u8]| bytes.windows(word.len()).any(|window| window == word);
    assert!(holds(b"KVSTORE_LOG"), "words of the server are found");
    for word in ["KVLAB_FAULTS", "hold_unsynced", "lose_per_mille"] {
        assert!(!holds(word.as_bytes()), "{word}");
    }
    // Nor any bug that could be planted.
    for word in ["KVLAB_MUTANT", "compares-skipped", "half-transaction", "range-gap"] {
        assert!(!holds(word.as_bytes()), "{word}");
    }
    let version = Command::new(&server).args(["version", "--json"]).output().unwrap();
    let version: serde_json::Value = serde_json::from_slice(&version.stdout).unwrap();
    assert_eq!((&version["features"], version.get("mutants")), (&serde_json::json!([]), None));
    let dir = tempfile::tempdir().unwrap();
    for nemesis in [NemesisKind::Disk, NemesisKind::Messages] {
        let parameters = Parameters {
            system: System::Own { binary: server.clone(), nodes: 3 },
            workload: WorkloadKind::Register,
            nemeses: vec![nemesis],
            time_limit: TIME_LIMIT,
            seed: 8,
            load: Load::default(),
        };
        let options = RunOptions { parameters, dir: dir.path().join("run"), progress: false };
        let refused = run::run(&options, std::future::pending()).await.unwrap_err().to_string();
        assert!(refused.contains("built with the feature `lab`"), "{refused}");
    }
}
