//! Why a server does not start, or ends.

use std::fmt::Write;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;

use proto::{Code, Failure};
use storage::state::StateError;
use storage::wal::WalError;

use crate::config::ConfigError;
use crate::durable::{Damage, OpenError, SeedError};
use crate::forming::FormError;
use crate::identity::DataDirError;
use crate::node::NodeError;
use crate::peer::NetworkError;
use crate::tls::TlsError;

/// Exit code of a server that failed at run time.
const EXIT_RUNTIME: u8 = 1;

/// An error that ends a server. Sorted by who mends it: the operator, the machine, we.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    /// An error of the catalogue: configuration, certificates, the data directory.
    #[error("{0}")]
    Failure(Failure),
    /// An address cannot be listened on.
    #[error("cannot listen on {address} for {purpose}: {source}")]
    Listen {
        /// What for.
        purpose: &'static str,
        /// The address.
        address: SocketAddr,
        /// The cause.
        source: io::Error,
    },
    /// The system refused something.
    #[error("cannot {what}: {source}")]
    System {
        /// What was tried.
        what: &'static str,
        /// The cause.
        source: io::Error,
    },
    /// The node cannot go on; it said why when it happened.
    #[error("{0}")]
    Fatal(String),
}

impl From<Failure> for ServerError {
    fn from(failure: Failure) -> Self {
        Self::Failure(failure)
    }
}

impl From<ConfigError> for ServerError {
    fn from(error: ConfigError) -> Self {
        Self::Failure(error.into())
    }
}

impl From<OpenError> for ServerError {
    fn from(error: OpenError) -> Self {
        match error {
            OpenError::Log(error) => Self::of_log("log".to_owned(), error),
            OpenError::State { name, source: source @ StateError::Newer { .. } } => {
                Self::data(Code::DataForeign, format!("state directory {name}"), &source)
            }
            OpenError::LogBehind { ref what, .. } => {
                Self::data(Code::DataDamaged, what.clone(), &error)
            }
            OpenError::GroupMissing(_) => Self::data(Code::DataDamaged, "log".to_owned(), &error),
            OpenError::Export(_) | OpenError::Io { .. } | OpenError::State { .. } => {
                let source = io::Error::other(error);
                Self::System { what: "open the node's data", source }
            }
        }
    }
}

impl From<TlsError> for ServerError {
    fn from(error: TlsError) -> Self {
        Self::Failure(error.into())
    }
}

impl From<DataDirError> for ServerError {
    fn from(error: DataDirError) -> Self {
        Self::Failure(error.into())
    }
}

impl From<NetworkError> for ServerError {
    fn from(error: NetworkError) -> Self {
        match error {
            NetworkError::Listen { address, source } => {
                Self::Listen { purpose: "peers", address, source }
            }
            NetworkError::CertificateCluster { .. } => Self::Failure(error.into()),
        }
    }
}

impl From<FormError> for ServerError {
    fn from(error: FormError) -> Self {
        Self::Failure(error.into())
    }
}

impl ServerError {
    /// The log in `dir` cannot be opened or created.
    pub fn log(dir: PathBuf, error: WalError) -> Self {
        Self::of_log(format!("log in {}", dir.display()), error)
    }

    fn of_log(subject: String, error: WalError) -> Self {
        match error {
            WalError::Damaged { .. } => Self::data(Code::DataDamaged, subject, &error),
            WalError::Foreign { .. } => Self::data(Code::DataForeign, subject, &error),
            WalError::Io { .. } | WalError::Full { .. } | WalError::Poisoned => {
                let source = io::Error::other(error);
                Self::System { what: "open the log", source }
            }
        }
    }

    /// The log was read, but what it says makes no node.
    pub fn node(dir: PathBuf, error: &NodeError) -> Self {
        Self::data(Code::DataDamaged, format!("log in {}", dir.display()), error)
    }

    /// Something that was synced does not verify, and no repair can help, for this reason.
    pub fn damaged(damage: &Damage, reason: &str) -> Self {
        let subject = format!("{} at byte {}", damage.path.display(), damage.offset);
        let why = format!(
            "{}; {reason}; as a last resort, when no other node has the data: kvstore recover",
            damage.why
        );
        Self::Failure(Failure::new(Code::DataDamaged, subject, why))
    }

    /// The seed of a restored cluster cannot be begun with.
    pub fn seed(error: &SeedError) -> Self {
        Self::data(Code::ExportInvalid, "seed.exp".to_owned(), error)
    }

    fn data(code: Code, subject: String, error: &dyn std::error::Error) -> Self {
        Self::Failure(Failure::new(code, subject, error.to_string()))
    }

    /// The exit code of `kvstore serve`.
    #[must_use]
    pub const fn exit(&self) -> u8 {
        match self {
            Self::Failure(failure) => failure.code.exit(),
            Self::Listen { .. } | Self::System { .. } | Self::Fatal(_) => EXIT_RUNTIME,
        }
    }

    /// The error for a terminal: what failed, why, and what to do.
    #[must_use]
    pub fn describe(&self) -> String {
        let mut text = String::new();
        let written = match self {
            Self::Failure(failure) => {
                let page = failure.code.page();
                writeln!(text, "error[{}]: {}: {}", failure.code, failure.subject, page.title)
                    .and_then(|()| writeln!(text, "  why:   {}", failure.why))
                    .and_then(|()| writeln!(text, "  try:   {}", page.fix))
            }
            Self::Listen { .. } => {
                let advice = "stop whatever listens there, or change the address";
                writeln!(text, "error: {self}\n  try:   {advice}")
            }
            Self::System { .. } | Self::Fatal(_) => writeln!(text, "error: {self}"),
        };
        written.expect("writing to a string cannot fail");
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_exit_by_their_code_and_say_what_to_do() {
        let failure = Failure::new(Code::DirectoryLocked, "data_dir /d", "process 42 holds it");
        let error = ServerError::from(failure);
        assert_eq!(error.exit(), 1);
        let expected = "error[KV1704]: data_dir /d: data directory in use\n  \
                        why:   process 42 holds it\n  \
                        try:   Stop that process, or use another data_dir.\n";
        assert_eq!(error.describe(), expected);
        for (code, exit) in [
            (Code::ConfigInvalid, 2),
            (Code::KeyFileMode, 2),
            (Code::CertificateUnusable, 7),
            (Code::DataForeign, 9),
            (Code::DataDamaged, 9),
            (Code::DataLost, 9),
        ] {
            assert_eq!(ServerError::from(Failure::new(code, "", "")).exit(), exit, "{code}");
        }
        let listen = ServerError::Listen {
            purpose: "clients",
            address: "127.0.0.1:7610".parse().unwrap(),
            source: io::ErrorKind::AddrInUse.into(),
        };
        assert_eq!(listen.exit(), 1);
        assert!(
            listen.describe().starts_with("error: cannot listen on 127.0.0.1:7610 for clients")
        );
    }
}
