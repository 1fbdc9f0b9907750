//! `kv ls`.

use proto::v1;
use serde::Serialize;

use crate::cli::args::LsArgs;
use crate::cli::errors::CliError;
use crate::cli::output::{
    Form, JsonItem, JsonKey, SCHEMA, bytes_of, escaped, grouped, json_line, json_row, size, table,
};
use crate::cli::run::Run;
use crate::pages::{Pages, prefix_end};

#[derive(Serialize)]
struct Listing {
    schema: u32,
    at_rev: u64,
    items: Vec<Entry>,
    /// More keys follow than --limit let through.
    more: bool,
}

#[derive(Serialize)]
#[serde(untagged)]
enum Entry {
    Item(JsonItem),
    Key(JsonKey),
}

#[derive(Serialize)]
struct Counted {
    schema: u32,
    count: u64,
    at_rev: u64,
}

pub(super) async fn ls(args: LsArgs, run: &mut Run<'_>) -> Result<(), CliError> {
    let request = request_of(&args);
    let client = run.client()?;
    let total = run.time_left()?.get();
    let mut pages = Pages::new(&client, request, args.limit, run.options()).within(total);
    if args.count {
        let (count, at_rev) = pages.count().await?;
        return print_count(Counted { schema: SCHEMA, count, at_rev }, run);
    }
    let mut listing = Listing { schema: SCHEMA, at_rev: 0, items: vec![], more: false };
    let mut people = Rows::default();
    while let Some(page) = pages.next().await? {
        listing.at_rev = page.proof.map_or(0, |proof| proof.revision);
        listing.more = page.more;
        for item in &page.items {
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

fn entry(item: &v1::Item, args: &LsArgs) -> Entry {
    if args.keys_only {
        Entry::Key(JsonKey::new(&item.key))
    } else {
        Entry::Item(JsonItem::without_value(item))
    }
}

/// One record: with -0 the key as it is, else on a line of its own.
fn print_plain(item: &v1::Item, args: &LsArgs, run: &mut Run<'_>) -> Result<(), CliError> {
    let rest = match args.keys_only {
        true => String::new(),
        false => format!("\t{}\t{}", item.mod_rev, item.value_size),
    };
    let out = run.out();
    if args.null {
        out.write_all(&item.key)?;
        write!(out, "{rest}\0")?;
    } else {
        writeln!(out, "{}{rest}", escaped(&item.key))?;
    }
    Ok(())
}

/// Rows of the table for people.
#[derive(Default)]
struct Rows(Vec<[String; 3]>);

impl Rows {
    fn add(&mut self, item: &v1::Item) {
        self.0.push([escaped(&item.key), item.mod_rev.to_string(), size(item.value_size)]);
    }

    fn print(self, listing: &Listing, run: &mut Run<'_>) -> Result<(), CliError> {
        if !self.0.is_empty() {
            let text = table(&["KEY", "REV", "SIZE"], self.0);
            run.out().write_all(text.as_bytes())?;
        }
        if listing.more {
            run.note("note: more keys follow; raise --limit");
        }
        Ok(())
    }
}
