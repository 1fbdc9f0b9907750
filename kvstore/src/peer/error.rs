//! Why links cannot start, and why one ended.

use std::io;
use std::net::SocketAddr;

use proto::{Code, Failure};

use super::frame::FrameError;
use super::hello::HelloRefused;

/// Why the network cannot start.
#[derive(Debug, thiserror::Error)]
pub enum NetworkError {
    /// The peer address cannot be listened on.
    #[error("cannot listen on {address} for peers: {source}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
    /// The node's certificate is good for another cluster.
    #[error(
        "the node's certificate is good for cluster {certified}, but this is cluster {cluster}"
    )]
    CertificateCluster {
        /// The cluster that the certificate names.
        certified: String,
        /// The cluster of the configuration.
        cluster: String,
    },
}

impl NetworkError {
    /// The stable code of this error.
    #[must_use]
    pub const fn code(&self) -> Code {
        match self {
            Self::Listen { .. } => Code::Internal,
            Self::CertificateCluster { .. } => Code::CertificateUnusable,
        }
    }
}

impl From<NetworkError> for Failure {
    fn from(error: NetworkError) -> Self {
        Self::new(error.code(), "links to peers", error.to_string())
    }
}

/// Why a connection ended or never became a link.
#[derive(Debug, thiserror::Error)]
pub(super) enum LinkEnd {
    /// The other side closed it.
    #[error("closed by the peer")]
    Closed,
    /// It broke, or could not be made.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// What came was no frame of ours.
    #[error(transparent)]
    Frame(#[from] FrameError),
    /// A frame held no message of ours.
    #[error("malformed message: {0}")]
    Malformed(#[from] prost::DecodeError),
    /// The hello does not fit.
    #[error(transparent)]
    Refused(#[from] HelloRefused),
    /// The first frame was not a hello.
    #[error("the peer did not say hello first")]
    NoHello,
    /// A message came before both sides had formed.
    #[error("a message came before the link was up")]
    Early,
    /// Connecting, the handshake or the hello took too long.
    #[error("no {0} in time")]
    Late(&'static str),
    /// Nothing was heard for too long.
    #[error("silent")]
    Silent,
    /// The address leads to this node itself.
    #[error("the address is that of this node")]
    Itself,
    /// It only asked whether it may join.
    #[error("it asked to join")]
    Joiner,
    /// This node has no cluster to link for.
    #[error("this node has not joined a cluster yet")]
    NotJoined,
    /// This node is stopping, or the peer has left the cluster.
    #[error("this node is stopping, or the peer has left")]
    Stopping,
}

impl LinkEnd {
    /// Whether nothing is known but that nobody answered.
    pub(super) fn is_absence(&self) -> bool {
        let Self::Io(error) = self else { return false };
        matches!(error.kind(), io::ErrorKind::ConnectionRefused | io::ErrorKind::HostUnreachable)
    }
}
