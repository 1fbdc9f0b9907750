//! The errors of this crate, one enum per question: may the group start, may this be proposed, may
//! this be read, may this message of a peer be believed.

use proto::{LogIndex, NodeId, Term};
use thiserror::Error;

/// Why a group does not start, or does not apply a change of members. The log was written by this
/// node: each of these is damage or a mistake of the caller, and nothing was changed.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum GroupError {
    /// Id 0 means "nobody" and cannot be a node.
    #[error("node id 0 is reserved")]
    ReservedId,
    /// The membership contradicts itself.
    #[error("the membership is not valid: {why}")]
    Membership {
        /// What is wrong with it.
        why: String,
    },
    /// The log ends before an index known to be committed or applied: its tail was lost. Going on
    /// could lose acknowledged writes and would make the library panic.
    #[error("the log ends at {last}, but {commit} is known to be committed")]
    LogShorterThanCommit {
        /// Last index of the log.
        last: LogIndex,
        /// The greater of the saved commit index and the applied index.
        commit: LogIndex,
    },
    /// An index is missing, repeated or out of order.
    #[error("the log holds index {found} where {expected} belongs")]
    LogGap {
        /// The index that belongs there.
        expected: LogIndex,
        /// The index found.
        found: LogIndex,
    },
    /// A term is 0, or below that of the entry before it.
    #[error("entry {index} has term {term}, which does not fit the entry before it")]
    LogTerm {
        /// The entry.
        index: LogIndex,
        /// Its term.
        term: Term,
    },
    /// An entry of a kind that this version cannot apply, or a change of members that it cannot
    /// read.
    #[error("entry {index} is of a kind that this version does not know")]
    LogKind {
        /// The entry.
        index: LogIndex,
    },
    /// The state is older than the start of the log, so entries are missing between them.
    #[error("the state is at {applied}, but the log begins after {start}")]
    AppliedBeforeStart {
        /// The applied index.
        applied: LogIndex,
        /// The log begins after this index.
        start: LogIndex,
    },
    /// The entry is not the next change of members that was handed out and waits to be applied: a
    /// mistake of the caller.
    #[error("entry {index} is not the change of members that is to be applied next")]
    NotNextChange {
        /// The entry.
        index: LogIndex,
    },
    /// The consensus library refused the configuration.
    #[error("the consensus library refused to start: {why}")]
    Library {
        /// Its words.
        why: String,
    },
}

fn who_leads(leader: Option<NodeId>) -> String {
    leader.map_or_else(|| "no leader is known".to_owned(), |id| format!("{id} does"))
}

/// Why a proposal was refused. In all cases nothing was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum ProposeError {
    /// Another node leads, or none: retry there.
    #[error("this node does not lead the group; {}", who_leads(*leader))]
    NotLeader {
        /// The leader, as far as this node knows.
        leader: Option<NodeId>,
    },
    /// Leadership is being handed over: retry with the next leader.
    #[error("leadership is being handed over to {to}")]
    Transferring {
        /// Who will lead.
        to: NodeId,
    },
    /// Too many uncommitted bytes ([`UNCOMMITTED_BYTES_MAX`](crate::config::UNCOMMITTED_BYTES_MAX)):
    /// retry later.
    #[error("too many proposals are waiting to be committed")]
    LogFull,
    /// Changes of members only: the leader has not committed an entry in its own term yet, so a
    /// change that it does not know of may be committed (raft-dev, "bug in single-server membership
    /// changes", 2015): retry shortly.
    #[error("the leader has not committed in its term yet")]
    NotReady,
    /// Changes of members only: the one before is not finished; retry once it is.
    #[error("a change of members is not finished")]
    ChangeUnfinished,
    /// Changes of members only: too few of the voters, as they are or as they shall be, were heard
    /// within the last [`ELECTION_TICKS`](crate::config::ELECTION_TICKS), and the group could stop:
    /// retry when they are back.
    #[error("too few voters are active to change the members")]
    VotersSilent,
    /// Changes of members only: it cannot or need not be carried out; a retry meets the same.
    #[error("the change of members is refused: {why}")]
    ChangeRefused {
        /// What is wrong with it.
        why: &'static str,
    },
}

/// Why no read index was asked for. The caller retries; nothing was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum ReadRefused {
    /// Another node leads, or none: ask there.
    #[error("this node does not lead the group; {}", who_leads(*leader))]
    NotLeader {
        /// The leader, as far as this node knows.
        leader: Option<NodeId>,
    },
    /// The leader has not committed an entry in its own term yet, so it cannot know what is
    /// committed (Raft thesis section 6.4): retry shortly.
    #[error("the leader has not committed in its term yet")]
    NotReady,
    /// [`READS_PENDING_MAX`](crate::config::READS_PENDING_MAX) questions are unanswered: retry
    /// later.
    #[error("too many read indexes are unanswered")]
    TooManyPending,
}

/// Why a message of a peer was not believed. It was dropped and nothing changed; Raft treats it as
/// lost. Except where noted, an honest peer never sends such a message.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum Rejected {
    /// A kind that does not cross the network, or one of a newer version.
    #[error("messages of kind {kind} are not accepted from peers")]
    Kind {
        /// Its number on the wire.
        kind: i32,
    },
    /// A snapshot's message is not stepped like others; it comes with an offer, and is
    /// [installed](crate::Group::install) once the content is there.
    #[error("a snapshot does not come alone")]
    Snapshot,
    /// The header of a snapshot is not one that a leader makes for this node.
    #[error("the snapshot is not valid: {why}")]
    SnapshotHeader {
        /// What is wrong with it.
        why: &'static str,
    },
    /// The message is addressed to another node.
    #[error("the message is addressed to {to}")]
    NotForUs {
        /// The addressee.
        to: NodeId,
    },
    /// The message names another sender than the link it came over.
    #[error("{from} sent a message in the name of {claimed}")]
    ForeignSender {
        /// Who sent it.
        from: NodeId,
        /// Who it says sent it.
        claimed: NodeId,
    },
    /// The sender is no member of the group and says what only members may say. Also happens
    /// honestly, to a node that was removed.
    #[error("{from} is no member of the group")]
    NotMember {
        /// The sender.
        from: NodeId,
    },
    /// A field holds a value that no history leads to, such as term 0.
    #[error("field {field} holds {value}")]
    OutOfRange {
        /// The field.
        field: &'static str,
        /// Its value.
        value: u64,
    },
    /// A field is set that messages of this kind do not have.
    #[error("field {field} does not belong into this kind of message")]
    UnexpectedField {
        /// The field.
        field: &'static str,
    },
    /// The entries do not follow each other or the index before them.
    #[error("the message holds index {found} where {expected} belongs")]
    Gap {
        /// The index that belongs there.
        expected: LogIndex,
        /// The index found.
        found: LogIndex,
    },
    /// A term goes down along the log or lies above the term of the message.
    #[error("term {term} at index {index} is out of order")]
    TermOrder {
        /// The index.
        index: LogIndex,
        /// Its term.
        term: Term,
    },
    /// An entry of a kind that this version cannot apply, or a change of members that it cannot
    /// read.
    #[error("entry {index} is of a kind that this version does not know")]
    EntryKind {
        /// The entry.
        index: LogIndex,
    },
    /// The leader's log differs from this node's at an index that is committed: one of the two lost
    /// a part of its log, or a majority did.
    #[error("the sender has term {claimed} at {index}, where term {known} is committed")]
    ContradictsCommitted {
        /// The index.
        index: LogIndex,
        /// The term that the sender names.
        claimed: Term,
        /// The term of the committed entry.
        known: Term,
    },
    /// A log that begins with its first entry is sent to a node that joins. It does not know the
    /// first members, so it could not follow changes of them; it needs a snapshot.
    #[error("a node that joins begins with a snapshot")]
    NoMembersYet,
    /// A vote arrives before it was asked for: the question waits for the disk.
    #[error("the vote was not asked for yet")]
    VoteUnasked,
    /// A heartbeat commits entries that this node does not have: one of the two lost a part of its
    /// log (tikv/tikv#7353).
    #[error("the heartbeat commits {commit}, but the log ends at {last}")]
    CommitBeyondLog {
        /// Commit index of the message.
        commit: LogIndex,
        /// Last index of this node.
        last: LogIndex,
    },
    /// A follower answers for entries that this leader does not have.
    #[error("the answer speaks of {index}, but the log ends at {last}")]
    AnswerBeyondLog {
        /// Index of the answer.
        index: LogIndex,
        /// Last index of this node.
        last: LogIndex,
    },
    /// A follower rejects an entry it has confirmed. Also happens honestly, when the network
    /// repeats or delays an old answer; repeated for ever it means that the follower lost a part
    /// of its log.
    #[error("the sender rejects {index} after it confirmed {matched}")]
    RejectsConfirmed {
        /// The rejected index.
        index: LogIndex,
        /// What it has confirmed.
        matched: LogIndex,
    },
    /// Two nodes lead in one term: votes were lost or counted twice.
    #[error("{from} acts as leader of term {term}, in which {leader} leads")]
    SecondLeader {
        /// The sender.
        from: NodeId,
        /// The term.
        term: Term,
        /// The leader this node knows.
        leader: NodeId,
    },
    /// The consensus library refused the message for a reason of its own.
    #[error("the consensus library refused the message: {why}")]
    Library {
        /// Its words.
        why: String,
    },
}
