//! `kv snapshot save`.

use std::path::Path;
use std::time::Duration;

use proto::Hex;
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
}

pub(super) async fn snapshot(command: SnapshotCommand, run: &mut Run<'_>) -> Result<(), CliError> {
    let SnapshotCommand::Save { file: path, force } = command;
    let options = CallOptions { timeout: Some(run.timeout_or(SILENCE)?), ..CallOptions::default() };
    let client = run.client()?;
    let file = PartFile::create(&path, force)?;
    let mut progress = Progress::new(run, true);
    let saved = save(&client, &options, file, &mut progress, run).await;
    progress.clear(run);
    let (bytes, sha256) = saved?;
    print(&path, bytes, sha256, run)
}

/// Streams the snapshot into the file. Returns its length and its SHA-256.
async fn save(
    client: &Client,
    options: &CallOptions,
    mut file: PartFile,
    progress: &mut Progress,
    run: &mut Run<'_>,
) -> Result<(u64, String), CliError> {
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
    Ok((parts.total(), Hex(&hash.finalize()).to_string()))
}

fn print(path: &Path, bytes: u64, sha256: String, run: &mut Run<'_>) -> Result<(), CliError> {
    let file = path.display().to_string();
    match run.form {
        Form::Json | Form::JsonLines => {
            json_line(run.out(), &SavedJson { schema: SCHEMA, file, bytes, sha256 })?;
        }
        Form::People => {
            writeln!(run.out(), "saved {file}  {}  sha256 {sha256}", size(bytes))?;
        }
        Form::Raw => writeln!(run.out(), "{bytes}\t{sha256}")?,
    }
    Ok(())
}
