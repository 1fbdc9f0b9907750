//! What each planted bug is, for the table of `docs/mutants.md`.

use super::mutant::Mutant;

impl Mutant {
    /// The rows of the catalogue of known bugs that it stands for; empty if it stands for itself.
    pub fn catalogue(self) -> &'static str {
        match self {
            Self::AckBeforeSync => "B03, B27",
            Self::VoteForgotten | Self::RepairForgetsVote | Self::AcksUnwritten => "B28",
            Self::AppliedIndexApart => "B01",
            Self::ReadWithoutQuorum | Self::UnconfirmedLeader => "B13, B46",
            Self::DoubleApply => "B22",
            Self::FreedBeforeExport => "B26",
            Self::InstallNotLogged => "B39",
            Self::SnapshotAboveContent => "B38",
            Self::OutcomesMissing | Self::FenceSkipped => "B65",
            Self::DamageTakenForTear => "B29, B51",
            Self::RepairUnconfirmed => "B28, B42",
            Self::WipedKeepsIdentity => "B44",
            Self::AckWhenFull => "B33",
            Self::ReadIndexTooLow | Self::QuestionReused => "B13",
            Self::CompactedApart => "B14",
            Self::RemovedStillCounted => "B20",
            Self::KeyspaceIdReused => "B32",
            Self::SyncSkipped => "B27",
            Self::CompactionTooDeep => "B09",
            Self::SnapshotUnsynced => "B19, B26",
            Self::JointHalfForgotten => "B35",
            Self::RenewalFallsShort => "",
        }
    }

    /// The bug in a sentence.
    pub fn about(self) -> &'static str {
        match self {
            Self::AckBeforeSync => "an append is reported durable before it is synced",
            Self::VoteForgotten => "the vote does not reach the disk",
            Self::AppliedIndexApart => "a checkpoint's position is durable before its records",
            Self::ReadWithoutQuorum => "linearizable reads are answered from the local state",
            Self::DoubleApply => "a repeated write is executed again",
            Self::FreedBeforeExport => "the log is freed before the export is durable",
            Self::InstallNotLogged => "a snapshot is installed in memory only",
            Self::SnapshotAboveContent => "an export claims one entry more than it holds",
            Self::OutcomesMissing => "the exactly-once table is not in the export",
            Self::DamageTakenForTear => "a damaged log is cut like one with a torn tail",
            Self::RepairUnconfirmed => "a leader that nobody confirmed answers a repair",
            Self::WipedKeepsIdentity => "a wiped machine comes back as the member it was",
            Self::AckWhenFull => "what does not fit on the disk is reported durable",
            Self::ReadIndexTooLow => "a leader confirms reads at an index that is too low",
            Self::RepairForgetsVote => "a repair keeps the term and forgets the vote",
            Self::CompactedApart => "who begins with an export has compacted more than the others",
            Self::RemovedStillCounted => {
                "who begins with an export counts a removed node as a voter"
            }
            Self::KeyspaceIdReused => {
                "who begins with an export mints the id of a removed keyspace"
            }
            Self::UnconfirmedLeader => "a deposed leader answers linearizable reads (stale read)",
            Self::FenceSkipped => "a retry whose outcome was evicted is executed again",
            Self::SyncSkipped => "syncs of the log are reported and not done (lost tail)",
            Self::QuestionReused => "questions for a read index share one name",
            Self::CompactionTooDeep => "compaction drops a version too many (gap in the history)",
            Self::SnapshotUnsynced => "a snapshot is switched to before it is synced",
            Self::JointHalfForgotten => {
                "who begins with an export judges a joint configuration by one half"
            }
            Self::RenewalFallsShort => "a renewed state store lacks the last items of the old one",
            Self::AcksUnwritten => "a follower acknowledges entries that it does not have",
        }
    }
}
