//! Bugs in real servers, found by the lab.

use std::collections::BTreeSet;
use std::error::Error;
use std::path::Path;
use std::process::{Command, Stdio};

use super::table::{Finding, Row, Table};

/// The variable that plants a bug in a server built with the feature `lab`.
const VARIABLE: &str = "KVLAB_MUTANT";

/// Tries with a bug before it counts as not found, each with the next seed: no run of real processes is
/// like another.
const TRIES: u64 = 3;

/// Exit code of the lab when a promise was broken.
const INVALID: i32 = 9;

/// How to find a bug.
struct Planted {
    bug: &'static str,
    catalogue: &'static str,
    about: &'static str,
    run: Run,
}

/// A run of the lab, without its seed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Run {
    scenario: &'static str,
    nodes: u32,
    seconds: u32,
}

const fn run(scenario: &'static str, nodes: u32, seconds: u32) -> Run {
    Run { scenario, nodes, seconds }
}

/// The bugs that the server can plant, each with the run that finds it.
const PLANTED: [Planted; 12] = [
    Planted {
        bug: "ack-before-sync",
        catalogue: "B03, B27",
        about: "a sync of the log is reported half a second before it is done",
        run: run("set:kill", 1, 20),
    },
    Planted {
        bug: "sync-error-ignored",
        catalogue: "B50",
        about: "a sync of the log that failed is reported as done",
        run: run("set:disk", 1, 40),
    },
    Planted {
        bug: "acks-unwritten",
        catalogue: "B28, B42",
        about: "a follower acknowledges entries that it does not have",
        run: run("set:kill", 3, 20),
    },
    Planted {
        bug: "read-index-too-low",
        catalogue: "B13",
        about: "the leader confirms reads at an index that is too low",
        // Seen where a follower lacks the last entries when the answer comes, as those got lost.
        run: run("register:messages", 3, 30),
    },
    Planted {
        bug: "local-reads",
        catalogue: "B18",
        about: "linearizable reads are answered from the local state",
        run: run("register", 3, 10),
    },
    Planted {
        bug: "unconfirmed-leader",
        catalogue: "B13, B46",
        about: "a deposed leader answers linearizable reads (stale read)",
        run: run("register:pause", 3, 30),
    },
    Planted {
        bug: "double-apply",
        catalogue: "B22, B65",
        about: "a repeated write is executed again",
        run: run("register:reset", 3, 20),
    },
    Planted {
        bug: "compares-skipped",
        catalogue: "B64",
        about: "conditions of transactions are not looked at (lost updates)",
        run: run("bank", 3, 10),
    },
    Planted {
        bug: "half-transaction",
        catalogue: "B01",
        about: "a transaction is executed in part",
        run: run("bank", 3, 10),
    },
    Planted {
        bug: "wrong-revision",
        catalogue: "B08",
        about: "a write names a revision before its own",
        run: run("register", 3, 10),
    },
    Planted {
        bug: "range-gap",
        catalogue: "B09",
        about: "a key is missing from a range",
        run: run("set", 3, 10),
    },
    Planted {
        bug: "revision-above-content",
        catalogue: "B05",
        about: "a weak read claims a newer revision than it shows",
        run: run("session:delay", 3, 20),
    },
];

/// Searches for every bug that is wanted, then does the runs that found one without it.
pub fn search(
    server: &Path,
    lab: &Path,
    wanted: impl Fn(&str) -> bool,
    table: &mut Table,
) -> Result<(), Box<dyn Error>> {
    check_server(server)?;
    let mut used = BTreeSet::new();
    for planted in PLANTED.iter().filter(|planted| wanted(planted.bug)) {
        let Planted { bug, catalogue, about, run } = *planted;
        let mut operations = 0;
        let mut found = Err(String::new());
        for seed in 1..=TRIES {
            let ended = do_run(server, lab, Some(bug), run, seed)?;
            operations += ended.operations;
            eprintln!("{bug}: {} seed {seed}: {ended:?}", run.scenario);
            if ended.exit == INVALID {
                used.insert((run, seed));
                let by = format!("`kv-lab run {}`", arguments(run, seed));
                let check = format!("model `{}`", ended.model);
                found = Ok(Finding { by, operations, check });
                break;
            }
            found = Err(format!("{TRIES} tries, the last one ended with {}", ended.exit));
        }
        table.processes.push(Row { bug: bug.to_owned(), catalogue, about, found });
    }
    for (run, seed) in used {
        let ended = do_run(server, lab, None, run, seed)?;
        eprintln!("no bug: {} seed {seed}: {ended:?}", run.scenario);
        table.controls += 1;
        if ended.exit != 0 {
            table.false_alarms.push(format!("kv-lab run {}: {ended:?}", arguments(run, seed)));
        }
    }
    Ok(())
}

/// The server can plant these bugs and no others.
fn check_server(server: &Path) -> Result<(), Box<dyn Error>> {
    let version = Command::new(server).args(["version", "--json"]).output();
    let version = version.map_err(|error| format!("{}: {error}", server.display()))?;
    let said: serde_json::Value = serde_json::from_slice(&version.stdout)?;
    let can: Vec<&str> = said["mutants"]
        .as_array()
        .map_or(Vec::new(), |names| names.iter().filter_map(serde_json::Value::as_str).collect());
    let known: Vec<&str> = PLANTED.iter().map(|planted| planted.bug).collect();
    if can == known {
        return Ok(());
    }
    Err(format!("{} can plant {can:?}, and {known:?} are searched for", server.display()).into())
}

/// How a run ended.
#[derive(Debug)]
struct Ended {
    exit: i32,
    /// The model of the worst verdict.
    model: String,
    operations: u64,
}

fn arguments(run: Run, seed: u64) -> String {
    let Run { scenario, nodes, seconds } = run;
    format!("{scenario} --nodes {nodes} --time {seconds}s --seed {seed}")
}

fn do_run(
    server: &Path,
    lab: &Path,
    bug: Option<&str>,
    run: Run,
    seed: u64,
) -> Result<Ended, Box<dyn Error>> {
    let temporary = tempfile::Builder::new().prefix("mutants-").tempdir()?;
    let dir = temporary.path().join("run");
    let arguments = arguments(run, seed);
    let mut command = Command::new(lab);
    command.arg("run").args(arguments.split(' ')).arg("--binary").arg(server);
    command.arg("--dir").arg(&dir).env_remove(VARIABLE);
    if let Some(bug) = bug {
        command.env(VARIABLE, bug);
    }
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let status = command.status().map_err(|error| format!("{}: {error}", lab.display()))?;
    let result = std::fs::read(dir.join("result.json"))
        .map_err(|error| format!("kv-lab run {arguments} ended with {status}: {error}"))?;
    let result: serde_json::Value = serde_json::from_slice(&result)?;
    let count = |name: &str| result[name].as_u64().unwrap_or_default();
    Ok(Ended {
        exit: status.code().unwrap_or(-1),
        model: result["model"].as_str().unwrap_or_default().to_owned(),
        operations: count("ok") + count("fail") + count("info"),
    })
}
