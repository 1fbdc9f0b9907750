//! Histories: what clients did and saw, as JSON lines, as Jepsen's EDN, or as the log of an old run.
//!
//! A history is a sequence of events in the order in which they happened: a process *invokes* an
//! operation, and later at most one of `ok`, `fail` and `info` completes it. Which format a file has
//! is told from its beginning; a byte order mark, blank lines and comments before it do not matter.
//!
//! # JSON lines
//!
//! ```text
//! {"time":120,"process":0,"type":"invoke","f":"cas","key":"k","value":"b","expected":"a","node":"n1"}
//! {"time":950,"process":0,"type":"ok","f":"cas","key":"k","value":"b","expected":"a","node":"n1","rev":7}
//! ```
//!
//! - `time` is in nanoseconds and never decreases from line to line. Times alone decide what
//!   precedes what: events at equal times are concurrent, whatever the order of their lines. A
//!   file without times is read as if the line number were the time.
//! - `f` is a [`Function`](crate::operation::Function); `get` and `put` count as `read` and `write`.
//!   It and `key` may be left out of a completion, and `key` where there is only one.
//! - `value` is what is written, or, in the `ok` of a read, what was returned; absent or null
//!   means that the key does not exist. `expected` is what a cas compares with. Numbers count as
//!   their digits.
//! - `error`, `rev` and `at_rev` count in a completion. Of an operation that has none they count in
//!   its invocation.
//! - Replies of eventual keyspaces have `dots` (a list), `context` (base64), and perhaps `lost`: see
//!   [`Causal`](crate::operation::Causal).
//! - Lines that begin with `#`, `;` or `//` are comments.
//!
//! # EDN
//!
//! A vector, a list or a bare run of maps, one map an event, with the keys `:process`, `:type`, `:f`,
//! `:value`, and perhaps `:key`, `:time`, `:error`, `:node`, `:level`, `:rev`, `:at-rev`; others are
//! ignored. The value of a cas is `[old new]`. Tags such as `#jepsen.history.Op` count for nothing.
//! The order of events in the file decides what precedes what; times are kept where they agree.
//!
//! # Logs
//!
//! Lines such as `INFO  jepsen.util - 3 :invoke :write 4`; other lines are noise.
//!
//! # In all of them
//!
//! - A process that is no number is no client: the events of `nemesis` are left out, and so is what
//!   others only tell, with `info`. Anything else of a process that is no number is refused.
//! - What an `ok` says of key, function and value must be what was invoked; only reads, transactions
//!   and watches return something else.
//! - An operation that is still open at the end of the file is the same as `info`.
//! - A read that succeeded without anyone knowing its value is written as `info`.
//! - With [`ReadOptions::keyed`] every value is `[key value]`.

mod assembly;
mod corpus;
mod edn;
mod event;
mod format;
mod interner;
mod json;
mod log;
mod output;

pub use corpus::Corpus;
pub(crate) use corpus::{Entry, Symbol};
pub use format::{Format, ReadOptions};
pub use output::{write, write_edn};

use std::io::{self, BufRead};

use self::assembly::Assembly;
use self::edn::Edn;
use crate::error::LabError;
use crate::operation::Operation;

/// Longest line, or longest map of EDN, that is read; longer ones are refused rather than kept in
/// memory.
pub const LINE_BYTES_MAX: usize = 4 * 1024 * 1024;

/// Reads a whole history; operations are ordered by their calls.
///
/// # Errors
///
/// [`LabError::History`] with the first line that breaks the format, or that cannot be read.
pub fn read(input: impl BufRead, options: &ReadOptions) -> Result<Vec<Operation>, LabError> {
    let mut places: Vec<Option<Operation>> = Vec::new();
    assemble(input, options, |place, operation| {
        if places.len() <= place {
            places.resize_with(place + 1, || None);
        }
        places[place] = Some(operation);
    })?;
    let whole = |operation: Option<Operation>| operation.expect("every call is handed on once");
    Ok(places.into_iter().map(whole).collect())
}

/// Reads a history and hands on one operation after the other: those that were completed in the
/// order of their completions, then those that were not. Only operations that are open at one time
/// are kept in memory.
///
/// # Errors
///
/// Like [`read`]; operations before the fault may have been handed on.
pub fn stream(
    input: impl BufRead,
    options: &ReadOptions,
    mut each: impl FnMut(Operation),
) -> Result<(), LabError> {
    assemble(input, options, |_, operation| each(operation))
}

/// Reads a history into its compact form.
///
/// # Errors
///
/// Like [`read`].
pub fn corpus(input: impl BufRead, options: &ReadOptions) -> Result<Corpus, LabError> {
    let mut corpus = Corpus::default();
    assemble(input, options, |place, operation| corpus.put(place, &operation))?;
    corpus.finish();
    Ok(corpus)
}

/// Reads some operations of a history again: those at `places` in the order of calls, ascending.
///
/// # Errors
///
/// Like [`read`]; and if it is not the history that `corpus` is of.
pub fn pick(
    input: impl BufRead,
    options: &ReadOptions,
    corpus: &Corpus,
    places: &[u32],
) -> Result<Vec<Operation>, LabError> {
    let mut picked = Vec::with_capacity(places.len());
    assemble(input, options, |place, operation| {
        let wanted = u32::try_from(place).ok().filter(|at| places.binary_search(at).is_ok());
        if wanted.is_some_and(|at| corpus.entries()[at as usize].invoke_ns == operation.invoke_ns) {
            picked.push((place, operation));
        }
    })?;
    if picked.len() != places.len() {
        let why = "this file is being written to: read again it was another history";
        return Err(LabError::History { line: 1, why: why.to_owned() });
    }
    picked.sort_unstable_by_key(|(place, _)| *place);
    Ok(picked.into_iter().map(|(_, operation)| operation).collect())
}

/// Hands on each operation with its place in the order of calls.
fn assemble(
    input: impl BufRead,
    options: &ReadOptions,
    each: impl FnMut(usize, Operation),
) -> Result<(), LabError> {
    let (format, mut input) = format::tell(input, options.format)?;
    let assembly = Assembly::new(options.keyed, format, each);
    match format {
        Format::Json => {
            lines(&mut input, assembly, |assembly, number, line| match json::event(line)? {
                Some(event) => assembly.add(number, event),
                None => Ok(()),
            })
        }
        Format::Log => {
            lines(&mut input, assembly, |assembly, number, line| match log::event(line)? {
                Some(event) => assembly.add(number, event),
                None => Ok(()),
            })
        }
        Format::Edn => forms(&mut input, assembly),
    }
}

/// Takes a history line by line.
fn lines<E: FnMut(usize, Operation)>(
    input: &mut impl BufRead,
    mut assembly: Assembly<E>,
    mut take: impl FnMut(&mut Assembly<E>, u64, &str) -> Result<(), String>,
) -> Result<(), LabError> {
    let mut line = Vec::new();
    let mut number = 0;
    loop {
        number += 1;
        line.clear();
        let refuse = |why: String| LabError::History { line: number, why };
        let taken = take_until(input, b'\n', &mut line).map_err(refuse)?;
        if taken == 0 {
            assembly.finish();
            return Ok(());
        }
        let text = std::str::from_utf8(&line)
            .map_err(|_| refuse("these bytes are no text in UTF-8".to_owned()))?;
        let text = text.strip_prefix(format::BYTE_ORDER_MARK).unwrap_or(text).trim_ascii();
        if text.is_empty() || format::is_comment(text) {
            continue;
        }
        take(&mut assembly, number, text).map_err(refuse)?;
    }
}

/// Takes a history map by map.
fn forms<E: FnMut(usize, Operation)>(
    input: &mut impl BufRead,
    mut assembly: Assembly<E>,
) -> Result<(), LabError> {
    let mut form = Vec::new();
    let mut edn = Edn::default();
    loop {
        let at_end = {
            // Every map ends with a brace, so a form is complete at some brace or not at all.
            let before = form.len();
            let taken = take_until(input, b'}', &mut form)
                .map_err(|why| LabError::History { line: edn.line(), why })?;
            edn.scan(&form[before..]);
            taken == 0
        };
        if !at_end && !edn.is_whole() {
            continue;
        }
        let line = edn.line();
        let refuse = |why: String| LabError::History { line, why };
        let text = std::str::from_utf8(&form)
            .map_err(|_| refuse("these bytes are no text in UTF-8".to_owned()))?;
        edn.events(text, at_end, |event| assembly.add(line, event)).map_err(refuse)?;
        form.clear();
        if at_end {
            assembly.finish();
            return Ok(());
        }
    }
}

/// Appends bytes up to and with the next `stop`, or to the end; the number of bytes taken.
fn take_until(input: &mut impl BufRead, stop: u8, out: &mut Vec<u8>) -> Result<usize, String> {
    let room = (LINE_BYTES_MAX + 1).saturating_sub(out.len()) as u64;
    let taken =
        io::Read::take(input, room).read_until(stop, out).map_err(|error| error.to_string())?;
    if out.len() > LINE_BYTES_MAX {
        return Err(format!("longer than {LINE_BYTES_MAX} bytes"));
    }
    Ok(taken)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::operation::{Call, Causal, Outcome};

    fn parse(text: &str) -> Result<Vec<Operation>, String> {
        read(text.as_bytes(), &ReadOptions::default()).map_err(|error| error.to_string())
    }

    #[test]
    fn a_history_survives_the_file() {
        let mut done = Operation::invoked(0, Call::cas("k", Some("a\n\"ü".into()), "b"), 3);
        done.outcome = Outcome::Ok;
        done.return_ns = Some(9);
        done.node = Some("n1".into());
        done.revision = Some(4);
        let mut failed = Operation::invoked(1, Call::write("k", "c"), 4);
        failed.outcome = Outcome::Fail;
        failed.return_ns = Some(4);
        failed.error = Some("KV1201".into());
        let mut read_back = Operation::invoked(1, Call::read("k"), 9);
        read_back.outcome = Outcome::Ok;
        read_back.return_ns = Some(9);
        read_back.value = Some("b".into());
        read_back.revision = Some(4);
        read_back.at_revision = Some(7);
        let dots = vec!["ab:1".to_owned(), "cd:2".to_owned()];
        let causal = Causal { dots, context: Some("AbC=".to_owned()), lost: true };
        read_back.causal = Some(Box::new(causal));
        let open = Operation::invoked(2, Call::delete("k"), 10);
        let operations = vec![done, failed, read_back, open];
        let mut file = Vec::new();
        write(&mut file, &operations).unwrap();
        assert_eq!(read(file.as_slice(), &ReadOptions::default()).unwrap(), operations);
    }

    #[test]
    fn numbers_count_as_text_and_lines_as_time() {
        let operations = parse(
            "{\"process\":0,\"type\":\"invoke\",\"f\":\"write\",\"key\":1,\"value\":-3}\n\n\
             {\"process\":0,\"type\":\"ok\"}\n\
             {\"process\":0,\"type\":\"invoke\",\"f\":\"read\",\"key\":\"1\",\"value\":null}\n\
             {\"process\":0,\"type\":\"ok\",\"value\":-3}\n",
        )
        .unwrap();
        assert_eq!(operations.len(), 2);
        assert_eq!(operations[0].key, "1");
        assert_eq!(operations[1].text(), Some("-3"));
        assert_eq!((operations[0].return_ns, operations[1].invoke_ns), (Some(3), 4));
    }

    #[test]
    fn broken_histories_are_refused_with_their_line() {
        let invoke =
            "{\"process\":0,\"type\":\"invoke\",\"f\":\"read\",\"key\":\"k\",\"time\":5}\n";
        let cases = [
            ("{\"process\":0,\"type\":\"ok\"}", "line 1: process 0 completes an operation"),
            (&format!("{invoke}{invoke}"), "line 2: process 0 invokes while"),
            (&format!("{invoke}{{\"process\":0,\"type\":\"ok\"}}"), "line 2: some lines have"),
            (
                &format!("{invoke}{{\"process\":0,\"type\":\"ok\",\"time\":4}}"),
                "line 2: time 4 is earlier",
            ),
            (
                &format!("{invoke}{{\"process\":0,\"type\":\"ok\",\"f\":\"cas\",\"time\":6}}"),
                "line 2: process 0 completes another",
            ),
            ("{\"process\":0,\"type\":\"invoke\",\"f\":\"write\",\"key\":\"k\"}", "needs `value`"),
            ("{\"process\":0,\"type\":\"invoke\",\"key\":\"k\"}", "needs `f`"),
            (
                "{\"process\":0,\"type\":\"invoke\",\"f\":\"pop\",\"key\":\"k\"}",
                "unknown function \"pop\"",
            ),
            ("not json", "line 1: expected an event in a known format"),
        ];
        for (text, expected) in cases {
            let error = parse(text).unwrap_err();
            assert!(error.contains(expected), "{text}\n{error}");
        }
    }

    #[test]
    fn an_endless_line_is_refused() {
        let mut line = b"{\"process\":".to_vec();
        line.resize(LINE_BYTES_MAX + 1, b' ');
        let error = read(line.as_slice(), &ReadOptions::default()).unwrap_err().to_string();
        assert!(error.contains("longer than"), "{error}");
    }
}
