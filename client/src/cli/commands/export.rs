//! `kv export`.

use proto::v1;
use serde::Serialize;

use crate::cli::args::ExportArgs;
use crate::cli::errors::CliError;
use crate::cli::output::{JsonKey, JsonValue, bytes_of, grouped, json_line, size};
use crate::cli::progress::Progress;
use crate::cli::run::Run;
use crate::pages::{Pages, prefix_end};

/// One key and its value: what `kv import` reads.
#[derive(Serialize)]
struct LineJson {
    #[serde(flatten)]
    key: JsonKey,
    #[serde(flatten)]
    value: JsonValue,
}

pub(super) async fn export(args: ExportArgs, run: &mut Run<'_>) -> Result<(), CliError> {
    let prefix = args.prefix.as_deref().map(bytes_of).unwrap_or_default();
    let to = prefix_end(&prefix);
    let request = v1::RangeRequest { from: prefix, to, ..Default::default() };
    let client = run.client()?;
    let mut pages = Pages::new(&client, request, None, run.options());
    let mut progress = Progress::new(run, !run.terminal.stdout_is_tty);
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
            let line =
                LineJson { key: JsonKey::new(&item.key), value: JsonValue::new(&item.value) };
            json_line(run.out(), &line)?;
            keys += 1;
            bytes += (item.key.len() + item.value.len()) as u64;
        }
        // What was read is not lost when a later page fails, or the command is interrupted.
        run.out().flush()?;
        progress.show(run, || format!("{} keys, {}", grouped(keys), size(bytes)));
    }
    progress.clear(run);
    let (keys, bytes) = (grouped(keys), size(bytes));
    run.note(&format!("exported {keys} keys, {bytes}, as of revision {}", grouped(revision)));
    Ok(())
}
