//! Broken promises.

use std::fmt;

/// Which promise was broken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A value that a member had dropped is back there.
    Returned,
    /// A member shows a value although it knows of a write that superseded it, most often a delete.
    Kept,
    /// A member shows two values at once, of which one superseded the other.
    FalseSibling,
    /// A value is gone although nothing that superseded it is known.
    Vanished,
    /// A value that nobody wrote, or that was never durable.
    FromNowhere,
    /// Exchanges alone did not bring all to the same, or a member that had lost its disk does not answer reads again.
    NoAgreement,
    /// A former actor is still named in full, although all members have all of its writes.
    NotFolded,
    /// A member does not understand a token that another one gave.
    TokenUnknown,
    /// A member does not start from its own disk.
    NotStarted,
    /// The core found that something is wrong with itself.
    Panicked,
}

impl Kind {
    /// Its name, for people and for programs.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Returned => "returned",
            Self::Kept => "kept",
            Self::FalseSibling => "false-sibling",
            Self::Vanished => "vanished",
            Self::FromNowhere => "from-nowhere",
            Self::NoAgreement => "no-agreement",
            Self::NotFolded => "not-folded",
            Self::TokenUnknown => "token-unknown",
            Self::NotStarted => "not-started",
            Self::Panicked => "panicked",
        }
    }
}

/// A broken promise.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// Which one.
    pub kind: Kind,
    /// Where, and by which writes, as a sentence.
    pub what: String,
}

impl Violation {
    /// A broken promise.
    #[must_use]
    pub const fn new(kind: Kind, what: String) -> Self {
        Self { kind, what }
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.kind.name(), self.what)
    }
}
