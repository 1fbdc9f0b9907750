//! What can happen in a schedule.

/// What a write takes as its context.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Basis {
    /// All that the replica holds of the key.
    Local,
    /// The token of an earlier read, here or elsewhere.
    Token(u8),
    /// Nothing: a sibling on purpose.
    Empty,
}

/// One step of a schedule. Replicas, keys and slots that do not exist make it a step without effect.
/// A `pick` counts modulo what there is to pick from.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[allow(missing_docs)]
pub enum Operation {
    /// A client writes; the record leaves as a rumor with `mail`.
    Write { at: u8, key: u8, delete: bool, expires: bool, mail: bool, basis: Basis },
    /// A client reads and keeps the token.
    Read { at: u8, key: u8, slot: u8 },
    /// A replica sends one of its records.
    Send { from: u8, pick: u8 },
    /// One of all records ever sent arrives, be it again.
    Deliver { to: u8, pick: u8 },
    /// A session begins.
    Begin { from: u8, to: u8 },
    /// A session carries on; with `refuse` one record is not taken.
    Stream { slot: u8, count: u8, refuse: bool },
    /// A session closes, if all was sent.
    Close { slot: u8 },
    /// A session is cut off.
    Abort { slot: u8 },
    /// A whole session at once.
    Session { from: u8, to: u8 },
    /// A certificate is dropped, at any age.
    DropCertificate { at: u8, pick: u8 },
    /// The context of a live value is dropped, at any age.
    DropContext { at: u8, pick: u8 },
    /// Certificates and contexts that are stable are dropped.
    DropStable { at: u8 },
    /// A certificate goes to sleep.
    Sleep { at: u8, pick: u8 },
    /// A process ends and begins again on its disk.
    Restart { at: u8 },
    /// A disk is lost.
    Wipe { at: u8 },
    /// A copy of a disk is made.
    Image { at: u8 },
    /// A disk is replaced by its copy.
    Rollback { at: u8 },
    /// A disk silently loses a record, or with `leaf` all of its key. The log can mend it or not.
    Damage { at: u8, pick: u8, leaf: bool, rebuildable: bool },
    /// A disk loses its clock, which shows at once.
    LoseClock { at: u8 },
    /// All leaves of a replica are verified.
    Scrub { at: u8 },
    /// A former actor begins to retire.
    Retire { pick: u8 },
    /// A replica hears which actors retire, and reports what it holds of them.
    Report { at: u8 },
    /// A retirement is completed, if every member covers what was reported.
    Retired { pick: u8 },
    /// A quorum write by `at`, which reaches the replicas in `reach`, one bit each.
    QuorumWrite { at: u8, key: u8, delete: bool, basis: Basis, reach: u8 },
    /// A quorum read begins.
    QuorumRead { at: u8, key: u8, slot: u8 },
    /// A replica answers a quorum read; with the last answer it ends.
    QuorumReply { slot: u8, from: u8 },
    /// The members change by one.
    ChangeMember { pick: u8 },
    /// A replica hears of the newest configuration.
    Adopt { at: u8 },
    /// A client with a session token reads.
    SessionRead { client: u8, at: u8, key: u8 },
    /// A client with a session token writes.
    SessionWrite { client: u8, at: u8, key: u8, delete: bool },
    /// A client repeats a write whose answer it did not get.
    Retry { pick: u8, at: u8 },
    /// A replica ends a value whose time is over.
    Expire { at: u8, pick: u8 },
    /// A replica tells another which writes it had made.
    Beat { from: u8, to: u8 },
    /// A replica says how fresh it is.
    Claim { at: u8 },
    /// A process ends before its last batches are durable, and begins on the same disk.
    Crash { at: u8, pick: u8 },
}

impl Operation {
    /// Number of kinds.
    pub const KINDS: usize = 35;

    /// Names of the kinds, in the order of [`Operation::kind`].
    pub const NAMES: [&'static str; Self::KINDS] = [
        "Write",
        "Read",
        "Send",
        "Deliver",
        "Begin",
        "Stream",
        "Close",
        "Abort",
        "Session",
        "DropCertificate",
        "DropContext",
        "DropStable",
        "Sleep",
        "Restart",
        "Wipe",
        "Image",
        "Rollback",
        "Damage",
        "LoseClock",
        "Scrub",
        "Retire",
        "Report",
        "Retired",
        "QuorumWrite",
        "QuorumRead",
        "QuorumReply",
        "ChangeMember",
        "Adopt",
        "SessionRead",
        "SessionWrite",
        "Retry",
        "Expire",
        "Beat",
        "Claim",
        "Crash",
    ];

    /// Number of this kind, in `[0, KINDS)`.
    pub fn kind(&self) -> usize {
        match self {
            Self::Write { .. } => 0,
            Self::Read { .. } => 1,
            Self::Send { .. } => 2,
            Self::Deliver { .. } => 3,
            Self::Begin { .. } => 4,
            Self::Stream { .. } => 5,
            Self::Close { .. } => 6,
            Self::Abort { .. } => 7,
            Self::Session { .. } => 8,
            Self::DropCertificate { .. } => 9,
            Self::DropContext { .. } => 10,
            Self::DropStable { .. } => 11,
            Self::Sleep { .. } => 12,
            Self::Restart { .. } => 13,
            Self::Wipe { .. } => 14,
            Self::Image { .. } => 15,
            Self::Rollback { .. } => 16,
            Self::Damage { .. } => 17,
            Self::LoseClock { .. } => 18,
            Self::Scrub { .. } => 19,
            Self::Retire { .. } => 20,
            Self::Report { .. } => 21,
            Self::Retired { .. } => 22,
            Self::QuorumWrite { .. } => 23,
            Self::QuorumRead { .. } => 24,
            Self::QuorumReply { .. } => 25,
            Self::ChangeMember { .. } => 26,
            Self::Adopt { .. } => 27,
            Self::SessionRead { .. } => 28,
            Self::SessionWrite { .. } => 29,
            Self::Retry { .. } => 30,
            Self::Expire { .. } => 31,
            Self::Beat { .. } => 32,
            Self::Claim { .. } => 33,
            Self::Crash { .. } => 34,
        }
    }
}
