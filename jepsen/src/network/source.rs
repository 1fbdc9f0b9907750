//! Which process is at the other end of a connection on this machine.
//!
//! All nodes dial the one address that a node publishes, so its proxy cannot tell them apart by where
//! they connect to. The system knows: it lists each connection with a number, and each process with
//! the numbers of its own.

use std::fs;
use std::net::{SocketAddr, SocketAddrV4};
use std::path::Path;

/// The first of these processes that has a connection from `local` to `remote`.
///
/// `None`: none of them, or the connection has ended, or the system does not say.
pub fn owner(local: SocketAddr, remote: SocketAddr, processes: &[(usize, u32)]) -> Option<usize> {
    let (SocketAddr::V4(local), SocketAddr::V4(remote)) = (local, remote) else { return None };
    let table = fs::read_to_string("/proc/net/tcp").ok()?;
    let wanted = format!("socket:[{}]", inode(&table, local, remote)?);
    let holds = |process: u32| {
        let Ok(files) = fs::read_dir(format!("/proc/{process}/fd")) else { return false };
        files
            .flatten()
            .any(|file| fs::read_link(file.path()).is_ok_and(|link| link == Path::new(&wanted)))
    };
    processes.iter().find(|(_, process)| holds(*process)).map(|(node, _)| *node)
}

/// The number of a connection in the system's table.
fn inode(table: &str, local: SocketAddrV4, remote: SocketAddrV4) -> Option<u64> {
    let (local, remote) = (hex(local), hex(remote));
    table.lines().find_map(|line| {
        let mut words = line.split_whitespace().skip(1);
        let ends = [words.next()?, words.next()?];
        // State, queues, timer, retransmissions, user, timeout; then the number.
        (ends == [local.as_str(), remote.as_str()]).then(|| words.nth(6)?.parse().ok())?
    })
}

/// An address as the table has it: the bytes of the number as the machine holds them.
fn hex(address: SocketAddrV4) -> String {
    let ip = u32::from_ne_bytes(address.ip().octets());
    format!("{ip:08X}:{:04X}", address.port())
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};

    use super::*;

    #[test]
    fn the_owner_of_a_connection_is_found() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let remote = listener.local_addr().unwrap();
        let stream = TcpStream::connect(remote).unwrap();
        let local = stream.local_addr().unwrap();
        let own = std::process::id();
        // Process 1 is not ours, and does not hold our connection.
        assert_eq!(owner(local, remote, &[(4, 1), (7, own)]), Some(7));
        assert_eq!(owner(local, remote, &[(4, 1)]), None);
        drop(stream);
        assert_eq!(owner("127.0.0.1:1".parse().unwrap(), remote, &[(7, own)]), None);
    }
}
