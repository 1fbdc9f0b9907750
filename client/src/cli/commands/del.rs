//! `kv del`.

use std::ffi::OsString;
use std::time::{Duration, Instant};

use bytes::Bytes;
use proto::limits::KEY_BYTES_MAX;
use proto::v1::keyspace::Kind;
use proto::{Code, Failure, v1};
use serde::Serialize;
use tokio::task::{JoinError, JoinSet};

use super::get::{absent, key_of};
use super::put::partly;
use super::values::is_eventual;
use crate::cli::args::DelArgs;
use crate::cli::errors::CliError;
use crate::cli::output::{
    Form, JsonWritten, SCHEMA, bytes_of, dot_text, escaped, grouped, json_line, shell_quoted,
};
use crate::cli::run::Run;
use crate::client::Client;
use crate::config::CallOptions;
use crate::error::ClientError;
use crate::pages::{Pages, prefix_end};

/// Deletes at once, where each key is deleted by itself.
const DELETES_MAX: usize = 32;

#[derive(Serialize)]
struct Deleted {
    schema: u32,
    deleted: u64,
    /// Eventual keyspaces have no revisions.
    #[serde(skip_serializing_if = "Option::is_none")]
    rev: Option<u64>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    dry_run: bool,
    #[serde(flatten)]
    written: Option<JsonWritten>,
}

/// What a delete came to, or would come to.
#[derive(Default)]
struct Outcome {
    deleted: u64,
    rev: Option<u64>,
    written: Option<v1::Written>,
    /// An earlier attempt of the same write was executed: what that deleted is not known any more.
    replayed: bool,
}

pub(super) async fn del(args: DelArgs, run: &mut Run<'_>) -> Result<(), CliError> {
    let (key, range_end) = match (&args.key, &args.prefix) {
        (Some(key), _) => (key_of(key)?, Bytes::new()),
        (None, Some(prefix)) => prefix_range(&bytes_of(prefix)),
        (None, None) => return Err(CliError::Usage("name a key, or --prefix".into())),
    };
    if args.prefix.is_some() && args.causal.causal.is_some() {
        return Err(CliError::Usage("a causal token is of one key; --prefix reads each".into()));
    }
    if !args.dry_run {
        run.check_no_level()?;
    }
    let client = run.client()?;
    if let Some(prefix) = args.prefix.as_ref().filter(|_| !args.dry_run) {
        let mut keys = "all keys".to_owned();
        if run.would_ask() {
            // Whoever decides sees first how many there are, and where.
            let found = count(&client, run, &key, &range_end).await?.deleted;
            keys = format!("{} keys", grouped(found));
        }
        let (prefix, keyspace) = (escaped(prefix.as_encoded_bytes()), run.global.keyspace.clone());
        run.confirm(&format!(
            "deleting {keys} with the prefix \"{prefix}\" of keyspace \"{keyspace}\""
        ))?;
    }
    let outcome = match args.dry_run {
        true => count(&client, run, &key, &range_end).await?,
        false => delete(&client, &args, &key, range_end, run).await?,
    };
    print(&outcome, args.dry_run, run)?;
    if outcome.replayed && outcome.rev.is_none() {
        run.note("note: an earlier attempt had deleted it; what that ended is not known");
        return Ok(());
    }
    if outcome.deleted == 0 && args.key.is_some() && !args.missing_ok {
        return Err(match outcome.rev {
            Some(revision) => absent("delete", &key, revision),
            None => unread("delete", &key),
        });
    }
    Ok(())
}

fn print(outcome: &Outcome, dry_run: bool, run: &mut Run<'_>) -> Result<(), CliError> {
    let Outcome { deleted, rev, written, .. } = outcome;
    match run.form {
        Form::Json | Form::JsonLines => {
            let written = written
                .as_ref()
                .map(|written| JsonWritten::new(written.dot.as_ref(), &written.context));
            let (deleted, rev) = (*deleted, *rev);
            let line = Deleted { schema: SCHEMA, deleted, rev, dry_run, written };
            json_line(run.out(), &line)?;
        }
        Form::People => {
            let verb = if dry_run { "would delete" } else { "deleted" };
            let keys = if *deleted == 1 { "key" } else { "keys" };
            let name = match (rev, written) {
                (Some(revision), _) => format!("  rev {}", grouped(*revision)),
                (None, Some(written)) => format!("  dot {}", dot_text(written.dot.as_ref())),
                (None, None) => String::new(),
            };
            writeln!(run.out(), "{verb} {} {keys}{name}", grouped(*deleted))?;
        }
        Form::Raw => writeln!(run.out(), "{deleted}")?,
    }
    Ok(())
}

/// Deletes what `args` names.
async fn delete(
    client: &Client,
    args: &DelArgs,
    key: &Bytes,
    range_end: Bytes,
    run: &mut Run<'_>,
) -> Result<Outcome, CliError> {
    let time = run.time_left()?;
    let options = |run: &Run<'_>| CallOptions {
        timeout: Some(time.get()),
        retry: args.causal.retry.at.into(),
        ..run.options()
    };
    let (subject, look) = named(args);
    let is_range = !range_end.is_empty();
    if is_range && client.kind(&options(run)).await == Some(Kind::Eventual) {
        let deleting = delete_each(client, key, &range_end, options(run));
        let (deleted, failure) = run.change(subject, look, deleting).await;
        return ended(deleted, failure, run);
    }
    let causal = args.causal.causal.clone().unwrap_or_default();
    let request = v1::DeleteRequest { key: key.clone(), range_end, causal, ..Default::default() };
    let options = options(run);
    let sent = run.change(subject, look, client.delete(request, &options)).await;
    let reply = sent.map_err(|error| partly(error, run))?;
    let rev = reply.written.is_none().then_some(reply.revision);
    let replayed = reply.proof.is_some_and(|proof| proof.replayed);
    Ok(Outcome { deleted: reply.deleted, rev, written: reply.written, replayed })
}

/// How a delete of several keys ended, one after the other.
fn ended(
    deleted: u64,
    failure: Option<ClientError>,
    run: &mut Run<'_>,
) -> Result<Outcome, CliError> {
    let outcome = Outcome { deleted, ..Outcome::default() };
    match failure {
        None => Ok(outcome),
        Some(failure) if deleted == 0 => Err(failure.into()),
        Some(failure) => {
            print(&outcome, false, run)?;
            Err(CliError::Partial(Box::new(failure.into())))
        }
    }
}

/// Deletes each key of a range of an eventual keyspace, as it is read: there is no one write for several
/// keys, and only a listing with values has the contexts. Returns how many were deleted, and the first failure, which ends it.
async fn delete_each(
    client: &Client,
    from: &Bytes,
    to: &Bytes,
    options: CallOptions,
) -> (u64, Option<ClientError>) {
    let request = v1::RangeRequest { from: from.clone(), to: to.clone(), ..Default::default() };
    let total = options.timeout.unwrap_or(client.timeout(&options));
    let deadline = Instant::now() + total;
    let mut pages = Pages::new(client, request, None, options.clone()).within(total);
    let (mut deleted, mut failure, mut open) = (0, None, JoinSet::new());
    while failure.is_none() {
        let entries = match pages.next().await {
            Ok(Some(page)) => page.entries,
            Ok(None) => break,
            Err(error) => {
                failure = Some(error);
                break;
            }
        };
        for entry in entries {
            while open.len() >= DELETES_MAX {
                note(open.join_next().await, &mut deleted, &mut failure);
            }
            if failure.is_some() {
                break;
            }
            let left = deadline.saturating_duration_since(Instant::now());
            let timeout = Some(left.max(Duration::from_millis(1)));
            let (client, options) = (client.clone(), CallOptions { timeout, ..options.clone() });
            open.spawn(async move { delete_entry(&client, entry, &options).await });
        }
    }
    while let Some(done) = open.join_next().await {
        note(Some(done), &mut deleted, &mut failure);
    }
    (deleted, failure)
}

/// Notes how the delete of one key ended.
fn note(
    done: Option<Result<Result<u64, ClientError>, JoinError>>,
    deleted: &mut u64,
    failure: &mut Option<ClientError>,
) {
    match done.expect("one is open").expect("a delete neither panics nor is aborted") {
        Ok(keys) => *deleted += keys,
        Err(error) => {
            // It is deleted, on fewer replicas than asked for.
            *deleted += u64::from(error.failure().partial.is_some());
            failure.get_or_insert(error);
        }
    }
}

async fn delete_entry(
    client: &Client,
    entry: v1::Entry,
    options: &CallOptions,
) -> Result<u64, ClientError> {
    // Without a context, what the node holds is deleted.
    let v1::Entry { key, context: causal, .. } = entry;
    let request = v1::DeleteRequest { key, causal, ..Default::default() };
    client.delete(request, options).await.map(|reply| reply.deleted)
}

/// The error for a key of an eventual keyspace that was not there.
fn unread(what: &str, key: &[u8]) -> CliError {
    let subject = format!("{what} of \"{}\"", escaped(key));
    let why = "no value of it lived at the node that took it";
    CliError::from(Failure::new(Code::KeyNotFound, subject, why)).hint("kv ls")
}

/// What is deleted, and the command that shows whether it is still there.
fn named(args: &DelArgs) -> (String, String) {
    let named = args.key.as_ref().or(args.prefix.as_ref()).map(OsString::as_os_str);
    let named = named.unwrap_or_default();
    let (name, typed) = (escaped(named.as_encoded_bytes()), shell_quoted(named));
    match args.key {
        Some(_) => (format!("delete of \"{name}\""), format!("kv get {typed}")),
        None => {
            let subject = format!("delete of all keys with the prefix \"{name}\"");
            (subject, format!("kv ls {typed} --count"))
        }
    }
}

/// The keys with this prefix as `[key, range_end)`, in the form of a delete: the start is a key, and
/// an empty end would mean the start alone. Where no key bounds the prefix from above, the greatest key
/// there is does; only that one key of 4 KiB of 0xff is left out.
pub(super) fn prefix_range(prefix: &Bytes) -> (Bytes, Bytes) {
    let key = if prefix.is_empty() { Bytes::from_static(&[0]) } else { prefix.clone() };
    let end = prefix_end(prefix);
    let end = if end.is_empty() { Bytes::from(vec![u8::MAX; KEY_BYTES_MAX]) } else { end };
    (key, end)
}

/// How many keys there are, and the revision at which they were counted, if there are revisions.
async fn count(
    client: &Client,
    run: &Run<'_>,
    key: &Bytes,
    range_end: &Bytes,
) -> Result<Outcome, CliError> {
    if range_end.is_empty() {
        let request = v1::GetRequest { key: key.clone(), ..Default::default() };
        let reply = client.get(request, &run.options()).await?;
        let deleted = u64::from(reply.item.is_some() || !reply.siblings.is_empty());
        let revision = reply.proof.as_ref().map_or(0, |proof| proof.revision);
        let rev = (!is_eventual(&reply)).then_some(revision);
        return Ok(Outcome { deleted, rev, ..Outcome::default() });
    }
    let request = v1::RangeRequest {
        from: key.clone(),
        to: range_end.clone(),
        count_only: true,
        ..Default::default()
    };
    let total = run.time_left()?.get();
    let pages = Pages::new(client, request, None, run.options()).within(total);
    let (deleted, revision) = pages.count().await?;
    // The first revision of a keyspace that has some is 1.
    Ok(Outcome { deleted, rev: (revision > 0).then_some(revision), ..Outcome::default() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::args::CausalArgs;

    #[test]
    fn a_delete_is_named_as_it_was_typed() {
        let of = |key: Option<&str>, prefix: Option<&str>| {
            named(&DelArgs {
                key: key.map(OsString::from),
                prefix: prefix.map(OsString::from),
                dry_run: false,
                missing_ok: false,
                causal: CausalArgs::default(),
            })
        };
        let (subject, look) = of(Some("a b"), None);
        assert_eq!((&*subject, &*look), ("delete of \"a b\"", "kv get 'a b'"));
        let (subject, look) = of(None, Some(""));
        assert_eq!(subject, "delete of all keys with the prefix \"\"");
        assert_eq!(look, "kv ls '' --count");
    }

    #[test]
    fn a_prefix_becomes_a_range_that_is_not_a_single_key() {
        for (prefix, start, end) in [
            (&b"a"[..], &b"a"[..], &b"b"[..]),
            (b"", b"\0", &[u8::MAX; KEY_BYTES_MAX]),
            (b"\xff", b"\xff", &[u8::MAX; KEY_BYTES_MAX]),
        ] {
            let (key, range_end) = prefix_range(&Bytes::from_static(prefix));
            assert_eq!((&key[..], &range_end[..]), (start, end));
            assert!(proto::limits::check_key(&key).is_ok());
            assert!(proto::limits::check_range(&key, &range_end).is_ok());
        }
    }
}
