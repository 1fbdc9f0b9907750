//! Telling the formats of histories apart.

use std::io::{self, BufRead, Chain, Cursor};

use clap::ValueEnum;

use crate::error::LabError;

/// What some editors put before text.
pub(super) const BYTE_ORDER_MARK: char = '\u{feff}';

/// Bytes of blank lines and comments that are looked through for the first event.
const PREAMBLE_BYTES_MAX: usize = 1024 * 1024;

/// How a history is written down.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// One JSON object a line.
    Json,
    /// Jepsen's EDN, one map an event.
    Edn,
    /// Lines of the log of an old Jepsen run.
    Log,
}

/// How a history is read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ReadOptions {
    /// Whether every value is `[key value]`.
    pub keyed: bool,
    /// The format; told from the content if not given.
    pub format: Option<Format>,
}

/// Whether a line, trimmed and not blank, is a comment.
pub(super) fn is_comment(line: &str) -> bool {
    let bytes = line.as_bytes();
    match bytes[0] {
        b';' => true,
        // Not a tag or a set of EDN.
        b'#' => bytes.get(1).is_none_or(|next| matches!(next, b' ' | b'\t' | b'#' | b'!')),
        b'/' => bytes.get(1) == Some(&b'/'),
        _ => false,
    }
}

/// An input of which the beginning was taken and is put back.
type Whole<R> = Chain<Cursor<Vec<u8>>, R>;

/// The format of the input, and the input from its beginning.
pub(super) fn tell<R: BufRead>(
    mut input: R,
    given: Option<Format>,
) -> Result<(Format, Whole<R>), LabError> {
    let mut seen = Vec::new();
    let mut line = 0;
    let mut noise = None;
    let mut format = given;
    while format.is_none() {
        line += 1;
        let refuse = |line: u64, why: String| LabError::History { line, why };
        let begin = seen.len();
        let room = (PREAMBLE_BYTES_MAX + 1).saturating_sub(begin) as u64;
        let taken = io::Read::take(&mut input, room)
            .read_until(b'\n', &mut seen)
            .map_err(|error| refuse(line, error.to_string()))?;
        format = match told_by(&seen[begin..]) {
            Line::Told(format) => Some(format),
            _ if seen.len() > PREAMBLE_BYTES_MAX => {
                return Err(refuse(line, format!("no event within {PREAMBLE_BYTES_MAX} bytes")));
            }
            _ if taken == 0 => match noise {
                Some(line) => {
                    return Err(refuse(line, "expected an event in a known format".to_owned()));
                }
                // Nothing in it, so any format will do.
                None => Some(Format::Json),
            },
            Line::Blank => None,
            Line::Noise => {
                noise.get_or_insert(line);
                None
            }
        };
    }
    let format = format.expect("the loop ends with a format");
    Ok((format, io::Read::chain(Cursor::new(seen), input)))
}

/// What a line says of the format.
enum Line {
    Told(Format),
    /// Nothing, or a comment.
    Blank,
    /// What may stand between the events of a log.
    Noise,
}

fn told_by(line: &[u8]) -> Line {
    let line = line.strip_prefix("\u{feff}".as_bytes()).unwrap_or(line).trim_ascii();
    let Some(first) = line.first() else { return Line::Blank };
    let after = line[1..].trim_ascii_start().first();
    match first {
        b'{' if matches!(after, Some(b'"' | b'}')) => Line::Told(Format::Json),
        b'{' | b'[' | b'(' => Line::Told(Format::Edn),
        b'#' | b';' | b'/' if std::str::from_utf8(line).map_or(*first == b';', is_comment) => {
            Line::Blank
        }
        b'#' => Line::Told(Format::Edn),
        _ if line.windows(LOG.len()).any(|part| part == LOG) => Line::Told(Format::Log),
        _ => Line::Noise,
    }
}

/// What every event of a log holds.
const LOG: &[u8] = b"jepsen.util -";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formats_are_told_from_their_beginning() {
        let cases: [(&str, Format); 12] = [
            ("{\"process\":0}", Format::Json),
            ("\u{feff}\n\n  {\"process\":0}", Format::Json),
            ("# a comment\n// another\n{}", Format::Json),
            ("", Format::Json),
            ("{:process 0}", Format::Edn),
            ("; comment\n\n[{:process 0}]", Format::Edn),
            ("\u{feff}; comment\n({:process 0})", Format::Edn),
            ("#jepsen.history.Op{:process 0}", Format::Edn),
            ("#_{:process 0} {:process 1}", Format::Edn),
            ("[\n{:process 0}]", Format::Edn),
            ("INFO  jepsen.util - 0\t:invoke\t:read\tnil", Format::Log),
            ("Starting the run\nINFO  jepsen.util - 0\t:invoke\t:read\tnil", Format::Log),
        ];
        for (text, expected) in cases {
            let (format, rest) = tell(text.as_bytes(), None).unwrap();
            assert_eq!(format, expected, "{text}");
            let rest = io::read_to_string(rest).unwrap();
            assert_eq!(rest, text);
        }
    }

    #[test]
    fn an_endless_preamble_is_refused() {
        for (text, line) in [("\n", 1_048_577), (" ", 1), ("noise\n", 174_763)] {
            let endless = text.repeat(PREAMBLE_BYTES_MAX + 2);
            let error = tell(endless.as_bytes(), None).map(|_| ()).unwrap_err().to_string();
            assert_eq!(error, format!("line {line}: no event within 1048576 bytes"));
        }
    }

    #[test]
    fn what_is_no_history_is_refused() {
        let error = tell("\nnot json\n3".as_bytes(), None).map(|_| ()).unwrap_err().to_string();
        assert_eq!(error, "line 2: expected an event in a known format");
    }
}
