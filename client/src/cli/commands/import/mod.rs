//! `kv import`: one put per line, a bounded number of them open at once.
//!
//! Puts of the same key are never open together, so that the last line of a key wins, as it would one by
//! one. A line that no cluster would take is named and left out. Any other failure ends the import: what
//! is open is waited for, and the summary says how far it came.
//!
//! An eventual keyspace keeps several values of a key, and an export of it has a line for each. There a line
//! adds its value to those of the key, unless it is among them: running an import again changes nothing, and
//! it never replaces what is there.

mod lines;

use std::collections::HashSet;
use std::fs::File;
use std::io::{self, Read};
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use proto::v1::compare::Target;
use proto::v1::keyspace::Kind;
use proto::{Applied, v1};
use serde::Serialize;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use crate::cli::EXIT_INTERRUPTED;
use crate::cli::args::ImportArgs;
use crate::cli::errors::{CliError, EXIT_PARTIAL};
use crate::cli::output::{Form, SCHEMA, grouped, json_line, one_line};
use crate::cli::progress::Progress;
use crate::cli::run::Run;
use crate::client::Client;
use crate::config::CallOptions;
use crate::error::ClientError;
use lines::{Line, Pair, read_ahead};

/// Bad lines that are named; the others are counted.
const NAMED_LINES_MAX: usize = 20;
/// The progress is looked at this often while nothing else happens.
const GLANCE: Duration = Duration::from_millis(500);

/// What became of the lines.
#[derive(Debug, Default, Serialize)]
struct Tally {
    written: u64,
    /// Keys that existed, with --if-absent; in an eventual keyspace values that the key had already, or
    /// that have expired.
    skipped: u64,
    /// Lines that no cluster would take.
    bad: u64,
    /// Certainly not written.
    failed: u64,
    /// May be written.
    unknown: u64,
}

#[derive(Serialize)]
struct SummaryJson<'a> {
    schema: u32,
    #[serde(flatten)]
    tally: &'a Tally,
    /// All lines were read.
    complete: bool,
    bad_lines: &'a [BadLine],
}

#[derive(Debug, Serialize)]
struct BadLine {
    line: u64,
    why: String,
}

/// The end of one write.
struct Done {
    number: u64,
    key: Bytes,
    /// Whether it wrote.
    outcome: Result<bool, ClientError>,
}

/// An import under way.
///
/// Invariant: `busy` holds the keys of the open writes, each once.
struct Import {
    client: Client,
    /// How each line is put.
    how: How,
    jobs: usize,
    source: PathBuf,
    open: JoinSet<Done>,
    busy: HashSet<Bytes>,
    /// The line that waits for room, or for the write of its key.
    waiting: Option<(u64, Pair)>,
    /// More lines are wanted.
    reading: bool,
    tally: Tally,
    bad_lines: Vec<BadLine>,
    failure: Option<CliError>,
    interrupted: bool,
}

/// How lines are put.
#[derive(Clone)]
struct How {
    if_absent: bool,
    /// Into an eventual keyspace: values are added.
    adds: bool,
    options: CallOptions,
}

pub(super) async fn import(args: ImportArgs, run: &mut Run<'_>) -> Result<(), CliError> {
    let client = run.client()?;
    let options = CallOptions { retry: args.retry.at.into(), ..run.options() };
    client.prepare_writes(&options).await?;
    let kind = client.sure_kind(&options).await?;
    let how = How { if_absent: args.if_absent, adds: kind == Kind::Eventual, options };
    let source = source_of(&args, run)?;
    let name = if args.file.as_os_str() == "-" { "stdin".into() } else { args.file };
    let lines =
        read_ahead(source).map_err(|source| CliError::File { path: name.clone(), source })?;
    let mut import = Import {
        client,
        how,
        jobs: usize::from(args.jobs),
        source: name,
        open: JoinSet::new(),
        busy: HashSet::new(),
        waiting: None,
        reading: true,
        tally: Tally::default(),
        bad_lines: Vec::new(),
        failure: None,
        interrupted: false,
    };
    import.carry_out(lines, run).await?;
    import.finish(run)
}

/// Puts a line. Returns whether that wrote.
async fn put(client: &Client, pair: Pair, how: &How) -> Result<bool, ClientError> {
    let Pair { key, value, expires } = pair;
    let mut ttl_ms = 0;
    if let Some(expires) = expires {
        let left = expires.duration_since(SystemTime::now()).unwrap_or_default();
        ttl_ms = u64::try_from(left.as_millis()).unwrap_or(u64::MAX);
        if ttl_ms == 0 {
            return Ok(false);
        }
    }
    if how.adds {
        let request = v1::GetRequest { key: key.clone(), ..Default::default() };
        let there = client.siblings(request, &how.options).await?;
        if there.values.iter().any(|sibling| sibling.value == value) {
            return Ok(false);
        }
    }
    let absent = || v1::Compare { key: key.clone(), target: Some(Target::Absent(true)) };
    let condition = how.if_absent.then(absent);
    let beside = how.adds;
    let request = v1::PutRequest { key, value, condition, ttl_ms, beside, ..Default::default() };
    client.put(request, &how.options).await.map(|reply| reply.succeeded)
}

fn source_of(args: &ImportArgs, run: &mut Run<'_>) -> Result<Box<dyn Read + Send>, CliError> {
    if args.file.as_os_str() == "-" {
        return Ok(std::mem::replace(&mut run.terminal.stdin, Box::new(io::empty())));
    }
    let opened = File::open(&args.file);
    let file = opened.map_err(|source| CliError::File { path: args.file.clone(), source })?;
    Ok(Box::new(file))
}

impl Import {
    /// Reads and writes until all is done, or something ended it. The first Ctrl-C reads no further, the
    /// second does not wait for open writes.
    async fn carry_out(
        &mut self,
        mut lines: mpsc::Receiver<io::Result<Line>>,
        run: &mut Run<'_>,
    ) -> Result<(), CliError> {
        let mut progress = Progress::new(run, true);
        let mut glances = tokio::time::interval(GLANCE);
        let mut interrupt = std::pin::pin!(tokio::signal::ctrl_c());
        loop {
            self.begin_waiting();
            if !self.reading && self.open.is_empty() {
                assert!(self.waiting.is_none(), "a line waits though no write is open");
                break;
            }
            tokio::select! {
                biased;
                signal = &mut interrupt => {
                    signal?;
                    if self.interrupted {
                        self.tally.unknown += self.open.len() as u64;
                        break;
                    }
                    self.interrupted = true;
                    self.stop();
                    interrupt.set(tokio::signal::ctrl_c());
                }
                Some(done) = self.open.join_next(), if !self.open.is_empty() => {
                    self.record(done.expect("a write neither panics nor is aborted"));
                }
                line = lines.recv(), if self.reading && self.waiting.is_none() => self.take(line),
                _ = glances.tick() => {}
            }
            let written = self.tally.written;
            progress.show(run, || format!("{} keys written", grouped(written)));
        }
        progress.clear(run);
        Ok(())
    }

    /// Takes what came from the reader.
    fn take(&mut self, line: Option<io::Result<Line>>) {
        match line {
            None => self.reading = false,
            Some(Err(source)) => {
                let path = self.source.clone();
                self.failure.get_or_insert(CliError::File { path, source });
                self.stop();
            }
            Some(Ok(Line { content: Ok(None), .. })) => {}
            Some(Ok(Line { number, content: Ok(Some(pair)) })) => {
                self.waiting = Some((number, pair));
            }
            Some(Ok(Line { number, content: Err(why) })) => {
                self.tally.bad += 1;
                if self.bad_lines.len() < NAMED_LINES_MAX {
                    self.bad_lines.push(BadLine { line: number, why });
                }
            }
        }
    }

    /// Begins the write that waits, if there is room and its key is free.
    fn begin_waiting(&mut self) {
        if self.open.len() >= self.jobs {
            return;
        }
        let is_free = |(_, pair): &mut (u64, Pair)| !self.busy.contains(&pair.key);
        let Some((number, pair)) = self.waiting.take_if(is_free) else { return };
        let key = pair.key.clone();
        assert!(self.busy.insert(key.clone()), "two writes of one key at once");
        let (client, how) = (self.client.clone(), self.how.clone());
        self.open.spawn(async move {
            let outcome = put(&client, pair, &how).await;
            Done { number, key, outcome }
        });
    }

    fn record(&mut self, done: Done) {
        assert!(self.busy.remove(&done.key), "the write of a key ended twice");
        let error = match done.outcome {
            Ok(true) => {
                self.tally.written += 1;
                return;
            }
            Ok(false) => {
                self.tally.skipped += 1;
                return;
            }
            Err(error) => error,
        };
        let unknown = error.applied() == Some(Applied::Unknown);
        match error.applied() {
            // It is written, on fewer replicas than asked for.
            Some(Applied::Yes) => self.tally.written += 1,
            Some(Applied::Unknown) => self.tally.unknown += 1,
            Some(Applied::No) | None => self.tally.failed += 1,
        }
        // Of all failures the one is told that leaves most open.
        let known = self.failure.as_ref().and_then(CliError::failure);
        let told_unknown = known.is_some_and(|told| told.applied == Some(Applied::Unknown));
        if self.failure.is_none() || (unknown && !told_unknown) {
            let failure = error.failure().clone();
            let subject = format!("line {}: {}", done.number, failure.subject);
            self.failure = Some(failure.subject(subject).into());
        }
        self.stop();
    }

    /// Begins nothing more.
    fn stop(&mut self) {
        self.reading = false;
        self.waiting = None;
    }

    /// Says what was done, and decides how the command ends.
    fn finish(self, run: &mut Run<'_>) -> Result<(), CliError> {
        self.print(run)?;
        let Tally { written, skipped, bad, .. } = self.tally;
        if self.interrupted {
            return Err(CliError::Status(EXIT_INTERRUPTED));
        }
        let some_done = written + skipped > 0;
        match self.failure {
            Some(failure) if some_done => Err(CliError::Partial(Box::new(failure))),
            Some(failure) => Err(failure),
            None if bad > 0 && some_done => Err(CliError::Status(EXIT_PARTIAL)),
            None if bad > 0 => Err(CliError::Usage(format!("all {bad} lines are bad"))),
            None => Ok(()),
        }
    }

    fn print(&self, run: &mut Run<'_>) -> Result<(), CliError> {
        let Tally { written, skipped, bad, failed, unknown } = &self.tally;
        match run.form {
            Form::Json | Form::JsonLines => {
                let summary = SummaryJson {
                    schema: SCHEMA,
                    tally: &self.tally,
                    complete: self.failure.is_none() && !self.interrupted,
                    bad_lines: &self.bad_lines,
                };
                return Ok(json_line(run.out(), &summary)?);
            }
            Form::People => {
                let mut words = format!("imported {} keys", grouped(*written));
                for (count, what) in [
                    (skipped, "existed"),
                    (bad, "bad lines"),
                    (failed, "failed"),
                    (unknown, "unknown"),
                ] {
                    if *count > 0 {
                        words.push_str(&format!("  {} {what}", grouped(*count)));
                    }
                }
                writeln!(run.out(), "{words}")?;
            }
            Form::Raw => {
                for (name, count) in [
                    ("written", written),
                    ("skipped", skipped),
                    ("bad", bad),
                    ("failed", failed),
                    ("unknown", unknown),
                ] {
                    writeln!(run.out(), "{name}\t{count}")?;
                }
            }
        }
        for BadLine { line, why } in &self.bad_lines {
            let label = run.paint_err.error("error:");
            // Nobody can be told that stderr is gone.
            let _ = writeln!(run.terminal.stderr, "{label} line {line}: {}", one_line(why));
        }
        let unnamed = bad - self.bad_lines.len() as u64;
        if unnamed > 0 {
            run.note(&format!("and {} more bad lines", grouped(unnamed)));
        }
        Ok(())
    }
}
