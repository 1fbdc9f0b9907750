//! What a read of a key of an eventual keyspace found, for people, pipes and scripts.

use bytes::Bytes;
use proto::{Code, Failure, v1};
use serde::Serialize;

use super::get::{ReadProof, print_value};
use crate::cli::args::GetArgs;
use crate::cli::errors::CliError;
use crate::cli::output::{
    Form, JsonKey, JsonSibling, JsonValue, SCHEMA, dot_text, escaped, json_line, moment, size,
    table, token_text,
};
use crate::cli::run::Run;

/// The values of a key.
pub(super) struct Values {
    pub(super) key: Bytes,
    /// The newest first.
    pub(super) siblings: Vec<v1::Sibling>,
    pub(super) context: Bytes,
    /// Values that are left out of the reply.
    pub(super) more: u32,
}

#[derive(Serialize)]
struct ValuesJson<'a> {
    schema: u32,
    #[serde(flatten)]
    key: JsonKey,
    /// The only value, or the one that was picked.
    #[serde(flatten)]
    value: Option<JsonValue>,
    found: bool,
    siblings: Vec<JsonSibling>,
    #[serde(skip_serializing_if = "is_zero")]
    more: u32,
    context: String,
    #[serde(flatten)]
    read: ReadProof<'a>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks for it")]
fn is_zero(number: &u32) -> bool {
    *number == 0
}

/// Whether a reply is of a key of an eventual keyspace.
pub(super) fn is_eventual(reply: &v1::GetReply) -> bool {
    !reply.siblings.is_empty() || !reply.context.is_empty()
}

impl Values {
    /// What a reply shows.
    pub(super) fn new(key: Bytes, reply: v1::GetReply) -> Self {
        let v1::GetReply { siblings, context, more, .. } = reply;
        Self { key, siblings, context, more }
    }

    /// Prints them as `args` asks.
    pub(super) fn print(
        &self,
        read: ReadProof<'_>,
        args: &GetArgs,
        run: &mut Run<'_>,
    ) -> Result<(), CliError> {
        // A value that is left out may be the one that was asked for.
        let alone = self.siblings.len() == 1 && self.more == 0;
        let shown = self.siblings.first().filter(|_| alone || args.resolve.is_some());
        let node = read.node.to_owned();
        match (run.form, shown) {
            (Form::Json | Form::JsonLines, shown) => self.print_json(shown, read, args, run)?,
            _ if self.siblings.is_empty() => {}
            (Form::People, _) if args.meta => self.print_meta(run)?,
            (Form::Raw, _) if args.meta => self.print_plain_meta(run)?,
            (Form::People, Some(sibling)) if !args.all_siblings => {
                print_value(&sibling.value, run)?
            }
            (Form::Raw, Some(sibling)) if !args.all_siblings => {
                run.out().write_all(&sibling.value)?;
            }
            (Form::People, _) => self.print_lines("  ", run)?,
            (Form::Raw, _) if args.all_siblings => self.print_lines("\t", run)?,
            (Form::Raw, _) => return Err(self.several()),
        }
        if !self.siblings.is_empty() || args.missing_ok {
            return Ok(());
        }
        let subject = format!("read of \"{}\"", escaped(&self.key));
        let why = format!("no value of it lives at {node}");
        Err(CliError::from(Failure::new(Code::KeyNotFound, subject, why)).hint("kv ls"))
    }

    fn print_json(
        &self,
        shown: Option<&v1::Sibling>,
        read: ReadProof<'_>,
        args: &GetArgs,
        run: &mut Run<'_>,
    ) -> Result<(), CliError> {
        let sibling = if args.meta { JsonSibling::without_value } else { JsonSibling::new };
        let values = ValuesJson {
            schema: SCHEMA,
            key: JsonKey::new(&self.key),
            value: shown.filter(|_| !args.meta).map(|sibling| JsonValue::new(&sibling.value)),
            found: !self.siblings.is_empty(),
            siblings: self.siblings.iter().map(sibling).collect(),
            more: self.more,
            context: token_text(&self.context),
            read,
        };
        Ok(json_line(run.out(), &values)?)
    }

    /// One line a value, with its dot.
    fn print_lines(&self, between: &str, run: &mut Run<'_>) -> Result<(), CliError> {
        for v1::Sibling { dot, value, .. } in &self.siblings {
            writeln!(run.out(), "{}{between}{}", dot_text(dot.as_ref()), escaped(value))?;
        }
        let count = self.siblings.len() + self.more as usize;
        if count > 1 {
            run.note(&format!(
                "note: {count} values that do not know of each other; to merge them put one with \
                 --causal and the context that -o json shows; --resolve lww shows the newest"
            ));
        }
        if self.more > 0 {
            run.note(&format!("note: {} more are left out; --all-siblings shows them", self.more));
        }
        Ok(())
    }

    fn print_meta(&self, run: &mut Run<'_>) -> Result<(), CliError> {
        let rows = self.siblings.iter().map(|sibling| meta(sibling, size(sibling.value_size)));
        let text = table(&["DOT", "WRITTEN", "EXPIRES", "SIZE"], rows);
        Ok(run.out().write_all(text.as_bytes())?)
    }

    fn print_plain_meta(&self, run: &mut Run<'_>) -> Result<(), CliError> {
        for sibling in &self.siblings {
            let row = meta(sibling, sibling.value_size.to_string());
            writeln!(run.out(), "{}", row.join("\t"))?;
        }
        Ok(())
    }

    /// The error where one value was asked for and there are several.
    fn several(&self) -> CliError {
        let count = self.siblings.len() + self.more as usize;
        let subject = format!("read of \"{}\"", escaped(&self.key));
        let why = format!("{count} values do not know of each other; none is printed");
        CliError::from(Failure::new(Code::SeveralValues, subject, why))
            .hint("the same command with --resolve lww, or -o json")
    }
}

fn meta(sibling: &v1::Sibling, size: String) -> [String; 4] {
    let time = |unix_ms| moment(unix_ms).unwrap_or_else(|| "-".to_owned());
    let dot = dot_text(sibling.dot.as_ref());
    [dot, time(sibling.written_ms), time(sibling.expires_ms), size]
}
