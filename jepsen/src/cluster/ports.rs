//! Free TCP ports.

use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};

use rand::RngExt;

use crate::network::Listening;

/// Where ports are taken from: below those that systems give to outgoing connections by themselves
/// (Linux: from 32768). A node that is down for a while would else find its port taken by someone's
/// outgoing connection, or someone who connects to it could even reach itself.
const RANGE: std::ops::Range<u16> = 12_000..30_000;

/// Ports that are tried before giving up.
const ATTEMPTS_MAX: usize = 1_000;

/// The ports of a node, all on 127.0.0.1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ports {
    client: u16,
    peer: u16,
    admin: u16,
}

impl Ports {
    /// Where clients connect.
    pub fn client_address(self) -> String {
        address(self.client)
    }

    /// Where other nodes connect.
    pub fn peer_address(self) -> String {
        address(self.peer)
    }

    /// What its proxies connect to.
    pub fn listening(self) -> Listening {
        let at = |port| SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        Listening { peer: at(self.peer), client: at(self.client) }
    }

    /// Where health and metrics are.
    pub fn admin_address(self) -> String {
        address(self.admin)
    }
}

fn address(port: u16) -> String {
    format!("{}:{port}", Ipv4Addr::LOCALHOST)
}

/// Finds free ports for this many nodes, all different. They are free at this moment; nothing
/// reserves them.
pub fn free(nodes: usize) -> io::Result<Vec<Ports>> {
    let mut rng = rand::rng();
    // Held until all are found, so that none is found twice.
    let mut listeners = Vec::new();
    let mut error = io::Error::other("no ports were asked for");
    for _ in 0..ATTEMPTS_MAX {
        if listeners.len() == nodes * 3 {
            break;
        }
        match TcpListener::bind((Ipv4Addr::LOCALHOST, rng.random_range(RANGE))) {
            Ok(listener) => listeners.push(listener),
            Err(why) => error = why,
        }
    }
    if listeners.len() < nodes * 3 {
        return Err(error);
    }
    let ports: Vec<u16> = listeners
        .iter()
        .map(|listener| Ok(listener.local_addr()?.port()))
        .collect::<io::Result<_>>()?;
    let each = ports.chunks_exact(3);
    Ok(each.map(|three| Ports { client: three[0], peer: three[1], admin: three[2] }).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_are_free_and_different() {
        let nodes = free(5).unwrap();
        let mut addresses: Vec<String> = nodes
            .iter()
            .flat_map(|node| [node.client_address(), node.peer_address(), node.admin_address()])
            .collect();
        addresses.sort();
        addresses.dedup();
        assert_eq!(addresses.len(), 15);
        for address in addresses {
            let port: u16 = address.strip_prefix("127.0.0.1:").unwrap().parse().unwrap();
            assert!(RANGE.contains(&port));
        }
    }
}
