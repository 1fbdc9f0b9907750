//! The ports of a throw-away cluster.

use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};

/// First port of the first node; those of the next nodes follow in steps of ten.
const FIRST: u16 = 7610;
const STEP: u16 = 10;

/// Where one node listens, all on loopback.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct NodePorts {
    pub(super) client: SocketAddr,
    pub(super) peer: SocketAddr,
    pub(super) admin: SocketAddr,
}

impl NodePorts {
    fn from_ports([client, peer, admin]: [u16; 3]) -> Self {
        let loopback = |port| SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        Self { client: loopback(client), peer: loopback(peer), admin: loopback(admin) }
    }
}

/// The usual ports, if all of them are free at the moment.
pub(super) fn usual(nodes: u8) -> Option<Vec<NodePorts>> {
    let ports: Vec<NodePorts> = (0..u16::from(nodes))
        .map(|node| FIRST + node * STEP)
        .map(|client| NodePorts::from_ports([client, client + 1, client + 2]))
        .collect();
    let all = ports.iter().flat_map(|node| [node.client, node.peer, node.admin]);
    all.map(TcpListener::bind).all(|bound| bound.is_ok()).then_some(ports)
}

/// Ports that are free at the moment. All are held until all are found, so they differ; another
/// process may still take one before it is used.
///
/// # Errors
/// When the system has none left.
pub(super) fn free(nodes: u8) -> io::Result<Vec<NodePorts>> {
    let mut held = Vec::new();
    let mut found = Vec::new();
    for _ in 0..nodes {
        let mut ports = [0; 3];
        for port in &mut ports {
            let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
            *port = listener.local_addr()?.port();
            held.push(listener);
        }
        found.push(NodePorts::from_ports(ports));
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn free_ports_differ() {
        let ports = free(3).unwrap();
        let all: BTreeSet<u16> = ports
            .iter()
            .flat_map(|node| [node.client.port(), node.peer.port(), node.admin.port()])
            .collect();
        assert_eq!(all.len(), 9);
        assert!(!all.contains(&0));
    }
}
