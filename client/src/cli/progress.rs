//! One line on stderr that tells a person how far a long command is.

use std::time::{Duration, Instant};

use super::run::Run;

/// The line is drawn anew no more often than this.
const EVERY: Duration = Duration::from_millis(250);

/// The line; it is drawn for a person alone, and gone at the end.
#[derive(Debug)]
pub(crate) struct Progress {
    wanted: bool,
    drawn: bool,
    due: Instant,
}

impl Progress {
    /// A line for this run. `stdout_is_free`: the data does not go to the same terminal.
    pub(crate) fn new(run: &Run<'_>, stdout_is_free: bool) -> Self {
        let dumb = run.terminal.var("TERM").is_some_and(|term| term == "dumb");
        let wanted = run.terminal.stderr_is_tty && !run.global.quiet && !dumb && stdout_is_free;
        Self { wanted, drawn: false, due: Instant::now() + EVERY }
    }

    /// Draws the line, if it is time to.
    pub(crate) fn show(&mut self, run: &mut Run<'_>, text: impl FnOnce() -> String) {
        if !self.wanted || Instant::now() < self.due {
            return;
        }
        self.due = Instant::now() + EVERY;
        self.drawn = true;
        // Progress that cannot be shown is not worth failing for.
        let _ = write!(run.terminal.stderr, "\r{}\x1b[K", text());
        let _ = run.terminal.stderr.flush();
    }

    /// Removes the line.
    pub(crate) fn clear(&mut self, run: &mut Run<'_>) {
        if std::mem::take(&mut self.drawn) {
            let _ = run.terminal.stderr.write_all(b"\r\x1b[K");
            let _ = run.terminal.stderr.flush();
        }
    }
}
