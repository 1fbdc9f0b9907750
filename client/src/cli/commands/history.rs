//! `kv history`.

use bytes::Bytes;
use proto::{Code, Failure, v1};
use serde::Serialize;

use super::get::key_of;
use crate::cli::args::HistoryArgs;
use crate::cli::errors::CliError;
use crate::cli::output::{
    Form, JsonItem, JsonKey, SCHEMA, escaped, hex_lines, is_showable, json_line, json_row,
    level_name, size, table,
};
use crate::cli::run::Run;

/// A value is cut to so many characters for people.
const SHOWN_CHARACTERS: usize = 48;

#[derive(Serialize)]
struct HistoryJson<'a> {
    schema: u32,
    #[serde(flatten)]
    key: JsonKey,
    at_rev: u64,
    level: &'static str,
    node: &'a str,
    /// The oldest revision that can be read.
    compacted: u64,
    /// Older versions follow than --limit let through.
    more: bool,
    versions: Vec<VersionJson>,
}

#[derive(Serialize)]
#[serde(untagged)]
enum VersionJson {
    Put {
        op: &'static str,
        #[serde(flatten)]
        item: JsonItem,
    },
    Deleted {
        op: &'static str,
        #[serde(flatten)]
        key: JsonKey,
        rev: u64,
    },
}

/// What was found on all pages.
struct History {
    key: Bytes,
    proof: v1::Proof,
    compacted: u64,
    more: bool,
    versions: Vec<v1::KeyVersion>,
}

pub(super) async fn history(args: HistoryArgs, run: &mut Run<'_>) -> Result<(), CliError> {
    run.check_no_ack()?;
    let found = read(&args, run).await?;
    match run.form {
        Form::Json => {
            let versions = found.versions.iter();
            let history = HistoryJson {
                schema: SCHEMA,
                key: JsonKey::new(&found.key),
                at_rev: found.proof.revision,
                level: level_name(found.proof.level),
                node: &found.proof.node,
                compacted: found.compacted,
                more: found.more,
                versions: versions.map(|version| json(version, &found.key, &args)).collect(),
            };
            json_line(run.out(), &history)?;
        }
        Form::JsonLines => {
            for version in &found.versions {
                json_row(run.out(), &json(version, &found.key, &args))?;
            }
        }
        Form::Raw => {
            for version in &found.versions {
                print_plain(version, &args, run)?;
            }
        }
        Form::People => print(&found, &args, run)?,
    }
    if found.versions.is_empty() && !args.missing_ok {
        let subject = format!("history of \"{}\"", escaped(&found.key));
        let why = format!("no version of it is kept at revision {}", found.proof.revision);
        return Err(CliError::from(Failure::new(Code::KeyNotFound, subject, why)).hint("kv ls"));
    }
    Ok(())
}

/// Reads pages until there are enough versions.
async fn read(args: &HistoryArgs, run: &Run<'_>) -> Result<History, CliError> {
    let key = key_of(&args.key)?;
    let client = run.client()?;
    let time = run.time_left()?;
    let limit = args.limit.map_or(u64::MAX, std::num::NonZeroU64::get);
    let mut found = History {
        key: key.clone(),
        proof: v1::Proof::default(),
        compacted: 0,
        more: true,
        versions: vec![],
    };
    let mut before = 0;
    while found.more && (found.versions.len() as u64) < limit {
        let wanted = limit - found.versions.len() as u64;
        let request = v1::HistoryRequest {
            key: key.clone(),
            // 0 is the largest page.
            limit: u32::try_from(wanted).unwrap_or(0),
            before,
            keys_only: args.keys_only,
            ..Default::default()
        };
        let page = client.history(request, &time.options()).await?;
        let oldest = page.versions.iter().filter_map(|version| version.item.as_ref()).next_back();
        let oldest = oldest.map_or(0, |item| item.mod_rev);
        found.more = page.more;
        if page.more && (oldest == 0 || (before != 0 && oldest >= before)) {
            let why = "a page says that older versions follow, but not where";
            return Err(Failure::new(Code::Internal, "history", why).into());
        }
        if before == 0 {
            found.proof = page.proof.unwrap_or_default();
        }
        before = oldest;
        found.compacted = page.compacted;
        found.versions.extend(page.versions);
    }
    Ok(found)
}

fn json(version: &v1::KeyVersion, key: &[u8], args: &HistoryArgs) -> VersionJson {
    match &version.item {
        Some(item) if !version.deleted => VersionJson::Put {
            op: "put",
            item: if args.keys_only { JsonItem::without_value(item) } else { JsonItem::new(item) },
        },
        tombstone => VersionJson::Deleted {
            op: "del",
            key: JsonKey::new(key),
            rev: tombstone.as_ref().map_or(0, |item| item.mod_rev),
        },
    }
}

/// Revision, operation, version, size, and the value on the same line.
fn print_plain(
    version: &v1::KeyVersion,
    args: &HistoryArgs,
    run: &mut Run<'_>,
) -> Result<(), CliError> {
    let item = version.item.clone().unwrap_or_default();
    let revision = item.mod_rev;
    if version.deleted {
        writeln!(run.out(), "{revision}\tdel")?;
        return Ok(());
    }
    let v1::Item { version, value_size, .. } = item;
    write!(run.out(), "{revision}\tput\t{version}\t{value_size}")?;
    if !args.keys_only {
        write!(run.out(), "\t{}", escaped(&item.value))?;
    }
    writeln!(run.out())?;
    Ok(())
}

fn print(found: &History, args: &HistoryArgs, run: &mut Run<'_>) -> Result<(), CliError> {
    if found.versions.is_empty() {
        return Ok(());
    }
    let mut header = vec!["REV", "OP", "VERSION", "SIZE"];
    if !args.keys_only {
        header.push("VALUE");
    }
    let rows = found.versions.iter().map(|version| row(version, args));
    run.out().write_all(table(&header, rows).as_bytes())?;
    if found.more {
        run.note("note: older versions follow; raise --limit");
    } else if found.compacted > 1 {
        let compacted = found.compacted;
        run.note(&format!("note: the oldest revision that can be read is {compacted}"));
    }
    Ok(())
}

fn row(version: &v1::KeyVersion, args: &HistoryArgs) -> Vec<String> {
    let item = version.item.clone().unwrap_or_default();
    let revision = item.mod_rev.to_string();
    let mut row = if version.deleted {
        vec![revision, "del".to_owned(), "-".to_owned(), "-".to_owned()]
    } else {
        vec![revision, "put".to_owned(), item.version.to_string(), size(item.value_size)]
    };
    if !args.keys_only {
        row.push(if version.deleted { "-".to_owned() } else { cut(&item.value) });
    }
    row
}

/// The begin of a value on one line: text, else hex.
fn cut(value: &[u8]) -> String {
    let text = if is_showable(value) {
        escaped(value)
    } else {
        let begin = &value[..value.len().min(SHOWN_CHARACTERS)];
        hex_lines(begin).replace('\n', "")
    };
    if text.chars().count() <= SHOWN_CHARACTERS {
        return text;
    }
    text.chars().take(SHOWN_CHARACTERS - 3).chain("...".chars()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_cut_to_one_line() {
        assert_eq!(cut(b"a\nb"), "a\\x0ab");
        assert_eq!(cut(b"\x00\xff"), "00ff");
        for long in ["x".repeat(1_000).into_bytes(), vec![0; 1_000]] {
            let text = cut(&long);
            assert_eq!(text.chars().count(), SHOWN_CHARACTERS, "{text}");
            assert!(text.ends_with("..."));
        }
        assert_eq!(cut(&[b'x'; SHOWN_CHARACTERS]).len(), SHOWN_CHARACTERS);
    }
}
