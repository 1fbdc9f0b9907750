//! `kv ls`.

use std::collections::BTreeSet;

use proto::v1;
use proto::v1::keyspace::Kind;
use serde::Serialize;

use super::get::joined_text;
use super::put::names;
use crate::cli::args::LsArgs;
use crate::cli::errors::CliError;
use crate::cli::output::{
    Form, JsonItem, JsonKey, JsonSibling, SCHEMA, bytes_of, escaped, grouped, json_line, json_row,
    level_name, size, table, token_text,
};
use crate::cli::run::Run;
use crate::pages::{Pages, prefix_end};

#[derive(Serialize)]
struct Listing {
    schema: u32,
    /// Eventual keyspaces have no revisions.
    #[serde(skip_serializing_if = "Option::is_none")]
    at_rev: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    level: Option<&'static str>,
    /// The members whose answers the pages of a quorum read of an eventual keyspace joined.
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    answered_by: BTreeSet<String>,
    items: Vec<Entry>,
    /// More keys follow than --limit let through.
    more: bool,
}

impl Listing {
    fn new() -> Self {
        let answered_by = BTreeSet::new();
        Self { schema: SCHEMA, at_rev: None, level: None, answered_by, items: vec![], more: false }
    }
}

#[derive(Serialize)]
#[serde(untagged)]
enum Entry {
    Item(JsonItem),
    Key(JsonKey),
    Values(JsonValues),
}

/// A key of an eventual keyspace.
#[derive(Serialize)]
struct JsonValues {
    #[serde(flatten)]
    key: JsonKey,
    siblings: Vec<JsonSibling>,
    /// Values that are left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    more: Option<u32>,
    context: String,
}

/// What of a key is shown.
trait Listed {
    fn key(&self) -> &[u8];
    /// Its revision; in an eventual keyspace the number of its values.
    fn number(&self) -> u64;
    fn size(&self) -> u64;
    fn json(&self) -> Entry;
}

impl Listed for v1::Item {
    fn key(&self) -> &[u8] {
        &self.key
    }

    fn number(&self) -> u64 {
        self.mod_rev
    }

    fn size(&self) -> u64 {
        self.value_size
    }

    fn json(&self) -> Entry {
        Entry::Item(JsonItem::without_value(self))
    }
}

impl Listed for v1::Entry {
    fn key(&self) -> &[u8] {
        &self.key
    }

    fn number(&self) -> u64 {
        self.siblings.len() as u64 + u64::from(self.more)
    }

    fn size(&self) -> u64 {
        self.siblings.iter().map(|sibling| sibling.value_size).sum()
    }

    fn json(&self) -> Entry {
        // Where nobody said in time of which kind the keyspace is, only sizes came.
        let sibling = |sibling: &v1::Sibling| {
            let is_there = sibling.value.len() as u64 == sibling.value_size;
            if is_there { JsonSibling::new(sibling) } else { JsonSibling::without_value(sibling) }
        };
        Entry::Values(JsonValues {
            key: JsonKey::new(&self.key),
            siblings: self.siblings.iter().map(sibling).collect(),
            more: Some(self.more).filter(|more| *more > 0),
            context: token_text(&self.context),
        })
    }
}

#[derive(Serialize)]
struct Counted {
    schema: u32,
    count: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    at_rev: Option<u64>,
}

pub(super) async fn ls(args: LsArgs, run: &mut Run<'_>) -> Result<(), CliError> {
    run.check_no_ack()?;
    let mut request = request_of(&args);
    let client = run.client()?;
    if run.form.is_json() && !args.keys_only && !args.count {
        // Contexts come along with the values only.
        request.keys_only = client.kind(&run.options()).await != Some(Kind::Eventual);
    }
    let total = run.time_left()?.get();
    let mut pages = Pages::new(&client, request, args.limit, run.options()).within(total);
    if args.count {
        let (count, at_rev) = pages.count().await?;
        let at_rev = some_revision(at_rev);
        return print_count(Counted { schema: SCHEMA, count, at_rev }, run);
    }
    let mut listing = Listing::new();
    let mut people = Rows::default();
    while let Some(page) = pages.next().await? {
        if let Some(proof) = &page.proof {
            let (level, by) = (level_name(proof.level), names(&client, &proof.answered_by));
            run.detail(&format!("{level} by {}{}", proof.node, joined_text(&by)));
            listing.at_rev = some_revision(proof.revision);
            listing.level = Some(level);
            listing.answered_by.extend(by);
        }
        listing.more = page.more;
        people.eventual |= !page.entries.is_empty();
        let items = page.items.iter().map(|item| item as &dyn Listed);
        for item in items.chain(page.entries.iter().map(|entry| entry as &dyn Listed)) {
            match run.form {
                Form::Json => listing.items.push(entry(item, &args)),
                Form::JsonLines => json_row(run.out(), &entry(item, &args))?,
                Form::Raw => print_plain(item, &args, run)?,
                Form::People if args.keys_only || args.null => print_plain(item, &args, run)?,
                Form::People => people.add(item),
            }
        }
        // What was read is not lost when a later page fails, or the command is interrupted.
        run.out().flush()?;
    }
    match run.form {
        Form::Json => json_line(run.out(), &listing)?,
        Form::People => people.print(&listing, run)?,
        Form::JsonLines | Form::Raw => {}
    }
    Ok(())
}

fn request_of(args: &LsArgs) -> v1::RangeRequest {
    let bytes = |argument: &Option<std::ffi::OsString>| {
        argument.as_deref().map(bytes_of).unwrap_or_default()
    };
    let (from, to) = match &args.prefix {
        Some(prefix) => (bytes_of(prefix), prefix_end(prefix.as_encoded_bytes())),
        None => (bytes(&args.from), bytes(&args.to)),
    };
    v1::RangeRequest {
        from,
        to,
        revision: args.rev.unwrap_or_default(),
        // Sizes come along without the values.
        keys_only: true,
        count_only: args.count,
        ..Default::default()
    }
}

fn print_count(counted: Counted, run: &mut Run<'_>) -> Result<(), CliError> {
    match run.form {
        Form::Json | Form::JsonLines => json_line(run.out(), &counted)?,
        Form::People => writeln!(run.out(), "{}", grouped(counted.count))?,
        Form::Raw => writeln!(run.out(), "{}", counted.count)?,
    }
    Ok(())
}

/// The first revision of a keyspace that has some is 1.
fn some_revision(revision: u64) -> Option<u64> {
    Some(revision).filter(|revision| *revision > 0)
}

fn entry(item: &dyn Listed, args: &LsArgs) -> Entry {
    if args.keys_only { Entry::Key(JsonKey::new(item.key())) } else { item.json() }
}

/// One record: with -0 the key as it is, else on a line of its own.
fn print_plain(item: &dyn Listed, args: &LsArgs, run: &mut Run<'_>) -> Result<(), CliError> {
    let rest = match args.keys_only {
        true => String::new(),
        false => format!("\t{}\t{}", item.number(), item.size()),
    };
    let out = run.out();
    if args.null {
        out.write_all(item.key())?;
        write!(out, "{rest}\0")?;
    } else {
        writeln!(out, "{}{rest}", escaped(item.key()))?;
    }
    Ok(())
}

/// Rows of the table for people.
#[derive(Default)]
struct Rows {
    rows: Vec<[String; 3]>,
    eventual: bool,
}

impl Rows {
    fn add(&mut self, item: &dyn Listed) {
        self.rows.push([escaped(item.key()), item.number().to_string(), size(item.size())]);
    }

    fn print(self, listing: &Listing, run: &mut Run<'_>) -> Result<(), CliError> {
        if !self.rows.is_empty() {
            let number = if self.eventual { "VALUES" } else { "REV" };
            let text = table(&["KEY", number, "SIZE"], self.rows);
            run.out().write_all(text.as_bytes())?;
        }
        if listing.more {
            run.note("note: more keys follow; raise --limit");
        }
        Ok(())
    }
}
