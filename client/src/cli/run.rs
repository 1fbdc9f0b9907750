//! What a command has at hand while it runs.

use std::io::Write;
use std::time::{Duration, Instant};

use super::EXIT_INTERRUPTED;
use super::args::GlobalArgs;
use super::errors::{Change, CliError};
use super::output::{Form, Paint};
use super::settings;
use super::terminal::Terminal;
use crate::client::Client;
use crate::config::CallOptions;

/// One run of the command: flags, surroundings and what follows from both.
#[derive(Debug)]
pub(crate) struct Run<'a> {
    pub(crate) global: GlobalArgs,
    pub(crate) terminal: &'a mut Terminal,
    pub(crate) form: Form,
    /// Colours of stdout.
    pub(crate) paint: Paint,
    /// Colours of stderr.
    pub(crate) paint_err: Paint,
    /// The change that is on its way, for who interrupts it.
    on_its_way: Option<Change>,
}

impl<'a> Run<'a> {
    pub(crate) fn new(global: GlobalArgs, terminal: &'a mut Terminal) -> Self {
        let form = Form::choose(global.output, terminal);
        let paint = Paint::choose(global.color, terminal, terminal.stdout_is_tty);
        let paint_err = Paint::choose(global.color, terminal, terminal.stderr_is_tty);
        Self { global, terminal, form, paint, paint_err, on_its_way: None }
    }

    /// Awaits a change; whoever interrupts it meanwhile is told that its outcome is unknown, and that
    /// `look` shows it.
    pub(crate) async fn change<T>(
        &mut self,
        subject: impl Into<String>,
        look: impl Into<String>,
        call: impl Future<Output = T>,
    ) -> T {
        self.on_its_way = Some(Change { subject: subject.into(), look: look.into() });
        let answer = call.await;
        self.on_its_way = None;
        answer
    }

    /// What an interrupted command ends with.
    pub(crate) fn interrupted(&mut self) -> CliError {
        match self.on_its_way.take() {
            Some(change) => CliError::Interrupted(change),
            None => CliError::Status(EXIT_INTERRUPTED),
        }
    }

    /// A write has no read level.
    ///
    /// # Errors
    /// A usage error where one was named.
    pub(crate) fn check_no_level(&self) -> Result<(), CliError> {
        match self.global.consistency {
            Some(_) => {
                let why = "--consistency is the level of reads; a write has none to choose";
                Err(CliError::Usage(why.to_owned()))
            }
            None => Ok(()),
        }
    }

    /// The client of the cluster that flags, environment and contexts name.
    pub(crate) fn client(&self) -> Result<Client, CliError> {
        settings::client(&self.global, self.terminal)
    }

    /// What each call asks for beyond the client's defaults, which hold the other flags.
    pub(crate) fn options(&self) -> CallOptions {
        CallOptions { ack: self.global.ack.map(Into::into), ..CallOptions::default() }
    }

    /// A read has no replicas to wait for, and a transaction has all it needs.
    ///
    /// # Errors
    /// A usage error where --ack was named.
    pub(crate) fn check_no_ack(&self) -> Result<(), CliError> {
        match self.global.ack {
            Some(_) => {
                let why = "--ack is for put, del and import in a keyspace of kind eventual";
                Err(CliError::Usage(why.to_owned()))
            }
            None => Ok(()),
        }
    }

    /// The time that a command of several calls has in all.
    ///
    /// # Errors
    /// Those of [`settings::timeout`].
    pub(crate) fn time_left(&self) -> Result<TimeLeft, CliError> {
        let total = settings::timeout(&self.global, self.terminal)?;
        Ok(TimeLeft::of(total))
    }

    /// The same for a command with a default of its own.
    ///
    /// # Errors
    /// Those of [`settings::timeout`].
    pub(crate) fn timeout_or(&self, default: Duration) -> Result<Duration, CliError> {
        settings::timeout_or(default, &self.global, self.terminal)
    }

    /// Where data goes.
    pub(crate) fn out(&mut self) -> &mut dyn Write {
        &mut *self.terminal.stdout
    }

    /// Says something on stderr that is not an error, unless -q.
    pub(crate) fn note(&mut self, text: &str) {
        if !self.global.quiet {
            // Nobody can be told that stderr is gone.
            let _ = writeln!(self.terminal.stderr, "{text}");
        }
    }

    /// Whether -v was given.
    pub(crate) const fn is_verbose(&self) -> bool {
        self.global.verbose > 0
    }

    /// Says something on stderr with -v.
    pub(crate) fn detail(&mut self, text: &str) {
        if self.is_verbose() {
            let _ = writeln!(self.terminal.stderr, "{}", self.paint_err.dim(text));
        }
    }

    /// Says on stderr that something went wrong which does not end the command.
    pub(crate) fn complain(&mut self, error: &CliError) {
        let text = error.render(self.form.is_json(), self.paint_err);
        // Nobody can be told that stderr is gone.
        let _ = self.terminal.stderr.write_all(text.as_bytes());
        let _ = self.terminal.stderr.flush();
    }

    /// Whether [`confirm`](Self::confirm) would ask a person.
    pub(crate) fn would_ask(&self) -> bool {
        !self.global.yes && !self.global.no_input && self.terminal.stdin_is_tty
    }

    /// Asks before something is destroyed.
    ///
    /// # Errors
    /// A usage error when nobody can be asked, exit 1 when the answer is not yes.
    pub(crate) fn confirm(&mut self, question: &str) -> Result<(), CliError> {
        if self.global.yes {
            return Ok(());
        }
        if !self.would_ask() {
            return Err(CliError::Usage(format!("{question} needs --yes, as nobody can be asked")));
        }
        let _ = write!(self.terminal.stderr, "{question} [y/N] ");
        let _ = self.terminal.stderr.flush();
        let answer = self.read_line();
        if matches!(answer.trim(), "y" | "Y" | "yes") {
            return Ok(());
        }
        self.note("nothing was done");
        Err(CliError::Status(1))
    }

    /// One line of stdin, at most a few bytes of which matter.
    fn read_line(&mut self) -> String {
        let mut line = Vec::new();
        let mut byte = [0];
        while line.len() < 64 && matches!(self.terminal.stdin.read(&mut byte), Ok(1)) {
            if byte[0] == b'\n' {
                break;
            }
            line.push(byte[0]);
        }
        String::from_utf8_lossy(&line).into_owned()
    }
}

/// The time that several calls have together.
#[derive(Clone, Copy, Debug)]
pub(crate) struct TimeLeft {
    deadline: Instant,
}

impl TimeLeft {
    /// All of it, from now on.
    pub(crate) fn of(total: Duration) -> Self {
        Self { deadline: Instant::now() + total }
    }

    /// What is left.
    pub(crate) fn get(self) -> Duration {
        self.deadline.saturating_duration_since(Instant::now()).max(Duration::from_millis(1))
    }

    /// The options of the next call: it has what is left.
    pub(crate) fn options(self) -> CallOptions {
        CallOptions { timeout: Some(self.get()), ..CallOptions::default() }
    }
}
