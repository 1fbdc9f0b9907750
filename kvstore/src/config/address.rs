//! Where another node is reached.

use std::fmt;
use std::net::Ipv6Addr;
use std::str::FromStr;

/// A host, by name or by number, and a port.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Address {
    /// A DNS name or an IP address, an IPv6 address without its brackets.
    pub host: String,
    /// Never 0.
    pub port: u16,
}

/// Longest DNS name.
const HOST_BYTES_MAX: usize = 253;

impl FromStr for Address {
    type Err = String;

    /// Reads `host:port` or `[ipv6]:port`.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let form = || format!("\"{text}\" is not of the form HOST:PORT");
        let (host, port) = text.rsplit_once(':').ok_or_else(form)?;
        let digits = !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit());
        let port = port
            .parse()
            .ok()
            .filter(|port| digits && *port != 0)
            .ok_or_else(|| format!("\"{text}\" does not end in a port between 1 and 65535"))?;
        let host = match host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            Some(v6) => v6.parse::<Ipv6Addr>().map_err(|_| form())?.to_string(),
            None if is_host(host) => host.to_owned(),
            None => return Err(form()),
        };
        Ok(Self { host, port })
    }
}

fn is_host(host: &str) -> bool {
    let letters = |label: &str| {
        !label.is_empty()
            && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
    };
    host.len() <= HOST_BYTES_MAX && host.strip_suffix('.').unwrap_or(host).split('.').all(letters)
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { host, port } = self;
        if host.contains(':') { write!(f, "[{host}]:{port}") } else { write!(f, "{host}:{port}") }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_round_trip() {
        for text in ["127.0.0.1:7611", "n1.example.com:1", "[::1]:65535", "kv_0.kv-peers:7611"] {
            assert_eq!(text.parse::<Address>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn others_are_refused() {
        for text in [
            "", "n1", ":7611", "n1:", "n1:0", "n1:65536", "::1:7611", "[x]:1", "a b:1", "a..b:1",
            "n1:+1",
        ] {
            let refused = text.parse::<Address>();
            assert!(refused.is_err(), "{text}: {refused:?}");
        }
    }
}
