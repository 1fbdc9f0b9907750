//! What is wrong with the node's own certificate, key or CA.

use std::path::PathBuf;

use client::pki::{CertificateInfo, PkiError};
use proto::{Code, Failure};

/// Why a node cannot use its certificate. Nothing was started.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file cannot be read, is not what it should be, or is a key that others can read.
    #[error(transparent)]
    Pki(#[from] PkiError),
    /// The certificate or a CA is not valid at this moment.
    #[error("{}: {info} {}", path.display(), if *early { "is not valid yet" } else { "has expired" })]
    Dates {
        /// The file.
        path: PathBuf,
        /// Subject and dates.
        info: Box<CertificateInfo>,
        /// It is not valid yet; else it has expired.
        early: bool,
    },
    /// The key belongs to another certificate.
    #[error("{} is not the key of {}", key.display(), cert.display())]
    KeyMismatch {
        /// The key file.
        key: PathBuf,
        /// The certificate file.
        cert: PathBuf,
    },
    /// The certificate names another owner.
    #[error("{}: {info} belongs to {found}, but this node is {expected}", path.display())]
    Owner {
        /// The certificate file.
        path: PathBuf,
        /// Subject and dates.
        info: Box<CertificateInfo>,
        /// Whom it names.
        found: String,
        /// Whom it should name.
        expected: String,
    },
    /// The chain does not lead to the CA.
    #[error("{}: {info} is not trusted by {}: {why}", path.display(), ca.display())]
    Untrusted {
        /// The certificate file.
        path: PathBuf,
        /// Subject and dates.
        info: Box<CertificateInfo>,
        /// The CA file.
        ca: PathBuf,
        /// What the verifier said.
        why: String,
    },
    /// A file is well-formed, but cannot be used for TLS.
    #[error("{}: {why}", path.display())]
    Unusable {
        /// The file.
        path: PathBuf,
        /// What the TLS library said.
        why: String,
    },
}

impl TlsError {
    /// The stable code of this error.
    #[must_use]
    pub const fn code(&self) -> Code {
        match self {
            // The node's own files hold the wrong thing: that is its certificate, not its
            // configuration.
            Self::Pki(PkiError::Malformed { .. } | PkiError::Identity { .. }) => {
                Code::CertificateUnusable
            }
            Self::Pki(error) => error.code(),
            Self::Dates { .. }
            | Self::KeyMismatch { .. }
            | Self::Owner { .. }
            | Self::Untrusted { .. }
            | Self::Unusable { .. } => Code::CertificateUnusable,
        }
    }
}

impl From<TlsError> for Failure {
    fn from(error: TlsError) -> Self {
        Self::new(error.code(), "certificate", error.to_string())
    }
}
