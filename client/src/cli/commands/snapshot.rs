//! `kv snapshot save`.

use std::path::Path;
use std::time::Duration;

use proto::{Hex, v1};
use serde::Serialize;
use sha2::{Digest, Sha256};

use crate::cli::args::SnapshotCommand;
use crate::cli::errors::CliError;
use crate::cli::output::{Form, SCHEMA, json_line, size};
use crate::cli::part_file::PartFile;
use crate::cli::progress::Progress;
use crate::cli::run::Run;
use crate::client::Client;
use crate::config::CallOptions;

/// How long a node may be silent: it may have to write the export first.
const SILENCE: Duration = Duration::from_secs(5 * 60);

#[derive(Serialize)]
struct SavedJson {
    schema: u32,
    file: String,
    bytes: u64,
    sha256: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    eventual: Option<CoverJson>,
}

/// Whose writes to eventual keyspaces are in the file.
#[derive(Serialize)]
struct CoverJson {
    covered: Vec<String>,
    missing: Vec<String>,
}

/// What was saved.
struct Saved {
    bytes: u64,
    sha256: String,
    cover: Option<v1::SnapshotCover>,
}

pub(super) async fn snapshot(command: SnapshotCommand, run: &mut Run<'_>) -> Result<(), CliError> {
    let SnapshotCommand::Save { file: path, force } = command;
    let options = CallOptions { timeout: Some(run.timeout_or(SILENCE)?), ..CallOptions::default() };
    let client = run.client()?;
    let file = PartFile::create(&path, force)?;
    let mut progress = Progress::new(run, true);
    let saved = save(&client, &options, file, &mut progress, run).await;
    progress.clear(run);
    print(&path, saved?, run)
}

/// Streams the snapshot into the file.
async fn save(
    client: &Client,
    options: &CallOptions,
    mut file: PartFile,
    progress: &mut Progress,
    run: &mut Run<'_>,
) -> Result<Saved, CliError> {
    let mut parts = client.snapshot(options).await?;
    let mut hash = Sha256::new();
    while let Some(part) = parts.next().await? {
        hash.update(&part);
        // Nothing else runs here, so that a slow disk holds up nobody.
        file.write(&part)?;
        let (received, total) = (parts.received(), parts.total());
        progress.show(run, || format!("{} of {}", size(received), size(total)));
    }
    file.finish()?;
    let (bytes, sha256) = (parts.total(), Hex(&hash.finalize()).to_string());
    Ok(Saved { bytes, sha256, cover: parts.cover().cloned() })
}

fn print(path: &Path, saved: Saved, run: &mut Run<'_>) -> Result<(), CliError> {
    let Saved { bytes, sha256, cover } = saved;
    let file = path.display().to_string();
    if let Some(cover) = cover.as_ref().filter(|cover| !cover.missing.is_empty()) {
        let missing = cover.missing.join(", ");
        run.note(&format!(
            "could not ask {missing}: what only they have of eventual keyspaces is not in {file}"
        ));
    }
    match run.form {
        Form::Json | Form::JsonLines => {
            let eventual =
                cover.map(|v1::SnapshotCover { covered, missing }| CoverJson { covered, missing });
            json_line(run.out(), &SavedJson { schema: SCHEMA, file, bytes, sha256, eventual })?;
        }
        Form::People => {
            writeln!(run.out(), "saved {file}  {}  sha256 {sha256}", size(bytes))?;
        }
        Form::Raw => writeln!(run.out(), "{bytes}\t{sha256}")?,
    }
    Ok(())
}
