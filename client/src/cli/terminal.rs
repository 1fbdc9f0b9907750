//! What a command reads from and writes to, as values, so that a test can stand in for a terminal.

use std::ffi::OsString;
use std::fmt;
use std::io::{self, IsTerminal, Read, Write};

/// Looks up an environment variable by its name.
pub type Lookup = dyn Fn(&str) -> Option<OsString> + Send + Sync;

/// The surroundings of one run of the command.
pub struct Terminal {
    /// Where data comes from.
    pub stdin: Box<dyn Read + Send>,
    /// Where data goes, and nothing else.
    pub stdout: Box<dyn Write + Send>,
    /// Where progress, notes and errors go.
    pub stderr: Box<dyn Write + Send>,
    /// A person types at `stdin`.
    pub stdin_is_tty: bool,
    /// A person looks at `stdout`.
    pub stdout_is_tty: bool,
    /// A person looks at `stderr`.
    pub stderr_is_tty: bool,
    /// Looks up an environment variable.
    pub env: Box<Lookup>,
}

impl fmt::Debug for Terminal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Terminal")
            .field("stdout_is_tty", &self.stdout_is_tty)
            .finish_non_exhaustive()
    }
}

impl Terminal {
    /// The surroundings of this process.
    #[must_use]
    pub fn of_process() -> Self {
        Self {
            stdin: Box::new(io::stdin()),
            stdout: Box::new(io::BufWriter::new(io::stdout())),
            stderr: Box::new(io::stderr()),
            stdin_is_tty: io::stdin().is_terminal(),
            stdout_is_tty: io::stdout().is_terminal(),
            stderr_is_tty: io::stderr().is_terminal(),
            env: Box::new(|name| std::env::var_os(name)),
        }
    }

    /// An environment variable that is set and not empty.
    #[must_use]
    pub fn var(&self, name: &str) -> Option<OsString> {
        (self.env)(name).filter(|value| !value.is_empty())
    }

    /// An environment variable as text; `None` also when it is no Unicode.
    #[must_use]
    pub fn text_var(&self, name: &str) -> Option<String> {
        self.var(name).and_then(|value| value.into_string().ok())
    }
}
