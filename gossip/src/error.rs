//! Why bytes were refused.

use crate::clock::FoldNumber;

/// Why bytes could not be decoded. Nothing changed; the fault is the sender's or the disk's, except
/// for [`DecodeError::UnknownFold`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// The bytes end too early, or a count promises more than there are.
    #[error("the bytes end too early")]
    Truncated,
    /// There are bytes after the end.
    #[error("{0} bytes are left after the end")]
    Trailing(usize),
    /// The format is not known here.
    #[error("format {0} is not known")]
    UnknownFormat(u8),
    /// A number is outside what it may be.
    #[error("a number is out of range: {0}")]
    OutOfRange(&'static str),
    /// There is a shorter or an ordered way to say the same, and only that one is allowed.
    #[error("not in canonical form: {0}")]
    NotCanonical(&'static str),
    /// A fold is named that is not known here. The receiver lags behind the catalogue: it catches
    /// up with that first and asks again.
    #[error("fold {0} is not known here")]
    UnknownFold(FoldNumber),
}
