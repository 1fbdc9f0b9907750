//! `kv get`.

use std::ffi::OsStr;
use std::time::Instant;

use bytes::Bytes;
use proto::{Code, Failure, v1};
use serde::Serialize;

use super::put::names;
use super::values::{Values, is_eventual};
use crate::cli::args::GetArgs;
use crate::cli::errors::CliError;
use crate::cli::output::{
    self, Form, JsonItem, JsonKey, SCHEMA, bytes_of, escaped, hex_lines, is_showable, json_line,
    level_name, shell_quoted, table,
};
use crate::cli::run::Run;
use crate::error::ClientError;

#[derive(Serialize)]
struct Found<'a> {
    schema: u32,
    #[serde(flatten)]
    item: JsonItem,
    found: bool,
    #[serde(flatten)]
    read: ReadProof<'a>,
}

#[derive(Serialize)]
struct Absent<'a> {
    schema: u32,
    #[serde(flatten)]
    key: JsonKey,
    found: bool,
    #[serde(flatten)]
    read: ReadProof<'a>,
}

/// What the answer to a read proves.
#[derive(Serialize)]
pub(super) struct ReadProof<'a> {
    /// Eventual keyspaces have no revisions.
    #[serde(skip_serializing_if = "Option::is_none")]
    at_rev: Option<u64>,
    level: &'static str,
    pub(super) node: &'a str,
    /// The members whose answers a quorum read of an eventual keyspace joined.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    answered_by: Vec<String>,
    took_us: u64,
}

/// The key of a command; an empty one is a usage error.
pub(super) fn key_of(argument: &OsStr) -> Result<Bytes, CliError> {
    if argument.is_empty() {
        return Err(CliError::Usage("a key has at least one byte".into()));
    }
    Ok(bytes_of(argument))
}

/// The error for a key that is not there; `what` was to be done with it.
pub(super) fn absent(what: &str, key: &[u8], at_rev: u64) -> CliError {
    let subject = format!("{what} of \"{}\"", escaped(key));
    let why = format!("it does not exist at revision {at_rev}");
    CliError::from(Failure::new(Code::KeyNotFound, subject, why)).hint("kv ls")
}

pub(super) async fn get(args: GetArgs, run: &mut Run<'_>) -> Result<(), CliError> {
    run.check_no_ack()?;
    let key = key_of(&args.key)?;
    let client = run.client()?;
    let request = v1::GetRequest {
        key: key.clone(),
        revision: args.rev.unwrap_or_default(),
        ..Default::default()
    };
    let started = Instant::now();
    let failed = |error: ClientError| {
        let weaker = format!("kv get {} --consistency eventual", shell_quoted(&args.key));
        match error.code() {
            Code::NoQuorum | Code::NoLeader | Code::ReadTimedOut => {
                CliError::from(error).hint(weaker)
            }
            _ => error.into(),
        }
    };
    let time = run.time_left()?;
    let mut reply = client.get(request.clone(), &time.options()).await.map_err(failed)?;
    if args.all_siblings && reply.more > 0 {
        let all = client.siblings(request, &time.options()).await.map_err(failed)?;
        (reply.siblings, reply.context, reply.more) = (all.values, all.context, 0);
        reply.proof = Some(all.proof);
    }
    let took = started.elapsed();
    let proof = reply.proof.take().unwrap_or_default();
    let eventual = is_eventual(&reply);
    let read = ReadProof {
        at_rev: (!eventual).then_some(proof.revision),
        level: level_name(proof.level),
        node: &proof.node,
        answered_by: names(&client, &proof.answered_by),
        took_us: u64::try_from(took.as_micros()).unwrap_or(u64::MAX),
    };
    let ReadProof { at_rev, level, node, answered_by, .. } = &read;
    let at = at_rev.map_or_else(String::new, |revision| format!(" at revision {revision}"));
    let joined = joined_text(answered_by);
    run.detail(&format!("{level}{at} by {node}{joined} in {}", output::time(took)));
    if eventual {
        return Values::new(key, reply).print(read, &args, run);
    }
    match reply.item {
        Some(item) => print(&item, read, &args, run),
        None => {
            if run.form.is_json() {
                let key = JsonKey::new(&key);
                json_line(run.out(), &Absent { schema: SCHEMA, key, found: false, read })?;
            }
            if args.missing_ok { Ok(()) } else { Err(absent("read", &key, proof.revision)) }
        }
    }
}

/// Whose answers were joined, as the end of a sentence.
pub(super) fn joined_text(answered_by: &[String]) -> String {
    match answered_by {
        [] => String::new(),
        names => format!(", answered by {}", names.join(" ")),
    }
}

fn print(
    item: &v1::Item,
    read: ReadProof<'_>,
    args: &GetArgs,
    run: &mut Run<'_>,
) -> Result<(), CliError> {
    let form = run.form;
    match form {
        Form::Json | Form::JsonLines => {
            let item = if args.meta { JsonItem::without_value(item) } else { JsonItem::new(item) };
            json_line(run.out(), &Found { schema: SCHEMA, item, found: true, read })?;
        }
        Form::People if args.meta => {
            let rows = meta(item, read.at_rev.unwrap_or_default());
            let text = table(&["FIELD", "VALUE"], rows);
            run.out().write_all(text.as_bytes())?;
        }
        Form::Raw if args.meta => {
            for [name, value] in meta(item, read.at_rev.unwrap_or_default()) {
                writeln!(run.out(), "{name}\t{value}")?;
            }
        }
        Form::People => print_value(&item.value, run)?,
        Form::Raw => run.out().write_all(&item.value)?,
    }
    Ok(())
}

fn meta(item: &v1::Item, at_rev: u64) -> [[String; 2]; 6] {
    [
        ["key", &escaped(&item.key)],
        ["rev", &item.mod_rev.to_string()],
        ["create_rev", &item.create_rev.to_string()],
        ["version", &item.version.to_string()],
        ["size", &item.value_size.to_string()],
        ["at_rev", &at_rev.to_string()],
    ]
    .map(|row| row.map(str::to_owned))
}

/// A value for people: text as it is, anything else as hex.
pub(super) fn print_value(value: &[u8], run: &mut Run<'_>) -> Result<(), CliError> {
    if is_showable(value) {
        run.out().write_all(value)?;
        run.out().write_all(b"\n")?;
    } else {
        run.out().write_all(hex_lines(value).as_bytes())?;
        let bytes = value.len();
        run.note(&format!(
            "note: {bytes} bytes that are no text, shown in hex; -o raw prints them"
        ));
    }
    Ok(())
}
