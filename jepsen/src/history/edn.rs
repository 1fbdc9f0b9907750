//! Events as EDN, Jepsen's own notation.
//!
//! A file is taken apart into top-level forms while it is read ([`Edn`]), so that it never has to be
//! in memory as a whole; each map is then parsed by itself. Known are maps, vectors, lists, sets,
//! strings, characters, numbers, keywords, symbols, nil, comments, discards (`#_`), tags and
//! metadata. Words and numbers count as their text, keywords without their colon.

use std::borrow::Cow;

use super::event::{Datum, Event, Kind, Process, function_named};
use crate::value::Value;

/// How deeply forms may be nested.
const DEPTH_MAX: usize = 64;

/// Where the bytes read so far have got to.
#[derive(Debug, Default)]
pub(super) struct Edn {
    /// Lines ended so far.
    lines: u64,
    inside: Inside,
    /// Open braces; brackets of other kinds are left to the parser.
    braces: usize,
    around: Around,
}

/// What stands around the events.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Around {
    /// No event has come yet.
    #[default]
    Unknown,
    /// A run of maps.
    Nothing,
    /// A vector or a list that ends with this bracket.
    Opened(u8),
    /// Nothing more may come.
    Closed,
}

/// What the next byte is part of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Inside {
    #[default]
    Plain,
    Text,
    /// After a backslash within text.
    Escape,
    Comment,
    /// After a backslash outside of text.
    Character,
}

impl Edn {
    /// The line that was reached, from 1.
    pub(super) const fn line(&self) -> u64 {
        self.lines + 1
    }

    /// Takes note of more bytes.
    pub(super) fn scan(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            self.lines += u64::from(byte == b'\n');
            self.inside = match (self.inside, byte) {
                (Inside::Plain, b'"') => Inside::Text,
                (Inside::Plain, b';') => Inside::Comment,
                (Inside::Plain, b'\\') => Inside::Character,
                (Inside::Plain, b'{') => {
                    self.braces += 1;
                    Inside::Plain
                }
                (Inside::Plain, b'}') => {
                    self.braces = self.braces.saturating_sub(1);
                    Inside::Plain
                }
                (Inside::Text, b'"') => Inside::Plain,
                (Inside::Text, b'\\') => Inside::Escape,
                (Inside::Escape, _) => Inside::Text,
                (Inside::Comment, b'\n') | (Inside::Character, _) => Inside::Plain,
                (same, _) => same,
            };
        }
    }

    /// Whether what was scanned ends with a whole map.
    pub(super) fn is_whole(&self) -> bool {
        self.braces == 0 && self.inside == Inside::Plain
    }

    /// Hands on the events in a piece of the file that ends with a whole map, or is the last one.
    pub(super) fn events<'a>(
        &mut self,
        text: &'a str,
        at_end: bool,
        mut each: impl FnMut(Event<'a>) -> Result<(), String>,
    ) -> Result<(), String> {
        let text = text.strip_prefix(super::format::BYTE_ORDER_MARK).unwrap_or(text);
        let mut reader = Reader { text, at: 0 };
        loop {
            match (reader.peek(0)?, self.around) {
                (0, Around::Opened(_)) if at_end => {
                    return Err("the file ends before the history does".to_owned());
                }
                (0, _) => return Ok(()),
                (_, Around::Closed) => {
                    return Err(format!("expected the end of the file, {}", reader.here()));
                }
                (b'[', Around::Unknown) => {
                    self.around = Around::Opened(b']');
                    reader.at += 1;
                }
                (b'#', Around::Unknown) if reader.skip_tag_of_list()? => {}
                (b'(', Around::Unknown) => {
                    self.around = Around::Opened(b')');
                    reader.at += 1;
                }
                (next, Around::Opened(close)) if next == close => {
                    self.around = Around::Closed;
                    reader.at += 1;
                }
                (_, around) => {
                    let Form::Map(map) = reader.form(0)? else {
                        return Err("expected a map, one for each event".to_owned());
                    };
                    if around == Around::Unknown {
                        self.around = Around::Nothing;
                    }
                    if let Some(event) = event(map)? {
                        each(event)?;
                    }
                }
            }
        }
    }
}

/// A single value, such as stands in a log.
pub(super) fn datum(text: &str) -> Result<Option<Datum<'_>>, String> {
    let mut reader = Reader { text, at: 0 };
    if reader.peek(0)? == 0 {
        return Ok(None);
    }
    let form = reader.form(0)?;
    if reader.peek(0)? != 0 {
        return Err(format!("expected the end of the line, {}", reader.here()));
    }
    Ok(form.into_datum())
}

/// The event that a map describes; `None` if it is of something that is no client.
fn event<'a>(map: Vec<(Form<'a>, Form<'a>)>) -> Result<Option<Event<'a>>, String> {
    let mut event = Event::new(0, Kind::Invoke);
    let (mut process, mut kind, mut function) = (None, None, None);
    for (name, form) in map {
        let Form::Word(name) = name else { continue };
        match name {
            ":process" => process = Some(form),
            ":type" => kind = Some(form),
            ":f" => function = Some(form),
            ":time" => event.time = form.whole("time")?,
            ":key" => event.key = form.into_text(),
            ":value" => event.value = form.into_datum(),
            ":expected" => event.expected = form.into_datum(),
            ":node" => event.node = form.into_text(),
            ":error" => event.error = form.into_text(),
            ":level" => event.level = form.into_text(),
            ":rev" => event.revision = form.whole("rev")?,
            ":at-rev" => event.at_revision = form.whole("at-rev")?,
            _ => {}
        }
    }
    let process = process.ok_or("an event needs :process")?;
    let kind = kind.and_then(Form::into_text);
    let named = kind.as_deref().and_then(Kind::named);
    let Some(client) = process.into_process()?.client(named)? else { return Ok(None) };
    event.process = client;
    let kind = kind.ok_or("an event needs :type")?;
    event.kind = named.ok_or_else(|| format!("unknown type {kind:?}"))?;
    let function = function.and_then(Form::into_text);
    event.function = function.map(|function| function_named(&function)).transpose()?;
    if matches!(event.kind, Kind::Fail | Kind::Info) {
        // Here a value may be what the nemesis or the error has left behind.
        event.value = None;
    }
    Ok(Some(event))
}

/// One form.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Form<'a> {
    Nil,
    /// Keywords with their colon, symbols, true and false.
    Word(&'a str),
    /// A number, by its digits.
    Number(&'a str),
    Text(Cow<'a, str>),
    List(Vec<Form<'a>>),
    Map(Vec<(Form<'a>, Form<'a>)>),
}

impl<'a> Form<'a> {
    fn into_value(self) -> Option<Value> {
        self.into_datum().map(Datum::into_value)
    }

    fn into_datum(self) -> Option<Datum<'a>> {
        Some(match self {
            Self::Nil => return None,
            Self::Word(word) => Datum::Text(word.strip_prefix(':').unwrap_or(word).into()),
            Self::Number(number) => Datum::Text(number.into()),
            Self::Text(text) => Datum::Text(text),
            Self::List(list) => {
                Datum::Other(Value::List(list.into_iter().map(Self::into_value).collect()))
            }
            Self::Map(map) => {
                let name =
                    |name: Self| name.into_text().unwrap_or(Cow::Borrowed("nil")).into_owned();
                let entries = map.into_iter().map(|(key, value)| (name(key), value.into_value()));
                Datum::Other(Value::Map(entries.collect()))
            }
        })
    }

    /// The text, or how a list or a map is printed.
    fn into_text(self) -> Option<Cow<'a, str>> {
        Some(match self.into_datum()? {
            Datum::Text(text) => text,
            Datum::Other(value) => Cow::Owned(value.name().into_owned()),
        })
    }

    fn into_process(self) -> Result<Process<'a>, String> {
        let Self::Number(number) = self else {
            return Ok(Process::Named(self.into_text().unwrap_or(Cow::Borrowed("nil"))));
        };
        let wrong = |_| format!(":process is {number}, which is no number of a client");
        number.parse().map(Process::Client).map_err(wrong)
    }

    fn whole(self, name: &str) -> Result<Option<u64>, String> {
        match self {
            Self::Nil => Ok(None),
            Self::Number(number) => {
                let wrong = |_| format!(":{name} is {number}, not a whole number that fits");
                number.parse().map(Some).map_err(wrong)
            }
            _ => Err(format!(":{name} is no number")),
        }
    }
}

/// A place in a text.
struct Reader<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Reader<'a> {
    /// The byte that begins the next form, or closes what we are in; 0 at the end.
    fn peek(&mut self, depth: usize) -> Result<u8, String> {
        loop {
            let bytes = self.text.as_bytes();
            while bytes.get(self.at).is_some_and(|&byte| is_space(byte)) {
                self.at += 1;
            }
            match (bytes.get(self.at), bytes.get(self.at + 1)) {
                (Some(b';'), _) | (Some(b'#'), Some(b'!')) => {
                    let rest = &self.text[self.at..];
                    self.at += rest.find('\n').unwrap_or(rest.len());
                }
                (Some(b'#'), Some(b'_')) => {
                    self.at += 2;
                    self.form(depth + 1)?;
                }
                (Some(0), _) => return Err(format!("no form begins like this: {}", self.here())),
                (byte, _) => return Ok(byte.copied().unwrap_or(0)),
            }
        }
    }

    /// Skips a tag if a vector or a list follows it.
    fn skip_tag_of_list(&mut self) -> Result<bool, String> {
        let begin = self.at;
        self.at += 1;
        self.take_word();
        let is_list = self.at > begin + 1 && matches!(self.peek(0)?, b'[' | b'(');
        if !is_list {
            self.at = begin;
        }
        Ok(is_list)
    }

    /// Where we are, for a message.
    fn here(&self) -> String {
        match self.text.get(self.at..).and_then(|rest| rest.chars().next()) {
            Some(found) => format!("found {found:?}"),
            None => "found the end".to_owned(),
        }
    }

    fn form(&mut self, depth: usize) -> Result<Form<'a>, String> {
        if depth > DEPTH_MAX {
            return Err(format!("nested more than {DEPTH_MAX} deep"));
        }
        match self.peek(depth)? {
            0 => Err("a form breaks off".to_owned()),
            b'"' => self.string().map(Form::Text),
            b'[' => self.sequence(b']', depth).map(Form::List),
            b'(' => self.sequence(b')', depth).map(Form::List),
            b'{' => self.map(depth),
            b'#' => self.dispatch(depth),
            b'^' => {
                self.at += 1;
                self.form(depth + 1)?;
                self.form(depth + 1)
            }
            b'\'' => {
                self.at += 1;
                self.form(depth + 1)
            }
            b'\\' => {
                self.at += 1;
                let begin = self.at;
                let first = self.text[begin..].chars().next().ok_or("a character breaks off")?;
                self.at += first.len_utf8();
                self.take_word();
                Ok(Form::Text(Cow::Borrowed(&self.text[begin..self.at])))
            }
            b']' | b')' | b'}' => Err(format!("nothing is open that this closes: {}", self.here())),
            _ => self.word(),
        }
    }

    /// What begins with `#`.
    fn dispatch(&mut self, depth: usize) -> Result<Form<'a>, String> {
        self.at += 1;
        match self.text.as_bytes().get(self.at) {
            Some(b'{') => self.sequence(b'}', depth).map(Form::List),
            Some(b'"') => self.string().map(Form::Text),
            Some(b'#') => {
                self.at += 1;
                self.word()
            }
            _ => {
                let begin = self.at;
                self.take_word();
                if self.at == begin {
                    return Err(format!("no tag after `#`, {}", self.here()));
                }
                self.form(depth + 1)
            }
        }
    }

    fn sequence(&mut self, close: u8, depth: usize) -> Result<Vec<Form<'a>>, String> {
        self.at += 1;
        let mut list = Vec::new();
        while self.peek(depth)? != close {
            list.push(self.form(depth + 1)?);
        }
        self.at += 1;
        Ok(list)
    }

    fn map(&mut self, depth: usize) -> Result<Form<'a>, String> {
        self.at += 1;
        let mut map = Vec::with_capacity(8);
        while self.peek(depth)? != b'}' {
            let key = self.form(depth + 1)?;
            if self.peek(depth)? == b'}' {
                return Err("a map has a key without a value".to_owned());
            }
            map.push((key, self.form(depth + 1)?));
        }
        self.at += 1;
        Ok(Form::Map(map))
    }

    fn string(&mut self) -> Result<Cow<'a, str>, String> {
        self.at += 1;
        let rest = &self.text[self.at..];
        let end = rest.find(['"', '\\']).ok_or("a string breaks off")?;
        self.at += end;
        if rest.as_bytes()[end] == b'"' {
            self.at += 1;
            return Ok(Cow::Borrowed(&rest[..end]));
        }
        let mut out = rest[..end].to_owned();
        let mut chars = rest[end..].chars();
        while let Some(next) = chars.next() {
            match next {
                '"' => {
                    self.at = self.text.len() - chars.as_str().len();
                    return Ok(Cow::Owned(out));
                }
                '\\' => out.push(match chars.next().ok_or("a string breaks off")? {
                    't' => '\t',
                    'r' => '\r',
                    'n' => '\n',
                    'b' => '\u{8}',
                    'f' => '\u{c}',
                    'u' => {
                        let digits = chars.as_str().get(..4).ok_or("a string breaks off")?;
                        let code = u32::from_str_radix(digits, 16).ok();
                        chars = chars.as_str()[4..].chars();
                        // Halves of a pair are kept apart by Java; text has no place for them.
                        code.map(|code| char::from_u32(code).unwrap_or(char::REPLACEMENT_CHARACTER))
                            .ok_or_else(|| format!("no such character: \\u{digits}"))?
                    }
                    plain @ ('"' | '\\') => plain,
                    other => return Err(format!("no such escape: \\{other}")),
                }),
                plain => out.push(plain),
            }
        }
        Err("a string breaks off".to_owned())
    }

    /// Moves to the end of a word.
    fn take_word(&mut self) {
        let rest = &self.text[self.at..];
        self.at += rest
            .bytes()
            .position(|byte| is_space(byte) || b"\"\\;()[]{}^".contains(&byte))
            .unwrap_or(rest.len());
    }

    fn word(&mut self) -> Result<Form<'a>, String> {
        let begin = self.at;
        self.take_word();
        let word = &self.text[begin..self.at];
        if word.is_empty() || word == ":" {
            return Err(format!("no form begins like this: {}", self.here()));
        }
        let digits = word.strip_prefix(['+', '-']).unwrap_or(word);
        if !digits.starts_with(|c: char| c.is_ascii_digit()) {
            return Ok(if word == "nil" { Form::Nil } else { Form::Word(word) });
        }
        // `N` and `M` only say how large a number may be; `+1` is 1.
        let number = word.strip_prefix('+').unwrap_or(word);
        let number = number.strip_suffix(['N', 'M']).unwrap_or(number);
        let good = |c: char| c.is_ascii_digit() || matches!(c, '.' | 'e' | 'E' | '+' | '-' | '/');
        if !number[1..].chars().all(good) {
            return Err(format!("no number: {word}"));
        }
        Ok(Form::Number(if number == "-0" { "0" } else { number }))
    }
}

/// White space of EDN; commas count as such.
const fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\r' | b'\n' | b',' | 0x0c)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(text: &str) -> Result<Option<Value>, String> {
        datum(text).map(|datum| datum.map(Datum::into_value))
    }

    #[test]
    fn forms_are_values() {
        let list = |texts: &[&str]| Some(texts.iter().copied().collect::<Value>());
        let cases = [
            ("nil", None),
            ("4", Some("4".into())),
            ("+4", Some("4".into())),
            ("-4N", Some("-4".into())),
            ("123456789012345678901234567890N", Some("123456789012345678901234567890".into())),
            ("1.5e-3M", Some("1.5e-3".into())),
            ("3/4", Some("3/4".into())),
            (":timed-out", Some("timed-out".into())),
            ("\"a \\\"b\\\" \\u00fc\\n\"", Some("a \"b\" ü\n".into())),
            ("\\a", Some("a".into())),
            ("\\newline", Some("newline".into())),
            ("\\}", Some("}".into())),
            ("[1 2]", list(&["1", "2"])),
            ("(1, 2)", list(&["1", "2"])),
            ("#{1 2}", list(&["1", "2"])),
            ("[1 #_2 #_ [3 4] 5 ; 6\n 7]", list(&["1", "5", "7"])),
            ("#inst \"2020\"", Some("2020".into())),
            ("#foo.Bar[1]", list(&["1"])),
            ("^{:a 1} [1]", list(&["1"])),
            ("##Inf", Some("Inf".into())),
            ("true", Some("true".into())),
            ("[]", Some(Value::List(Vec::new()))),
            ("[nil]", Some(Value::List(vec![None]))),
        ];
        for (text, expected) in cases {
            assert_eq!(value(text), Ok(expected), "{text}");
        }
        let map = value("{:a 1, \"b\" nil 3 [4]}").unwrap().unwrap();
        assert_eq!(map.to_string(), "{\"3\": [\"4\"], \"a\": \"1\", \"b\": absent}");
    }

    #[test]
    fn broken_forms_are_refused() {
        for text in [
            "[1", "{:a}", "{:a 1", "\"a", "\"\\", "\"\\u00", "\"\\q\"", "1x", "]", "#", "# 1", ":",
            "\\", "#_", "1 2", "(1]", "^{}", "'",
        ] {
            assert!(value(text).is_err(), "{text}");
        }
        assert!(value(&"[".repeat(1_000_000)).unwrap_err().contains("nested"));
        assert!(value(&"#_".repeat(1_000_000)).is_err());
        assert!(value(&"#a ".repeat(1_000_000)).is_err());
    }
}
