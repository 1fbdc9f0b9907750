//! Who a certificate belongs to.

use std::fmt;
use std::str::FromStr;

use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer, X509Certificate};

/// Longest name of a node, client or cluster in a certificate.
const NAME_BYTES_MAX: usize = 64;

/// What the owner of a certificate may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Role {
    /// A member of the cluster: speaks on the peer port and serves clients.
    Node,
    /// A client: speaks on the client port.
    Client,
}

impl Role {
    /// The word in the URI.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Node => "node",
            Self::Client => "client",
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The owner of a certificate, as its one SAN URI `kv://[CLUSTER]/ROLE/NAME` says.
///
/// Without a cluster the CA is the scope. Names hold letters, digits, `.`, `_` and `-` only, so the
/// text of an identity has exactly one reading.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Identity {
    /// The cluster, where the CA was made for one.
    pub cluster: Option<String>,
    /// What the owner may do.
    pub role: Role,
    /// The configured name of the node, or the name of the client.
    pub name: String,
}

impl Identity {
    /// Reads the identity out of a certificate.
    ///
    /// # Errors
    /// [`IdentityError`] when the certificate cannot be parsed, or does not carry exactly one URI
    /// of ours.
    pub fn from_certificate(der: &[u8]) -> Result<Self, IdentityError> {
        let (_, certificate) =
            X509Certificate::from_der(der).map_err(|_| IdentityError::Unreadable)?;
        Self::of(&certificate)
    }

    /// Reads the identity out of a parsed certificate.
    pub(super) fn of(certificate: &X509Certificate<'_>) -> Result<Self, IdentityError> {
        let names =
            certificate.subject_alternative_name().map_err(|_| IdentityError::Unreadable)?;
        let names = names.map(|extension| &extension.value.general_names[..]).unwrap_or_default();
        let mut ours = names.iter().filter_map(|name| match name {
            GeneralName::URI(uri) if uri.starts_with("kv:") => Some(*uri),
            _ => None,
        });
        let uri = ours.next().ok_or(IdentityError::Missing)?;
        if ours.next().is_some() {
            return Err(IdentityError::Ambiguous);
        }
        uri.parse()
    }
}

impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let cluster = self.cluster.as_deref().unwrap_or_default();
        write!(f, "kv://{cluster}/{}/{}", self.role, self.name)
    }
}

impl FromStr for Identity {
    type Err = IdentityError;

    fn from_str(uri: &str) -> Result<Self, IdentityError> {
        let malformed = || IdentityError::Malformed(uri.to_owned());
        let rest = uri.strip_prefix("kv://").ok_or_else(malformed)?;
        let mut parts = rest.split('/');
        let (Some(cluster), Some(role), Some(name), None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(malformed());
        };
        let role = match role {
            "node" => Role::Node,
            "client" => Role::Client,
            _ => return Err(malformed()),
        };
        if !is_name(name) || !(cluster.is_empty() || is_name(cluster)) {
            return Err(malformed());
        }
        let cluster = (!cluster.is_empty()).then(|| cluster.to_owned());
        Ok(Self { cluster, role, name: name.to_owned() })
    }
}

/// Whether a text can be the name of a node, client or cluster: 1 to 64 of the letters, digits,
/// `.`, `_` and `-`, not beginning with `.` or `-`.
#[must_use]
pub fn is_name(text: &str) -> bool {
    (1..=NAME_BYTES_MAX).contains(&text.len())
        && !text.starts_with(['.', '-'])
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte))
}

/// Why a certificate does not name its owner.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum IdentityError {
    /// The certificate or its alternative names cannot be parsed.
    #[error("the certificate cannot be parsed")]
    Unreadable,
    /// No SAN URI begins with `kv:`.
    #[error("the certificate carries no SAN URI kv://[CLUSTER]/ROLE/NAME")]
    Missing,
    /// Several SAN URIs begin with `kv:`.
    #[error("the certificate carries more than one SAN URI kv:")]
    Ambiguous,
    /// The SAN URI has another shape.
    #[error("the SAN URI {0:?} is not kv://[CLUSTER]/node/NAME or kv://[CLUSTER]/client/NAME")]
    Malformed(String),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn identities_round_trip() {
        for uri in ["kv:///node/n1", "kv:///client/alice", "kv://prod/node/n-1.eu_2"] {
            let identity: Identity = uri.parse().unwrap();
            assert_eq!(identity.to_string(), uri);
        }
        let identity: Identity = "kv://prod/client/bob".parse().unwrap();
        assert_eq!(identity.cluster.as_deref(), Some("prod"));
        assert_eq!((identity.role, identity.name.as_str()), (Role::Client, "bob"));
    }

    #[test]
    fn other_shapes_are_refused() {
        for uri in [
            "kv:///node/",
            "kv:///admin/n1",
            "kv:///node/n1/",
            "kv:///node/n1/x",
            "kv:/node/n1",
            "http:///node/n1",
            "kv:///node/n 1",
            "kv:///node/../n1",
            "kv:///Node/n1",
            "kv://a b/node/n1",
            "kv:///node/-n1",
        ] {
            let error = uri.parse::<Identity>().unwrap_err();
            assert_eq!(error, IdentityError::Malformed(uri.to_owned()));
        }
        let long = "x".repeat(NAME_BYTES_MAX + 1);
        assert!(!is_name(&long));
        assert!(is_name(&long[1..]));
    }

    #[test]
    fn bytes_that_are_no_certificate_have_no_identity() {
        assert_eq!(Identity::from_certificate(b"x"), Err(IdentityError::Unreadable));
    }
}
