//! Messages to one peer that are lost, doubled or overtaken, before they are encrypted.

use std::sync::{Arc, Mutex, PoisonError};

use proto::peer::PeerMessage;
use proto::peer::peer_message::Body;
use rand::RngExt;

use super::instructions::{Current, Instructions, count};
use super::mutant::Mutant;

/// How many entries the planted bug of a low read index forgets.
const TOO_LOW: u64 = 3;

/// What becomes of the messages to one peer.
#[derive(Debug)]
pub struct Messages {
    current: Arc<Current>,
    /// One that the next one overtakes.
    held: Mutex<Option<PeerMessage>>,
}

/// What becomes of one message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Sent,
    Lost,
    Doubled,
    Overtaken,
}

impl Fate {
    /// The fate of a message with this number below a thousand.
    fn of(asked: &Instructions, number: u32) -> Self {
        let lost = asked.lose_per_mille;
        let doubled = lost + asked.duplicate_per_mille;
        let overtaken = doubled + asked.reorder_per_mille;
        match number {
            n if n < lost => Self::Lost,
            n if n < doubled => Self::Doubled,
            n if n < overtaken => Self::Overtaken,
            _ => Self::Sent,
        }
    }
}

/// Those of this process.
impl Default for Messages {
    fn default() -> Self {
        Self::new(Arc::clone(super::current()))
    }
}

impl Messages {
    fn new(current: Arc<Current>) -> Self {
        Self { current, held: Mutex::new(None) }
    }

    /// What is sent instead of this message, in this order.
    pub fn pass(&self, mut message: PeerMessage) -> Vec<PeerMessage> {
        tamper(self.current.planted, &mut message);
        let fate = Fate::of(&self.current.get(), rand::rng().random_range(0..1_000));
        self.with_fate(message, fate)
    }

    fn with_fate(&self, message: PeerMessage, fate: Fate) -> Vec<PeerMessage> {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        let mut sent = match fate {
            Fate::Sent => vec![message],
            Fate::Lost => {
                count(&self.current.lost);
                Vec::new()
            }
            Fate::Doubled => {
                count(&self.current.doubled);
                vec![message.clone(), message]
            }
            Fate::Overtaken => {
                count(&self.current.overtaken);
                return held.replace(message).into_iter().collect();
            }
        };
        sent.extend(held.take());
        sent
    }
}

/// Plants the bug of a leader that confirms too little.
fn tamper(planted: Option<Mutant>, message: &mut PeerMessage) {
    if planted == Some(Mutant::ReadIndexTooLow)
        && let Some(Body::ReadIndexReply(reply)) = &mut message.body
        && reply.index > 0
    {
        reply.index = reply.index.saturating_sub(TOO_LOW).max(1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(group: u64) -> PeerMessage {
        PeerMessage { group, ..PeerMessage::default() }
    }

    #[test]
    fn a_low_index_is_sent_by_the_bug_alone_and_refusals_stay() {
        let sent = |planted, index| {
            let reply = proto::peer::ReadIndexReply { index, ..Default::default() };
            let body = Some(Body::ReadIndexReply(reply));
            let mut message = PeerMessage { group: 1, body };
            tamper(planted, &mut message);
            let Some(Body::ReadIndexReply(reply)) = message.body else { panic!() };
            reply.index
        };
        assert_eq!(sent(Some(Mutant::ReadIndexTooLow), 9), 6);
        assert_eq!(sent(Some(Mutant::ReadIndexTooLow), 2), 1);
        assert_eq!(sent(Some(Mutant::ReadIndexTooLow), 0), 0);
        assert_eq!(sent(Some(Mutant::LocalReads), 9), 9);
        assert_eq!(sent(None, 9), 9);
    }

    #[test]
    fn fates_have_their_shares() {
        let asked = Instructions {
            lose_per_mille: 100,
            duplicate_per_mille: 50,
            reorder_per_mille: 1,
            ..Instructions::default()
        };
        let fates: Vec<Fate> = (0..1_000).map(|number| Fate::of(&asked, number)).collect();
        let count = |fate| fates.iter().filter(|other| **other == fate).count();
        let counts = [Fate::Lost, Fate::Doubled, Fate::Overtaken, Fate::Sent].map(count);
        assert_eq!(counts, [100, 50, 1, 849]);
    }

    #[test]
    fn an_overtaken_message_comes_after_the_next_one() {
        let current = Arc::new(Current::default());
        let messages = Messages::new(Arc::clone(&current));
        let groups = |sent: Vec<PeerMessage>| sent.iter().map(|m| m.group).collect::<Vec<_>>();
        assert_eq!(groups(messages.with_fate(message(1), Fate::Overtaken)), [0; 0]);
        assert_eq!(groups(messages.with_fate(message(2), Fate::Lost)), [1]);
        assert_eq!(groups(messages.with_fate(message(3), Fate::Overtaken)), [0; 0]);
        assert_eq!(groups(messages.with_fate(message(4), Fate::Overtaken)), [3]);
        assert_eq!(groups(messages.with_fate(message(5), Fate::Doubled)), [5, 5, 4]);
        assert_eq!(groups(messages.with_fate(message(6), Fate::Sent)), [6]);
        let counts = current.counts();
        assert_eq!((counts.lost, counts.doubled, counts.overtaken), (1, 1, 3));
    }
}
