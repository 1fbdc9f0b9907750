//! Forms of output: JSON, plain lines, tables for people, and colours.

use std::borrow::Cow;
use std::ffi::OsStr;
use std::fmt::Write as _;
use std::io::{self, Write};
use std::time::{Duration, SystemTime};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use comfy_table::{ContentArrangement, Table, presets};
use proto::{Hex, v1};
use serde::Serialize;

use super::args::{ColorArg, FormatArg};
use super::terminal::Terminal;

/// The schema number of every JSON object.
pub(crate) const SCHEMA: u32 = 1;

/// The form of this run's output.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    /// For people at a terminal.
    People,
    /// Exact bytes and plain lines.
    Raw,
    /// One JSON object.
    Json,
    /// One JSON object per line.
    JsonLines,
}

impl Form {
    /// The form that was asked for, else the one that fits stdout.
    pub(crate) fn choose(asked: Option<FormatArg>, terminal: &Terminal) -> Self {
        match asked {
            Some(FormatArg::Table) => Self::People,
            Some(FormatArg::Raw) => Self::Raw,
            Some(FormatArg::Json) => Self::Json,
            Some(FormatArg::Jsonl) => Self::JsonLines,
            None if terminal.stdout_is_tty => Self::People,
            None => Self::Raw,
        }
    }

    /// Whether it is JSON of either kind.
    pub(crate) fn is_json(self) -> bool {
        match self {
            Self::Json | Self::JsonLines => true,
            Self::People | Self::Raw => false,
        }
    }
}

/// Colours, or none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Paint {
    on: bool,
}

impl Paint {
    /// No colours.
    #[cfg(test)]
    pub(crate) const fn plain() -> Self {
        Self { on: false }
    }

    /// Decides for a stream: the flag, else `NO_COLOR`, `CLICOLOR_FORCE`, `TERM=dumb`, else
    /// whether a person looks at it.
    pub(crate) fn choose(asked: ColorArg, terminal: &Terminal, is_tty: bool) -> Self {
        let on = match asked {
            ColorArg::Always => true,
            ColorArg::Never => false,
            ColorArg::Auto if terminal.var("NO_COLOR").is_some() => false,
            ColorArg::Auto if terminal.var("TERM").is_some_and(|term| term == "dumb") => false,
            ColorArg::Auto => {
                is_tty || terminal.var("CLICOLOR_FORCE").is_some_and(|force| force != "0")
            }
        };
        Self { on }
    }

    fn wrap(self, code: &str, text: &str) -> String {
        if self.on { format!("\u{1b}[{code}m{text}\u{1b}[0m") } else { text.to_owned() }
    }

    /// Something is wrong.
    pub(crate) fn error(self, text: &str) -> String {
        self.wrap("1;31", text)
    }

    /// Something is worth a look.
    pub(crate) fn warning(self, text: &str) -> String {
        self.wrap("33", text)
    }

    /// All is well.
    pub(crate) fn good(self, text: &str) -> String {
        self.wrap("32", text)
    }

    /// A label.
    pub(crate) fn dim(self, text: &str) -> String {
        self.wrap("2", text)
    }
}

/// Writes one JSON object on a line of its own.
pub(crate) fn json_line(out: &mut dyn Write, value: &impl Serialize) -> io::Result<()> {
    let line = serde_json::to_string(value).map_err(io::Error::other)?;
    writeln!(out, "{line}")
}

/// Writes one row of several as a JSON object on a line of its own, with the schema number that the
/// object around it has elsewhere.
pub(crate) fn json_row(out: &mut dyn Write, row: &impl Serialize) -> io::Result<()> {
    #[derive(Serialize)]
    struct Row<'a, T> {
        schema: u32,
        #[serde(flatten)]
        row: &'a T,
    }
    json_line(out, &Row { schema: SCHEMA, row })
}

/// A key in JSON: text where it is UTF-8, else base64 under `key_b64`.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct JsonKey {
    #[serde(skip_serializing_if = "Option::is_none")]
    key: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    key_b64: Option<String>,
}

impl JsonKey {
    pub(crate) fn new(key: &[u8]) -> Self {
        let (key, key_b64) = text_or_base64(key);
        Self { key, key_b64 }
    }
}

/// A value in JSON: text where it is UTF-8, else base64 under `value_b64`.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct JsonValue {
    #[serde(skip_serializing_if = "Option::is_none")]
    value: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    value_b64: Option<String>,
}

impl JsonValue {
    pub(crate) fn new(value: &[u8]) -> Self {
        let (value, value_b64) = text_or_base64(value);
        Self { value, value_b64 }
    }
}

/// An item in JSON.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct JsonItem {
    #[serde(flatten)]
    key: JsonKey,
    #[serde(flatten)]
    value: Option<JsonValue>,
    rev: u64,
    create_rev: u64,
    version: u64,
    size: u64,
}

impl JsonItem {
    /// An item with its value.
    pub(crate) fn new(item: &v1::Item) -> Self {
        Self { value: Some(JsonValue::new(&item.value)), ..Self::without_value(item) }
    }

    /// An item whose value was not asked for.
    pub(crate) fn without_value(item: &v1::Item) -> Self {
        Self {
            key: JsonKey::new(&item.key),
            value: None,
            rev: item.mod_rev,
            create_rev: item.create_rev,
            version: item.version,
            size: item.value_size,
        }
    }
}

/// A causal token in JSON.
pub(crate) fn token_text(token: &[u8]) -> String {
    STANDARD.encode(token)
}

/// The name of a write to an eventual keyspace.
pub(crate) fn dot_text(dot: Option<&v1::Dot>) -> String {
    dot.map(v1::Dot::to_string).unwrap_or_default()
}

/// A moment by the clock of a node, RFC 3339; `None` for 0, which stands for none.
pub(crate) fn moment(unix_ms: u64) -> Option<String> {
    // What is later than the year 9999 has no such form.
    const LAST_MS: u64 = 253_402_300_799_999;
    let since = Duration::from_millis(unix_ms.min(LAST_MS));
    let moment = SystemTime::UNIX_EPOCH + since;
    (unix_ms > 0).then(|| humantime::format_rfc3339_millis(moment).to_string())
}

/// One value of a key of an eventual keyspace in JSON.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct JsonSibling {
    #[serde(flatten)]
    value: Option<JsonValue>,
    dot: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    written: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    expires: Option<String>,
    size: u64,
}

impl JsonSibling {
    /// A value.
    pub(crate) fn new(sibling: &v1::Sibling) -> Self {
        Self { value: Some(JsonValue::new(&sibling.value)), ..Self::without_value(sibling) }
    }

    /// What is known about a value that was not asked for.
    pub(crate) fn without_value(sibling: &v1::Sibling) -> Self {
        Self {
            value: None,
            dot: dot_text(sibling.dot.as_ref()),
            written: moment(sibling.written_ms),
            expires: moment(sibling.expires_ms),
            size: sibling.value_size,
        }
    }
}

/// What a write to an eventual keyspace came to, in JSON.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct JsonWritten {
    dot: String,
    context: String,
}

impl JsonWritten {
    pub(crate) fn new(dot: Option<&v1::Dot>, context: &[u8]) -> Self {
        Self { dot: dot_text(dot), context: token_text(context) }
    }
}

fn text_or_base64(bytes: &[u8]) -> (Option<String>, Option<String>) {
    match std::str::from_utf8(bytes) {
        Ok(text) => (Some(text.to_owned()), None),
        Err(_) => (None, Some(STANDARD.encode(bytes))),
    }
}

/// A key on a line of its own: tab, newline, backslash, other control characters and bytes that are
/// not UTF-8 become `\xNN`.
pub(crate) fn escaped(key: &[u8]) -> String {
    let mut line = String::with_capacity(key.len());
    for chunk in key.utf8_chunks() {
        for character in chunk.valid().chars() {
            if character == '\\' || character.is_control() {
                let mut utf8 = [0; 4];
                hex_escapes(&mut line, character.encode_utf8(&mut utf8).as_bytes());
            } else {
                line.push(character);
            }
        }
        hex_escapes(&mut line, chunk.invalid());
    }
    line
}

fn hex_escapes(line: &mut String, bytes: &[u8]) {
    for byte in bytes {
        let _ = write!(line, "\\x{byte:02x}");
    }
}

/// Text of others on one line, with control characters made visible.
pub(crate) fn one_line(text: &str) -> Cow<'_, str> {
    if text.chars().any(char::is_control) {
        let visible = |character: char| match character {
            '\n' | '\t' => ' ',
            control if control.is_control() => char::REPLACEMENT_CHARACTER,
            other => other,
        };
        Cow::Owned(text.chars().map(visible).collect())
    } else {
        Cow::Borrowed(text)
    }
}

/// Whether a value can be shown on a terminal as it is: text without control characters.
pub(crate) fn is_showable(value: &[u8]) -> bool {
    std::str::from_utf8(value).is_ok_and(|text| {
        text.chars().all(|character| !character.is_control() || "\n\t\r".contains(character))
    })
}

/// Bytes in hex, 32 to a line.
pub(crate) fn hex_lines(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len() * 2 + bytes.len() / 16);
    for line in bytes.chunks(32) {
        let _ = writeln!(text, "{}", Hex(line));
    }
    text
}

/// A table without borders, columns two spaces apart.
pub(crate) fn table<R, C>(header: &[&str], rows: R) -> String
where
    R: IntoIterator<Item = C>,
    C: IntoIterator<Item = String>,
{
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_content_arrangement(ContentArrangement::Disabled);
    table.set_header(header.iter().copied());
    for row in rows {
        table.add_row(row);
    }
    for column in table.column_iter_mut() {
        column.set_padding((0, 2));
    }
    table.trim_fmt() + "\n"
}

/// A number with its thousands apart: `1 204`.
pub(crate) fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(' ');
        }
        text.push(digit);
    }
    text
}

/// A size for people: `3.1 MiB`.
pub(crate) fn size(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["KiB", "MiB", "GiB", "TiB", "PiB"];
    if bytes < 1024 {
        return format!("{bytes} B");
    }
    #[expect(clippy::cast_precision_loss, reason = "one decimal is shown")]
    let mut scaled = bytes as f64 / 1024.0;
    let mut unit = 0;
    while scaled >= 1024.0 && unit + 1 < UNITS.len() {
        scaled /= 1024.0;
        unit += 1;
    }
    format!("{scaled:.1} {}", UNITS[unit])
}

/// A time for people: `1.8 ms`, `41 ms`, `2.5 s`.
pub(crate) fn time(duration: Duration) -> String {
    let micros = duration.as_micros();
    match micros {
        0..10_000 => format!("{:.1} ms", duration.as_secs_f64() * 1e3),
        10_000..1_000_000 => format!("{} ms", duration.as_millis()),
        _ => format!("{:.1} s", duration.as_secs_f64()),
    }
}

/// The name of a level.
pub(crate) fn level_name(level: i32) -> &'static str {
    match v1::Level::try_from(level) {
        Ok(v1::Level::Linearizable) => "linearizable",
        Ok(v1::Level::Quorum) => "quorum",
        Ok(v1::Level::Bounded) => "bounded",
        Ok(v1::Level::Session) => "session",
        Ok(v1::Level::Eventual) => "eventual",
        Ok(v1::Level::Unspecified) | Err(_) => "unknown",
    }
}

/// Exact bytes of an argument.
pub(crate) fn bytes_of(argument: &OsStr) -> bytes::Bytes {
    bytes::Bytes::copy_from_slice(argument.as_encoded_bytes())
}

/// An argument as it would be typed into a shell.
pub(crate) fn shell_quoted(argument: &OsStr) -> String {
    let text = argument.to_string_lossy();
    let plain =
        |character: char| character.is_ascii_alphanumeric() || "/._-:@,+".contains(character);
    if !text.is_empty() && !text.starts_with('-') && text.chars().all(plain) {
        return text.into_owned();
    }
    format!("'{}'", text.replace('\'', "'\\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_stay_on_their_line() {
        for (key, line) in [
            (&b"a/b"[..], "a/b"),
            (b"a\tb\nc\\d", "a\\x09b\\x0ac\\x5cd"),
            (b"\xff\xfe!", "\\xff\\xfe!"),
            ("grün".as_bytes(), "grün"),
            (b"\x1b[2J", "\\x1b[2J"),
            ("\u{85}".as_bytes(), "\\xc2\\x85"),
        ] {
            assert_eq!(escaped(key), line);
        }
    }

    #[test]
    fn numbers_are_for_people() {
        for (number, text) in [(0, "0"), (999, "999"), (1_204, "1 204"), (1_000_000, "1 000 000")] {
            assert_eq!(grouped(number), text);
        }
        for (bytes, text) in
            [(0, "0 B"), (1_023, "1023 B"), (3_250_586, "3.1 MiB"), (1 << 30, "1.0 GiB")]
        {
            assert_eq!(size(bytes), text);
        }
        for (micros, text) in
            [(180, "0.2 ms"), (1_800, "1.8 ms"), (41_000, "41 ms"), (2_500_000, "2.5 s")]
        {
            assert_eq!(time(Duration::from_micros(micros)), text);
        }
    }

    #[test]
    fn tables_have_no_borders_and_no_trailing_blanks() {
        let rows = [["n1", "leader"], ["node-2", "x"]].map(|row| row.map(str::to_owned));
        let text = table(&["NODE", "ROLE"], rows);
        assert_eq!(text, "NODE    ROLE\nn1      leader\nnode-2  x\n");
    }

    #[test]
    fn moments_are_told_by_the_calendar() {
        assert_eq!(moment(0), None);
        assert_eq!(moment(1_795_000_000_123).as_deref(), Some("2026-11-18T11:06:40.123Z"));
        assert_eq!(moment(u64::MAX).as_deref(), Some("9999-12-31T23:59:59.999Z"));
    }

    #[test]
    fn only_text_is_shown_as_it_is() {
        assert!(is_showable("a\tb\nä".as_bytes()));
        assert!(!is_showable(b"\xff"));
        assert!(!is_showable(b"a\x1b[2J"));
        assert!(!is_showable(b"\0"));
        assert_eq!(hex_lines(&[0x00, 0xff]), "00ff\n");
    }

    #[test]
    fn arguments_are_quoted_where_a_shell_needs_it() {
        for (argument, quoted) in
            [("orders/17", "orders/17"), ("a b", "'a b'"), ("it's", "'it'\\''s'")]
        {
            assert_eq!(shell_quoted(OsStr::new(argument)), quoted);
        }
    }
}
