//! Certificates: a small CA, what it issues, and how both sides of mTLS read their files.
//!
//! A certificate names its owner by one SAN URI, `kv:///node/NAME` or `kv:///client/NAME`
//! ([`Identity`]); a CA made for one cluster puts its name there, `kv://CLUSTER/node/NAME`. Keys
//! are ECDSA P-256, files are PEM, private keys are written with mode 0600 and refused with any
//! other reader ([`PkiError::KeyFileMode`]). Nothing is ever overwritten but a certificate by
//! [`renew`], which keeps the key, so that the two files fit each other at any moment.

mod certificate;
mod error;
mod identity;
mod issue;
mod load;

use std::fs;
use std::path::{Path, PathBuf};

pub use certificate::{CertificateInfo, rfc3339};
pub use error::PkiError;
pub use identity::{Identity, IdentityError, Role, is_name};
pub use issue::{Issued, init_ca, issue_client, issue_node, renew};
pub use load::{Credentials, certificates, load, private_key};

/// A certificate found in a directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    /// Its file.
    pub path: PathBuf,
    /// What it says.
    pub info: CertificateInfo,
}

/// All certificates (`*.crt`) of a directory, sorted by file name.
///
/// # Errors
/// [`PkiError::Read`], [`PkiError::Malformed`].
pub fn list(dir: &Path) -> Result<Vec<Listed>, PkiError> {
    let failed = |source| PkiError::Read { path: dir.to_owned(), source };
    let mut paths = Vec::new();
    for entry in fs::read_dir(dir).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        if path.extension().is_some_and(|extension| extension == "crt") {
            paths.push(path);
        }
    }
    paths.sort();
    paths
        .into_iter()
        .map(|path| CertificateInfo::from_pem_file(&path).map(|info| Listed { path, info }))
        .collect()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const DAY: Duration = Duration::from_secs(24 * 60 * 60);

    fn ca() -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        init_ca(dir.path(), None, 10 * DAY).unwrap();
        dir
    }

    #[cfg(unix)]
    fn mode(path: &Path) -> u32 {
        use std::os::unix::fs::PermissionsExt;
        fs::metadata(path).unwrap().permissions().mode() & 0o777
    }

    #[test]
    fn nodes_and_clients_are_named_by_their_certificates() {
        let dir = ca();
        let hosts = ["127.0.0.1".to_owned(), "localhost".to_owned(), "::1".to_owned()];
        let node = issue_node(dir.path(), "n1", &hosts, DAY).unwrap();
        let client = issue_client(dir.path(), "alice", DAY).unwrap();
        let node = load(&dir.path().join("ca.crt"), &node.cert, &node.key).unwrap();
        assert_eq!(node.identity.to_string(), "kv:///node/n1");
        assert_eq!(node.info.hosts, hosts);
        assert!(!node.info.is_ca);
        let client = CertificateInfo::from_pem_file(&client.cert).unwrap();
        assert_eq!(client.identity.unwrap().to_string(), "kv:///client/alice");
        assert!(client.not_after - client.not_before > 24 * 60 * 60);
        let listed = list(dir.path()).unwrap();
        let names: Vec<_> = listed.iter().map(|found| found.info.subject.as_str()).collect();
        assert_eq!([names[0], names[2]], ["CN=alice", "CN=n1"]);
        assert!(names[1].starts_with("CN=kvstore CA "), "{names:?}");
        assert_ne!(listed[0].info.serial, listed[2].info.serial);
    }

    #[test]
    fn usages_follow_the_role_and_the_ca_signs_no_ca() {
        use x509_parser::prelude::{FromDer, X509Certificate};
        let dir = ca();
        let node = issue_node(dir.path(), "n1", &["localhost".into()], DAY).unwrap();
        let client = issue_client(dir.path(), "alice", DAY).unwrap();
        for (path, server) in [(&node.cert, true), (&client.cert, false)] {
            let der = certificates(path).unwrap().remove(0);
            let (_, certificate) = X509Certificate::from_der(&der).unwrap();
            let usage = certificate.extended_key_usage().unwrap().unwrap().value;
            assert_eq!((usage.server_auth, usage.client_auth), (server, true));
        }
        let der = certificates(&dir.path().join("ca.crt")).unwrap().remove(0);
        let (_, certificate) = X509Certificate::from_der(&der).unwrap();
        let constraints = certificate.basic_constraints().unwrap().unwrap().value;
        assert_eq!((constraints.ca, constraints.path_len_constraint), (true, Some(0)));
    }

    #[test]
    fn a_ca_of_one_cluster_scopes_what_it_issues() {
        let dir = tempfile::tempdir().unwrap();
        init_ca(dir.path(), Some("prod"), DAY).unwrap();
        let node = issue_node(dir.path(), "n1", &["localhost".into()], DAY).unwrap();
        let der = certificates(&node.cert).unwrap().remove(0);
        assert_eq!(Identity::from_certificate(&der).unwrap().to_string(), "kv://prod/node/n1");
    }

    #[test]
    fn no_certificate_outlives_its_ca() {
        let dir = ca();
        let client = issue_client(dir.path(), "alice", 1_000 * DAY).unwrap();
        let client = CertificateInfo::from_pem_file(&client.cert).unwrap();
        let ca = CertificateInfo::from_pem_file(&dir.path().join("ca.crt")).unwrap();
        assert_eq!(client.not_after, ca.not_after);
    }

    #[test]
    fn nothing_is_overwritten() {
        let dir = ca();
        let client = issue_client(dir.path(), "alice", DAY).unwrap();
        let before = fs::read(&client.key).unwrap();
        let again = issue_client(dir.path(), "alice", DAY).unwrap_err();
        assert!(matches!(again, PkiError::Exists { .. }), "{again}");
        assert!(matches!(init_ca(dir.path(), None, DAY), Err(PkiError::Exists { .. })));
        fs::remove_file(&client.cert).unwrap();
        assert!(matches!(issue_client(dir.path(), "alice", DAY), Err(PkiError::Exists { .. })));
        assert_eq!(fs::read(&client.key).unwrap(), before);
        assert!(!client.cert.exists());
    }

    #[test]
    fn a_renewal_keeps_the_key_and_what_is_not_said_anew() {
        let dir = ca();
        let hosts = ["127.0.0.1".to_owned(), "localhost".to_owned()];
        let issued = issue_node(dir.path(), "n1", &hosts, DAY).unwrap();
        let key = fs::read(&issued.key).unwrap();
        let first = CertificateInfo::from_pem_file(&issued.cert).unwrap();
        // What a killed process left is no obstacle.
        fs::write(dir.path().join("n1.crt.new"), "half").unwrap();
        let renewed = renew(dir.path(), Role::Node, "n1", &[], 2 * DAY).unwrap();
        assert_eq!(renewed, issued);
        assert_eq!(fs::read(&issued.key).unwrap(), key);
        let second = CertificateInfo::from_pem_file(&issued.cert).unwrap();
        assert_ne!(second.serial, first.serial);
        assert!(second.not_after > first.not_after, "{second}");
        assert_eq!((&second.identity, &second.hosts[..]), (&first.identity, &hosts[..]));
        // The key fits, and the CA vouches.
        let loaded = load(&dir.path().join("ca.crt"), &issued.cert, &issued.key).unwrap();
        let provider = rustls::crypto::ring::default_provider();
        rustls::sign::CertifiedKey::from_der(loaded.chain, loaded.key, &provider).unwrap();
        let other = ["n1.example.com".to_owned()];
        renew(dir.path(), Role::Node, "n1", &other, DAY).unwrap();
        assert_eq!(CertificateInfo::from_pem_file(&issued.cert).unwrap().hosts, other);
        assert_eq!(list(dir.path()).unwrap().len(), 2, "nothing else is left");
    }

    #[test]
    fn only_the_owners_certificate_is_renewed() {
        let dir = ca();
        let client = issue_client(dir.path(), "alice", DAY).unwrap();
        let before = fs::read(&client.cert).unwrap();
        let refused = renew(dir.path(), Role::Node, "alice", &["h".into()], DAY).unwrap_err();
        assert!(matches!(refused, PkiError::OtherOwner { .. }), "{refused}");
        let refused = renew(dir.path(), Role::Client, "bob", &[], DAY).unwrap_err();
        assert!(matches!(refused, PkiError::Read { .. }), "{refused}");
        let refused = renew(dir.path(), Role::Client, "ca", &[], DAY).unwrap_err();
        assert!(matches!(refused, PkiError::Unfit { .. }), "{refused}");
        assert_eq!(fs::read(&client.cert).unwrap(), before);
        // Without its key a certificate is not renewed.
        fs::remove_file(&client.key).unwrap();
        let refused = renew(dir.path(), Role::Client, "alice", &[], DAY).unwrap_err();
        assert!(matches!(refused, PkiError::Read { .. }), "{refused}");
        assert_eq!(fs::read(&client.cert).unwrap(), before);
    }

    #[test]
    fn names_that_cannot_stand_in_a_certificate_are_refused() {
        let dir = ca();
        for name in ["", "../x", "a/b", "ca", "-x"] {
            let refused = issue_client(dir.path(), name, DAY).unwrap_err();
            assert!(matches!(refused, PkiError::Unfit { .. }), "{name}: {refused}");
        }
        for hosts in [vec![], vec!["not a host".to_owned()]] {
            let refused = issue_node(dir.path(), "n1", &hosts, DAY).unwrap_err();
            assert!(matches!(refused, PkiError::Unfit { .. }), "{hosts:?}: {refused}");
        }
    }

    #[cfg(unix)]
    #[test]
    fn keys_are_written_and_read_for_the_owner_alone() {
        use std::os::unix::fs::PermissionsExt;
        let dir = ca();
        let client = issue_client(dir.path(), "alice", DAY).unwrap();
        assert_eq!(mode(&client.key), 0o600);
        assert_eq!(mode(&dir.path().join("ca.key")), 0o600);
        assert!(private_key(&client.key).is_ok());
        for bad in [0o640, 0o604, 0o620, 0o601] {
            fs::set_permissions(&client.key, fs::Permissions::from_mode(bad)).unwrap();
            let refused = private_key(&client.key).unwrap_err();
            assert!(matches!(refused, PkiError::KeyFileMode { mode, .. } if mode == bad));
            assert_eq!(refused.code(), proto::Code::KeyFileMode);
            assert!(refused.to_string().contains("chmod 600"), "{refused}");
        }
    }

    #[test]
    fn files_that_hold_something_else_are_refused() {
        let dir = ca();
        let path = dir.path().join("x.crt");
        fs::write(&path, "hello").unwrap();
        assert!(matches!(certificates(&path), Err(PkiError::Malformed { .. })));
        assert!(matches!(certificates(Path::new("/nowhere")), Err(PkiError::Read { .. })));
    }

    #[test]
    fn credentials_never_print_their_key() {
        let dir = ca();
        let client = issue_client(dir.path(), "alice", DAY).unwrap();
        let loaded = load(&dir.path().join("ca.crt"), &client.cert, &client.key).unwrap();
        let text = format!("{loaded:?}");
        assert!(text.contains("alice") && !text.contains("key"), "{text}");
    }
}
