//! What the files of a run say, besides its history.

use std::fs;
use std::io;
use std::path::Path;

use serde::Deserialize;

use crate::error::LabError;
use crate::judgement::Judgement;

/// A run as its files have it.
#[derive(Debug)]
pub struct Stored {
    /// `result.json`.
    pub result: ResultFile,
    /// `run.toml`.
    pub run: RunFile,
}

/// `result.json`, as far as the report shows it.
#[derive(Debug, Deserialize)]
pub struct ResultFile {
    /// Workload and nemeses.
    pub run: String,
    /// Seed of the run.
    pub seed: String,
    /// The verdicts of all models.
    pub checks: Vec<Judgement>,
    /// Nemeses that were left out.
    #[serde(default)]
    pub skipped: Vec<Skipped>,
    /// Why the run could not be finished.
    pub error: Option<String>,
    /// Whether it was stopped before its time.
    pub interrupted: bool,
    /// The command that does the same again.
    pub replay: String,
}

/// A nemesis that was left out.
#[derive(Debug, Deserialize)]
pub struct Skipped {
    /// Which one.
    pub nemesis: String,
    /// Why, as a sentence.
    pub why: String,
}

/// `run.toml`, as far as the report shows it.
#[derive(Debug, Deserialize)]
pub struct RunFile {
    /// Version of the lab.
    pub lab_version: String,
    /// Version of the server, if it said one.
    pub server_version: Option<String>,
    /// SHA-256 of the server binary; runs of older labs do not say it.
    pub server_sha256: Option<String>,
    /// When the run began; runs of older labs do not say it.
    pub begun: Option<String>,
    /// What was done to the cluster.
    #[serde(default)]
    pub fault: Vec<Window>,
}

/// A fault, from when to when.
#[derive(Debug, Deserialize)]
pub struct Window {
    /// Who did it.
    pub nemesis: String,
    /// What was done.
    pub what: String,
    /// To which nodes.
    pub nodes: Vec<String>,
    /// Where.
    pub place: String,
    /// When it began, on the history's clock.
    pub begin_ns: u64,
    /// When it was over; `None` if the run ended first.
    pub end_ns: Option<u64>,
    /// How often it had an effect, where that is known.
    pub effects: Option<u64>,
}

impl Stored {
    /// Reads the files of the run in `dir`.
    ///
    /// # Errors
    ///
    /// [`LabError::Io`] if one cannot be read, with a word about the run if it has no result;
    /// [`LabError::Parameters`] if one is not what a run writes.
    pub fn read(dir: &Path) -> Result<Self, LabError> {
        let path = dir.join("result.json");
        let bytes = fs::read(&path).map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => {
                let why = "no such file: this is no directory of a run that has ended";
                LabError::io(&path)(io::Error::new(io::ErrorKind::NotFound, why))
            }
            _ => LabError::io(&path)(error),
        })?;
        let result: ResultFile = serde_json::from_slice(&bytes)
            .map_err(|error| LabError::Parameters(format!("{}: {error}", path.display())))?;
        if result.checks.is_empty() {
            return Err(LabError::Parameters(format!("{}: no verdict", path.display())));
        }
        let path = dir.join("run.toml");
        let text = fs::read_to_string(&path).map_err(LabError::io(&path))?;
        let run = toml::from_str(&text)
            .map_err(|error| LabError::Parameters(format!("{}: {error}", path.display())))?;
        Ok(Self { result, run })
    }
}
