//! Links between the nodes of a cluster.
//!
//! One TLS connection per pair of nodes, dialed by the one whose name sorts lower. Both sides say
//! hello first: who they are, of which cluster, and what they formed with. From then on frames
//! carry [`proto::peer::PeerMessage`]s in two lanes, urgent ones before bulk ones; a bulk message
//! is cut into pieces of at most 64 KiB, so that a heartbeat waits for one piece and not for
//! megabytes. Each side pings every second; a connection on which nothing is heard for five
//! seconds is closed, and dialed again after 100 to 1,000 ms.
//!
//! [`Network`] is all links of a node. It also forms the cluster ([`Network::form`]), because that
//! is what hellos are about before there is one. What it promises to the node above:
//! - events of a peer come in order: up, messages, down;
//! - a message comes from a member, proven by certificate and list of members, and only while both
//!   have formed the same cluster;
//! - sending never blocks; what cannot be sent is dropped and counted, and messages may be lost
//!   whenever a link goes down.

mod connection;
mod error;
mod frame;
mod hello;
mod lanes;
mod links;
mod network;
mod peers;

pub use error::NetworkError;
pub use network::{LinkEvent, Network, NetworkConfig, Sink};
pub use peers::PeerView;
pub use proto::peer::PeerMessage;

#[cfg(test)]
mod tests;
