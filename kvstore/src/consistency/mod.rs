//! Read levels: what each promises, what it checks, how it refuses.
//!
//! A level is one file here and one section in `docs/consistency.md`. The router asks [`plan`]
//! how a read is to be served; a level knows nothing of the others, and none is ever weakened
//! silently: what cannot be served is refused with a typed error.

mod eventual;
mod linearizable;
mod quorum;

use proto::v1::Level;
use proto::{Code, Failure};

/// What has to happen before a replica may answer a read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReadPlan {
    /// Confirm an index with a majority, apply up to it, then answer.
    ConfirmIndex,
    /// Answer from what this replica has applied.
    Local,
    /// Join the answers of a majority of the members.
    AskMajority,
}

/// How a read at `level` is served in a linearizable keyspace.
///
/// # Errors
/// [`Code::LevelNotOffered`] for a level that is not built yet.
pub fn plan(level: Level) -> Result<(Level, ReadPlan), Failure> {
    match level {
        Level::Unspecified | Level::Linearizable => Ok((Level::Linearizable, linearizable::PLAN)),
        // In a linearizable keyspace a quorum read and a linearizable read are the same thing.
        Level::Quorum => Ok((Level::Quorum, linearizable::PLAN)),
        Level::Eventual => Ok((Level::Eventual, eventual::PLAN)),
        Level::Bounded | Level::Session => {
            let why = format!(
                "level {} is not offered by this version; linearizable, quorum and eventual are",
                name(level)
            );
            Err(Failure::new(Code::LevelNotOffered, "read", why))
        }
    }
}

/// How a read at `level` is served in an eventual keyspace.
///
/// # Errors
/// [`Code::LevelNotOffered`] for a level that nodes which take writes alone cannot promise, or that is not built yet.
pub fn plan_eventual(level: Level) -> Result<(Level, ReadPlan), Failure> {
    match level {
        Level::Unspecified | Level::Eventual => Ok((Level::Eventual, eventual::PLAN)),
        Level::Quorum => Ok((Level::Quorum, quorum::PLAN)),
        Level::Linearizable | Level::Bounded | Level::Session => {
            let why = format!(
                "an eventual keyspace is read at level eventual or quorum; {} is not offered by this version",
                name(level)
            );
            Err(Failure::new(Code::LevelNotOffered, "read", why))
        }
    }
}

/// The word for a level on the command line, in metrics and in errors.
#[must_use]
pub const fn name(level: Level) -> &'static str {
    match level {
        Level::Unspecified => "unspecified",
        Level::Linearizable => "linearizable",
        Level::Quorum => "quorum",
        Level::Bounded => "bounded",
        Level::Session => "session",
        Level::Eventual => "eventual",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_level_is_weakened() {
        let cases = [
            (Level::Unspecified, Some((Level::Linearizable, ReadPlan::ConfirmIndex))),
            (Level::Linearizable, Some((Level::Linearizable, ReadPlan::ConfirmIndex))),
            (Level::Quorum, Some((Level::Quorum, ReadPlan::ConfirmIndex))),
            (Level::Eventual, Some((Level::Eventual, ReadPlan::Local))),
            (Level::Bounded, None),
            (Level::Session, None),
        ];
        for (level, expected) in cases {
            assert_eq!(plan(level).ok(), expected, "{level:?}");
        }
        let eventual = [
            (Level::Unspecified, Some((Level::Eventual, ReadPlan::Local))),
            (Level::Linearizable, None),
            (Level::Quorum, Some((Level::Quorum, ReadPlan::AskMajority))),
            (Level::Eventual, Some((Level::Eventual, ReadPlan::Local))),
            (Level::Bounded, None),
            (Level::Session, None),
        ];
        for (level, expected) in eventual {
            assert_eq!(plan_eventual(level).ok(), expected, "{level:?}");
        }
    }
}
