//! Bugs that the lab can plant in this server, to see whether it finds them.

use std::fmt;
use std::io;
use std::sync::OnceLock;

/// The variable that names the bug to plant, for the whole life of the process.
pub const VARIABLE: &str = "KVLAB_MUTANT";

/// A bug of a kind that real systems had, planted at a seam of the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mutant {
    /// A sync of the log is reported before it is done, up to half a second.
    AckBeforeSync,
    /// A sync of the log that fails is reported as done.
    SyncErrorIgnored,
    /// A follower acknowledges entries now and then that it does not have.
    AcksUnwritten,
    /// The leader confirms reads of others at an index that is too low.
    ReadIndexTooLow,
    /// Every node answers linearizable reads from what it has.
    LocalReads,
    /// A node that believes to lead answers linearizable reads without asking anybody.
    UnconfirmedLeader,
    /// A write that is repeated counts as a new one.
    DoubleApply,
    /// Conditions of transactions are not looked at.
    ComparesSkipped,
    /// Now and then only the first operation of a transaction is executed.
    HalfTransaction,
    /// Now and then a write names a revision before its own.
    WrongRevision,
    /// Now and then a key is missing from a range.
    RangeGap,
    /// A weak read claims a newer revision than it shows.
    RevisionAboveContent,
}

impl Mutant {
    /// Every bug that can be planted.
    pub const ALL: [Self; 12] = [
        Self::AckBeforeSync,
        Self::SyncErrorIgnored,
        Self::AcksUnwritten,
        Self::ReadIndexTooLow,
        Self::LocalReads,
        Self::UnconfirmedLeader,
        Self::DoubleApply,
        Self::ComparesSkipped,
        Self::HalfTransaction,
        Self::WrongRevision,
        Self::RangeGap,
        Self::RevisionAboveContent,
    ];

    /// Its name in [`VARIABLE`].
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::AckBeforeSync => "ack-before-sync",
            Self::SyncErrorIgnored => "sync-error-ignored",
            Self::AcksUnwritten => "acks-unwritten",
            Self::ReadIndexTooLow => "read-index-too-low",
            Self::LocalReads => "local-reads",
            Self::UnconfirmedLeader => "unconfirmed-leader",
            Self::DoubleApply => "double-apply",
            Self::ComparesSkipped => "compares-skipped",
            Self::HalfTransaction => "half-transaction",
            Self::WrongRevision => "wrong-revision",
            Self::RangeGap => "range-gap",
            Self::RevisionAboveContent => "revision-above-content",
        }
    }

    /// Reads a name; empty is none.
    ///
    /// # Errors
    /// `InvalidInput` for a name that is none of a bug.
    pub fn parse(name: &str) -> io::Result<Option<Self>> {
        if name.is_empty() {
            return Ok(None);
        }
        let found = Self::ALL.into_iter().find(|mutant| mutant.as_str() == name);
        found.map(Some).ok_or_else(|| {
            let why = format!("{VARIABLE}: \"{name}\" is no bug that can be planted");
            io::Error::new(io::ErrorKind::InvalidInput, why)
        })
    }
}

impl fmt::Display for Mutant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What the environment asks for.
///
/// # Errors
/// As [`Mutant::parse`].
pub(super) fn asked() -> io::Result<Option<Mutant>> {
    let name = std::env::var_os(VARIABLE).unwrap_or_default();
    Mutant::parse(&name.to_string_lossy())
}

/// The bug planted in this process. A server with a name that it does not know never gets this far.
pub(super) fn planted() -> Option<Mutant> {
    static PLANTED: OnceLock<Option<Mutant>> = OnceLock::new();
    *PLANTED.get_or_init(|| asked().unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_back_and_others_are_refused() {
        for mutant in Mutant::ALL {
            assert_eq!(Mutant::parse(mutant.as_str()).unwrap(), Some(mutant));
        }
        assert_eq!(Mutant::parse("").unwrap(), None);
        let refused = Mutant::parse("ack-before-synk").unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::InvalidInput);
        assert!(refused.to_string().contains("KVLAB_MUTANT"), "{refused}");
    }
}
