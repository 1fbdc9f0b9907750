//! The lines of an import, read ahead by a thread of their own: a slow file or pipe holds up neither
//! the writes that are open nor Ctrl-C.

use std::io::{self, BufRead, BufReader, Read};
use std::time::SystemTime;

use bytes::Bytes;
use proto::limits::{self, REQUEST_BYTES_MAX};
use proto::v1;
use serde::Deserialize;
use tokio::sync::mpsc;

use super::super::txn::bytes_from;

/// Longest line: base64 and escapes make it longer than the request.
const LINE_BYTES_MAX: usize = 6 * REQUEST_BYTES_MAX;
/// Lines that are read ahead.
const LINES_AHEAD: usize = 32;

/// A line, numbered from 1.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Line {
    pub(super) number: u64,
    /// What is to be put, nothing on a blank line, or what is wrong.
    pub(super) content: Result<Option<Pair>, String>,
}

/// A key and its value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Pair {
    pub(super) key: Bytes,
    pub(super) value: Bytes,
    /// When it is hidden, where a time is named.
    pub(super) expires: Option<SystemTime>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct LineJson {
    key: Option<String>,
    key_b64: Option<String>,
    value: Option<String>,
    value_b64: Option<String>,
    /// Of an export of an eventual keyspace; the write here is another one.
    dot: Option<String>,
    expires: Option<String>,
}

/// Reads lines ahead; an error of the source is the last thing that arrives. The thread ends when the
/// receiver is dropped and the next line is there, or with the process.
pub(super) fn read_ahead(
    source: Box<dyn Read + Send>,
) -> io::Result<mpsc::Receiver<io::Result<Line>>> {
    let (send, receive) = mpsc::channel(LINES_AHEAD);
    let thread = std::thread::Builder::new().name("import-lines".to_owned());
    thread.spawn(move || {
        let mut source = BufReader::new(source);
        let mut number = 0;
        loop {
            number += 1;
            let line = next_line(&mut source, number);
            let ends = matches!(line, Ok(None) | Err(_));
            if line.transpose().is_some_and(|line| send.blocking_send(line).is_err()) || ends {
                return;
            }
        }
    })?;
    Ok(receive)
}

/// The next line; `None` at the end.
fn next_line(source: &mut impl BufRead, number: u64) -> io::Result<Option<Line>> {
    let mut bytes = Vec::new();
    let read = source.take(LINE_BYTES_MAX as u64 + 1).read_until(b'\n', &mut bytes)?;
    if read == 0 {
        return Ok(None);
    }
    if bytes.last() != Some(&b'\n') && bytes.len() > LINE_BYTES_MAX {
        skip_line(source)?;
        let content = Err(format!("the line is longer than {LINE_BYTES_MAX} bytes"));
        return Ok(Some(Line { number, content }));
    }
    Ok(Some(Line { number, content: parse(bytes.trim_ascii()) }))
}

/// Reads on behind the end of the line.
fn skip_line(source: &mut impl BufRead) -> io::Result<()> {
    loop {
        let buffer = source.fill_buf()?;
        let (skipped, done) = match buffer.iter().position(|byte| *byte == b'\n') {
            Some(at) => (at + 1, true),
            None => (buffer.len(), buffer.is_empty()),
        };
        source.consume(skipped);
        if done {
            return Ok(());
        }
    }
}

/// The key and the value of a line, checked for what no cluster takes.
fn parse(line: &[u8]) -> Result<Option<Pair>, String> {
    if line.is_empty() {
        return Ok(None);
    }
    let json: LineJson = serde_json::from_slice(line)
        .map_err(|error| error.to_string().replace("at line 1 column", "at column"))?;
    let key = bytes_from("key", json.key, json.key_b64)?.ok_or("name key or key_b64")?;
    let value = bytes_from("value", json.value, json.value_b64)?;
    let value = value.ok_or("name value or value_b64")?;
    let checked = limits::check_key(&key).and_then(|()| limits::check_value(&value));
    checked.map_err(|failure| failure.why)?;
    if let Some(dot) = json.dot {
        dot.parse::<v1::Dot>().map_err(|error| error.to_string())?;
    }
    let expires = json.expires.map(|text| humantime::parse_rfc3339(&text)).transpose();
    let expires = expires.map_err(|error| format!("expires: {error}"))?;
    Ok(Some(Pair { key, value, expires }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(text: &[u8]) -> Vec<Line> {
        let mut receive = read_ahead(Box::new(io::Cursor::new(text.to_vec()))).unwrap();
        std::iter::from_fn(|| receive.blocking_recv()).map(Result::unwrap).collect()
    }

    #[test]
    fn lines_are_read_and_numbered() {
        let text = b"{\"key\":\"a\",\"value\":\"1\"}\r\n\n  \n\
                     {\"key_b64\":\"/w==\",\"value_b64\":\"AA==\"}";
        let found = lines(text);
        let numbers: Vec<u64> = found.iter().map(|line| line.number).collect();
        assert_eq!(numbers, [1, 2, 3, 4]);
        let pair = |key: &'static [u8], value: &'static [u8]| {
            let (key, value) = (Bytes::from_static(key), Bytes::from_static(value));
            Ok(Some(Pair { key, value, expires: None }))
        };
        assert_eq!(found[0].content, pair(b"a", b"1"));
        assert_eq!((&found[1].content, &found[2].content), (&Ok(None), &Ok(None)));
        assert_eq!(found[3].content, pair(b"\xff", b"\0"));
    }

    #[test]
    fn lines_of_an_eventual_keyspace_are_read() {
        let dot = "000102030405060708090a0b0c0d0e0f:70";
        let line = format!(
            r#"{{"key":"a","value":"1","dot":"{dot}","expires":"2026-11-18T11:06:40.123Z"}}"#
        );
        let pair = parse(line.as_bytes()).unwrap().unwrap();
        let since = pair.expires.unwrap().duration_since(SystemTime::UNIX_EPOCH).unwrap();
        assert_eq!(since.as_millis(), 1_795_000_000_123);
    }

    #[test]
    fn mistakes_are_named() {
        for (line, why) in [
            ("{", "EOF while parsing an object at column 1"),
            ("[]", "invalid length 0"),
            (r#"{"value":"1"}"#, "name key or key_b64"),
            (r#"{"key":"a"}"#, "name value or value_b64"),
            (r#"{"key":"a","key_b64":"YQ==","value":"1"}"#, "name key or key_b64, not both"),
            (r#"{"key":"a","value_b64":"!"}"#, "no base64"),
            (r#"{"key":"a","valeu":"1"}"#, "unknown field `valeu`"),
            (r#"{"key":"","value":"1"}"#, "at least one byte"),
            (r#"{"key":"a","value":"1","dot":"7"}"#, "a dot is 32 hex digits"),
            (r#"{"key":"a","value":"1","expires":"soon"}"#, "expires: "),
            (r#"{"key":1,"value":"1"}"#, "invalid type"),
        ] {
            let error = parse(line.as_bytes()).unwrap_err();
            assert!(error.contains(why), "{line}: {error}");
        }
        let long = format!(r#"{{"key":"{}","value":"1"}}"#, "k".repeat(4_097));
        assert!(parse(long.as_bytes()).unwrap_err().contains("at most 4096"));
        assert!(parse(b"{\"key\":\"\xff\",\"value\":\"1\"}").is_err());
    }

    #[test]
    fn a_line_without_end_is_left_out_and_the_next_one_read() {
        let mut text = vec![b'x'; LINE_BYTES_MAX + 100_000];
        text.extend_from_slice(b"\n{\"key\":\"a\",\"value\":\"1\"}\n");
        let found = lines(&text);
        assert_eq!(found.len(), 2);
        assert!(found[0].content.as_ref().unwrap_err().contains("longer than"));
        assert_eq!((found[1].number, found[1].content.is_ok()), (2, true));
    }

    #[test]
    fn an_error_of_the_source_arrives_last() {
        struct Broken;
        impl Read for Broken {
            fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
                Err(io::Error::other("broken"))
            }
        }
        let mut receive =
            read_ahead(Box::new(io::Cursor::new(b"\n".to_vec()).chain(Broken))).unwrap();
        assert_eq!(receive.blocking_recv().unwrap().unwrap().content, Ok(None));
        assert!(receive.blocking_recv().unwrap().is_err());
        assert!(receive.blocking_recv().is_none());
    }
}
