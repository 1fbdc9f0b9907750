//! The secrets of a cluster: keys that all its members share and nobody else has.
//!
//! There are two kinds ([`SecretKind`]): the key that the hash tree of eventual keyspaces is made with, and
//! the keys that sign what clients carry. Group 0 records number and [`Fingerprint`] of each, never the
//! bytes; those lie in files of their own ([`SecretFiles`]), outside of log, exports and snapshots.
//!
//! Who draws them, who asks whom for them, and what happens when nobody has them any more is decided in
//! `node/secrets.rs`. Nothing here prints the bytes of a secret.

mod entropy;
mod files;
mod secret;

pub use entropy::Entropy;
pub use files::SecretFiles;
pub use secret::{Fingerprint, SECRET_BYTES, Secret, SecretId, SecretKind, Secrets};
