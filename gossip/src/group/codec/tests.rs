//! Messages there and back, cut, changed and arbitrary.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use proptest::prelude::*;
use proto::{KeyspaceId, NodeId};

use super::super::answer::{ReadRange, ReadValues, Told, ToldKey};
use super::*;
use crate::clock::Clock;
use crate::context::Context;
use crate::entry::Sibling;
use crate::hlc::Stamp;
use crate::horizon::Horizon;
use crate::record::{Body, EntryKey};
use crate::session::{Beat, PartBody};

fn dot(actor: u8, counter: u64) -> Dot {
    Dot::new(ActorId::from_bytes([actor; 16]), counter)
}

fn clock() -> Clock {
    [dot(1, 1), dot(1, 2), dot(1, 9), dot(4, 1)].into_iter().collect()
}

fn horizon() -> Horizon {
    let mut horizon = Horizon::default();
    horizon.raise(dot(1, 3));
    horizon.raise(dot(4, 1));
    horizon
}

fn part(body: PartBody) -> Message {
    Message::Part(Part { session: 300, number: 5, body })
}

/// A value, one that is left out, and a certificate without its context.
fn told() -> Told {
    let sibling = |body: Body| Sibling {
        stamp: Stamp(400),
        rank: dot(1, 9),
        body,
        deadline: Some(Stamp(900)),
        context: Some(Context::with_own(Arc::new(clock()), dot(7, 2))),
    };
    let certificate = Sibling { context: None, ..sibling(Body::Certificate) };
    let siblings = [
        (dot(1, 9), sibling(Body::Value("v".into()))),
        (dot(4, 1), sibling(Body::Value(Bytes::new()))),
        (dot(5, 1), certificate),
    ];
    let key = ToldKey {
        key: "key".into(),
        pending: clock(),
        stamp: Stamp(500),
        siblings: siblings.into(),
        left_out: [(dot(4, 1), 1_000_000)].into(),
    };
    let other = ToldKey { key: "other".into(), left_out: BTreeMap::new(), ..key.clone() };
    Told {
        clock: Arc::new(clock()),
        highest: Stamp(1_000),
        keys: vec![key, other],
        next: Some("z".into()),
    }
}

/// One message of each kind.
fn messages() -> Vec<Message> {
    let key = EntryKey::new(KeyspaceId(7), "key");
    let hello = Hello {
        session: 9,
        epoch: u64::MAX,
        actor: dot(4, 1).actor,
        clock: clock(),
        horizon: horizon(),
        root: 77,
        folds: FoldNumber(0),
        retiring: 300,
        leaves: true,
        beats: vec![Beat { node: NodeId(3), last: vec![dot(1, 9)], age_ms: 12 }],
    };
    let node = NodeName { level: 2, index: 255 };
    let keys = Below::Keys(vec![(key.clone(), [3; 8])]);
    let children = Below::Children(Box::new([[7; 8]; FAN]));
    let mut few = [[0; 8]; FAN];
    (few[3], few[15]) = ([1; 8], [9; 8]);
    let few = (node, Below::Children(Box::new(few)));
    let of_read = key.clone();
    let values = ReadValues::From(((Stamp(400), dot(1, 9)), dot(4, 1)));
    let from = ReadRange { to: Bytes::new(), limit: 500, ..ReadRange::of_key(&key, values) };
    vec![
        Message::Hello { hello, turn: Turn::Serve, epoch: 300 },
        Message::Refused { session: 1, why: Refusal::Minted },
        part(PartBody::Opening { is_flagged: true }),
        Message::Taken { session: 1, number: 2 },
        Message::Ask { session: 1, nodes: vec![NodeName::ROOT, node] },
        Message::Below { session: 1, nodes: vec![(NodeName::ROOT, children), few, (node, keys)] },
        Message::Tell { session: 1, number: 0, keys: vec![key] },
        Message::Walked { session: 1, tells: 1 },
        Message::Rumor { id: 4, batch: "batch".into() },
        Message::Offer { id: 4, batch: "offer".into() },
        Message::Fetch { dot: dot(3, Dot::COUNTER_MAX) },
        Message::Ping { asked: 1_700_000_000_000_000 },
        Message::Pong { asked: 1_700_000_000_000_000, received: 5, answered: u64::MAX },
        Message::Stored { id: 4, epoch: 7 },
        Message::Epoch { epoch: 7 },
        Message::Read { id: 4, epoch: 7, range: ReadRange::of_key(&of_read, ReadValues::All) },
        Message::Read { id: 4, epoch: 7, range: from },
        Message::Answer { id: 4, epoch: 7, told: Err(Unread::Recovering) },
        Message::Answer { id: 4, epoch: 7, told: Ok(told()) },
        Message::Standing { id: 300 },
        Message::Stands { id: 300, actor: ActorId::from_bytes([1; 16]), is_whole: true },
    ]
}

#[test]
fn the_bytes_of_a_message_give_the_message() {
    let folds = Folds::default();
    for message in messages() {
        let bytes = message.encode(FoldNumber::ALL);
        let decoded = Message::decode(&bytes, &folds).unwrap();
        assert_eq!(format!("{decoded:?}"), format!("{message:?}"));
        for length in 0..bytes.len() {
            assert!(Message::decode(&bytes[..length], &folds).is_err(), "{message:?} to {length}");
        }
    }
}

#[test]
fn changed_bytes_are_refused_or_are_those_of_a_message() {
    let folds = Folds::default();
    for message in messages() {
        let bytes = message.encode(FoldNumber::ALL);
        for at in 0..bytes.len() {
            for value in 0..=255 {
                let mut changed = bytes.clone();
                changed[at] = value;
                if let Ok(message) = Message::decode(&changed, &folds) {
                    let again = message.encode(FoldNumber::ALL);
                    let message = format!("{message:?}");
                    let twice = Message::decode(&again, &folds).map(|twice| format!("{twice:?}"));
                    assert_eq!(twice, Ok(message));
                }
            }
        }
    }
}

proptest! {
    #[test]
    fn arbitrary_bytes_never_panic(kind in 0..24_u8, bytes: Vec<u8>) {
        let mut message = vec![FORMAT, kind];
        message.extend(bytes);
        let _ = Message::decode(&message, &Folds::default());
    }
}
