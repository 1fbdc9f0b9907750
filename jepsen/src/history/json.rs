//! Events as JSON, one object a line.
//!
//! A parser of our own: nothing is copied that is not kept, so reading costs little more than
//! looking at every byte.

use std::borrow::Cow;
use std::collections::BTreeMap;

use super::event::{Datum, Event, Kind, Process, function_named};
use crate::value::Value;

/// How deeply lists and maps may be nested.
const DEPTH_MAX: usize = 64;

/// The event of a line; `None` if it is of something that is no client.
pub(super) fn event(line: &str) -> Result<Option<Event<'_>>, String> {
    let mut json = Json { text: line, at: 0 };
    let mut event = Event::new(0, Kind::Invoke);
    let (mut process, mut kind, mut function) = (None, None, None);
    json.expect(b'{')?;
    if !json.next_is(b'}') {
        loop {
            let name = json.string()?;
            json.expect(b':')?;
            match &*name {
                "time" => event.time = json.whole("time")?,
                "process" => process = Some(json.process()?),
                "type" => {
                    let word = json.string()?;
                    let wrong = || format!("unknown type {word:?}");
                    kind = Some(Kind::named(&word).ok_or_else(wrong)?);
                }
                "f" => function = json.text()?,
                "key" => event.key = json.text()?,
                "value" => event.value = json.datum()?,
                "expected" => event.expected = json.datum()?,
                "node" => event.node = json.text()?,
                "error" => event.error = json.text()?,
                "level" => event.level = json.text()?,
                "rev" => event.revision = json.whole("rev")?,
                "at_rev" => event.at_revision = json.whole("at_rev")?,
                "dots" => event.dots = json.datum()?.map(Datum::into_value),
                "context" => event.context = json.text()?,
                "lost" => event.lost = json.datum()? == Some(Datum::Other("true".into())),
                _ => {
                    json.datum()?;
                }
            }
            if json.next_is(b'}') {
                break;
            }
            json.expect(b',')?;
        }
    }
    json.end()?;
    event.kind = kind.ok_or("an event needs `type`")?;
    let process = process.ok_or("an event needs `process`")?;
    let Some(client) = process.client(kind)? else { return Ok(None) };
    event.process = client;
    // What a nemesis does has names of its own.
    event.function = function.map(|function| function_named(&function)).transpose()?;
    Ok(Some(event))
}

/// A place in a line of JSON.
struct Json<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Json<'a> {
    /// The next byte that is no white space, without taking it; 0 at the end.
    #[inline]
    fn peek(&mut self) -> u8 {
        let bytes = self.text.as_bytes();
        while let Some(&byte) = bytes.get(self.at) {
            if !matches!(byte, b' ' | b'\t' | b'\r' | b'\n') {
                return byte;
            }
            self.at += 1;
        }
        0
    }

    #[inline]
    fn next_is(&mut self, byte: u8) -> bool {
        let is = self.peek() == byte;
        self.at += usize::from(is);
        is
    }

    #[inline]
    fn expect(&mut self, byte: u8) -> Result<(), String> {
        if self.next_is(byte) { Ok(()) } else { Err(self.missing(byte)) }
    }

    #[cold]
    fn missing(&self, byte: u8) -> String {
        format!("expected `{}` {}", char::from(byte), self.here())
    }

    fn end(&mut self) -> Result<(), String> {
        if self.peek() == 0 && self.at >= self.text.len() {
            return Ok(());
        }
        Err(format!("expected the end of the line {}", self.here()))
    }

    /// Where we are, for a message.
    fn here(&self) -> String {
        match self.text.get(self.at..).and_then(|rest| rest.chars().next()) {
            Some(found) => format!("at column {}, found {found:?}", self.at + 1),
            None => "at the end of the line".to_owned(),
        }
    }

    fn string(&mut self) -> Result<Cow<'a, str>, String> {
        self.expect(b'"')?;
        let begin = self.at;
        let bytes = self.text.as_bytes();
        while let Some(word) = bytes[self.at..].first_chunk::<8>() {
            let plain = plain_bytes(u64::from_le_bytes(*word));
            self.at += plain;
            if plain < word.len() {
                break;
            }
        }
        loop {
            match bytes.get(self.at) {
                Some(b'"') => {
                    self.at += 1;
                    return Ok(Cow::Borrowed(&self.text[begin..self.at - 1]));
                }
                Some(b'\\') => return self.escaped(begin).map(Cow::Owned),
                Some(0x20..) => self.at += 1,
                _ => return Err(format!("a string breaks off {}", self.here())),
            }
        }
    }

    /// The rest of a string that has escapes in it.
    fn escaped(&mut self, begin: usize) -> Result<String, String> {
        let mut out = self.text[begin..self.at].to_owned();
        loop {
            let rest = &self.text[self.at..];
            let Some(next) = rest.chars().next() else { break };
            self.at += next.len_utf8();
            match next {
                '"' => return Ok(out),
                '\\' => {
                    let Some(&escape) = self.text.as_bytes().get(self.at) else { break };
                    let plain = match escape {
                        b'"' | b'\\' | b'/' => char::from(escape),
                        b'b' => '\u{8}',
                        b'f' => '\u{c}',
                        b'n' => '\n',
                        b'r' => '\r',
                        b't' => '\t',
                        b'u' => {
                            self.at += 1;
                            out.push(self.unicode()?);
                            continue;
                        }
                        _ => return Err(format!("no such escape {}", self.here())),
                    };
                    self.at += 1;
                    out.push(plain);
                }
                '\0'..='\u{1f}' => break,
                plain => out.push(plain),
            }
        }
        Err(format!("a string breaks off {}", self.here()))
    }

    /// The character of a `\u` escape, or of two that belong together.
    fn unicode(&mut self) -> Result<char, String> {
        let wrong = |json: &Self| format!("no such character {}", json.here());
        let high = self.four_digits().ok_or_else(|| wrong(self))?;
        if let Some(plain) = char::from_u32(high) {
            return Ok(plain);
        }
        if !self.text[self.at..].starts_with("\\u") {
            return Err(wrong(self));
        }
        self.at += 2;
        let low = self.four_digits().ok_or_else(|| wrong(self))?;
        if !(0xd800..0xdc00).contains(&high) || !(0xdc00..0xe000).contains(&low) {
            return Err(wrong(self));
        }
        let code = 0x1_0000 + ((high - 0xd800) << 10) + (low - 0xdc00);
        char::from_u32(code).ok_or_else(|| wrong(self))
    }

    fn four_digits(&mut self) -> Option<u32> {
        let digits = self.text.get(self.at..self.at + 4)?;
        if !digits.bytes().all(|digit| digit.is_ascii_hexdigit()) {
            return None;
        }
        self.at += 4;
        u32::from_str_radix(digits, 16).ok()
    }

    /// A number as it is written.
    fn number(&mut self) -> Result<&'a str, String> {
        self.peek();
        let begin = self.at;
        let bytes = self.text.as_bytes();
        let digits = |at: &mut usize| {
            let from = *at;
            while bytes.get(*at).is_some_and(u8::is_ascii_digit) {
                *at += 1;
            }
            *at - from
        };
        let mut at = begin + usize::from(bytes.get(begin) == Some(&b'-'));
        let first = bytes.get(at) == Some(&b'0');
        let whole = digits(&mut at);
        let mut good = whole > 0 && !(first && whole > 1);
        if bytes.get(at) == Some(&b'.') {
            at += 1;
            good &= digits(&mut at) > 0;
        }
        if matches!(bytes.get(at), Some(b'e' | b'E')) {
            at += 1;
            at += usize::from(matches!(bytes.get(at), Some(b'+' | b'-')));
            good &= digits(&mut at) > 0;
        }
        if !good {
            return Err(format!("expected a value {}", self.here()));
        }
        self.at = at;
        Ok(&self.text[begin..at])
    }

    fn word(&mut self, word: &str) -> Result<(), String> {
        self.peek();
        if !self.text[self.at..].starts_with(word) {
            return Err(format!("expected a value {}", self.here()));
        }
        self.at += word.len();
        Ok(())
    }

    /// A whole number or null.
    fn whole(&mut self, name: &str) -> Result<Option<u64>, String> {
        if self.peek() == b'n' {
            return self.word("null").map(|()| None);
        }
        let number = self.number()?;
        let wrong = |_| format!("`{name}` is {number}, not a whole number that fits");
        number.parse().map(Some).map_err(wrong)
    }

    /// The number of a client, or the name of something else.
    fn process(&mut self) -> Result<Process<'a>, String> {
        if self.peek() == b'"' {
            return self.string().map(Process::Named);
        }
        let number = self.whole("process")?;
        Ok(number.map_or(Process::Named(Cow::Borrowed("null")), Process::Client))
    }

    /// Text, a number as text, or null.
    fn text(&mut self) -> Result<Option<Cow<'a, str>>, String> {
        match self.peek() {
            b'n' => self.word("null").map(|()| None),
            b'"' => self.string().map(Some),
            _ => self.number().map(|number| Some(Cow::Borrowed(number))),
        }
    }

    /// Any value.
    fn datum(&mut self) -> Result<Option<Datum<'a>>, String> {
        match self.peek() {
            b'[' | b'{' | b't' | b'f' => Ok(self.value(0)?.map(Datum::Other)),
            _ => Ok(self.text()?.map(Datum::Text)),
        }
    }

    fn value(&mut self, depth: usize) -> Result<Option<Value>, String> {
        if depth > DEPTH_MAX {
            return Err(format!("nested more than {DEPTH_MAX} deep"));
        }
        match self.peek() {
            b't' => self.word("true").map(|()| Some("true".into())),
            b'f' => self.word("false").map(|()| Some("false".into())),
            b'[' => {
                self.at += 1;
                let mut list = Vec::new();
                if !self.next_is(b']') {
                    loop {
                        list.push(self.value(depth + 1)?);
                        if self.next_is(b']') {
                            break;
                        }
                        self.expect(b',')?;
                    }
                }
                Ok(Some(Value::List(list)))
            }
            b'{' => {
                self.at += 1;
                let mut map = BTreeMap::new();
                if !self.next_is(b'}') {
                    loop {
                        let name = self.string()?.into_owned();
                        self.expect(b':')?;
                        map.insert(name, self.value(depth + 1)?);
                        if self.next_is(b'}') {
                            break;
                        }
                        self.expect(b',')?;
                    }
                }
                Ok(Some(Value::Map(map)))
            }
            _ => Ok(self.text()?.map(|text| Value::Text(text.into_owned()))),
        }
    }
}

/// How many of eight bytes, the first one lowest, come before one that is no plain part of a string.
#[inline]
fn plain_bytes(word: u64) -> usize {
    const LOW: u64 = u64::MAX / 255;
    const HIGH: u64 = LOW << 7;
    // A high bit for each byte below a bound; above the first one there may be false ones.
    let below = |word: u64, bound: u64| word.wrapping_sub(LOW * bound) & !word & HIGH;
    let quote = below(word ^ (LOW * u64::from(b'"')), 1);
    let backslash = below(word ^ (LOW * u64::from(b'\\')), 1);
    let control = below(word, 0x20);
    ((quote | backslash | control).trailing_zeros() / 8) as usize
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::operation::Function;

    /// The value in a line, as a judge that shares no code reads it.
    fn judged(value: &str) -> Option<Option<Value>> {
        serde_json::from_str(value).ok()
    }

    #[test]
    fn values_are_read_as_another_parser_reads_them() {
        for value in [
            "1",
            "-3",
            "0",
            "\"\"",
            "\"a\\u00e9\\n\\\"ü\"",
            "\"\\ud83d\\ude00\"",
            "null",
            "[]",
            "[1, null,[\"x\"] ]",
            "{}",
            "{\"a\":1,\"b\":{\"c\":null}}",
            " [ ]",
            // And what neither takes.
            "01",
            "\"\\x\"",
            "\"\\ud83d\"",
            "\"\\ud83d\\u0041\"",
            "[1,]",
            "[1 2]",
            "{\"a\"}",
            "-",
            "+1",
            "nul",
            "\"\n\"",
        ] {
            let line = format!("{{\"process\":0,\"type\":\"ok\",\"value\":{value}}}");
            let read = event(&line).ok().map(|event| event.unwrap().value.map(Datum::into_value));
            assert_eq!(read, judged(value), "{value}");
        }
    }

    #[test]
    fn all_fields_are_read() {
        let line = " {\"time\":7,\"process\":3,\"type\":\"info\",\"f\":\"put\",\"key\":9,\"value\":1.5e3,\
                    \"expected\":true,\"node\":\"n\",\"error\":\"e\",\"level\":null,\"rev\":4,\
                    \"at_rev\":5,\"extra\":{\"x\":[1]}} ";
        let event = event(line).unwrap().unwrap();
        assert_eq!((event.time, event.process, event.kind), (Some(7), 3, Kind::Info));
        assert_eq!((event.function, event.key.as_deref()), (Some(Function::Write), Some("9")));
        assert_eq!(event.value, Some(Datum::Text("1.5e3".into())));
        assert_eq!(event.expected, Some(Datum::Other("true".into())));
        assert_eq!((event.revision, event.at_revision, event.level), (Some(4), Some(5), None));
    }

    #[test]
    fn what_is_no_client_is_left_out() {
        for line in [
            "{\"process\":\"nemesis\",\"type\":\"info\",\"f\":\"read\"}",
            "{\"process\":\"nemesis\",\"type\":\"invoke\",\"f\":\"kill\"}",
            "{\"process\":\"watchdog\",\"type\":\"info\",\"f\":\"kill\"}",
        ] {
            assert_eq!(event(line), Ok(None), "{line}");
        }
    }

    #[test]
    fn strings_end_where_they_end() {
        for length in 0..20 {
            for end in ["\"", "\\n\"", "\\", "\n\"", ""] {
                let text = format!(
                    "{}{end}",
                    "\u{e9}~ !#]".repeat(4).chars().take(length).collect::<String>()
                );
                let line = format!("{{\"process\":0,\"type\":\"ok\",\"value\":\"{text}}}");
                let read = event(&line).ok().map(|e| e.unwrap().value.map(Datum::into_value));
                assert_eq!(read, judged(&format!("\"{text}")), "{line}");
            }
        }
    }

    #[test]
    fn deep_nesting_is_refused() {
        let line = format!("{{\"value\":{}}}", "[".repeat(100_000));
        assert!(event(&line).unwrap_err().contains("nested"));
    }
}
