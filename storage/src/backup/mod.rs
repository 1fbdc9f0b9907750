//! Backups: the exports of several groups in one file.
//!
//! ```text
//! head     who wrote it, which exports follow and how long each is, whose writes are in it
//! parts    exports, one behind the other, byte for byte as [`export`](crate::export) writes them
//! ```
//!
//! A backup of one group is a plain export, without a head; [`BackupFile`] opens both. Each part verifies by
//! itself; that a part belongs to this backup is known by its hash in the head, and that nothing is missing or left
//! over by the length of the file.

mod file;
mod head;

pub use file::BackupFile;
pub use head::{BACKUP_VERSION, encode_head};

#[cfg(test)]
mod tests;
