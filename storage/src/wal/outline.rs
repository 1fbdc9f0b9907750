//! Frames as they are read back: with their entries left encoded.
//!
//! A start reads the whole log, and needs of most entries no more than where they stand. So an entry
//! is decoded only once it is known to be kept.

use bytes::Bytes;
use prost::Message;
use proto::log::frame::Body;
use proto::{GroupId, log};

/// A frame.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Outline {
    pub(super) group: GroupId,
    pub(super) body: Content,
}

/// What a frame holds.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Content {
    Entries(Vec<EntryOutline>),
    /// Anything else, or nothing.
    Other(Option<Body>),
}

/// An entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct EntryOutline {
    pub(super) index: u64,
    pub(super) term: u64,
    /// The whole entry. Shares the memory of its segment until it is [kept](EntryOutline::keep).
    encoded: Bytes,
    kept: bool,
}

/// The fields of [`log::Frame`] that tell entries from the rest.
#[derive(Clone, PartialEq, Message)]
struct FrameFields {
    #[prost(uint64, tag = "1")]
    group: u64,
    #[prost(message, optional, tag = "2")]
    entries: Option<EntriesFields>,
}

/// [`log::Entries`]: on the wire, a message within a message is a string of bytes.
#[derive(Clone, PartialEq, Message)]
struct EntriesFields {
    #[prost(bytes = "bytes", repeated, tag = "1")]
    entries: Vec<Bytes>,
}

/// The fields of [`log::Entry`] that say where it stands.
#[derive(Clone, Copy, PartialEq, Eq, Message)]
struct EntryFields {
    #[prost(uint64, tag = "1")]
    term: u64,
    #[prost(uint64, tag = "2")]
    index: u64,
}

impl Outline {
    /// Reads the frame that `encoded` is.
    pub(super) fn decode(encoded: Bytes) -> Result<Self, prost::DecodeError> {
        let FrameFields { group, entries } = FrameFields::decode(encoded.clone())?;
        let body = match entries {
            Some(fields) => Content::Entries(
                fields.entries.into_iter().map(EntryOutline::read).collect::<Result<_, _>>()?,
            ),
            None => Content::Other(log::Frame::decode(encoded)?.body),
        };
        Ok(Self { group: GroupId(group), body })
    }
}

impl EntryOutline {
    fn read(encoded: Bytes) -> Result<Self, prost::DecodeError> {
        let EntryFields { term, index } = EntryFields::decode(&encoded[..])?;
        Ok(Self { index, term, encoded, kept: false })
    }

    /// Length of the encoded entry.
    pub(super) fn bytes(&self) -> u64 {
        self.encoded.len() as u64
    }

    /// Makes it independent of its segment.
    pub(super) fn keep(&mut self) {
        self.encoded = Bytes::copy_from_slice(&self.encoded);
        self.kept = true;
    }

    /// Whether it is independent of its segment.
    pub(super) fn is_kept(&self) -> bool {
        self.kept
    }

    /// The entry. What it holds is not copied.
    pub(super) fn decode(self) -> Result<log::Entry, prost::DecodeError> {
        log::Entry::decode(self.encoded)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(index: u64, bytes: usize) -> log::Entry {
        let (data, context) = (vec![7; bytes].into(), Bytes::from_static(b"context"));
        log::Entry { term: 3, index, kind: log::EntryKind::ConfChange.into(), data, context }
    }

    #[test]
    fn entries_say_where_they_stand_and_come_back_whole() {
        let entries: Vec<log::Entry> = (5..8).map(|n| entry(n, 100 * n as usize)).collect();
        let body = Some(Body::Entries(log::Entries { entries: entries.clone() }));
        let encoded = log::Frame { group: 1, body }.encode_to_vec();
        let Outline { group, body } = Outline::decode(encoded.into()).unwrap();
        let Content::Entries(outlines) = body else { panic!("{body:?}") };
        assert_eq!(group, GroupId(1));
        let places: Vec<(u64, u64)> = outlines.iter().map(|e| (e.index, e.term)).collect();
        assert_eq!(places, [(5, 3), (6, 3), (7, 3)]);
        for (outline, entry) in outlines.into_iter().zip(entries) {
            assert_eq!(outline.bytes(), entry.encoded_len() as u64);
            assert_eq!(outline.decode().unwrap(), entry);
        }
    }

    #[test]
    fn other_frames_come_whole() {
        let done = log::CheckpointDone { index: 9, term: 2 };
        let bodies =
            [Some(Body::CheckpointDone(done)), Some(Body::Entries(log::Entries::default())), None];
        for body in bodies {
            let encoded = log::Frame { group: 4, body: body.clone() }.encode_to_vec();
            let outline = Outline::decode(encoded.into()).unwrap();
            match body {
                Some(Body::Entries(_)) => assert_eq!(outline.body, Content::Entries(Vec::new())),
                other => assert_eq!(outline.body, Content::Other(other)),
            }
        }
    }

    #[test]
    fn what_does_not_decode_is_an_error() {
        let body = Some(Body::Entries(log::Entries { entries: vec![entry(1, 40)] }));
        let encoded = log::Frame { group: 1, body }.encode_to_vec();
        for cut in 1..encoded.len() {
            let cut = Bytes::copy_from_slice(&encoded[..cut]);
            let whole = log::Frame::decode(cut.clone());
            assert_eq!(Outline::decode(cut).is_err(), whole.is_err());
        }
    }
}
