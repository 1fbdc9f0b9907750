//! Runs that end otherwise than planned: what is waited for has a bound, and there is a verdict. The
//! server is a shell script.

use std::future::{pending, ready};
use std::os::unix::fs::PermissionsExt;
use std::sync::OnceLock;

use tokio::time::{Instant, timeout};

use super::*;
use crate::workload::{Load, WorkloadKind};

/// Becomes ready unless it is called `never`, and serves nothing. Leaves its process id beside its
/// configuration.
const SERVER: &str = r#"#!/bin/sh
[ "$1" = serve ] || exit 2
dir=$(dirname "$3")
echo $$ > "$dir/pid"
[ "$(basename "$0")" = never ] || echo "ready node=$(basename "$dir") client=x peer=y admin=z"
exec sleep 1000
"#;

const SOON: Duration = Duration::from_millis(200);
const LATE: Duration = Duration::from_secs(600);

/// Written once, before any test starts a process: a file open for writing cannot be executed.
fn server(name: &str) -> PathBuf {
    static DIR: OnceLock<tempfile::TempDir> = OnceLock::new();
    let dir = DIR.get_or_init(|| {
        let dir = tempfile::tempdir().unwrap();
        for name in ["mute", "never"] {
            let path = dir.path().join(name);
            fs::write(&path, SERVER).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        }
        dir
    });
    dir.path().join(name)
}

fn options(home: &Path, name: &str, workload: WorkloadKind, time_limit: Duration) -> RunOptions {
    let parameters = Parameters {
        system: System::Own { binary: server(name), nodes: 3 },
        workload,
        nemeses: Vec::new(),
        time_limit,
        seed: 3,
        load: Load { clients: 2, timeout: SOON, ..Load::default() },
    };
    RunOptions { parameters, dir: home.join("run"), progress: false }
}

fn patience(boot: Duration, recovery: Duration) -> Patience {
    Patience { boot, recovery, end: LATE }
}

/// Nothing is known, that is said in all files, and no process is left.
fn unknown(options: &RunOptions, result: &RunResult, why: &str) {
    let error = result.failure.as_ref().unwrap().to_string();
    assert!(error.contains(why), "{error}");
    assert_eq!((result.worst().verdict, exit(result)), (Word::Unknown, 10));
    assert!(options.dir.join("history.jsonl").is_file());
    for name in ["result.json", "report.html", "junit.xml"] {
        let text = fs::read_to_string(options.dir.join(name)).unwrap();
        assert!(text.contains("unknown") || text.contains("<error"), "{name}: {text}");
        assert!(text.contains(why), "{name}: {text}");
    }
    let System::Own { nodes, .. } = options.parameters.system else { return };
    let pids = (1..=nodes).map(|node| options.dir.join(format!("cluster/n{node}/pid")));
    let pids: Vec<String> = pids.filter_map(|path| fs::read_to_string(path).ok()).collect();
    assert!(!pids.is_empty(), "no node has begun");
    for pid in pids {
        assert!(!Path::new("/proc").join(pid.trim()).exists(), "{pid} is left");
    }
}

#[tokio::test]
async fn nodes_that_are_never_ready_make_it_unknown() {
    let home = tempfile::tempdir().unwrap();
    let options = options(home.path(), "never", WorkloadKind::Bank, LATE);
    let run = run_within(&options, patience(Duration::from_secs(2), LATE), pending());
    unknown(&options, &run.await.unwrap(), "is not ready after");
}

#[tokio::test]
async fn the_end_is_heard_while_nodes_start() {
    let home = tempfile::tempdir().unwrap();
    let options = options(home.path(), "never", WorkloadKind::Bank, LATE);
    let pressed = async {
        let begun = || fs::read_to_string(options.dir.join("cluster/n3/pid"));
        while !begun().is_ok_and(|pid| pid.ends_with('\n')) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    let run = run_within(&options, patience(LATE, LATE), pressed);
    let result = timeout(Duration::from_secs(60), run).await.unwrap().unwrap();
    assert!(result.interrupted, "{result:#?}");
    unknown(&options, &result, "stopped before the nodes were ready");
}

/// A cluster that accepts connections and does not answer.
async fn mute(home: &Path) -> (Given, tokio::net::TcpListener) {
    let pki = home.join("pki");
    client::pki::init_ca(&pki, None, LATE).unwrap();
    client::pki::issue_client(&pki, "lab", LATE).unwrap();
    let mute = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let given = Given {
        endpoints: vec![mute.local_addr().unwrap().to_string()],
        ca: pki.join("ca.crt"),
        cert: pki.join("lab.crt"),
        key: pki.join("lab.key"),
        keyspace: None,
    };
    (given, mute)
}

#[tokio::test]
async fn the_end_is_heard_while_a_workload_is_prepared() {
    let home = tempfile::tempdir().unwrap();
    let mut options = options(home.path(), "mute", WorkloadKind::Bank, LATE);
    let (given, mute) = mute(home.path()).await;
    options.parameters.system = System::Given(given.clone());
    fs::create_dir_all(&options.dir).unwrap();
    let mut pressed = std::pin::pin!(async { drop(mute.accept().await.unwrap()) });
    let (stage, mut course) =
        (Stage { target: given, field: None }, Course::begin(Clocks::default()));
    let acting = act(&options, patience(LATE, LATE), &stage, &mut course, pressed.as_mut());
    let failure = timeout(Duration::from_secs(60), acting).await.unwrap().err();
    let result = conclude(&options, course, failure).await.unwrap();
    assert!(result.interrupted, "{result:#?}");
    unknown(&options, &result, "stopped before the workload was prepared");
}

#[tokio::test]
async fn a_keyspace_that_may_have_been_made_is_said_to_be_left() {
    let home = tempfile::tempdir().unwrap();
    let mut options = options(home.path(), "mute", WorkloadKind::Bank, LATE);
    let (given, mute) = mute(home.path()).await;
    options.parameters.system = System::Given(given.clone());
    let pressed = async { drop(mute.accept().await.unwrap()) };
    let run = run_within(&options, patience(LATE, LATE), pressed);
    let result = timeout(Duration::from_secs(60), run).await.unwrap().unwrap();
    assert!(result.interrupted, "{result:#?}");
    unknown(&options, &result, "stopped before the keyspace was there");
    let keyspace = result.keyspace.unwrap();
    assert_eq!(keyspace, RunKeyspace::plan(&given, 3, result.begun));
    let run = fs::read_to_string(options.dir.join("run.toml")).unwrap();
    let run: toml::Table = run.parse().unwrap();
    assert_eq!(run["own_keyspace"].as_str(), Some(keyspace.name.as_str()));
    assert_eq!(run["own_keyspace_kept"].as_bool(), Some(true));
    // Done again, it makes another one.
    let again = Parameters::load(&options.dir).unwrap();
    assert!(matches!(again.system, System::Given(Given { keyspace: None, .. })), "{again:?}");
}

#[tokio::test]
async fn a_workload_that_cannot_be_prepared_makes_it_unknown() {
    let home = tempfile::tempdir().unwrap();
    let options = options(home.path(), "mute", WorkloadKind::Bank, LATE);
    let result = run_within(&options, patience(LATE, SOON), pending()).await.unwrap();
    assert!(!result.interrupted);
    unknown(&options, &result, "cannot be prepared within");
}

#[tokio::test]
async fn a_state_that_cannot_be_read_at_the_end_makes_it_unknown() {
    let home = tempfile::tempdir().unwrap();
    let options = options(home.path(), "mute", WorkloadKind::Register, SOON);
    let result = run_within(&options, patience(LATE, SOON), pending()).await.unwrap();
    assert!(result.summary.fail > 0, "{:?}", result.summary);
    unknown(&options, &result, "after all faults");
}

#[tokio::test]
async fn a_proxy_that_ends_makes_it_unknown() {
    let home = tempfile::tempdir().unwrap();
    let mut options = options(home.path(), "mute", WorkloadKind::Register, LATE);
    options.parameters.nemeses = vec![nemesis::NemesisKind::Delay];
    let mut cluster = create(&options, &Clocks::default(), &server("mute"), 3).unwrap();
    cluster.start_all().unwrap();
    cluster.wait_all_ready(LATE).await.unwrap();
    cluster.network().unwrap().end_one();
    let mut course = Course::begin(Clocks::default());
    let target = cluster.given();
    let (recorder, faults) = (course.recorder.clone(), course.faults.clone());
    let field = Arc::new(Field::new(cluster, recorder, faults).unwrap());
    let stage = Stage { target, field: Some(Arc::clone(&field)) };
    let never = std::pin::pin!(pending());
    let acting = act(&options, patience(LATE, LATE), &stage, &mut course, never);
    let failure = timeout(Duration::from_secs(60), acting).await.unwrap().err();
    field.kill_all().await;
    let result = conclude(&options, course, failure).await.unwrap();
    unknown(&options, &result, "a proxy of the lab has ended");
}

#[tokio::test(start_paused = true)]
async fn a_fault_that_does_not_end_ends_the_run() {
    let (stop, stopped) = watch::channel(false);
    let begin = Instant::now();
    let mut faults = tokio::spawn(bounded(pending(), stopped, Duration::from_secs(180)));
    // Before the run stops there is no bound.
    assert!(timeout(LATE, &mut faults).await.is_err());
    stop.send_replace(true);
    let error = faults.await.unwrap().unwrap_err().to_string();
    assert!(error.contains("did not end within 180s"), "{error}");
    assert_eq!(begin.elapsed().as_secs(), 600 + 180);
    // One that ends in time is no error, and one that fails says so itself.
    let (_stop, stopped) = watch::channel(true);
    bounded(ready(Ok(())), stopped.clone(), LATE).await.unwrap();
    let failed = ready(Err(LabError::Parameters("x".to_owned())));
    assert_eq!(bounded(failed, stopped, LATE).await.unwrap_err().to_string(), "x");
}

/// Clients that work until they are told to stop, and then one second longer.
fn clients(stop: &watch::Sender<bool>) -> JoinSet<()> {
    let mut tasks = JoinSet::new();
    for _ in 0..3 {
        let mut stopped = stop.subscribe();
        tasks.spawn(async move {
            stopped.wait_for(|stop| *stop).await.unwrap();
            tokio::time::sleep(Duration::from_secs(1)).await;
        });
    }
    tasks
}

#[tokio::test(start_paused = true)]
async fn clients_are_told_to_stop_and_waited_for() {
    let minute = Duration::from_secs(60);
    let after = |seconds| tokio::time::sleep(Duration::from_secs(seconds));
    // By the time, by a failure, by the user: whatever is first.
    for (failed, interrupt, seconds, stopped_by_user) in
        [(100, 100, 60, false), (7, 100, 7, false), (100, 9, 9, true)]
    {
        let (stop, _stopped) = watch::channel(false);
        let mut tasks = clients(&stop);
        let begin = Instant::now();
        let ended = work_until(minute, &mut tasks, &stop, after(interrupt), after(failed)).await;
        assert_eq!(ended.unwrap(), stopped_by_user);
        assert_eq!(begin.elapsed().as_secs(), seconds + 1);
        assert!(*stop.borrow() && tasks.is_empty());
    }
}

#[tokio::test(start_paused = true)]
async fn clients_that_end_by_themselves_end_the_run_and_a_panic_is_an_error() {
    for panics in [false, true] {
        let (stop, _stopped) = watch::channel(false);
        let mut tasks = JoinSet::new();
        tasks.spawn(async move { assert!(!panics, "a client panics") });
        let worked = work_until(LATE, &mut tasks, &stop, pending(), pending()).await;
        assert_eq!(worked.is_err(), panics);
        assert!(*stop.borrow());
    }
}
