//! Where a throw-away cluster keeps its files.
//!
//! `DIR/pki` holds certificates, `DIR/n1` and so on the nodes' data, `DIR/bin/kv` leads to this
//! very binary, which is the command `kv` when it is started under that name.

use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use client::pki;

/// How long the certificates of a throw-away cluster are good.
const VALIDITY: Duration = Duration::from_secs(24 * 60 * 60);
/// Certificates of a kept directory that end sooner are made anew.
const REMAINING_MIN: Duration = Duration::from_secs(60 * 60);
/// Name of the client whose certificate `kv` uses.
const CLIENT: &str = "dev";
/// What a node's certificate is good for.
const HOSTS: [&str; 2] = ["127.0.0.1", "localhost"];

/// The directory, removed at the end unless it is kept.
#[derive(Debug)]
pub(super) struct Directory {
    root: PathBuf,
    /// Removes the directory when dropped.
    temporary: Option<tempfile::TempDir>,
}

/// Files that `kv` needs.
#[derive(Clone, Debug)]
pub(super) struct ClientFiles {
    pub(super) ca: PathBuf,
    pub(super) cert: PathBuf,
    pub(super) key: PathBuf,
}

impl Directory {
    /// Opens a directory to keep, or makes one that is removed at the end.
    pub(super) fn open(keep: Option<&Path>) -> io::Result<Self> {
        match keep {
            Some(keep) => {
                std::fs::create_dir_all(keep)?;
                Ok(Self { root: keep.canonicalize()?, temporary: None })
            }
            None => {
                let temporary = tempfile::Builder::new().prefix("kvstore-dev-").tempdir()?;
                let root = temporary.path().canonicalize()?;
                Ok(Self { root, temporary: Some(temporary) })
            }
        }
    }

    /// Whether it stays.
    pub(super) fn is_kept(&self) -> bool {
        self.temporary.is_none()
    }

    /// The directory itself.
    pub(super) fn root(&self) -> &Path {
        &self.root
    }

    /// The data directory of a node.
    pub(super) fn data_dir(&self, node: &str) -> PathBuf {
        self.root.join(node)
    }

    /// Certificate and key of a node.
    pub(super) fn node_files(&self, node: &str) -> ClientFiles {
        let pki = self.pki();
        ClientFiles {
            ca: pki.join("ca.crt"),
            cert: pki.join(format!("{node}.crt")),
            key: pki.join(format!("{node}.key")),
        }
    }

    /// Certificate and key of the client.
    pub(super) fn client_files(&self) -> ClientFiles {
        self.node_files(CLIENT)
    }

    /// How many nodes a kept directory already holds; 0 for a new one.
    pub(super) fn nodes(&self) -> usize {
        (1..).take_while(|number| self.data_dir(&format!("n{number}")).exists()).count()
    }

    /// Makes the certificates, or keeps those that are still good for a while.
    pub(super) fn make_certificates(&self, nodes: &[String]) -> Result<(), pki::PkiError> {
        let pki = self.pki();
        if pki.exists() {
            if self.certificates_last(nodes) {
                return Ok(());
            }
            // They are throw-away certificates of this directory alone.
            std::fs::remove_dir_all(&pki)
                .map_err(|source| pki::PkiError::Write { path: pki.clone(), source })?;
        }
        pki::init_ca(&pki, None, VALIDITY)?;
        let hosts = HOSTS.map(str::to_owned);
        for node in nodes {
            pki::issue_node(&pki, node, &hosts, VALIDITY)?;
        }
        pki::issue_client(&pki, CLIENT, VALIDITY)?;
        Ok(())
    }

    /// Makes `bin/kv` lead to this binary and returns its directory.
    pub(super) fn link_kv(&self) -> io::Result<PathBuf> {
        let bin = self.root.join("bin");
        std::fs::create_dir_all(&bin)?;
        let link = bin.join("kv");
        match std::fs::remove_file(&link) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            Ok(()) | Err(_) => {}
        }
        std::os::unix::fs::symlink(std::env::current_exe()?, &link)?;
        Ok(bin)
    }

    /// Removes a temporary directory and says so when that fails.
    pub(super) fn close(self) -> io::Result<()> {
        self.temporary.map_or(Ok(()), tempfile::TempDir::close)
    }

    fn pki(&self) -> PathBuf {
        self.root.join("pki")
    }

    fn certificates_last(&self, nodes: &[String]) -> bool {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let until = i64::try_from((now + REMAINING_MIN).as_secs()).unwrap_or(i64::MAX);
        let names = ["ca", CLIENT].into_iter().chain(nodes.iter().map(String::as_str));
        let mut paths = names.map(|name| self.pki().join(format!("{name}.crt")));
        paths.all(|path| {
            pki::CertificateInfo::from_pem_file(&path).is_ok_and(|info| info.not_after > until)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(count: usize) -> Vec<String> {
        (1..=count).map(|number| format!("n{number}")).collect()
    }

    #[test]
    fn a_temporary_directory_goes_and_a_kept_one_stays() {
        let temporary = Directory::open(None).unwrap();
        let root = temporary.root().to_owned();
        temporary.make_certificates(&names(1)).unwrap();
        assert!(temporary.client_files().key.exists());
        temporary.close().unwrap();
        assert!(!root.exists());

        let parent = tempfile::tempdir().unwrap();
        let kept = Directory::open(Some(&parent.path().join("deep/kept"))).unwrap();
        let root = kept.root().to_owned();
        kept.close().unwrap();
        assert!(root.exists());
    }

    #[test]
    fn good_certificates_are_kept_and_missing_ones_made() {
        let parent = tempfile::tempdir().unwrap();
        let directory = Directory::open(Some(parent.path())).unwrap();
        directory.make_certificates(&names(2)).unwrap();
        let first = std::fs::read(&directory.client_files().cert).unwrap();
        directory.make_certificates(&names(2)).unwrap();
        assert_eq!(std::fs::read(&directory.client_files().cert).unwrap(), first);
        directory.make_certificates(&names(3)).unwrap();
        assert!(directory.node_files("n3").cert.exists());
        assert_ne!(std::fs::read(&directory.client_files().cert).unwrap(), first);
    }

    #[test]
    fn kv_leads_to_this_binary() {
        let directory = Directory::open(None).unwrap();
        for _ in 0..2 {
            let bin = directory.link_kv().unwrap();
            let target = std::fs::read_link(bin.join("kv")).unwrap();
            assert_eq!(target, std::env::current_exe().unwrap());
        }
    }
}
