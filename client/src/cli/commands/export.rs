//! `kv export`.

use std::time::Duration;

use bytes::Bytes;
use proto::v1;
use serde::Serialize;

use crate::cli::args::ExportArgs;
use crate::cli::errors::CliError;
use crate::cli::output::{
    JsonKey, JsonValue, bytes_of, dot_text, grouped, json_line, moment, size,
};
use crate::cli::progress::Progress;
use crate::cli::run::Run;
use crate::client::Client;
use crate::config::{CallOptions, DEFAULT_TIMEOUT};
use crate::pages::{Pages, prefix_end};

/// One key and its value, or one of its values: what `kv import` reads.
#[derive(Serialize)]
struct LineJson {
    #[serde(flatten)]
    key: JsonKey,
    #[serde(flatten)]
    value: JsonValue,
    /// Eventual keyspaces: the write of this value.
    #[serde(skip_serializing_if = "Option::is_none")]
    dot: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    expires: Option<String>,
}

pub(super) async fn export(args: ExportArgs, run: &mut Run<'_>) -> Result<(), CliError> {
    run.check_no_ack()?;
    let prefix = args.prefix.as_deref().map(bytes_of).unwrap_or_default();
    let to = prefix_end(&prefix);
    let request = v1::RangeRequest { from: prefix, to, ..Default::default() };
    let client = run.client()?;
    let mut pages = Pages::new(&client, request, None, run.options());
    let mut progress = Progress::new(run, !run.terminal.stdout_is_tty);
    let time = run.timeout_or(DEFAULT_TIMEOUT)?;
    let (mut keys, mut bytes, mut revision) = (0_u64, 0_u64, 0);
    loop {
        let page = match pages.next().await {
            Ok(Some(page)) => page,
            Ok(None) => break,
            Err(error) => {
                progress.clear(run);
                return Err(error.into());
            }
        };
        revision = page.proof.map_or(revision, |proof| proof.revision);
        for item in &page.items {
            let (key, value) = (JsonKey::new(&item.key), JsonValue::new(&item.value));
            json_line(run.out(), &LineJson { key, value, dot: None, expires: None })?;
            keys += 1;
            bytes += (item.key.len() + item.value.len()) as u64;
        }
        for entry in page.entries {
            let (key, siblings) = whole(&client, entry, time).await?;
            for sibling in &siblings {
                let line = LineJson {
                    key: JsonKey::new(&key),
                    value: JsonValue::new(&sibling.value),
                    dot: Some(dot_text(sibling.dot.as_ref())),
                    expires: moment(sibling.expires_ms),
                };
                json_line(run.out(), &line)?;
                bytes += (key.len() + sibling.value.len()) as u64;
            }
            keys += 1;
        }
        // What was read is not lost when a later page fails, or the command is interrupted.
        run.out().flush()?;
        progress.show(run, || format!("{} keys, {}", grouped(keys), size(bytes)));
    }
    progress.clear(run);
    let (keys, bytes) = (grouped(keys), size(bytes));
    let at = match revision {
        0 => ", each as it was when it was read".to_owned(),
        revision => format!(", as of revision {}", grouped(revision)),
    };
    run.note(&format!("exported {keys} keys, {bytes}{at}"));
    Ok(())
}

/// A key with all its values, also those that did not fit into the page.
async fn whole(
    client: &Client,
    entry: v1::Entry,
    timeout: Duration,
) -> Result<(Bytes, Vec<v1::Sibling>), CliError> {
    if entry.more == 0 {
        return Ok((entry.key, entry.siblings));
    }
    let request = v1::GetRequest { key: entry.key.clone(), ..Default::default() };
    let options = CallOptions { timeout: Some(timeout), ..CallOptions::default() };
    Ok((entry.key, client.siblings(request, &options).await?.values))
}
