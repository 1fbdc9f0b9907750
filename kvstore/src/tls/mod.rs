//! TLS of both listeners and of the links between nodes.
//!
//! TLS 1.3 only, certificates required on both sides. A certificate names its owner by a SAN URI
//! `kv:///node/NAME` or `kv:///client/NAME` ([`client::pki::Identity`]); the role decides on which
//! port it may speak, and it is checked inside the handshake, so that the other side is told
//! `access_denied` instead of finding a closed connection. Sessions are never resumed: each
//! connection shows its certificate again.
//!
//! - [`Material`]: the node's own certificate, key and CA, checked at start, and the TLS settings
//!   made of them.
//! - [`Acceptor`]: the accept loop of both ports, with bounds on time, on handshakes in flight and
//!   on connections per identity.
//!
//! Not here yet: changing certificates without a restart, revocation lists.

mod acceptor;
mod counters;
mod error;
mod identity_limits;
mod material;
mod stream;
mod throttle;
mod verifier;

pub use acceptor::{Acceptor, AcceptorOptions, Incoming};
pub use client::pki::Identity as PeerIdentity;
pub use counters::{AcceptCounters, Rejection};
pub use error::TlsError;
pub use material::{ALPN_CLIENT, ALPN_PEER, Material};
pub use stream::{PeerInfo, SecureStream};

pub(crate) use throttle::Throttle;

#[cfg(test)]
pub(crate) mod testing;
