//! Measures the checkers and the reader: `cargo run --release -p jepsen --example checker_speed`.
//!
//! Each case is checked by us and by `porcupine-rs` in the same run, one thread each, the reading of
//! files left out; what counts is the ratio. Histories are simulated from the seeds that stand in the
//! table; with `KV_HISTORIES` the recorded ones of that directory are measured too. Arguments choose
//! cases by parts of their names.

use std::collections::HashMap;
use std::fs::File;
use std::io::{BufReader, BufWriter};
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use jepsen::checker::{
    CompactChecker, LinearizableChecker, ModelOptions, Nil, RegisterChecker, Sequential,
};
use jepsen::history::{Corpus, ReadOptions, read, stream, write};
use jepsen::simulated::{Flaw, Simulation, Values};
use jepsen::{Call, Checker, Function, Operation, Outcome};
use porcupine_rs::{CheckResult, Model, check_operations_timeout};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// A seed with which the small bad history is bad and hard.
const BAD_SEED: u64 = 1;

/// Time after which porcupine is given up.
const PATIENCE: Duration = Duration::from_secs(60);

/// Time for which something is repeated to find its best.
const REPEAT: Duration = Duration::from_millis(700);

fn main() {
    let wanted: Vec<String> = std::env::args().skip(1).collect();
    let is_wanted = |name: &str| wanted.is_empty() || wanted.iter().any(|part| name.contains(part));
    println!("{:38} {:>9} {:>11} {:>11} {:>9} verdict", "case", "ops", "ms", "porcupine", "ratio");
    if let Some(dir) = std::env::var_os("KV_HISTORIES").map(PathBuf::from) {
        recorded(&dir, &is_wanted);
    }
    for (name, simulation, against) in cases() {
        if is_wanted(name) {
            let history = simulation.run();
            let theirs = against.then(|| porcupine_ms(&history)).flatten();
            let name = format!("{name}, seed {}", simulation.seed);
            let ours = compact_ms(&Corpus::of(&history), &history);
            row(&name, history.len(), ours, theirs);
            let ours = register_ms(&RegisterChecker::default(), &history);
            row("  from whole operations", history.len(), ours, theirs);
        }
    }
    if is_wanted("strings") {
        let history = strings(3, 50, 10, 3_000);
        let checker = LinearizableChecker {
            threads: Some(NonZeroUsize::MIN),
            ..LinearizableChecker::new(Sequential::Kv, &ModelOptions::default())
        };
        let ours = best(|| checker.check(&history).as_str());
        row("strings, 50 clients, 10 keys, seed 3", history.len(), ours, strings_ms(&history));
    }
    if is_wanted("growth") {
        growth();
    }
    if is_wanted("reading") {
        reading();
    }
    if is_wanted("memory") {
        memory(1);
        memory(100_000);
    }
}

/// Name, history, whether porcupine can do it.
fn cases() -> Vec<(&'static str, Simulation, bool)> {
    let unique = Simulation::default();
    let few = Simulation { values: Values::Few(5), cas: 20, ..unique };
    let bad = Simulation { crashes: 5, flaw: Flaw::StaleReads(10), ..unique };
    let of = |operations, simulation| Simulation { operations, ..simulation };
    vec![
        ("unique, 1 key, 1e4", of(10_000, unique), true),
        ("unique, 1 key, 1e5", of(100_000, unique), true),
        ("unique, 100 a key, 1e6", Simulation { keys: 10_000, ..of(1_000_000, unique) }, true),
        ("unique, 100 a key, 1e7", Simulation { keys: 100_000, ..of(10_000_000, unique) }, true),
        ("5 values and cas, 1 key, 3e4", of(30_000, few), true),
        ("unique, 20 clients, 2e3", Simulation { clients: 20, ..of(2_000, unique) }, true),
        ("5 values and cas, 20 clients, 2e3", Simulation { clients: 20, ..of(2_000, few) }, true),
        ("unique, 5 % crashed, bad, 400", Simulation { seed: BAD_SEED, ..of(400, bad) }, true),
        ("unique, 5 % crashed, bad, 800", of(800, bad), false),
        ("unique, 5 % crashed, bad, 1600", of(1_600, bad), false),
        ("5 values, 5 % crashed, 1831", Simulation { crashes: 5, ..of(1_831, few) }, true),
        ("5 values, 5 % crashed, 3678", Simulation { crashes: 5, ..of(3_678, few) }, true),
    ]
}

/// A result with its best time.
type Timed = (f64, &'static str);

/// A moment. Long runs are disturbed by others on the same machine, so what counts of them is the time
/// that this thread had a processor; short ones are repeated until one is undisturbed.
struct Moment {
    wall: Instant,
    on_cpu_ns: u64,
}

impl Moment {
    fn now() -> Self {
        Self { wall: Instant::now(), on_cpu_ns: on_cpu_ns() }
    }

    /// Milliseconds since then, of a run that uses this thread alone.
    fn ms(&self) -> f64 {
        let wall = self.wall.elapsed().as_secs_f64() * 1e3;
        let on_cpu = (on_cpu_ns() - self.on_cpu_ns) as f64 / 1e6;
        // What the system counts comes in steps of some milliseconds, so a little says nothing.
        if wall > LONG_MS && on_cpu > LONG_MS / 2.0 { on_cpu.min(wall) } else { wall }
    }
}

/// Milliseconds from which on a run is long.
const LONG_MS: f64 = 100.0;

/// Time that this thread had a processor; 0 if the system does not say.
fn on_cpu_ns() -> u64 {
    let line = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    line.split_ascii_whitespace().next().and_then(|n| n.parse().ok()).unwrap_or(0)
}

/// The best time of many, or of one if it is slow.
fn best(mut run: impl FnMut() -> &'static str) -> Timed {
    let begin = Instant::now();
    let mut best = f64::MAX;
    loop {
        let start = Moment::now();
        let said = run();
        best = best.min(start.ms());
        if begin.elapsed() > REPEAT {
            return (best, said);
        }
    }
}

fn row(name: &str, operations: usize, ours: Timed, theirs: Option<Timed>) {
    let (porcupine, ratio) = match theirs {
        None => ("-".to_owned(), "-".to_owned()),
        Some((ms, "unknown")) => (format!("> {ms:.0}"), format!("< {:.6}", ours.0 / ms)),
        Some((ms, said)) => {
            assert_eq!(said, ours.1, "{name}: the two do not agree");
            (format!("{ms:.3}"), format!("{:.5}", ours.0 / ms))
        }
    };
    println!("{name:38} {operations:>9} {:>11.3} {porcupine:>11} {ratio:>9} {}", ours.0, ours.1);
}

fn register_ms(checker: &RegisterChecker, history: &[Operation]) -> Timed {
    let checker = RegisterChecker { threads: Some(NonZeroUsize::MIN), ..checker.clone() };
    best(|| checker.check(history).as_str())
}

/// Like porcupine this begins with numbers: making the compact form is a part of reading.
fn compact_ms(corpus: &Corpus, history: &[Operation]) -> Timed {
    let checker =
        RegisterChecker { threads: Some(NonZeroUsize::MIN), ..RegisterChecker::default() };
    let mut fetch =
        |places: &[u32]| Ok(places.iter().map(|&place| history[place as usize].clone()).collect());
    best(|| checker.check_compact(corpus, &mut fetch).expect("all is in memory").as_str())
}

/// A register with numbers for values, as quick as porcupine can have it. 0 is absence.
#[derive(Clone)]
struct Register;

#[derive(Clone, Copy, Debug)]
enum Doing {
    Read(u32),
    Write(u32),
    Cas(u32, u32),
    PerhapsCas(u32, u32),
}

impl Model for Register {
    type State = u32;
    type Op = Doing;
    type Metadata = ();

    fn init() -> u32 {
        0
    }

    fn step(state: &u32, op: &Doing) -> (bool, u32) {
        match *op {
            Doing::Read(value) => (*state == value, *state),
            Doing::Write(value) => (true, value),
            Doing::Cas(old, new) => (*state == old, new),
            Doing::PerhapsCas(old, new) => (true, if *state == old { new } else { *state }),
        }
    }
}

/// Strings.
#[derive(Clone)]
struct Strings;

#[derive(Clone, Debug)]
enum StringDoing {
    Get(String),
    Put(String),
    Append(String),
}

impl Model for Strings {
    type State = String;
    type Op = StringDoing;
    type Metadata = ();

    fn init() -> String {
        String::new()
    }

    fn step(state: &String, op: &StringDoing) -> (bool, String) {
        match op {
            StringDoing::Get(text) => (state == text, state.clone()),
            StringDoing::Put(text) => (true, text.clone()),
            StringDoing::Append(text) => (true, format!("{state}{text}")),
        }
    }
}

/// Checks key by key on one thread. Translation is left out, grouping by key is not; `None` if there
/// is nothing to check.
fn by_key<M: Model>(
    history: &[Operation],
    mut translate: impl FnMut(&Operation) -> Option<M::Op>,
) -> Option<Timed> {
    let mut numbers: HashMap<&str, u32> = HashMap::new();
    let all: Vec<(u32, porcupine_rs::Operation<M>)> = history
        .iter()
        .filter(|o| o.outcome != Outcome::Fail)
        .filter_map(|o| {
            let fresh = numbers.len() as u32;
            let operation = porcupine_rs::Operation {
                client_id: None,
                call_time: i64::try_from(o.invoke_ns).ok()?,
                return_time: i64::try_from(o.end_ns()).unwrap_or(i64::MAX),
                op: translate(o)?,
                metadata: None,
            };
            Some((*numbers.entry(&o.key).or_insert(fresh), operation))
        })
        .collect();
    let (begin, wall) = (Moment::now(), Instant::now());
    // With a limit of time porcupine works in another thread.
    let alone = all.len() >= 50_000;
    let mut parts: HashMap<u32, Vec<porcupine_rs::Operation<M>>> = HashMap::new();
    for (key, operation) in &all {
        parts.entry(*key).or_default().push(operation.clone());
    }
    let ms = || if alone { begin.ms() } else { wall.elapsed().as_secs_f64() * 1e3 };
    let mut said = "valid";
    for operations in parts.values() {
        let result = if !alone {
            check_operations_timeout(operations, PATIENCE)
        } else if porcupine_rs::check_operations(operations) {
            // Without a thread and a clock for each key.
            CheckResult::Ok
        } else {
            CheckResult::Illegal
        };
        match result {
            CheckResult::Ok => {}
            CheckResult::Illegal => said = "invalid",
            CheckResult::Unknown => return Some((ms(), "unknown")),
        }
    }
    (!all.is_empty()).then(|| (ms(), said))
}

/// The best of several, as for us.
fn best_of(run: impl Fn() -> Option<Timed>) -> Option<Timed> {
    let begin = Instant::now();
    let mut best = run()?;
    while begin.elapsed() < REPEAT {
        best.0 = best.0.min(run()?.0);
    }
    Some(best)
}

fn porcupine_ms(history: &[Operation]) -> Option<Timed> {
    porcupine_with(history, Nil::Absent)
}

fn porcupine_with(history: &[Operation], nil: Nil) -> Option<Timed> {
    best_of(|| {
        let mut numbers = HashMap::new();
        let mut number = |value: Option<&str>| {
            let fresh = numbers.len() as u32 + 1;
            value.map_or(0, |value| *numbers.entry(value.to_owned()).or_insert(fresh))
        };
        by_key::<Register>(history, |o| {
            let value = number(o.text());
            Some(match (o.function, o.outcome) {
                (Function::Read, Outcome::Info) => return None,
                (Function::Read, _) if nil == Nil::Unknown && o.value.is_none() => return None,
                (Function::Read, _) => Doing::Read(value),
                (Function::Cas, Outcome::Ok) => Doing::Cas(number(o.expected_text()), value),
                (Function::Cas, _) => Doing::PerhapsCas(number(o.expected_text()), value),
                _ => Doing::Write(value),
            })
        })
    })
}

fn strings_ms(history: &[Operation]) -> Option<Timed> {
    best_of(|| {
        by_key::<Strings>(history, |o| {
            let text = o.text().unwrap_or_default().to_owned();
            Some(match o.function {
                Function::Read if o.outcome == Outcome::Info => return None,
                Function::Read => StringDoing::Get(text),
                Function::Append => StringDoing::Append(text),
                _ => StringDoing::Put(text),
            })
        })
    })
}

/// Clients that get, put and append; each operation takes effect at a random moment within it.
fn strings(seed: u64, clients: u64, keys: u64, operations: u64) -> Vec<Operation> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let mut free_at = vec![0; clients as usize];
    let mut planned = Vec::new();
    for number in 0..operations {
        let client = number % clients;
        let key = rng.random_range(0..keys).to_string();
        let call = match rng.random_range(0..100) {
            0..50 => Call::read(key),
            50..52 => Call::write(key, format!("x {number} y")),
            _ => Call { function: Function::Append, ..Call::write(key, format!("x {number} y")) },
        };
        let start = free_at[client as usize] + rng.random_range(1..500);
        let effect = start + rng.random_range(0..1_000);
        let end = effect + rng.random_range(0..1_000);
        let mut operation = Operation::invoked(client, call, start);
        operation.return_ns = Some(end);
        operation.outcome = Outcome::Ok;
        free_at[client as usize] = end + 1;
        planned.push((effect, operation));
    }
    planned.sort_by_key(|(effect, operation)| (*effect, operation.process));
    let mut held: HashMap<String, String> = HashMap::new();
    for (_, operation) in &mut planned {
        let string = held.entry(operation.key.clone()).or_default();
        let text = operation.text().unwrap_or_default().to_owned();
        match operation.function {
            Function::Read => operation.value = Some(string.as_str().into()),
            Function::Append => string.push_str(&text),
            _ => *string = text,
        }
    }
    let mut history: Vec<Operation> = planned.into_iter().map(|(_, operation)| operation).collect();
    history.sort_by_key(|operation| operation.invoke_ns);
    history
}

fn load(path: &Path) -> Vec<Operation> {
    let file = BufReader::new(File::open(path).expect("the history can be opened"));
    read(file, &ReadOptions::default()).expect("the history can be read")
}

/// Recorded histories: those of etcd, of Knossos, and of a key-value store.
fn recorded(dir: &Path, is_wanted: &dyn Fn(&str) -> bool) {
    let table = std::fs::read_to_string(dir.join("verdicts.tsv")).expect("there are verdicts");
    let files = |start: &str| -> Vec<PathBuf> {
        let mut files: Vec<PathBuf> = table
            .lines()
            .filter_map(|line| line.split('\t').next())
            .filter(|name| name.starts_with(start))
            .map(|name| dir.join(name))
            .collect();
        files.dedup();
        files
    };
    if is_wanted("etcd") {
        let (mut sums, mut slowest, mut operations) = ([0.0; 2], [0.0_f64; 2], 0);
        for history in files("etcd/").iter().map(|path| load(path)) {
            let ours = register_ms(&RegisterChecker::default(), &history);
            let theirs = porcupine_ms(&history).expect("there is something to check");
            assert_eq!(ours.1, theirs.1, "the two do not agree");
            for (place, ms) in [ours.0, theirs.0].into_iter().enumerate() {
                sums[place] += ms;
                slowest[place] = slowest[place].max(ms);
            }
            operations += history.len();
        }
        row("etcd, sum of 30", operations, (sums[0], "agree"), Some((sums[1], "agree")));
        row("etcd, slowest", 0, (slowest[0], "agree"), Some((slowest[1], "agree")));
    }
    if is_wanted("knossos") {
        let options = ModelOptions { initial: None, nil: Nil::Unknown, ..ModelOptions::default() };
        let (mut sums, mut operations) = ([0.0; 2], 0);
        for history in files("knossos/").iter().map(|path| load(path)) {
            let ours = register_ms(&RegisterChecker::new(&options), &history);
            let Some(theirs) = porcupine_with(&history, Nil::Unknown) else { continue };
            assert_eq!(ours.1, theirs.1, "the two do not agree");
            (sums[0], sums[1]) = (sums[0] + ours.0, sums[1] + theirs.0);
            operations += history.len();
        }
        row("knossos, sum of 8", operations, (sums[0], "agree"), Some((sums[1], "agree")));
    }
    if is_wanted("kv") {
        let checker = LinearizableChecker::new(Sequential::Kv, &ModelOptions::default());
        for path in files("kv/") {
            let history = load(&path);
            let ours = best(|| checker.check(&history).as_str());
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            row(&format!("kv, {name}"), history.len(), ours, strings_ms(&history));
        }
    }
    if is_wanted("command") {
        command(&dir.join("etcd/etcd_000.log"));
    }
}

/// The time of the whole command, from file to verdict.
fn command(path: &Path) {
    let Some(binary) = lab() else { return };
    let run = || {
        let output = Command::new(&binary).arg("check").arg(path).output();
        match output.expect("kv-lab can be run").status.code() {
            Some(0) => "valid",
            Some(9) => "invalid",
            _ => "unknown",
        }
    };
    row("whole command, etcd_000", load(path).len(), best(run), None);
}

/// The command, which was built beside this program.
fn lab() -> Option<PathBuf> {
    let exe = std::env::current_exe().ok()?;
    let binary = exe.parent()?.parent()?.join("kv-lab");
    if !binary.is_file() {
        println!("the command is left out: build kv-lab in release first");
        return None;
    }
    Some(binary)
}

/// One key and 100 operations a key, unique values, from 1e4 to 1e7 operations.
fn growth() {
    for share in [usize::MAX, 100] {
        let mut last = None;
        for operations in [10_000, 100_000, 1_000_000, 10_000_000] {
            let keys = (operations / share).max(1);
            let history = Simulation { operations, keys, ..Simulation::default() }.run();
            let ours = compact_ms(&Corpus::of(&history), &history);
            let times = last.map_or(String::new(), |last: f64| {
                format!(", {:.1} times the last", ours.0 / last)
            });
            row(&format!("growth, unique, keys: {keys}{times}"), operations, ours, None);
            last = Some(ours.0);
        }
    }
}

/// The command on a file of 1e7 operations: its time and the most memory that it had.
fn memory(keys: usize) {
    let Some(binary) = lab() else { return };
    let dir = tempfile::tempdir().expect("a directory can be made");
    let path = dir.path().join("history.jsonl");
    let operations = 10_000_000;
    let mut file = BufWriter::new(File::create(&path).expect("a file can be made"));
    let history = Simulation { operations, keys, ..Simulation::default() }.run();
    write(&mut file, &history).expect("the disk has room");
    drop((history, file));
    let bytes = path.metadata().expect("the file is there").len();
    let start = Instant::now();
    let mut child =
        Command::new(&binary).arg("check").arg(&path).spawn().expect("kv-lab can be run");
    let mut peak = 0;
    let status = loop {
        peak = peak.max(peak_mib(&format!("/proc/{}/status", child.id())));
        match child.try_wait().expect("a child can be waited for") {
            Some(status) => break status,
            None => std::thread::sleep(Duration::from_millis(20)),
        }
    };
    let (mb, took) = (bytes / 1_000_000, start.elapsed());
    println!("memory, 1e7 operations, {keys} keys, {mb} MB: {status}, {took:.1?}, {peak} MiB");
}

/// How quickly JSON lines are read, in memory.
fn reading() {
    let history = Simulation { operations: 50_000, keys: 1_000, ..Simulation::default() }.run();
    let mut file = Vec::new();
    write(&mut file, &history).expect("memory takes all that is written to it");
    let megabytes = file.len() as f64 / 1e6;
    let mut count = 0;
    let streamed = best(|| {
        count = 0;
        stream(file.as_slice(), &ReadOptions::default(), |_| count += 1)
            .expect("it was written so");
        "read"
    });
    assert_eq!(count, history.len(), "all are handed on");
    let rate = |ms: f64| megabytes / ms * 1e3;
    println!("reading, as a stream: {megabytes:.0} MB, {:.0} MB/s", rate(streamed.0));
    let whole = best(|| {
        let all = read(file.as_slice(), &ReadOptions::default()).expect("it was written so");
        assert_eq!(all.len(), history.len(), "all are there");
        "read"
    });
    println!("reading, as a whole: {:.0} MB/s", rate(whole.0));
}

/// The most memory that a process has had, from its status.
fn peak_mib(status: &str) -> u64 {
    let status = std::fs::read_to_string(status).unwrap_or_default();
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap_or_default();
    let kib: u64 = line.split_ascii_whitespace().nth(1).and_then(|n| n.parse().ok()).unwrap_or(0);
    kib / 1024
}
