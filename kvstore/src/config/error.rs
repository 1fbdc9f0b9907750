//! What is wrong with a configuration.

use std::fmt;
use std::io;
use std::path::PathBuf;

use proto::{Code, Failure};

/// Where a setting was made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// In the file.
    File {
        /// The file.
        path: PathBuf,
        /// The line, counted from 1.
        line: usize,
    },
    /// In the environment.
    Environment {
        /// The variable.
        variable: String,
    },
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File { path, line } => write!(f, "{}:{line}", path.display()),
            Self::Environment { variable } => write!(f, "environment variable {variable}"),
        }
    }
}

/// Why a configuration is refused. Each is the operator's to correct; nothing was started.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("{}: cannot be read: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The file is not TOML.
    #[error("{origin}: {why}")]
    Syntax {
        /// Where the parser gave up.
        origin: Origin,
        /// What it expected.
        why: String,
    },
    /// A key that does not exist.
    #[error("{origin}: unknown key `{key}`{}", did_you_mean(*suggestion))]
    UnknownKey {
        /// Where it stands.
        origin: Origin,
        /// The key, with its section.
        key: String,
        /// The key that was probably meant.
        suggestion: Option<&'static str>,
    },
    /// A variable that spells a key with one underscore between section and key, and so would do
    /// nothing.
    #[error(
        "environment variable {variable} sets nothing; did you mean {meant} (`{key}`)? Rename it, or \
         remove it: unset {variable}"
    )]
    Variable {
        /// The variable.
        variable: String,
        /// The key that was probably meant.
        key: &'static str,
        /// The variable of that key.
        meant: String,
    },
    /// A value of the wrong type.
    #[error("{origin}: key `{key}` expects {expected}")]
    WrongType {
        /// Where it stands.
        origin: Origin,
        /// The key.
        key: &'static str,
        /// What it expects, with an example.
        expected: &'static str,
    },
    /// A key without which the server cannot start.
    #[error("{}: key `{key}` is missing{hint}", path.display())]
    Missing {
        /// The file that should hold it.
        path: PathBuf,
        /// The key.
        key: &'static str,
        /// When it is needed, where that is not always; else empty.
        hint: &'static str,
    },
    /// A value that cannot be used, by itself or beside another one.
    #[error("{origin}: key `{key}`: {why}")]
    Invalid {
        /// Where it stands.
        origin: Origin,
        /// The key.
        key: &'static str,
        /// What is wrong with it.
        why: String,
    },
}

fn did_you_mean(suggestion: Option<&'static str>) -> String {
    suggestion.map(|key| format!("; did you mean `{key}`?")).unwrap_or_default()
}

impl From<ConfigError> for Failure {
    fn from(error: ConfigError) -> Self {
        Self::new(Code::ConfigInvalid, "configuration", error.to_string())
    }
}
