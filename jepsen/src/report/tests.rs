//! The page of small and great histories. What is in its data is read back as a browser would.

use std::fs;

use serde_json::Value as Json;

use super::*;
use crate::checker::{self, ModelOptions};
use crate::judgement::Judgement;
use crate::operation::{Call, Outcome};
use crate::simulated::{Flaw, Simulation};

/// What ends an element, a text, a comment or a line, wherever it stands.
const HOSTILE: &str = "</script><img src=x onerror=\"alert('1')\">&<!--\u{2028}\\";

const RUN: &str = r#"
schema = 2
lab_version = "0.1.0"
server_version = "kvstore 0.1.0"
server_sha256 = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
begun = "2026-11-21T18:04:36Z"

[[fault]]
nemesis = "kill"
what = "kill leader"
nodes = ["n1"]
place = "processes"
begin_ns = 1000000
end_ns = 3000000
effects = 1

[[fault]]
nemesis = "partition"
what = "isolate one"
nodes = ["n2", "n3"]
place = "proxies"
begin_ns = 2000000
"#;

/// A directory of a run that was judged by the register model.
fn run_of(history: &[Operation]) -> tempfile::TempDir {
    let checker = checker::by_model("register", &ModelOptions::default()).unwrap();
    let checks = [Judgement::of(&*checker, history)];
    let dir = tempfile::tempdir().unwrap();
    let result = serde_json::json!({
        "run": "register:kill", "seed": "7", "checks": checks, "error": null, "interrupted": false,
        "replay": "kv-lab run register:kill --seed 7",
    });
    fs::write(dir.path().join("result.json"), result.to_string()).unwrap();
    fs::write(dir.path().join("run.toml"), RUN).unwrap();
    let mut lines = Vec::new();
    history::write(&mut lines, history).unwrap();
    fs::write(dir.path().join("history.jsonl"), lines).unwrap();
    dir
}

/// A process writes `value`, another one reads that there is nothing, and a third one hears nothing.
fn stale(value: &str) -> Vec<Operation> {
    let write = Operation {
        return_ns: Some(2_000_000),
        outcome: Outcome::Ok,
        node: Some("n1".to_owned()),
        revision: Some(4),
        ..Operation::invoked(0, Call::write("k", value), 1_000_000)
    };
    let read = Operation {
        return_ns: Some(4_000_000),
        outcome: Outcome::Ok,
        level: Some("linearizable".to_owned()),
        ..Operation::invoked(1, Call::read("k"), 3_000_000)
    };
    let lost = Operation {
        error: Some(value.to_owned()),
        ..Operation::invoked(2, Call::write("other", "x"), 3_500_000)
    };
    vec![write, read, lost]
}

/// The page of a run, and the part before its data, and the data.
fn page_of(dir: &Path) -> (String, String, Json) {
    let page = fs::read_to_string(write(dir).unwrap()).unwrap();
    let begin = "<script type=\"application/json\" id=\"data\">";
    let (before, rest) = page.split_once(begin).unwrap();
    let (data, _) = rest.split_once("</script>").unwrap();
    let data = serde_json::from_str(data).unwrap();
    (page.clone(), before.to_owned(), data)
}

#[test]
fn a_report_says_the_verdict_first_and_draws_the_rest() {
    let dir = run_of(&stale("v"));
    let (page, before, data) = page_of(dir.path());
    let mut rest = before.as_str();
    for part in [
        "<title>invalid: register:kill</title>",
        "<p class=\"word\">invalid</p>",
        "A promise was broken.",
        "seed 7",
        "kvstore 0.1.0",
        ">sha256 ba7816bf8f01<",
        "begun 2026-11-21T18:04:36Z",
        "<span class=\"badge\">invalid</span> register",
        "<ol class=\"failing\">",
        "<li><code>write k &quot;v&quot; rev 4 [ok of process 0, 1.000000 ms to 2.000000 ms]</code></li>",
        "<li><code>read k -&gt; absent",
        "<pre><code>kv-lab run register:kill --seed 7</code></pre>",
        "<dt>in all</dt><dd>3</dd>",
        "<dt>succeeded</dt><dd>2</dd>",
        "<dt>unknown</dt><dd>1</dd>",
        "<canvas id=\"timeline\"",
        "<canvas id=\"latency\"",
        "<canvas id=\"rate\"",
        "<td>kill</td><td>kill leader</td><td>1</td><td>1</td><td>0.002 s</td>",
        "<td>isolate one</td><td>1</td><td>not counted</td><td>0.000 s, 1 did not end</td>",
    ] {
        let at = rest.find(part).unwrap_or_else(|| panic!("no {part} in the rest of {before}"));
        rest = &rest[at + part.len()..];
    }
    assert_eq!(data["failing"], serde_json::json!([0, 1]));
    // One file that asks for nothing else.
    for outside in ["http://", "https://", "<link", " src=", "@import", "url(", "fetch(", "eval("] {
        assert!(!page.contains(outside), "{outside}");
    }
    assert_eq!(page.matches("<script").count(), page.matches("</script>").count());
}

#[test]
fn what_never_returned_and_faults_without_an_end_are_open() {
    let dir = run_of(&stale("v"));
    let (_, _, data) = page_of(dir.path());
    assert_eq!(data["invoke"], serde_json::json!([1_000_000, 2_000_000, 500_000]));
    assert_eq!(data["duration"], serde_json::json!([1_000_000, 1_000_000, -1]));
    assert_eq!(data["outcome"], serde_json::json!([0, 0, 2]));
    assert_eq!(data["revision"], serde_json::json!([4, -1, -1]));
    assert_eq!(data["value"][1], 0, "absence");
    assert_eq!(data["end"], 4_000_000);
    let faults = data["faults"].as_array().unwrap();
    assert_eq!(faults[0]["end"], 3_000_000);
    assert_eq!(faults[1]["end"], Json::Null);
    assert_eq!(faults[1]["nodes"], "n2 n3");
}

#[test]
fn text_of_a_run_stays_text() {
    let mut history = stale(HOSTILE);
    // The client gave up, and says why.
    history[2].return_ns = Some(5_000_000);
    let dir = run_of(&history);
    let result = dir.path().join("result.json");
    let text = fs::read_to_string(&result).unwrap();
    let mut result_file: Json = serde_json::from_str(&text).unwrap();
    for field in ["run", "seed", "error", "replay"] {
        result_file[field] = HOSTILE.into();
    }
    result_file["checks"][0]["model"] = HOSTILE.into();
    result_file["checks"][0]["explanation"] = HOSTILE.into();
    result_file["checks"][0]["key"] = HOSTILE.into();
    fs::write(&result, result_file.to_string()).unwrap();
    let hostile = format!("{HOSTILE:?}").replace("\\'", "'").replace("\\u{2028}", "\\u2028");
    let run = RUN.replace("\"kill leader\"", &hostile).replace("\"processes\"", &hostile);
    fs::write(dir.path().join("run.toml"), run).unwrap();

    let harmless = page_of(run_of(&stale("v")).path()).0;
    let (page, before, data) = page_of(dir.path());
    for sign in ["<script", "</script", "<img", "<!--", "\u{2028}"] {
        assert_eq!(page.matches(sign).count(), harmless.matches(sign).count(), "{sign}");
    }
    assert!(before.contains("&lt;/script&gt;&lt;img src=x onerror=&quot;alert(&#39;1&#39;)"));
    let texts = data["texts"].as_array().unwrap();
    let error = data["error"][2].as_u64().unwrap();
    assert_eq!(texts[usize::try_from(error).unwrap()], HOSTILE);
    assert_eq!(data["faults"][0]["what"], HOSTILE);
}

#[test]
fn great_histories_make_a_bounded_page() {
    let flaw = Flaw::StaleReads(50);
    let simulation =
        Simulation { operations: 100_000, crashes: 1, clients: 8, flaw, ..Simulation::default() };
    let history = simulation.run();
    let stored = Stored::read(run_of(&stale("v")).path()).unwrap();
    let page = render(&stored, &history);
    assert!(page.len() < 80 * history.len(), "{} bytes", page.len());

    // Values of any size take no more than their share.
    let mut history = history;
    for (place, operation) in history.iter_mut().enumerate() {
        operation.value = Some((0..40).map(|k| format!("{place}-{k}-long")).collect());
    }
    let page = render(&stored, &history);
    assert!(page.len() < 400 * history.len(), "{} bytes", page.len());
}

#[test]
fn each_operation_of_a_failing_part_is_found_in_the_history() {
    let flaw = Flaw::StaleReads(3);
    let history = Simulation { operations: 400, keys: 2, flaw, ..Simulation::default() }.run();
    let dir = run_of(&history);
    let stored = Stored::read(dir.path()).unwrap();
    let lines = &stored.result.checks[0].failing;
    let (_, _, data) = page_of(dir.path());
    let places = data["failing"].as_array().unwrap();
    assert!(!lines.is_empty());
    assert_eq!(places.len(), lines.len());
    for place in places {
        let operation = &history[usize::try_from(place.as_u64().unwrap()).unwrap()];
        let call = format!(" of process {}, ", operation.process);
        assert!(lines.iter().any(|line| line.contains(&call)), "{operation}");
    }
}

#[test]
fn a_directory_without_a_result_is_refused_by_name() {
    let dir = run_of(&stale("v"));
    fs::remove_file(dir.path().join("result.json")).unwrap();
    let refused = write(dir.path()).unwrap_err().to_string();
    assert!(
        refused.contains("result.json: no such file: this is no directory of a run"),
        "{refused}"
    );
    assert!(!dir.path().join(FILE_NAME).exists());

    fs::write(dir.path().join("result.json"), "{}").unwrap();
    let refused = write(dir.path()).unwrap_err();
    assert!(matches!(refused, LabError::Parameters(_)), "{refused}");
}
