//! How often each event occurred: an event that never happens was not tested.

use std::collections::BTreeMap;
use std::fmt;

/// Something that a run must have met at least once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Event {
    /// A node became leader of the data group.
    LeaderChange,
    /// A log was cut behind its last whole batch.
    TornTail,
    /// A crash dropped writes that were not synced.
    LostUnsyncedWrite,
    /// A message was delivered twice.
    DuplicateDelivery,
    /// A message was lost.
    MessageLost,
    /// Messages were held back so that later ones overtook them.
    Reordering,
    /// A direction between two nodes was cut and the other one was not.
    OneWayCut,
    /// A node was cut off in both directions.
    Partition,
    /// An outcome was evicted from the exactly-once table.
    Eviction,
    /// A node crashed while a checkpoint ran.
    CrashInCheckpoint,
    /// A checkpoint finished.
    Checkpoint,
    /// A node crashed.
    Crash,
    /// All nodes were down at once.
    CrashOfAll,
    /// A write was answered from the exactly-once table.
    Replayed,
    /// A write ended with an unknown outcome.
    UnknownOutcome,
    /// A condition did not hold.
    ConditionFailed,
    /// A linearizable read was served by a node that does not lead.
    FollowerRead,
    /// A write was forwarded to the leader and acknowledged.
    ForwardedWrite,
    /// A log rolled over to another segment.
    SegmentRoll,
    /// Segments of a log were freed.
    LogFreed,
    /// An export was written.
    ExportWritten,
    /// An export was given up: it delayed the next checkpoint for too long.
    ExportGivenUp,
    /// A write was refused because log or memory was full until an export is written.
    WriteRefused,
    /// A follower installed a snapshot.
    SnapshotInstalled,
    /// The state store was copied into a new one.
    Renewed,
    /// A renewal was given up: it was in the way of a checkpoint or a snapshot.
    RenewalGivenUp,
    /// A node crashed while it copied its store.
    CrashInRenewal,
    /// A node crashed while it wrote an export.
    CrashInExport,
    /// A node crashed while it fetched or built a snapshot.
    CrashInInstall,
    /// History was compacted.
    Compaction,
    /// A keyspace was created.
    KeyspaceCreated,
    /// A keyspace was removed.
    KeyspaceRemoved,
    /// A write was refused because its keyspace was full.
    KeyspaceFull,
    /// A process stood still.
    Pause,
    /// A disk was slow.
    SlowDisk,
    /// A log had no room on its disk.
    DiskFull,
    /// A log had room again, and its process went on.
    DiskFullOver,
    /// State directories were deleted.
    StateLost,
    /// Files were damaged.
    Damage,
    /// A start found files damaged, and a repair began.
    DamageFound,
    /// A repair came to its end.
    Repaired,
    /// A node crashed while it was being repaired.
    CrashInRepair,
    /// A member was removed, and every group carried it out.
    MemberRemoved,
    /// A new node became a voter.
    MemberJoined,
    /// A node was given items to remember by itself.
    ItemsPut,
    /// A node lost what it remembered with its log.
    ItemsLost,
}

impl Event {
    /// Every event.
    pub const ALL: [Self; 46] = [
        Self::LeaderChange,
        Self::TornTail,
        Self::LostUnsyncedWrite,
        Self::DuplicateDelivery,
        Self::MessageLost,
        Self::Reordering,
        Self::OneWayCut,
        Self::Partition,
        Self::Eviction,
        Self::CrashInCheckpoint,
        Self::Checkpoint,
        Self::Crash,
        Self::CrashOfAll,
        Self::Replayed,
        Self::UnknownOutcome,
        Self::ConditionFailed,
        Self::FollowerRead,
        Self::ForwardedWrite,
        Self::SegmentRoll,
        Self::LogFreed,
        Self::ExportWritten,
        Self::ExportGivenUp,
        Self::WriteRefused,
        Self::SnapshotInstalled,
        Self::Renewed,
        Self::RenewalGivenUp,
        Self::CrashInRenewal,
        Self::CrashInExport,
        Self::CrashInInstall,
        Self::Compaction,
        Self::KeyspaceCreated,
        Self::KeyspaceRemoved,
        Self::KeyspaceFull,
        Self::Pause,
        Self::SlowDisk,
        Self::DiskFull,
        Self::DiskFullOver,
        Self::StateLost,
        Self::Damage,
        Self::DamageFound,
        Self::Repaired,
        Self::CrashInRepair,
        Self::MemberRemoved,
        Self::MemberJoined,
        Self::ItemsPut,
        Self::ItemsLost,
    ];
}

/// Counts by event.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    counts: BTreeMap<Event, u64>,
    /// Operations that clients began.
    pub operations: u64,
    /// Operations that were acknowledged.
    pub acknowledged: u64,
    /// Faults that were injected.
    pub faults: u64,
    /// Virtual time that passed, in microseconds.
    pub simulated: u64,
}

impl Counters {
    /// Notes `times` occurrences.
    pub fn add(&mut self, event: Event, times: u64) {
        *self.counts.entry(event).or_default() += times;
    }

    /// Notes one occurrence.
    pub fn count(&mut self, event: Event) {
        self.add(event, 1);
    }

    /// How often it occurred.
    pub fn get(&self, event: Event) -> u64 {
        self.counts.get(&event).copied().unwrap_or_default()
    }

    /// Adds what another run counted.
    pub fn merge(&mut self, other: &Self) {
        for (event, times) in &other.counts {
            self.add(*event, *times);
        }
        self.operations += other.operations;
        self.acknowledged += other.acknowledged;
        self.faults += other.faults;
        self.simulated += other.simulated;
    }

    /// Events that never occurred.
    pub fn missing(&self) -> Vec<Event> {
        Event::ALL.into_iter().filter(|event| self.get(*event) == 0).collect()
    }
}

impl fmt::Display for Counters {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{:<20} {:>12}", "operations", self.operations)?;
        writeln!(f, "{:<20} {:>12}", "acknowledged", self.acknowledged)?;
        writeln!(f, "{:<20} {:>12}", "faults", self.faults)?;
        for event in Event::ALL {
            writeln!(f, "{:<20} {:>12}", format!("{event:?}"), self.get(event))?;
        }
        Ok(())
    }
}
