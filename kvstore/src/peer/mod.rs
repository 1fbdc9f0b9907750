//! Links between the nodes of a cluster.
//!
//! One TLS connection per pair of nodes, dialed by the one whose name sorts lower, or by the other
//! one if it was not dialed for two seconds. The dialing side says hello, the other one answers:
//! who they are, of which cluster, and what they formed with. From then on frames carry
//! [`proto::peer::PeerMessage`]s in two lanes, urgent ones before bulk ones; a bulk message is cut
//! into pieces of at most 64 KiB, so that a heartbeat waits for one piece and not for megabytes.
//! Each side pings four times a second; a connection on which nothing is heard for five seconds is
//! closed, and dialed again after 100 to 1,000 ms.
//!
//! [`Network`] is all links of a node. It also forms the cluster or joins one ([`Network::form`]),
//! because that is what hellos are about before there is one. Who the members are it is told
//! ([`Network::set_members`]); a node that its list does not have is accepted all the same if it
//! formed or joined the same cluster, because the list may be old, and refused for good once its id
//! was removed. What the network promises to the node above:
//! - events of a peer come in order: up, messages, down;
//! - a message comes from a node of this cluster, proven by certificate, cluster id and the members
//!   that are known, and only while both have formed or joined it;
//! - sending never blocks; what cannot be sent is dropped and counted, and messages may be lost
//!   whenever a link goes down.

mod connection;
mod error;
mod frame;
mod hello;
mod joining;
mod keeping;
mod lanes;
mod links;
mod network;
mod peers;
mod roster;
mod shared;

pub use error::NetworkError;
pub use network::{LinkEvent, Network, NetworkConfig, Sink, check_certificate_cluster};
pub use peers::PeerView;
pub use proto::peer::PeerMessage;

#[cfg(test)]
mod tests;
