//! The files that a run leaves besides its history.

use std::fs;
use std::io::{Read, Write};
use std::path::Path;
use std::time::Duration;

use proto::Hex;
use serde::Serialize;
use sha2::{Digest, Sha256};

use super::clocks::Skipped;
use super::keyspace::RunKeyspace;
use super::parameters::{Parameters, Stored, System};
use super::{RunOptions, RunResult, write_file};
use crate::error::LabError;
use crate::judgement::{Judgement, Word};
use crate::nemesis::Fault;
use crate::workload::RegisterSummary;

/// How long a server may take to say its version.
const VERSION_MAX: Duration = Duration::from_secs(5);

/// Bytes of a binary that are read at once.
const HASHED_AT_ONCE: usize = 64 * 1024;

/// The variable that plants a bug in a server built with the feature `lab`; other servers do not know it.
const MUTANT_VARIABLE: &str = "KVLAB_MUTANT";

/// `run.toml`.
#[derive(Serialize)]
struct RunFile<'a> {
    #[serde(flatten)]
    parameters: Stored,
    lab_version: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    server_version: Option<String>,
    /// SHA-256 of the server binary, in hex.
    #[serde(skip_serializing_if = "Option::is_none")]
    server_sha256: Option<&'a str>,
    /// When the run began, RFC 3339 in UTC.
    begun: String,
    /// The keyspace that the run made for itself, and whether it stays.
    #[serde(skip_serializing_if = "Option::is_none")]
    own_keyspace: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    own_keyspace_kept: Option<bool>,
    interrupted: bool,
    /// The bug that the environment planted in the servers.
    #[serde(skip_serializing_if = "Option::is_none")]
    planted: Option<String>,
    replay: String,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    skipped: &'a [Skipped],
    fault: &'a [Fault],
}

/// `result.json`.
#[derive(Serialize)]
struct ResultFile<'a> {
    schema: u32,
    run: String,
    seed: String,
    /// The worst one.
    #[serde(flatten)]
    judgement: &'a Judgement,
    /// All of them.
    checks: &'a [Judgement],
    #[serde(flatten)]
    summary: RegisterSummary,
    faults: usize,
    /// Nemeses that were left out, and why.
    skipped: &'a [Skipped],
    error: Option<String>,
    interrupted: bool,
    begun: String,
    /// SHA-256 of the server binary, in hex; nobody knows that of a cluster that was there before.
    server_sha256: Option<&'a str>,
    /// The keyspace in which clients worked on a cluster that was there before.
    keyspace: Option<&'a str>,
    /// Whether the run made it and left it.
    keyspace_kept: bool,
    replay: String,
}

/// Writes `run.toml`, `result.json` and `junit.xml`.
///
/// # Errors
///
/// [`LabError::Io`] if one cannot be written.
pub async fn write(options: &RunOptions, result: &RunResult) -> Result<(), LabError> {
    let parameters = &options.parameters;
    let server_version = match &parameters.system {
        System::Own { binary, .. } => server_version(binary).await,
        System::Given(_) => None,
    };
    let begun = humantime::format_rfc3339_seconds(result.begun).to_string();
    let keyspace = result.keyspace.as_ref();
    let own = keyspace.filter(|keyspace| keyspace.is_own());
    let run = RunFile {
        parameters: Stored::from(parameters),
        lab_version: env!("CARGO_PKG_VERSION"),
        server_version,
        server_sha256: result.server_sha256.as_deref(),
        begun: begun.clone(),
        own_keyspace: own.map(|keyspace| keyspace.name.as_str()),
        own_keyspace_kept: own.map(RunKeyspace::is_left),
        interrupted: result.interrupted,
        planted: planted(),
        replay: replay(parameters),
        skipped: &result.skipped,
        fault: &result.faults,
    };
    let run = toml::to_string(&run)
        .map_err(|error| LabError::Parameters(format!("run.toml: {error}")))?;
    let path = options.dir.join("run.toml");
    fs::write(&path, run).map_err(LabError::io(&path))?;
    let file = ResultFile {
        schema: 2,
        run: parameters.title(),
        seed: parameters.seed.to_string(),
        judgement: result.worst(),
        checks: &result.judgements,
        summary: result.summary,
        faults: result.faults.len(),
        skipped: &result.skipped,
        error: result.failure.as_ref().map(LabError::to_string),
        interrupted: result.interrupted,
        begun,
        server_sha256: result.server_sha256.as_deref(),
        keyspace: keyspace.map(|keyspace| keyspace.name.as_str()),
        keyspace_kept: keyspace.is_some_and(RunKeyspace::is_left),
        replay: replay(parameters),
    };
    write_file(&options.dir.join("result.json"), |out| {
        serde_json::to_writer_pretty(&mut *out, &file)?;
        out.write_all(b"\n")
    })?;
    let path = options.dir.join("junit.xml");
    let suite = junit(&parameters.title(), &result.judgements, parameters.time_limit);
    fs::write(&path, suite).map_err(LabError::io(&path))
}

/// The bug that is planted in servers built with the feature `lab`, as they read it from the same
/// environment.
fn planted() -> Option<String> {
    std::env::var(MUTANT_VARIABLE).ok().filter(|name| !name.is_empty())
}

/// The command that does the same again.
fn replay(parameters: &Parameters) -> String {
    let environment = planted().map(|name| format!("{MUTANT_VARIABLE}={name} "));
    environment.unwrap_or_default() + &parameters.replay_command()
}

/// The SHA-256 of a file, in hex: which binary it was, whatever lies under its path later.
///
/// # Errors
///
/// [`LabError::Io`] if it cannot be read.
pub fn sha256(path: &Path) -> Result<String, LabError> {
    let hash = || {
        let mut file = fs::File::open(path)?;
        let mut hasher = Sha256::new();
        let mut buffer = vec![0; HASHED_AT_ONCE];
        loop {
            match file.read(&mut buffer)? {
                0 => return Ok(Hex(&hasher.finalize()).to_string()),
                read => hasher.update(&buffer[..read]),
            }
        }
    };
    hash().map_err(LabError::io(path))
}

/// What a server says about its version, if it says anything.
pub async fn server_version(binary: &Path) -> Option<String> {
    version(binary, &[]).await
}

/// Whether a server was built with the feature `lab`.
pub async fn has_lab_faults(binary: &Path) -> bool {
    let said = version(binary, &["--json"]).await.unwrap_or_default();
    let said: serde_json::Value = serde_json::from_str(&said).unwrap_or_default();
    let features = said["features"].as_array();
    features.is_some_and(|features| features.iter().any(|feature| feature == "lab"))
}

/// The output of `kvstore version`.
async fn version(binary: &Path, options: &[&str]) -> Option<String> {
    let mut command = tokio::process::Command::new(binary);
    command.arg("version").args(options).kill_on_drop(true).stdin(std::process::Stdio::null());
    let output = tokio::time::timeout(VERSION_MAX, command.output()).await.ok()?.ok()?;
    let text = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    (output.status.success() && !text.is_empty()).then_some(text)
}

/// Refuses nemeses that need more of the server than it has.
///
/// # Errors
///
/// [`LabError::Parameters`] naming the nemesis.
pub async fn check_features(parameters: &Parameters, binary: &Path) -> Result<(), LabError> {
    let needs = parameters.nemeses.iter().find(|kind| kind.needs_lab_server());
    let Some(kind) = needs else { return Ok(()) };
    if has_lab_faults(binary).await {
        return Ok(());
    }
    let why = format!(
        "nemesis {kind} needs a server built with the feature `lab`: \
         cargo build -p kvstore --features lab"
    );
    Err(LabError::Parameters(why))
}

/// The judgements as a suite of tests: invalid is a failure, unknown is an error.
fn junit(title: &str, judgements: &[Judgement], time: Duration) -> String {
    let count = |word| judgements.iter().filter(|judgement| judgement.verdict == word).count();
    let title = escaped(title);
    let mut text = format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<testsuites>\n  <testsuite name=\"kv-lab \
         {title}\" tests=\"{}\" failures=\"{}\" errors=\"{}\" time=\"{:.3}\">\n",
        judgements.len(),
        count(Word::Invalid),
        count(Word::Unknown),
        time.as_secs_f64()
    );
    for judgement in judgements {
        let name = escaped(&judgement.model);
        text.push_str(&format!("    <testcase classname=\"kv-lab.{title}\" name=\"{name}\""));
        let element = match judgement.verdict {
            Word::Valid => {
                text.push_str("/>\n");
                continue;
            }
            Word::Unknown => "error",
            Word::Invalid => "failure",
        };
        let why = escaped(judgement.explanation.as_deref().unwrap_or_default());
        let body = escaped(&judgement.to_string());
        text.push_str(&format!(
            ">\n      <{element} message=\"{why}\">{body}</{element}>\n    </testcase>\n"
        ));
    }
    text.push_str("  </testsuite>\n</testsuites>\n");
    text
}

/// Text as XML has it; what XML cannot have becomes a question mark.
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\n' | '\t' => out.push(letter),
            '\0'..'\u{20}' | '\u{fffe}' | '\u{ffff}' => out.push('?'),
            _ => out.push(letter),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_binary_is_known_by_its_hash() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("kvstore");
        fs::write(&path, "abc").unwrap();
        // FIPS 180-2, appendix B.1.
        let known = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(sha256(&path).unwrap(), known);
        fs::write(&path, vec![0; 2 * HASHED_AT_ONCE + 1]).unwrap();
        assert_ne!(sha256(&path).unwrap(), known);
        assert!(matches!(sha256(dir.path()), Err(LabError::Io { .. })));
    }

    #[test]
    fn a_suite_counts_and_escapes() {
        let unknown = Judgement::unknown("set", &[], "a <b> & \"c\" \u{1}");
        let valid = Judgement { verdict: Word::Valid, explanation: None, ..unknown.clone() };
        let invalid = Judgement { verdict: Word::Invalid, ..unknown.clone() };
        let text = junit("set:kill", &[valid, unknown, invalid], Duration::from_secs(2));
        assert!(text.contains("tests=\"3\" failures=\"1\" errors=\"1\" time=\"2.000\""), "{text}");
        assert!(text.contains("<error message=\"a &lt;b&gt; &amp; &quot;c&quot; ?\">"), "{text}");
        assert_eq!(text.matches("<testcase ").count(), 3);
        assert_eq!(text.matches("</testcase>").count(), 2);
    }
}
