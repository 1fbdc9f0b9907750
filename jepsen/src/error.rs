//! Errors of the lab, sorted by what the caller does about them.
//!
//! A violated promise is no error: it is a [`Verdict`](crate::checker::Verdict).

use std::io;
use std::path::{Path, PathBuf};

/// Why the lab could not do its work. It says nothing about the system under test.
#[derive(Debug, thiserror::Error)]
pub enum LabError {
    /// A file or directory could not be used. The caller checks path, rights and space.
    #[error("{}: {source}", path.display())]
    Io {
        /// What could not be used.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A history breaks the rules of its format. The caller fixes the input.
    #[error("line {line}: {why}")]
    History {
        /// Line of the history, from 1.
        line: u64,
        /// Which rule it breaks.
        why: String,
    },
    /// Parameters of a run contradict each other. The caller fixes them.
    #[error("{0}")]
    Parameters(String),
    /// A node's process did not do what it was told. Its log says more.
    #[error("node {node}: {why} (log: {})", log.display())]
    Node {
        /// Name of the node.
        node: String,
        /// What it failed to do.
        why: String,
        /// Where its output went.
        log: PathBuf,
    },
    /// Certificates or the client library could not be set up.
    #[error("{what}: {source}")]
    Client {
        /// What was attempted.
        what: String,
        /// What the client library said.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

impl LabError {
    /// Names the path of an I/O error; made for `map_err`.
    pub fn io(path: &Path) -> impl FnOnce(io::Error) -> Self + '_ {
        move |source| Self::Io { path: path.to_owned(), source }
    }

    /// A plan of a simulation that makes no sense; made for `map_err`.
    pub fn plan(error: impl std::error::Error) -> Self {
        Self::Parameters(error.to_string())
    }

    /// Names what was attempted with the client library; made for `map_err`.
    pub fn client<E>(what: impl Into<String>) -> impl FnOnce(E) -> Self
    where
        E: std::error::Error + Send + Sync + 'static,
    {
        move |source| Self::Client { what: what.into(), source: Box::new(source) }
    }
}
