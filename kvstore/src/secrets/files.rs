//! The files of secrets: `secrets/tree-1`, `secrets/token-1`, one a secret.
//!
//! ```text
//!  8 bytes   KVSECRT, and a line feed
//!  4 bytes   format version, little-endian
//! 16 bytes   id of the cluster
//! 32 bytes   the secret
//! 32 bytes   its SHA-256
//! ```
//!
//! Only the owner may read them. A file is written to `<name>.new`, synced, renamed, and the directory
//! synced. One that does not verify, or is of another cluster, is set aside as `<name>.damaged`: the node
//! fetches the secret again from the others.

use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use proto::ClusterId;
use storage::disk::{Disk, OpenMode};

use super::{Fingerprint, SECRET_BYTES, Secret, SecretId};

const MAGIC: &[u8; 8] = b"KVSECRT\n";
const VERSION: u32 = 1;
const CLUSTER_AT: usize = 12;
const SECRET_AT: usize = CLUSTER_AT + 16;
const FINGERPRINT_AT: usize = SECRET_AT + SECRET_BYTES;
const FILE_BYTES: usize = FINGERPRINT_AT + 32;

/// Ends the name of a file that is being written; such a file is never read.
const TEMPORARY: &str = ".new";
/// Ends the name of a file that was of no use.
const DAMAGED: &str = ".damaged";

/// The secrets of one node on its disk.
#[derive(Clone, Debug)]
pub struct SecretFiles {
    /// The disk.
    pub disk: Arc<dyn Disk>,
    /// The directory `secrets/`.
    pub dir: PathBuf,
    /// The cluster; secrets of others are of no use.
    pub cluster: ClusterId,
}

impl SecretFiles {
    /// Reads all that are of use, and sets aside what is not.
    ///
    /// # Errors
    /// When the directory cannot be read.
    pub fn read(&self) -> io::Result<Vec<Secret>> {
        let mut secrets = Vec::new();
        for name in self.disk.list(&self.dir)? {
            let path = self.dir.join(&name);
            if name.ends_with(TEMPORARY) {
                // Left by a crash; it goes when the secret is written again, if it cannot go now.
                drop(self.disk.remove_file(&path));
                continue;
            }
            let Some(id) = SecretId::parse(&name) else { continue };
            match self.read_file(id, &path) {
                Ok(secret) => secrets.push(secret),
                Err(why) => {
                    tracing::warn!(path = %path.display(), why, "a secret is of no use: it is set aside");
                    self.set_aside(&name, &path);
                }
            }
        }
        Ok(secrets)
    }

    /// Writes a secret; durable on return. A file of that name is replaced; a crash before leaves the old
    /// one.
    ///
    /// # Errors
    /// What the disk reports. It may have been written all the same.
    pub fn write(&self, secret: &Secret) -> io::Result<()> {
        self.disk.create_dir_all(&self.dir)?;
        let name = secret.id().to_string();
        let temporary = self.dir.join(format!("{name}{TEMPORARY}"));
        match self.disk.remove_file(&temporary) {
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
            Ok(()) | Err(_) => {}
        }
        let mut file = self.disk.open(&temporary, OpenMode::CreateNew)?;
        file.write_at(0, &self.encode(secret))?;
        file.sync_data()?;
        drop(file);
        self.disk.rename(&temporary, &self.dir.join(name))?;
        self.disk.sync_dir(&self.dir)
    }

    /// Whatever becomes of it, the file is not trusted: it is read again only if it verifies.
    fn set_aside(&self, name: &str, path: &Path) {
        let aside = self.dir.join(format!("{name}{DAMAGED}"));
        let moved = self.disk.rename(path, &aside).and_then(|()| self.disk.sync_dir(&self.dir));
        if let Err(error) = moved {
            tracing::warn!(path = %path.display(), %error, "it cannot be set aside");
        }
    }

    fn read_file(&self, id: SecretId, path: &Path) -> Result<Secret, String> {
        let failed = |error: io::Error| error.to_string();
        let file = self.disk.open(path, OpenMode::Read).map_err(failed)?;
        // One byte more, so that a longer file is noticed.
        let mut bytes = [0; FILE_BYTES + 1];
        let read = file.read_at(0, &mut bytes).map_err(failed)?;
        self.decode(id, &bytes[..read]).map_err(str::to_owned)
    }

    fn encode(&self, secret: &Secret) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(FILE_BYTES);
        bytes.extend_from_slice(MAGIC);
        bytes.extend_from_slice(&VERSION.to_le_bytes());
        bytes.extend_from_slice(&self.cluster.0);
        bytes.extend_from_slice(secret.bytes());
        bytes.extend_from_slice(&secret.fingerprint().0);
        bytes
    }

    fn decode(&self, id: SecretId, bytes: &[u8]) -> Result<Secret, &'static str> {
        if bytes.len() != FILE_BYTES {
            return Err("it has the wrong length");
        }
        if bytes[..8] != MAGIC[..] || bytes[8..CLUSTER_AT] != VERSION.to_le_bytes() {
            return Err("it is not a secret in the form that this version knows");
        }
        if bytes[CLUSTER_AT..SECRET_AT] != self.cluster.0 {
            return Err("it is a secret of another cluster");
        }
        let secret = bytes[SECRET_AT..FINGERPRINT_AT].try_into().expect("the length was checked");
        let secret = Secret::new(id, secret);
        if Fingerprint::from_slice(&bytes[FINGERPRINT_AT..]) != Some(secret.fingerprint()) {
            return Err("it does not match its fingerprint");
        }
        Ok(secret)
    }
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;
    use rand_chacha::ChaCha8Rng;
    use storage::disk::{RealDisk, SimDisk};

    use super::super::Entropy;
    use super::*;

    fn files(disk: Arc<dyn Disk>, dir: &Path) -> SecretFiles {
        SecretFiles { disk, dir: dir.join("secrets"), cluster: ClusterId([5; 16]) }
    }

    fn secret(name: &str) -> Secret {
        Entropy::predictable(1).draw(SecretId::parse(name).unwrap())
    }

    #[cfg(unix)]
    #[test]
    fn only_the_owner_may_read_them() {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir().unwrap();
        let files = files(Arc::new(RealDisk), dir.path());
        assert_eq!(files.read().unwrap(), []);
        for name in ["tree-1", "token-1", "token-12"] {
            files.write(&secret(name)).unwrap();
        }
        assert_eq!(files.read().unwrap(), ["token-1", "token-12", "tree-1"].map(secret));
        let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(&files.dir), 0o700);
        for name in ["tree-1", "token-1", "token-12"] {
            assert_eq!(mode(&files.dir.join(name)), 0o600, "{name}");
        }
        assert_eq!(files.disk.list(&files.dir).unwrap().len(), 3, "nothing temporary is left");
    }

    /// One bit changed anywhere, cut short, longer, of another cluster: set aside, the others are read.
    #[test]
    fn what_does_not_verify_is_set_aside() {
        let whole = secret("token-1");
        let dir = Path::new("/data");
        let damage = |change: &dyn Fn(&mut Vec<u8>)| {
            let disk = SimDisk::new();
            let files = files(Arc::new(disk.clone()), dir);
            for name in ["token-1", "tree-1"] {
                files.write(&secret(name)).unwrap();
            }
            let path = files.dir.join("token-1");
            let mut bytes = disk.content(&path).unwrap();
            change(&mut bytes);
            disk.replace(&path, bytes).unwrap();
            (files, disk)
        };
        let bit = |at: usize| move |bytes: &mut Vec<u8>| bytes[at] ^= 1;
        type Damage = Box<dyn Fn(&mut Vec<u8>)>;
        let mut damages: Vec<Damage> = vec![
            Box::new(|bytes| bytes.truncate(FILE_BYTES - 1)),
            Box::new(|bytes| bytes.push(0)),
            Box::new(Vec::clear),
        ];
        damages.extend((0..FILE_BYTES).map(|at| Box::new(bit(at)) as Damage));
        for (nth, change) in damages.iter().enumerate() {
            let (files, disk) = damage(change);
            assert_eq!(files.read().unwrap(), [secret("tree-1")], "damage {nth}");
            assert_eq!(disk.list(&files.dir).unwrap(), ["token-1.damaged", "tree-1"]);
            files.write(&whole).unwrap();
            assert_eq!(files.read().unwrap(), [whole.clone(), secret("tree-1")]);
        }
        let (mut files, _) = damage(&|_| {});
        files.cluster = ClusterId([6; 16]);
        assert_eq!(files.read().unwrap(), []);
    }

    /// Power fails at each operation of a write over an older secret: afterwards there is the old one or the
    /// new one, and once the write has returned, the new one.
    #[test]
    fn a_crash_leaves_the_old_one_or_the_new_one() {
        let old = Secret::new(SecretId::parse("token-1").unwrap(), [1; SECRET_BYTES]);
        let new = secret("token-1");
        let mut returned = false;
        for operation in 0..40 {
            let disk = SimDisk::new();
            let files = files(Arc::new(disk.clone()), Path::new("/data"));
            files.write(&old).unwrap();
            disk.halt_at(disk.counters().operations + operation);
            let done = files.write(&new).is_ok();
            for image in disk.images(64, &mut ChaCha8Rng::seed_from_u64(operation)) {
                let left = SecretFiles { disk: Arc::new(image), ..files.clone() }.read().unwrap();
                assert!(left == [new.clone()] || (!done && left == [old.clone()]), "{operation}");
            }
            returned |= done;
        }
        assert!(returned, "it never got as far as the end");
    }
}
