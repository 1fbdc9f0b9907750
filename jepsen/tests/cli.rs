//! The command `kv-lab check`.

use std::io::Write;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use jepsen::history;
use jepsen::simulated::{Flaw, Simulation, Values};

fn lab(args: &[&str], input: &[u8]) -> Output {
    let mut child = Command::new(env!("CARGO_BIN_EXE_kv-lab"))
        .args(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // A command that refuses its arguments never reads its input.
    let _ = child.stdin.take().unwrap().write_all(input);
    child.wait_with_output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_owned()).unwrap()
}

fn write(path: &Path, simulation: Simulation) {
    let mut file = Vec::new();
    history::write(&mut file, &simulation.run()).unwrap();
    std::fs::write(path, file).unwrap();
}

#[test]
fn verdicts_and_their_exit_codes() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("history.jsonl");
    let path_text = path.to_str().unwrap();
    let simulation = Simulation { operations: 300, cas: 10, deletes: 5, ..Simulation::default() };

    write(&path, simulation);
    for model in ["register", "revision"] {
        let good = lab(&["check", path_text, "--model", model], b"");
        assert_eq!(good.status.code(), Some(0), "{good:?}");
        assert_eq!(text(&good.stdout), format!("valid: 300 operations, model {model}\n"));
        assert!(good.stderr.is_empty());
    }
    // The directory of a run will do.
    let by_dir = lab(&["check", dir.path().to_str().unwrap(), "-o", "json"], b"");
    let object: serde_json::Value = serde_json::from_slice(&by_dir.stdout).unwrap();
    assert_eq!((&object["schema"], &object["verdict"]), (&1.into(), &"valid".into()));

    write(&path, Simulation { flaw: Flaw::StaleReads(3), ..simulation });
    let bad = lab(&["check", path_text], b"");
    assert_eq!(bad.status.code(), Some(9), "{bad:?}");
    let stdout = text(&bad.stdout);
    assert!(stdout.starts_with("invalid: 300 operations, model register\nkey \"k0\" is not linea"));
    let bad = lab(&["-o", "json", "check", path_text], b"");
    assert_eq!(bad.status.code(), Some(9));
    let object: serde_json::Value = serde_json::from_slice(&bad.stdout).unwrap();
    assert_eq!((&object["verdict"], &object["key"]), (&"invalid".into(), &"k0".into()));
    assert!(!object["failing"].as_array().unwrap().is_empty());

    // Nothing names a revision here.
    let line = b"{\"process\":0,\"type\":\"invoke\",\"f\":\"write\",\"key\":\"k\",\"value\":1}\n\
                 {\"process\":0,\"type\":\"ok\"}\n";
    let unknown = lab(&["check", "-", "--model", "revision"], line);
    assert_eq!(unknown.status.code(), Some(10), "{unknown:?}");
    assert!(text(&unknown.stdout).contains("names no revision"), "{unknown:?}");
}

/// A file is judged in its compact form and read again for what is to be shown; what comes from a
/// pipe cannot be. Both say the same.
#[test]
fn a_file_and_a_pipe_are_judged_alike() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("history.jsonl");
    let mut invalid = 0;
    for seed in 0..12 {
        let values = if seed % 2 == 0 { Values::Unique } else { Values::Few(4) };
        let flaw = if seed % 3 == 0 { Flaw::LostWrites(3) } else { Flaw::StaleReads(3) };
        let simulation = Simulation {
            seed,
            operations: 400,
            keys: 3,
            cas: 10,
            crashes: 3,
            values,
            flaw,
            ..Simulation::default()
        };
        write(&path, simulation);
        let whole = lab(&["check", "-"], &std::fs::read(&path).unwrap());
        let compact = lab(&["check", path.to_str().unwrap()], b"");
        assert_eq!(compact, whole, "seed {seed}");
        invalid += u32::from(compact.status.code() == Some(9));
    }
    assert!(invalid > 6, "{invalid} of 12 are invalid");
    let strange =
        b"{\"process\":0,\"type\":\"invoke\",\"f\":\"append\",\"key\":\"k\",\"value\":1}\n";
    std::fs::write(&path, strange).unwrap();
    assert_eq!(lab(&["check", path.to_str().unwrap()], b""), lab(&["check", "-"], strange));
}

/// Exit code and first line of a check of `input`.
fn check(args: &[&str], input: &str) -> (Option<i32>, String) {
    let output = lab(&[&["check", "-"], args].concat(), input.as_bytes());
    let stdout = text(&output.stdout);
    (output.status.code(), stdout.lines().next().unwrap_or_default().to_owned())
}

#[test]
fn options_say_how_a_history_is_read() {
    let keyed = "[{:process 0, :type :invoke, :f :write, :value [1 7]}\n\
                  {:process 0, :type :ok, :f :write, :value [1 7]}\n\
                  {:process 0, :type :invoke, :f :read, :value [2 nil]}\n\
                  {:process 0, :type :ok, :f :read, :value [2 nil]}]";
    assert_eq!(check(&["--keyed"], keyed).0, Some(0));
    // Without it, 7 on key 1 would be one value, and reading nothing on key 2 another.
    assert_eq!(check(&[], keyed).0, Some(9));
    let read = |value: &str| {
        format!(
            "{{:process 0, :type :invoke, :f :read}} {{:process 0, :type :ok, :f :read, :value {value}}}"
        )
    };
    assert_eq!(check(&[], &read("5")).0, Some(9));
    assert_eq!(check(&["--initial", "5"], &read("5")).0, Some(0));
    assert_eq!(check(&["--initial", "5"], &read("nil")).0, Some(9));
    assert_eq!(check(&["--initial", "5", "--nil", "unknown"], &read("nil")).0, Some(0));
    let log = "INFO  jepsen.util - 0 :invoke :read nil\nINFO  jepsen.util - 0 :ok :read 3\n";
    let (code, line) = check(&["--model", "cas-register"], log);
    assert_eq!((code, line.as_str()), (Some(9), "invalid: 1 operations, model register"));
    assert_eq!(check(&["--format", "json"], log).0, Some(2));
    let strings = "{:process 0, :type :invoke, :f :append, :key \"k\", :value \"a\"}\n\
                   {:process 0, :type :ok, :f :append, :key \"k\", :value \"a\"}\n\
                   {:process 0, :type :invoke, :f :get, :key \"k\", :value nil}\n\
                   {:process 0, :type :ok, :f :get, :key \"k\", :value \"a\"}\n";
    assert_eq!(
        check(&["--model", "kv"], strings),
        (Some(0), "valid: 2 operations, model kv".into())
    );
    // A register knows no append.
    assert_eq!(check(&["--model", "register"], strings).0, Some(10));
}

#[test]
fn a_history_without_operations_is_not_valid() {
    let nemesis = "{\"process\":\"nemesis\",\"type\":\"info\",\"f\":\"kill\"}\n";
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("history.jsonl");
    for (input, model) in [("", "register"), (nemesis, "register"), (nemesis, "list-append")] {
        let (code, line) = check(&["--model", model], input);
        assert_eq!((code, line), (Some(10), format!("unknown: 0 operations, model {model}")));
        std::fs::write(&path, input).unwrap();
        let file = lab(&["check", path.to_str().unwrap(), "--model", model], b"");
        assert!(text(&file.stdout).contains("no operation of a client"), "{file:?}");
    }
}

#[test]
fn a_limit_makes_it_unknown() {
    let hard = Simulation {
        operations: 2_000,
        clients: 12,
        values: Values::Few(5),
        cas: 20,
        crashes: 10,
        ..Simulation::default()
    };
    let mut file = Vec::new();
    history::write(&mut file, &hard.run()).unwrap();
    let text = text(&file);
    let (code, line) = check(&["--time-limit", "0s"], &text);
    assert_eq!((code, line.as_str()), (Some(10), "unknown: 2000 operations, model register"));
    assert_eq!(check(&["--memory-limit", "0"], &text).0, Some(2));
}

#[test]
fn wrong_input_has_its_own_exit_codes() {
    let dir = tempfile::tempdir().unwrap();
    let missing = lab(&["check", dir.path().join("absent").to_str().unwrap()], b"");
    assert_eq!(missing.status.code(), Some(3), "{missing:?}");
    let broken = lab(&["check", "-"], b"{\"process\":0,\"type\":\"ok\"}\n");
    assert_eq!(broken.status.code(), Some(2), "{broken:?}");
    assert!(text(&broken.stderr).contains("line 1: process 0 completes"), "{broken:?}");
    let model = lab(&["check", "-", "--model", "stack"], b"");
    assert_eq!(model.status.code(), Some(2), "{model:?}");
    let server = dir.path().join("no-server");
    let out = dir.path().join("out");
    let args = ["run", "register", "--binary", server.to_str().unwrap(), "--dir"];
    let run = lab(&[&args[..], &[out.to_str().unwrap()]].concat(), b"");
    assert_eq!(run.status.code(), Some(3), "{run:?}");
}

#[test]
fn a_hundred_thousand_operations_take_less_than_a_second() {
    let simulation =
        Simulation { operations: 100_000, values: Values::Unique, ..Simulation::default() };
    let history = simulation.run();
    let start = std::time::Instant::now();
    let verdict =
        jepsen::checker::by_model("register", &Default::default()).unwrap().check(&history);
    assert!(verdict.is_valid(), "{verdict}");
    // A hundred times what it takes; this guards against a quadratic step.
    assert!(start.elapsed() < std::time::Duration::from_secs(5), "{:?}", start.elapsed());
}
