//! `kv txn`: a transaction as one JSON object.

use std::fs::File;
use std::io::{self, Read};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use proto::limits::REQUEST_BYTES_MAX;
use proto::v1;
use proto::v1::compare::Target;
use serde::{Deserialize, Serialize};

use super::del::prefix_range;
use crate::cli::args::TxnArgs;
use crate::cli::errors::CliError;
use crate::cli::output::{JsonItem, JsonKey, SCHEMA, json_line};
use crate::cli::run::Run;

/// Exit code of --strict when the compares did not hold.
const EXIT_ELSE: u8 = 4;
/// Longest text: base64 and escapes make it longer than the request.
const TEXT_BYTES_MAX: usize = 6 * REQUEST_BYTES_MAX;

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct TxnJson {
    #[serde(rename = "if")]
    compares: Vec<CompareJson>,
    then: Vec<OpJson>,
    #[serde(rename = "else")]
    otherwise: Vec<OpJson>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct CompareJson {
    key: Option<String>,
    key_b64: Option<String>,
    rev: Option<u64>,
    create_rev: Option<u64>,
    version: Option<u64>,
    value: Option<String>,
    value_b64: Option<String>,
    absent: Option<bool>,
}

/// One operation: exactly one of put, del and get names the key, or says `true` beside `key_b64`.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct OpJson {
    put: Option<OpKey>,
    del: Option<OpKey>,
    get: Option<OpKey>,
    key_b64: Option<String>,
    value: Option<String>,
    value_b64: Option<String>,
    /// Delete all keys that begin with the key.
    prefix: bool,
    /// Return what was there.
    prev: bool,
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum OpKey {
    Text(String),
    Beside(bool),
}

#[derive(Serialize)]
struct Outcome {
    schema: u32,
    succeeded: bool,
    rev: u64,
    results: Vec<OpOutcome>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    replayed: bool,
}

#[derive(Serialize)]
#[serde(tag = "op", rename_all = "lowercase")]
enum OpOutcome {
    Put {
        #[serde(skip_serializing_if = "Option::is_none")]
        prev: Option<JsonItem>,
    },
    Del {
        deleted: u64,
        #[serde(skip_serializing_if = "Vec::is_empty")]
        prev: Vec<JsonItem>,
    },
    Get {
        #[serde(flatten)]
        item: Option<JsonItem>,
        #[serde(flatten)]
        key: Option<JsonKey>,
        found: bool,
    },
}

pub(super) async fn txn(args: TxnArgs, run: &mut Run<'_>) -> Result<(), CliError> {
    run.check_no_ack()?;
    let text = read_text(&args, run)?;
    let request = parse(&text).map_err(CliError::Usage)?;
    let client = run.client()?;
    let branches = (request.then_ops.clone(), request.else_ops.clone());
    let options = run.options();
    let sent = client.txn(request, &options);
    let reply = run.change("transaction", "kv get each of its keys", sent).await?;
    let branch = if reply.succeeded { branches.0 } else { branches.1 };
    let replayed = reply.proof.is_some_and(|proof| proof.replayed);
    let results = reply.results.iter().enumerate();
    let results = results.map(|(at, result)| outcome(result, branch.get(at))).collect();
    let outcome = Outcome {
        schema: SCHEMA,
        succeeded: reply.succeeded,
        rev: reply.revision,
        results,
        replayed,
    };
    json_line(run.out(), &outcome)?;
    if replayed {
        run.note("note: an earlier attempt had executed it; values that it read are not known");
    }
    if args.strict && !reply.succeeded {
        run.note("the compares did not hold; the else branch was executed");
        return Err(CliError::Status(EXIT_ELSE));
    }
    Ok(())
}

fn read_text(args: &TxnArgs, run: &mut Run<'_>) -> Result<String, CliError> {
    let path = args.file.as_deref().filter(|path| path.as_os_str() != "-");
    if path.is_none() && args.file.is_none() && run.terminal.stdin_is_tty {
        return Err(CliError::Usage("name a file with -f, or pipe one into stdin".into()));
    }
    let mut bytes = Vec::new();
    let read = match path {
        Some(path) => File::open(path).and_then(|mut file| read_bounded(&mut file, &mut bytes)),
        None => read_bounded(&mut run.terminal.stdin, &mut bytes),
    };
    let name = path.map_or_else(|| "stdin".into(), std::path::Path::to_owned);
    read.map_err(|source| CliError::File { path: name, source })?;
    String::from_utf8(bytes).map_err(|_| CliError::Usage("the transaction is not UTF-8".into()))
}

fn read_bounded(from: &mut impl Read, into: &mut Vec<u8>) -> io::Result<()> {
    from.take(TEXT_BYTES_MAX as u64 + 1).read_to_end(into)?;
    if into.len() > TEXT_BYTES_MAX {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "longer than any transaction"));
    }
    Ok(())
}

/// Reads the JSON form.
fn parse(text: &str) -> Result<v1::TxnRequest, String> {
    let txn: TxnJson =
        serde_json::from_str(text).map_err(|error| format!("the transaction: {error}"))?;
    let place = |branch: &str, at: usize| format!("{branch}[{at}]");
    let numbered = |branch: &'static str, ops: Vec<OpJson>| {
        let ops = ops.into_iter().enumerate();
        ops.map(move |(at, op)| op.parse().map_err(|why| format!("{}: {why}", place(branch, at))))
            .collect::<Result<Vec<_>, _>>()
    };
    let compares =
        txn.compares.into_iter().enumerate().map(|(at, compare)| {
            compare.parse().map_err(|why| format!("{}: {why}", place("if", at)))
        });
    Ok(v1::TxnRequest {
        compares: compares.collect::<Result<Vec<_>, _>>()?,
        then_ops: numbered("then", txn.then)?,
        else_ops: numbered("else", txn.otherwise)?,
        ..Default::default()
    })
}

impl CompareJson {
    fn parse(self) -> Result<v1::Compare, String> {
        let key = bytes_from("key", self.key, self.key_b64)?.ok_or("no key is named")?;
        let value = bytes_from("value", self.value, self.value_b64)?;
        let mut targets = [
            self.rev.map(Target::ModRev),
            self.create_rev.map(Target::CreateRev),
            self.version.map(Target::Version),
            value.map(Target::Value),
            self.absent.map(Target::Absent),
        ]
        .into_iter()
        .flatten();
        match (targets.next(), targets.next()) {
            (Some(target), None) => Ok(v1::Compare { key, target: Some(target) }),
            _ => Err("name exactly one of rev, create_rev, version, value, absent".into()),
        }
    }
}

impl OpJson {
    fn parse(self) -> Result<v1::Op, String> {
        use v1::op::Op;
        let value = bytes_from("value", self.value, self.value_b64)?;
        let (name, key) = match (self.put, self.del, self.get) {
            (Some(key), None, None) => ("put", key),
            (None, Some(key), None) => ("del", key),
            (None, None, Some(key)) => ("get", key),
            _ => return Err("name exactly one of put, del, get".into()),
        };
        let key = match (key, self.key_b64) {
            (OpKey::Text(text), None) => Bytes::from(text),
            (OpKey::Beside(true), Some(base64)) => decode("key_b64", &base64)?,
            _ => return Err(format!("{name} is the key, or true beside key_b64")),
        };
        if self.prefix && name != "del" {
            return Err("only del takes prefix".into());
        }
        if self.prev && name == "get" {
            return Err("get takes no prev".into());
        }
        let op = match (name, value) {
            ("put", Some(value)) => Op::Put(v1::PutOp { key, value, prev: self.prev }),
            ("put", None) => return Err("put needs value or value_b64".into()),
            (_, Some(_)) => return Err(format!("{name} takes no value")),
            ("del", None) => {
                let (key, range_end) =
                    if self.prefix { prefix_range(&key) } else { (key, Bytes::new()) };
                Op::Delete(v1::DeleteOp { key, range_end, prev: self.prev })
            }
            (_, None) => Op::Get(v1::GetOp { key }),
        };
        Ok(v1::Op { op: Some(op) })
    }
}

/// The bytes that a JSON object names as text, or in base64 under `name_b64`.
pub(super) fn bytes_from(
    name: &str,
    text: Option<String>,
    base64: Option<String>,
) -> Result<Option<Bytes>, String> {
    match (text, base64) {
        (Some(_), Some(_)) => Err(format!("name {name} or {name}_b64, not both")),
        (Some(text), None) => Ok(Some(text.into())),
        (None, Some(base64)) => decode(name, &base64).map(Some),
        (None, None) => Ok(None),
    }
}

fn decode(name: &str, base64: &str) -> Result<Bytes, String> {
    let bytes = STANDARD.decode(base64).map_err(|error| format!("{name}: no base64: {error}"))?;
    Ok(bytes.into())
}

fn outcome(result: &v1::OpResult, asked: Option<&v1::Op>) -> OpOutcome {
    use v1::op_result::Result as Done;
    let key_asked = match asked.and_then(|op| op.op.as_ref()) {
        Some(v1::op::Op::Get(get)) => Some(JsonKey::new(&get.key)),
        Some(v1::op::Op::Put(_) | v1::op::Op::Delete(_)) | None => None,
    };
    match &result.result {
        Some(Done::Put(put)) => OpOutcome::Put { prev: put.prev.as_ref().map(JsonItem::new) },
        Some(Done::Delete(delete)) => OpOutcome::Del {
            deleted: delete.deleted,
            prev: delete.prev.iter().map(JsonItem::new).collect(),
        },
        Some(Done::Get(v1::GetResult { item: Some(item) })) => {
            OpOutcome::Get { item: Some(JsonItem::new(item)), key: None, found: true }
        }
        Some(Done::Get(v1::GetResult { item: None })) | None => {
            OpOutcome::Get { item: None, key: key_asked, found: false }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_documented_form_is_read() {
        let text = r#"{"if":[{"key":"a","rev":3},{"key":"b","absent":true},{"key":"c","value":"x"}],
            "then":[{"put":"a","value":"1"},{"del":"b"},{"get":"c"}],
            "else":[{"put":true,"key_b64":"/w==","value_b64":"AA=="}]}"#;
        let txn = parse(text).unwrap();
        let targets: Vec<_> =
            txn.compares.into_iter().map(|compare| compare.target.unwrap()).collect();
        let expected = [Target::ModRev(3), Target::Absent(true), Target::Value("x".into())];
        assert_eq!(targets, expected);
        assert_eq!(txn.then_ops.len(), 3);
        let Some(v1::op::Op::Put(put)) = &txn.else_ops[0].op else {
            panic!("not a put: {:?}", txn.else_ops)
        };
        assert_eq!((&put.key[..], &put.value[..]), (&b"\xff"[..], &b"\0"[..]));
    }

    #[test]
    fn mistakes_are_named_with_their_place() {
        for (text, words) in [
            ("{", "EOF"),
            (r#"{"if":[{"key":"a"}]}"#, "if[0]: name exactly one of rev"),
            (r#"{"if":[{"rev":1}]}"#, "if[0]: no key"),
            (r#"{"if":[{"key":"a","rev":1,"version":1}]}"#, "if[0]: name exactly one"),
            (r#"{"then":[{"put":"a","value":"1"},{"put":"b"}]}"#, "then[1]: put needs value"),
            (r#"{"else":[{"del":"a","get":"b"}]}"#, "else[0]: name exactly one"),
            (r#"{"then":[{"del":"a","value":"1"}]}"#, "then[0]: del takes no value"),
            (r#"{"then":[{"get":"a","key_b64":"YQ=="}]}"#, "then[0]: get is the key"),
            (r#"{"then":[{"put":true,"key_b64":"!","value":"1"}]}"#, "no base64"),
            (r#"{"then":[{"get":"a","prefix":true}]}"#, "only del takes prefix"),
            (r#"{"fi":[]}"#, "unknown field"),
            (r#"{"then":[{"put":"a","valeu":"1"}]}"#, "unknown field"),
        ] {
            let error = parse(text).unwrap_err();
            assert!(error.contains(words), "{text}: {error}");
        }
    }
}
