//! `kv put`.

use std::fs::File;
use std::io::{self, Read};
use std::time::{Duration, Instant};

use bytes::Bytes;
use proto::limits::{self, VALUE_BYTES_MAX};
use proto::v1::compare::Target;
use proto::{Applied, Code, Failure, v1};
use serde::Serialize;

use super::get::{key_of, print_value};
use crate::cli::args::{ConditionArgs, PutArgs};
use crate::cli::errors::CliError;
use crate::cli::output::{
    Form, JsonItem, JsonWritten, SCHEMA, bytes_of, dot_text, escaped, json_line, level_name,
    shell_quoted, time,
};
use crate::cli::run::Run;
use crate::cli::settings;
use crate::client::Client;
use crate::config::CallOptions;
use crate::error::ClientError;

#[derive(Serialize)]
struct Written<'a> {
    schema: u32,
    /// Eventual keyspaces have no revisions.
    #[serde(skip_serializing_if = "Option::is_none")]
    rev: Option<u64>,
    applied: bool,
    level: &'static str,
    node: &'a str,
    took_us: u64,
    acknowledged_by: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    prev: Option<JsonItem>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    replayed: bool,
    #[serde(flatten)]
    written: Option<JsonWritten>,
}

pub(super) async fn put(args: PutArgs, run: &mut Run<'_>) -> Result<(), CliError> {
    run.check_no_level()?;
    let key = key_of(&args.key)?;
    let value = value_of(&args, run)?;
    let client = run.client()?;
    let options = run.options();
    let condition = target_of(&args.condition)
        .map(|target| v1::Compare { key: key.clone(), target: Some(target) });
    let request = v1::PutRequest {
        key: key.clone(),
        value,
        condition,
        prev: args.prev,
        causal: args.causal.causal.clone().unwrap_or_default(),
        ttl_ms: args.ttl.map_or(0, |ttl| u64::try_from(ttl.as_millis()).unwrap_or(u64::MAX)),
        ..Default::default()
    };
    limits::check_value(&request.value).map_err(|failure| named(failure, &key))?;
    // The time shown is that of the write, not of connecting.
    let deadline = Instant::now() + settings::timeout(&run.global, run.terminal)?;
    client.prepare_writes(&options).await.map_err(|error| named(error.failure().clone(), &key))?;
    let started = Instant::now();
    let left = deadline.saturating_duration_since(started).max(Duration::from_millis(1));
    let retry = args.causal.retry.at.into();
    let options = CallOptions { timeout: Some(left), retry, ..options };
    let name = escaped(&key);
    let sent = client.put(request, &options);
    let look = format!("kv get {}", shell_quoted(&args.key));
    let outcome = run.change(format!("write to \"{name}\""), look, sent).await;
    let took = started.elapsed();
    let reply = outcome.map_err(|error| partly(error, run))?;
    print(reply, took, &client, &args, run)
}

/// Says what a put came to, and decides how the command ends.
fn print(
    reply: v1::PutReply,
    took: Duration,
    client: &Client,
    args: &PutArgs,
    run: &mut Run<'_>,
) -> Result<(), CliError> {
    let proof = reply.proof.unwrap_or_default();
    let acknowledged_by = names(client, &proof.acknowledged_by);
    let eventual = reply.written.as_ref();
    let form = run.form;
    match form {
        Form::Json | Form::JsonLines => {
            let written = Written {
                schema: SCHEMA,
                rev: eventual.is_none().then_some(reply.revision),
                applied: reply.succeeded,
                level: level_name(proof.level),
                node: &proof.node,
                took_us: u64::try_from(took.as_micros()).unwrap_or(u64::MAX),
                acknowledged_by,
                prev: reply.prev.as_ref().map(JsonItem::new),
                replayed: proof.replayed,
                written: eventual.map(|done| JsonWritten::new(done.dot.as_ref(), &done.context)),
            };
            json_line(run.out(), &written)?;
        }
        Form::People if reply.succeeded => {
            let level = level_name(proof.level);
            let by = match &acknowledged_by[..] {
                [] => String::new(),
                names => format!(", acknowledged by {}", names.join(" ")),
            };
            let ok = run.paint_err.good("ok");
            let name = match eventual {
                Some(done) => format!("dot {}", dot_text(done.dot.as_ref())),
                None => format!("rev {}", reply.revision),
            };
            run.note(&format!("{ok}  {name}  {}  {level}{by}", time(took)));
            if let Some(prev) = &reply.prev {
                print_value(&prev.value, run)?;
            }
        }
        Form::Raw if reply.succeeded => {
            if let Some(prev) = &reply.prev {
                run.out().write_all(&prev.value)?;
            }
        }
        Form::People | Form::Raw => {}
    }
    if args.prev && proof.replayed {
        run.note("note: an earlier attempt had written it; the replaced value is not known");
    }
    match reply.succeeded {
        true => Ok(()),
        false => Err(condition_failed(&key_of(&args.key)?, &args.condition)),
    }
}

#[derive(Serialize)]
struct Partly {
    schema: u32,
    applied: bool,
    durable_on: u32,
    wanted: u32,
    #[serde(flatten)]
    written: JsonWritten,
}

/// The error of a write; where it was applied all the same, scripts are told what it came to as they are
/// told of one that met what was asked for.
pub(super) fn partly(error: ClientError, run: &mut Run<'_>) -> CliError {
    if let Some(partial) = error.failure().partial.as_deref().filter(|_| run.form.is_json()) {
        let partly = Partly {
            schema: SCHEMA,
            applied: true,
            durable_on: partial.durable_on,
            wanted: partial.wanted,
            written: JsonWritten::new(Some(&partial.dot), &partial.context),
        };
        if let Err(error) = json_line(run.out(), &partly) {
            return error.into();
        }
    }
    error.into()
}

/// A failure of this write, whatever it was that failed.
fn named(failure: Failure, key: &[u8]) -> CliError {
    failure.subject(format!("write to \"{}\"", escaped(key))).into()
}

/// The names of members: of the voters that hold a write, or of those that answered a read.
pub(super) fn names(client: &Client, ids: &[u64]) -> Vec<String> {
    let name = |id: &u64| client.member_name(*id).unwrap_or_else(|| nameless(*id));
    let mut names: Vec<String> = ids.iter().map(name).collect();
    names.sort();
    names
}

/// What stands for the name of a member that is not known.
pub(super) fn nameless(id: u64) -> String {
    format!("#{id:016x}")
}

fn target_of(condition: &ConditionArgs) -> Option<Target> {
    match condition {
        ConditionArgs { if_rev: Some(revision), .. } => Some(Target::ModRev(*revision)),
        ConditionArgs { if_absent: true, .. } => Some(Target::Absent(true)),
        ConditionArgs { if_present: true, .. } => Some(Target::Absent(false)),
        ConditionArgs { if_rev: None, if_absent: false, if_present: false } => None,
    }
}

fn condition_failed(key: &[u8], condition: &ConditionArgs) -> CliError {
    let why = match condition {
        ConditionArgs { if_rev: Some(0), .. } | ConditionArgs { if_absent: true, .. } => {
            "the key exists".to_owned()
        }
        ConditionArgs { if_rev: Some(revision), .. } => {
            format!("the key's revision is not {revision}")
        }
        ConditionArgs { .. } => "the key is absent".to_owned(),
    };
    let subject = format!("write to \"{}\"", escaped(key));
    let failure = Failure::new(Code::ConditionFailed, subject, why);
    failure.applied(Applied::No).into()
}

/// The value of the command: the argument, a file, or stdin.
fn value_of(args: &PutArgs, run: &mut Run<'_>) -> Result<Bytes, CliError> {
    match (&args.value, &args.file) {
        (Some(value), _) if value != "-" => Ok(bytes_of(value)),
        (Some(_), _) => read_value(&mut run.terminal.stdin).map_err(stdin_error),
        (None, Some(path)) => {
            let failed = |source| CliError::File { path: path.clone(), source };
            let mut file = File::open(path).map_err(failed)?;
            let bytes = file.metadata().map_err(failed)?.len();
            if bytes > VALUE_BYTES_MAX as u64 {
                let why = format!("{} has {bytes} bytes", path.display());
                let failure = Failure::new(Code::ValueTooLarge, "", why).applied(Applied::No);
                return Err(named(failure, &key_of(&args.key)?));
            }
            read_value(&mut file).map_err(failed)
        }
        (None, None) if run.terminal.stdin_is_tty => {
            Err(CliError::Usage("name a value, or pipe one into stdin".into()))
        }
        (None, None) => read_value(&mut run.terminal.stdin).map_err(stdin_error),
    }
}

fn stdin_error(source: io::Error) -> CliError {
    CliError::File { path: "stdin".into(), source }
}

/// Reads to the end, but no more than one byte beyond the largest value: more is refused anyway.
fn read_value(from: &mut impl Read) -> io::Result<Bytes> {
    let mut value = Vec::new();
    from.take(VALUE_BYTES_MAX as u64 + 1).read_to_end(&mut value)?;
    Ok(value.into())
}
