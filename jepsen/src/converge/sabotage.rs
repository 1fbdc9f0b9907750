//! What can be broken on purpose.

/// Something that is broken on purpose, to see that it is found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sabotage {
    /// A disk loses an entry, and the member starts from the rest.
    EntryLost,
    /// A disk has an entry again that was removed or replaced.
    EntryBack,
    /// What a client has seen does not reach the member.
    TokenLost,
    /// What is not durable leaves the member.
    SentBeforeSync,
    /// The first member never has a link again.
    StaysCut,
}

impl Sabotage {
    /// All of them.
    pub const ALL: [Self; 5] =
        [Self::EntryLost, Self::EntryBack, Self::TokenLost, Self::SentBeforeSync, Self::StaysCut];

    /// Its name on the command line.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::EntryLost => "entry-lost",
            Self::EntryBack => "entry-back",
            Self::TokenLost => "token-lost",
            Self::SentBeforeSync => "sent-before-sync",
            Self::StaysCut => "stays-cut",
        }
    }
}
