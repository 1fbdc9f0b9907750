//! Why work on files ended.

use std::io;
use std::path::{Path, PathBuf};

use proto::{Code, Failure};
use storage::export::ExportError;

use crate::config::ConfigError;
use crate::identity::DataDirError;
use crate::server::ServerError;

/// Exit code of a command that was used wrongly.
const EXIT_USAGE: u8 = 2;
/// Exit code when what was named is not there.
const EXIT_NOT_FOUND: u8 = 3;

/// An error of an offline command, by who mends it.
#[derive(Debug, thiserror::Error)]
pub enum OfflineError {
    /// The operator: the command asks for something that is not done.
    #[error("{what}: {why}")]
    Usage {
        /// What was refused.
        what: String,
        /// Why, with what to do instead.
        why: String,
    },
    /// The operator: there is no such file.
    #[error("{} does not exist", path.display())]
    Absent {
        /// The file.
        path: PathBuf,
    },
    /// An export does not verify. Another copy may.
    #[error("{failure}")]
    Damaged {
        /// What was found.
        failure: Failure,
        /// Where in the file.
        offset: u64,
    },
    /// Anything that ends a server as well.
    #[error(transparent)]
    Server(#[from] ServerError),
}

impl OfflineError {
    /// What the export at `path` was refused for.
    pub(super) fn export(path: &Path, error: &ExportError) -> Self {
        let subject = format!("export {}", path.display());
        let failure = || Failure::new(Code::ExportInvalid, subject.clone(), error.to_string());
        match error {
            ExportError::Io { source, .. } if source.kind() == io::ErrorKind::NotFound => {
                Self::Absent { path: path.to_owned() }
            }
            ExportError::Io { source, .. } | ExportError::Full { source, .. } => {
                let source = io::Error::new(source.kind(), error.to_string());
                ServerError::System { what: "work on an export", source }.into()
            }
            ExportError::Damaged { offset, .. } => {
                Self::Damaged { failure: failure(), offset: *offset }
            }
            ExportError::Newer { .. } => ServerError::Failure(failure()).into(),
        }
    }

    /// The system refused something on this path.
    pub(super) fn io(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| {
            let source = io::Error::new(source.kind(), format!("{}: {source}", path.display()));
            ServerError::System { what, source }.into()
        }
    }

    /// The exit code.
    #[must_use]
    pub const fn exit(&self) -> u8 {
        match self {
            Self::Usage { .. } => EXIT_USAGE,
            Self::Absent { .. } => EXIT_NOT_FOUND,
            Self::Damaged { failure, .. } => failure.code.exit(),
            Self::Server(error) => error.exit(),
        }
    }

    /// The error for a terminal.
    #[must_use]
    pub fn describe(&self) -> String {
        match self {
            Self::Usage { what, why } => format!("error: {what}\n  why:   {why}\n"),
            Self::Absent { .. } => format!("error: {self}\n"),
            Self::Damaged { failure, .. } => ServerError::Failure(failure.clone()).describe(),
            Self::Server(error) => error.describe(),
        }
    }

    /// The error for a program, on one line.
    #[must_use]
    pub fn to_json(&self) -> String {
        let (code, offset) = match self {
            Self::Damaged { failure, offset } => (Some(failure.code), Some(*offset)),
            Self::Server(ServerError::Failure(failure)) => (Some(failure.code), None),
            Self::Usage { .. } | Self::Absent { .. } | Self::Server(_) => (None, None),
        };
        let mut error = serde_json::json!({ "what": self.to_string(), "exit": self.exit() });
        if let Some(code) = code {
            error["code"] = code.to_string().into();
        }
        if let Some(offset) = offset {
            error["offset"] = offset.into();
        }
        format!("{}\n", serde_json::json!({ "schema": 1, "error": error }))
    }
}

impl From<ConfigError> for OfflineError {
    fn from(error: ConfigError) -> Self {
        Self::Server(error.into())
    }
}

impl From<DataDirError> for OfflineError {
    fn from(error: DataDirError) -> Self {
        Self::Server(error.into())
    }
}
