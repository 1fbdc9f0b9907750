//! Recorded histories whose verdicts are known.
//!
//! `testdata/` is our own; a directory of others, of the same shape, can be named by `KV_HISTORIES`.

use std::fs::File;
use std::io::BufReader;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use jepsen::checker::{MODELS, ModelOptions, Nil, by_model};
use jepsen::history::{ReadOptions, read};

/// Time for one history and one model, in a release build.
const TIME_MAX: Duration = Duration::from_secs(1);

/// A line of `verdicts.tsv`.
struct Row {
    file: PathBuf,
    name: String,
    model: &'static str,
    options: ModelOptions,
    keyed: bool,
    valid: bool,
}

/// What the text in the column `model` means.
fn meaning(text: &str) -> (&'static str, ModelOptions, bool) {
    let plain = ModelOptions::default();
    let models: [(&str, &str, bool); 11] = [
        ("cas-register", "cas-register", false),
        ("independent cas-registers", "cas-register", true),
        ("kv get/put/append", "kv", false),
        ("mutex", "mutex", false),
        ("multi-register", "multi-register", false),
        ("causal consistency (CC)", "causal", true),
        ("causal convergence (CCv)", "causal-convergence", true),
        ("causal memory (CM)", "causal-memory", true),
        ("session: read-your-writes", "read-your-writes", true),
        ("session: monotonic-reads", "monotonic-reads", true),
        ("session: monotonic-writes", "monotonic-writes", true),
    ];
    let last = ("session: writes-follow-reads", "writes-follow-reads", true);
    let known = models.into_iter().chain([last]).find(|(start, ..)| text.starts_with(start));
    let (_, model, keyed) = known.unwrap_or_else(|| panic!("what is {text:?}?"));
    let options = if text.contains("initially 0") {
        ModelOptions { initial: Some("0".into()), nil: Nil::Unknown, ..plain }
    } else {
        plain
    };
    (model, options, keyed)
}

fn rows(dir: &Path) -> Vec<Row> {
    let table = std::fs::read_to_string(dir.join("verdicts.tsv")).unwrap();
    let row = |line: &str| {
        let columns: Vec<&str> = line.split('\t').collect();
        let (model, options, keyed) = meaning(columns[1]);
        let valid = match columns[2] {
            "true" => true,
            "false" => false,
            other => panic!("what verdict is {other:?}?"),
        };
        let name = format!("{} by {}", columns[0], columns[1]);
        Row { file: dir.join(columns[0]), name, model, options, keyed, valid }
    };
    table.lines().skip(1).map(row).collect()
}

/// Checks all rows; (rows checked, rows whose model is not there).
fn check_all(dir: &Path) -> (usize, usize) {
    let (mut checked, mut left_out) = (0, 0);
    let mut slowest = (Duration::ZERO, String::new());
    let mut wrong = Vec::new();
    for row in rows(dir) {
        if !MODELS.contains(&row.model) {
            left_out += 1;
            continue;
        }
        let input = BufReader::new(File::open(&row.file).unwrap());
        let options = ReadOptions { keyed: row.keyed, format: None };
        let history = read(input, &options).unwrap_or_else(|error| panic!("{}: {error}", row.name));
        assert!(!history.is_empty(), "{}", row.name);
        let start = Instant::now();
        let verdict = by_model(row.model, &row.options).unwrap().check(&history);
        let time = start.elapsed();
        if verdict.is_valid() != row.valid || verdict.is_invalid() == row.valid {
            wrong.push(format!("{}: {verdict}", row.name));
        }
        if cfg!(not(debug_assertions)) && time > TIME_MAX {
            wrong.push(format!("{}: {time:?}", row.name));
        }
        slowest = slowest.max((time, row.name));
        checked += 1;
    }
    println!("{checked} rows checked, {left_out} left out; slowest {slowest:?}");
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    (checked, left_out)
}

#[test]
fn our_own_histories_are_judged_right() {
    let (checked, left_out) = check_all(&Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata"));
    assert!(checked >= 12 && left_out == 0, "{checked} checked, {left_out} left out");
}

#[test]
fn other_histories_are_judged_right() {
    let Some(dir) = std::env::var_os("KV_HISTORIES") else {
        println!("KV_HISTORIES names no directory; nothing to do");
        return;
    };
    let (checked, _) = check_all(Path::new(&dir));
    assert!(checked > 0, "no row was checked");
}
