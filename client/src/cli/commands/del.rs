//! `kv del`.

use std::ffi::OsString;

use bytes::Bytes;
use proto::limits::KEY_BYTES_MAX;
use proto::v1;
use serde::Serialize;

use super::get::{absent, key_of};
use crate::cli::args::DelArgs;
use crate::cli::errors::CliError;
use crate::cli::output::{Form, SCHEMA, bytes_of, escaped, grouped, json_line, shell_quoted};
use crate::cli::run::Run;
use crate::client::Client;
use crate::pages::{Pages, prefix_end};

#[derive(Serialize)]
struct Deleted {
    schema: u32,
    deleted: u64,
    rev: u64,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    dry_run: bool,
}

pub(super) async fn del(args: DelArgs, run: &mut Run<'_>) -> Result<(), CliError> {
    let (key, range_end) = match (&args.key, &args.prefix) {
        (Some(key), _) => (key_of(key)?, Bytes::new()),
        (None, Some(prefix)) => prefix_range(&bytes_of(prefix)),
        (None, None) => return Err(CliError::Usage("name a key, or --prefix".into())),
    };
    if !args.dry_run {
        run.check_no_level()?;
    }
    let client = run.client()?;
    if let Some(prefix) = args.prefix.as_ref().filter(|_| !args.dry_run) {
        let mut keys = "all keys".to_owned();
        if run.would_ask() {
            // Whoever decides sees first how many there are, and where.
            let (found, _) = count(&client, run, &key, &range_end).await?;
            keys = format!("{} keys", grouped(found));
        }
        let (prefix, keyspace) = (escaped(prefix.as_encoded_bytes()), run.global.keyspace.clone());
        run.confirm(&format!(
            "deleting {keys} with the prefix \"{prefix}\" of keyspace \"{keyspace}\""
        ))?;
    }
    let (deleted, revision) = if args.dry_run {
        count(&client, run, &key, &range_end).await?
    } else {
        let request = v1::DeleteRequest { key: key.clone(), range_end, ..Default::default() };
        let (subject, look) = named(&args);
        let options = run.options();
        let sent = client.delete(request, &options);
        let reply = run.change(subject, look, sent).await?;
        (reply.deleted, reply.revision)
    };
    let form = run.form;
    match form {
        Form::Json | Form::JsonLines => {
            let dry_run = args.dry_run;
            json_line(run.out(), &Deleted { schema: SCHEMA, deleted, rev: revision, dry_run })?;
        }
        Form::People => {
            let verb = if args.dry_run { "would delete" } else { "deleted" };
            let keys = if deleted == 1 { "key" } else { "keys" };
            let deleted = grouped(deleted);
            writeln!(run.out(), "{verb} {deleted} {keys}  rev {}", grouped(revision))?;
        }
        Form::Raw => writeln!(run.out(), "{deleted}")?,
    }
    if deleted == 0 && args.key.is_some() && !args.missing_ok {
        return Err(absent("delete", &key, revision));
    }
    Ok(())
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

/// How many keys there are, and the revision at which they were counted.
async fn count(
    client: &Client,
    run: &Run<'_>,
    key: &Bytes,
    range_end: &Bytes,
) -> Result<(u64, u64), CliError> {
    if range_end.is_empty() {
        let request = v1::GetRequest { key: key.clone(), ..Default::default() };
        let reply = client.get(request, &run.options()).await?;
        let revision = reply.proof.unwrap_or_default().revision;
        return Ok((u64::from(reply.item.is_some()), revision));
    }
    let request = v1::RangeRequest {
        from: key.clone(),
        to: range_end.clone(),
        count_only: true,
        ..Default::default()
    };
    let total = run.time_left()?.get();
    Ok(Pages::new(client, request, None, run.options()).within(total).count().await?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_delete_is_named_as_it_was_typed() {
        let of = |key: Option<&str>, prefix: Option<&str>| {
            named(&DelArgs {
                key: key.map(OsString::from),
                prefix: prefix.map(OsString::from),
                dry_run: false,
                missing_ok: false,
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
