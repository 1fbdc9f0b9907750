//! What a call can come to besides an answer.

use std::fmt;

use proto::{Applied, Code, Failure};

use crate::pki::{CertificateInfo, PkiError};

/// Exit code of a write whose outcome is unknown, whatever its code.
const EXIT_UNKNOWN: u8 = 6;

/// Why a call failed, sorted by what the caller can do.
///
/// Every variant holds a [`Failure`]; for a write it says whether the write was applied.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ClientError {
    /// A node, or the check before sending, refused with a typed error.
    #[error("{0}")]
    Refused(Box<Failure>),
    /// No endpoint could be talked to: nothing was sent, so a write was not applied.
    #[error("{failure}")]
    Unreached {
        /// KV1601 when every endpoint failed on a certificate, else KV1801.
        failure: Box<Failure>,
        /// What happened at each endpoint, in the order in which they were tried.
        endpoints: Vec<Unreached>,
    },
    /// The deadline passed after the call had been sent, or the answer to a change was lost that must
    /// not be sent twice. A write may have been applied.
    #[error("{0}")]
    Lost(Box<Failure>),
    /// The client was set up with something that cannot work. Nothing was sent.
    #[error("{failure}")]
    Setup {
        /// What is wrong.
        failure: Box<Failure>,
        /// The file that is at fault, where one is.
        source: Option<PkiError>,
    },
}

impl ClientError {
    /// The error as data.
    #[must_use]
    pub fn failure(&self) -> &Failure {
        match self {
            Self::Refused(failure) | Self::Lost(failure) => failure,
            Self::Unreached { failure, .. } | Self::Setup { failure, .. } => failure,
        }
    }

    /// The stable code.
    #[must_use]
    pub fn code(&self) -> Code {
        self.failure().code
    }

    /// Whether a write was applied; `None` for what is no write.
    #[must_use]
    pub fn applied(&self) -> Option<Applied> {
        self.failure().applied
    }

    /// The exit code of the command line: 6 for a write whose outcome is unknown, else that of the
    /// code.
    #[must_use]
    pub fn exit(&self) -> u8 {
        exit(self.failure())
    }

    /// An error of the set-up.
    pub(crate) fn setup(why: impl Into<String>) -> Self {
        let failure = Failure::new(Code::ConfigInvalid, "client set-up", why);
        Self::Setup { failure: Box::new(failure), source: None }
    }
}

impl From<PkiError> for ClientError {
    fn from(source: PkiError) -> Self {
        let failure = Failure::new(source.code(), "certificates", source.to_string());
        Self::Setup { failure: Box::new(failure), source: Some(source) }
    }
}

/// The exit code that a failure leads to.
#[must_use]
pub fn exit(failure: &Failure) -> u8 {
    match failure.applied {
        Some(Applied::Unknown) => EXIT_UNKNOWN,
        Some(Applied::No | Applied::Yes) | None => failure.code.exit(),
    }
}

/// Why one endpoint could not be talked to. Nothing was sent to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unreached {
    /// The endpoint, `host:port`.
    pub endpoint: String,
    /// What happened there.
    pub reason: UnreachedReason,
}

impl fmt::Display for Unreached {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.endpoint, self.reason)
    }
}

/// What kept a connection from coming up.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum UnreachedReason {
    /// The name did not resolve, or nothing accepted the connection.
    Refused(String),
    /// The connection did not come up in time.
    TimedOut,
    /// The other side does not speak our protocol, or hung up before it proved to.
    Protocol(String),
    /// This side rejected the node's certificate.
    NodeCertificate {
        /// The rule it breaks.
        why: String,
        /// The certificate, where it could be parsed.
        certificate: Option<CertificateInfo>,
    },
    /// The node rejected this side's certificate.
    OwnCertificate {
        /// The alert it sent.
        why: String,
        /// The certificate that was shown.
        certificate: CertificateInfo,
    },
}

impl UnreachedReason {
    /// Whether a certificate was rejected, by either side.
    #[must_use]
    pub const fn is_identity(&self) -> bool {
        match self {
            Self::NodeCertificate { .. } | Self::OwnCertificate { .. } => true,
            Self::Refused(_) | Self::TimedOut | Self::Protocol(_) => false,
        }
    }
}

impl fmt::Display for UnreachedReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused(why) => f.write_str(why),
            Self::TimedOut => f.write_str("no connection in time"),
            Self::Protocol(why) => write!(f, "no kvstore node there: {why}"),
            Self::NodeCertificate { why, certificate } => {
                write!(f, "we rejected the node's certificate: {why}")?;
                certificate.as_ref().map_or(Ok(()), |shown| write!(f, "; it is {shown}"))
            }
            Self::OwnCertificate { why, certificate } => {
                write!(f, "the node rejected our certificate: {why}; it is {certificate}")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_outcome_exits_6_whatever_its_code() {
        for code in Code::ALL {
            let failure = Failure::new(code, "write", "why");
            assert_eq!(exit(&failure), code.exit());
            assert_eq!(exit(&failure.clone().applied(Applied::No)), code.exit());
            assert_eq!(exit(&failure.applied(Applied::Unknown)), 6);
        }
    }
}
