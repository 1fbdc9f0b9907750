//! What members of a group say to each other.

use bytes::Bytes;

use super::answer::{ReadRange, Told, Unread};
use super::walk::Below;
use crate::actor::ActorId;
use crate::dot::Dot;
use crate::record::EntryKey;
use crate::session::{Hello, Part};
use crate::tree::NodeName;

/// One message. It may be lost, come twice or late; [`Group::receive`](super::Group::receive) takes it in any state.
#[derive(Clone, Debug)]
pub enum Message {
    /// Opens an exchange, or answers one that the peer opened.
    Hello {
        /// What the sender has.
        hello: Hello,
        /// What is wanted of the receiver.
        turn: Turn,
        /// The configuration that the sender follows.
        epoch: u64,
    },
    /// R to S and back: the session does not go on, for this reason.
    Refused {
        /// The session.
        session: u64,
        /// Why.
        why: Refusal,
    },
    /// S to R: a part of a session.
    Part(Part),
    /// R to S: parts of the session up to this number were taken.
    Taken {
        /// The session.
        session: u64,
        /// The number.
        number: u64,
    },
    /// R to S: what is below these nodes of the tree?
    Ask {
        /// The session.
        session: u64,
        /// The nodes.
        nodes: Vec<NodeName>,
    },
    /// S to R: answers an [`Message::Ask`].
    Below {
        /// The session.
        session: u64,
        /// What is below the nodes.
        nodes: Vec<(NodeName, Below)>,
    },
    /// R to S: tell all of these keys.
    Tell {
        /// The session.
        session: u64,
        /// Counts these messages from 0.
        number: u64,
        /// The keys.
        keys: Vec<EntryKey>,
    },
    /// R to S: the tree was walked; nothing else is asked for.
    Walked {
        /// The session.
        session: u64,
        /// How many [`Message::Tell`] there were.
        tells: u64,
    },
    /// Fresh writes.
    Rumor {
        /// Names the message, if the sender wants to hear that they are durable; else 0.
        id: u64,
        /// A batch of records, in its bytes.
        batch: Bytes,
    },
    /// A fresh write with a large value, without the value.
    Offer {
        /// Names the message, if the sender wants to hear that the write is durable; else 0.
        id: u64,
        /// A batch of one record with nothing for its value, in its bytes.
        batch: Bytes,
    },
    /// The receiver offered this write, and the sender of this does not know it: it wants a [`Message::Rumor`].
    Fetch {
        /// The write.
        dot: Dot,
    },
    /// The writes of a rumor or an offer are durable at the sender of this.
    Stored {
        /// Names the rumor, or the offer.
        id: u64,
        /// The configuration that the sender follows.
        epoch: u64,
    },
    /// What time is it there? All times are of the members' own clocks, in microseconds since 1970.
    Ping {
        /// When this was asked.
        asked: u64,
    },
    /// Answers a [`Message::Ping`].
    Pong {
        /// When that was asked, by the clock of who asked.
        asked: u64,
        /// When it came.
        received: u64,
        /// When this was answered.
        answered: u64,
    },
    /// The sender follows this configuration from now on.
    Epoch {
        /// Its number.
        epoch: u64,
    },
    /// What is there of these keys?
    Read {
        /// Names the read.
        id: u64,
        /// The configuration that the sender follows. Who follows another one refuses.
        epoch: u64,
        /// The keys.
        range: ReadRange,
    },
    /// Answers a [`Message::Read`].
    Answer {
        /// Names the read.
        id: u64,
        /// The configuration that the sender follows.
        epoch: u64,
        /// What it has, or why that does not count.
        told: Result<Told, Unread>,
    },
    /// Has the receiver lost anything? Comes before a Hello of who wants all that the members had at a moment.
    Standing {
        /// Names the question.
        id: u64,
    },
    /// Answers a [`Message::Standing`].
    Stands {
        /// Names the question.
        id: u64,
        /// The actor of the sender: it has another one in each of its lives.
        actor: ActorId,
        /// The sender is not recovering, and knows of no damage.
        is_whole: bool,
    },
}

/// What a Hello wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turn {
    /// An answer: a Hello, and what the sender lacks.
    Ask,
    /// Nothing: both have the same.
    Same,
    /// What the sender lacks. It serves the receiver already.
    Serve,
}

/// Why a session does not go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// The session is not known: one of the two has started since, or has given it up.
    Unknown,
    /// The other is of other data.
    OtherData,
    /// Equal clocks and unequal roots, or a leaf that is not what was put: somebody is damaged.
    Damaged,
    /// The sender of this had to mint a new actor first.
    Minted,
}
