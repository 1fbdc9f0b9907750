//! What can be wrong with certificates and key files.

use std::io;
use std::path::PathBuf;

use proto::Code;

use super::identity::IdentityError;

/// Why a certificate or key could not be read, written or used.
///
/// Nothing was changed on disk when one of these is returned.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PkiError {
    /// A file could not be read.
    #[error("cannot read {}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A file could not be written.
    #[error("cannot write {}: {source}", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The file is there already; nothing is overwritten but a certificate that is renewed.
    #[error("{} exists and is not overwritten", path.display())]
    Exists {
        /// The file.
        path: PathBuf,
    },
    /// A private key can be read by others than its owner.
    #[error("{} has mode {mode:04o}; a private key is readable by its owner alone: chmod 600 {}",
        path.display(), path.display())]
    KeyFileMode {
        /// The key file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// A file does not hold what it should.
    #[error("{}: {why}", path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// What was expected.
        why: String,
    },
    /// A certificate does not say who its owner is.
    #[error("{}: {source}", path.display())]
    Identity {
        /// The certificate.
        path: PathBuf,
        /// What is wrong with its name.
        source: IdentityError,
    },
    /// A certificate that was to be renewed belongs to somebody else.
    #[error("{} is not the certificate of {expected}: its subject is {found}", path.display())]
    OtherOwner {
        /// The certificate.
        path: PathBuf,
        /// Whose it should be.
        expected: String,
        /// Its subject.
        found: String,
    },
    /// A name or address cannot stand in a certificate.
    #[error("{what} {text:?} cannot stand in a certificate: {why}")]
    Unfit {
        /// What it would be, such as `name`.
        what: &'static str,
        /// The text.
        text: String,
        /// The rule it breaks.
        why: &'static str,
    },
    /// The certificate could not be made.
    #[error("cannot make the certificate: {0}")]
    Make(#[from] rcgen::Error),
}

impl PkiError {
    /// The stable code of this error.
    #[must_use]
    pub const fn code(&self) -> Code {
        match self {
            Self::KeyFileMode { .. } => Code::KeyFileMode,
            Self::Read { .. }
            | Self::Write { .. }
            | Self::Exists { .. }
            | Self::Malformed { .. }
            | Self::Identity { .. }
            | Self::OtherOwner { .. }
            | Self::Unfit { .. } => Code::ConfigInvalid,
            Self::Make(_) => Code::Internal,
        }
    }
}
