//! What is left of a run of the matrix: a small file.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::Case;
use crate::error::LabError;
use crate::judgement::Word;
use crate::nemesis::NemesisKind;
use crate::run::{Parameters, RunResult};
use crate::workload::RegisterSummary;

/// A run that judged fewer successful operations than this has shown nothing.
pub const OPERATIONS_MIN: usize = 50;

/// Version of the file's layout.
const SCHEMA: u32 = 1;

/// What was asked for. Runs of one matrix have it in common.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Settings {
    /// Seed of the matrix, as text since it may be greater than other readers' numbers.
    pub matrix_seed: String,
    /// How long clients work.
    pub time_limit_ms: u64,
    /// Number of nodes.
    pub nodes: usize,
    /// Clients that work at the same time.
    pub clients: usize,
    /// Keys, or what the workload has instead.
    pub keys: usize,
}

/// What a nemesis did in a run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Did {
    /// How often it struck.
    pub faults: u64,
    /// How often that had an effect, as far as anyone can tell.
    pub effects: u64,
}

/// One judged run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    schema: u32,
    /// Its case in one word, such as `bank:kill+partition`.
    run: String,
    /// What was asked for.
    #[serde(flatten)]
    pub settings: Settings,
    /// How often the case was run before, and once more.
    pub attempt: u32,
    /// Seed of the run.
    pub seed: String,
    /// What the server says of its version.
    pub server: Option<String>,
    /// The worst verdict of all models.
    pub verdict: Word,
    /// The model that gave it.
    pub model: String,
    /// Why it is not valid.
    pub explanation: Option<String>,
    /// Whether it could not be finished, such as when a node did not come back.
    #[serde(default)]
    pub failed: bool,
    /// Counts of outcomes.
    #[serde(flatten)]
    pub summary: RegisterSummary,
    /// What the nemeses did, by name.
    pub did: BTreeMap<String, Did>,
    /// Where everything about it is, if it was kept.
    pub dir: Option<PathBuf>,
    /// The command that repeats it.
    pub replay: String,
}

impl Record {
    /// The record of a run that has ended.
    #[must_use]
    pub fn of(
        case: &Case,
        settings: &Settings,
        attempt: u32,
        parameters: &Parameters,
        result: &Result<RunResult, LabError>,
    ) -> Self {
        let mut record = Self {
            schema: SCHEMA,
            run: case.to_string(),
            settings: settings.clone(),
            attempt,
            seed: parameters.seed.to_string(),
            server: None,
            verdict: Word::Unknown,
            model: "run".to_owned(),
            explanation: None,
            failed: result.as_ref().map_or(true, |result| result.failure.is_some()),
            summary: RegisterSummary::default(),
            did: BTreeMap::new(),
            dir: None,
            replay: parameters.replay_command(),
        };
        match result {
            Ok(result) => {
                let worst = result.worst();
                record.verdict = worst.verdict;
                record.model.clone_from(&worst.model);
                record.explanation.clone_from(&worst.explanation);
                record.summary = result.summary;
                for fault in &result.faults {
                    let did = record.did.entry(fault.nemesis.to_string()).or_default();
                    did.faults += 1;
                    did.effects += fault.effects.unwrap_or_default();
                }
            }
            Err(error) => record.explanation = Some(error.to_string()),
        }
        record
    }

    /// Its case.
    ///
    /// # Errors
    ///
    /// [`LabError::Parameters`] if it names what this lab does not have.
    pub fn case(&self) -> Result<Case, LabError> {
        self.run.parse().map_err(LabError::Parameters)
    }

    /// What a nemesis did.
    #[must_use]
    pub fn did(&self, kind: NemesisKind) -> Did {
        self.did.get(kind.as_str()).copied().unwrap_or_default()
    }

    /// Whether enough operations succeeded for the verdict to mean something.
    #[must_use]
    pub const fn has_worked(&self) -> bool {
        self.summary.ok >= OPERATIONS_MIN
    }

    /// Whether nobody knows only because clients got too little done: a busy machine, or more faults
    /// than a majority can bear. That is no finding, but shows nothing either.
    #[must_use]
    pub fn is_starved(&self) -> bool {
        self.verdict == Word::Unknown && !self.failed && !self.has_worked()
    }

    /// Whether it tells something about its workload under this nemesis.
    #[must_use]
    pub fn covers(&self, kind: NemesisKind) -> bool {
        self.has_worked() && (kind == NemesisKind::None || self.did(kind).effects > 0)
    }

    /// Whether it is valid, and covers all that its case is about.
    ///
    /// # Errors
    ///
    /// Those of [`case`](Self::case).
    pub fn is_sound(&self) -> Result<bool, LabError> {
        let covered = self.case()?.columns().into_iter().all(|kind| self.covers(kind));
        Ok(self.verdict == Word::Valid && covered)
    }
}

/// The records in a directory, by case.
#[derive(Clone, Debug, Default)]
pub struct Records {
    all: BTreeMap<Case, Record>,
}

impl Records {
    /// Reads the records in `dir`; none if there is no such directory.
    ///
    /// # Errors
    ///
    /// [`LabError::Io`], and [`LabError::Parameters`] if a file is not a record.
    pub fn load(dir: &Path) -> Result<Self, LabError> {
        let mut records = Self::default();
        if !dir.is_dir() {
            return Ok(records);
        }
        for entry in fs::read_dir(dir).map_err(LabError::io(dir))? {
            let path = entry.map_err(LabError::io(dir))?.path();
            if path.extension().is_none_or(|extension| extension != "json") {
                continue;
            }
            let refused = |why: String| LabError::Parameters(format!("{}: {why}", path.display()));
            let bytes = fs::read(&path).map_err(LabError::io(&path))?;
            let record: Record =
                serde_json::from_slice(&bytes).map_err(|error| refused(error.to_string()))?;
            if record.schema != SCHEMA {
                return Err(refused(format!("its layout is of version {}", record.schema)));
            }
            let case = record.case().map_err(|error| refused(error.to_string()))?;
            records.all.insert(case, record);
        }
        Ok(records)
    }

    /// Keeps a record, in `dir` as well, in the place of the one of the same case.
    ///
    /// # Errors
    ///
    /// [`LabError::Io`] if it cannot be written; a record that was there before is whole then.
    pub fn put(&mut self, dir: &Path, case: &Case, record: Record) -> Result<(), LabError> {
        let path = dir.join(case.file_name() + ".json");
        let new = path.with_extension("new");
        let mut text = serde_json::to_string_pretty(&record)
            .expect("text, numbers and maps by text can be written as JSON");
        text.push('\n');
        fs::write(&new, text).map_err(LabError::io(&new))?;
        fs::rename(&new, &path).map_err(LabError::io(&path))?;
        self.all.insert(case.clone(), record);
        Ok(())
    }

    /// The record of a case.
    #[must_use]
    pub fn get(&self, case: &Case) -> Option<&Record> {
        self.all.get(case)
    }

    /// All of them, in the order of their cases.
    pub fn iter(&self) -> impl Iterator<Item = (&Case, &Record)> {
        self.all.iter()
    }
}
