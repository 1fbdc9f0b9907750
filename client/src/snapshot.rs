//! Snapshots: all data of the cluster as one file, in parts.

use std::fmt;
use std::io;
use std::time::Duration;

use bytes::Bytes;
use proto::{Code, Failure, v1};
use tokio::time::timeout;
use tonic::Streaming;

use crate::calls::SnapshotBegun;
use crate::error::ClientError;
use crate::retry::{STREAM, stream_error, stream_lost};

/// The parts of a snapshot, in order. See [`Client::snapshot`](crate::Client::snapshot).
///
/// Invariant: the last part ends where the first one said; else an error is returned in its place.
pub struct SnapshotParts {
    first: Option<v1::SnapshotPart>,
    rest: Streaming<v1::SnapshotPart>,
    total: u64,
    received: u64,
    cover: Option<v1::SnapshotCover>,
    /// The longest time between two parts.
    patience: Duration,
}

impl fmt::Debug for SnapshotParts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SnapshotParts")
            .field("received", &self.received)
            .field("total", &self.total)
            .finish_non_exhaustive()
    }
}

impl SnapshotParts {
    pub(crate) fn new(begun: SnapshotBegun, patience: Duration) -> Self {
        let SnapshotBegun { first, rest } = begun;
        let total = first.as_ref().map_or(0, |part| part.total);
        let cover = first.as_ref().and_then(|part| part.cover.clone());
        Self { first, rest, total, received: 0, cover, patience }
    }

    /// Bytes of the whole file.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.total
    }

    /// Whose writes to eventual keyspaces the snapshot holds; `None` where there is no such keyspace.
    #[must_use]
    pub fn cover(&self) -> Option<&v1::SnapshotCover> {
        self.cover.as_ref()
    }

    /// Bytes of the parts so far.
    #[must_use]
    pub fn received(&self) -> u64 {
        self.received
    }

    /// The next part; `None` after the last one, when all bytes were there.
    ///
    /// # Errors
    /// See [`ClientError`]; KV1709 when the length is not that which was announced. The snapshot has
    /// to be read anew then.
    pub async fn next(&mut self) -> Result<Option<Bytes>, ClientError> {
        let part = match self.first.take() {
            Some(first) => Some(first),
            None => self.receive().await?,
        };
        let Some(v1::SnapshotPart { data, total, cover: _ }) = part else {
            return match self.received == self.total && self.total > 0 {
                true => Ok(None),
                false => Err(self.invalid("the stream ended early")),
            };
        };
        self.received = self.received.saturating_add(data.len() as u64);
        if total != self.total {
            return Err(self.invalid(&format!("a later part says {total} bytes")));
        }
        if self.received > self.total {
            return Err(self.invalid("more bytes came than announced"));
        }
        Ok(Some(data))
    }

    async fn receive(&mut self) -> Result<Option<v1::SnapshotPart>, ClientError> {
        match timeout(self.patience, self.rest.message()).await {
            Ok(Ok(part)) => Ok(part),
            Ok(Err(status)) => Err(stream_error(&status)),
            Err(_) => {
                let silent = self.patience.as_millis();
                Err(stream_lost(format!("no part within {silent} ms")))
            }
        }
    }

    fn invalid(&self, what: &str) -> ClientError {
        let Self { received, total, .. } = self;
        let why = format!("{what}: {received} of {total} bytes");
        ClientError::Refused(Box::new(Failure::new(Code::ExportInvalid, STREAM, why)))
    }
}

/// Why a snapshot was not saved.
#[derive(Debug, thiserror::Error)]
pub enum SaveError {
    /// It could not be read.
    #[error(transparent)]
    Read(#[from] ClientError),
    /// It could not be written.
    #[error("{0}")]
    Write(#[from] io::Error),
}
