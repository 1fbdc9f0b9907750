//! `kv-lab ls`.

use std::io::{self, Write};
use std::path::{Path, PathBuf};

use clap::Args;
use serde_json::{Value, json};

use super::Output;
use super::run::RUNS_DIR;
use crate::checker::MODELS;
use crate::error::LabError;
use crate::nemesis::NemesisKind;
use crate::run::Parameters;
use crate::workload::{ReadLevel, WorkloadKind};

/// The arguments of `kv-lab ls`.
#[derive(Debug, Args)]
pub struct LsArgs {
    /// Where the past runs are.
    #[arg(value_name = "DIR", default_value = RUNS_DIR)]
    dir: PathBuf,
}

/// The directories of runs below `dir`, sorted; none if there is no such directory.
pub fn runs(dir: &Path) -> Result<Vec<PathBuf>, LabError> {
    if !dir.is_dir() {
        return Ok(Vec::new());
    }
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir).map_err(LabError::io(dir))? {
        let path = entry.map_err(LabError::io(dir))?.path();
        if path.join("run.toml").is_file() {
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
}

/// Lists what there is to run, and what was run.
pub fn ls(args: &LsArgs, output: Output) -> Result<u8, LabError> {
    let runs = runs(&args.dir)?;
    let text = match output {
        Output::Text => text(&runs),
        Output::Json => object(&runs).to_string() + "\n",
    };
    // Whoever closed the pipe does not want to know.
    let _ = io::stdout().write_all(text.as_bytes());
    Ok(0)
}

/// The verdict of a run: what its result says, or that there is none.
fn verdict(dir: &Path) -> String {
    let read = || -> Option<String> {
        let bytes = std::fs::read(dir.join("result.json")).ok()?;
        let result: Value = serde_json::from_slice(&bytes).ok()?;
        Some(result["verdict"].as_str()?.to_owned())
    };
    read().unwrap_or_else(|| "no result".to_owned())
}

fn text(runs: &[PathBuf]) -> String {
    let mut lines = vec!["workloads".to_owned()];
    for kind in WorkloadKind::ALL {
        let models = kind.models(ReadLevel::Linearizable).join(" ");
        lines.push(format!("  {:12} {} [{models}]", kind.as_str(), kind.about()));
    }
    lines.push("nemeses".to_owned());
    for kind in NemesisKind::ALL {
        lines.push(format!("  {:12} {}", kind.as_str(), kind.about()));
    }
    lines.push("models".to_owned());
    lines.push(format!("  {}", MODELS.join(" ")));
    if !runs.is_empty() {
        lines.push("runs".to_owned());
    }
    for dir in runs {
        let shown = match Parameters::load(dir) {
            Ok(parameters) => format!("{}, seed {}", parameters.title(), parameters.seed),
            Err(error) => error.to_string(),
        };
        lines.push(format!("  {} {}: {shown}", dir.display(), verdict(dir)));
    }
    lines.join("\n") + "\n"
}

fn object(runs: &[PathBuf]) -> Value {
    let workload = |kind: WorkloadKind| {
        let models = kind.models(ReadLevel::Linearizable);
        json!({ "name": kind.as_str(), "about": kind.about(), "models": models })
    };
    let nemesis = |kind: NemesisKind| json!({ "name": kind.as_str(), "about": kind.about() });
    let run = |dir: &PathBuf| {
        let parameters = Parameters::load(dir).ok();
        json!({
            "dir": dir,
            "verdict": verdict(dir),
            "run": parameters.as_ref().map(Parameters::title),
            "seed": parameters.map(|parameters| parameters.seed.to_string()),
        })
    };
    json!({
        "schema": 1,
        "workloads": WorkloadKind::ALL.map(workload),
        "nemeses": NemesisKind::ALL.map(nemesis),
        "models": MODELS,
        "runs": runs.iter().map(run).collect::<Vec<_>>(),
    })
}
