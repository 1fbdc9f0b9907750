//! The bytes of messages.
//!
//! ```text
//! message  format 1 | kind | fields in their order
//! node     level 1 B | index
//! below    0 | which children have something below 2 B | their digests 8 B *
//!          1 | count | (key | digest 8 B) *
//! dot      actor 16 B | counter
//! ```
//!
//! Numbers are of variable length. A Hello and a part of a session have [bytes of their own](crate::session), which reach
//! to the end. What is not in this form is refused; memory is taken in proportion to the bytes.

mod answer;

use super::answer::Unread;
use super::message::{Message, Refusal, Turn};
use super::walk::Below;
use crate::actor::ActorId;
use crate::clock::{FoldNumber, Folds};
use crate::dot::Dot;
use crate::error::DecodeError;
use crate::record::{put_key, read_key};
use crate::session::{Hello, Part};
use crate::tree::{FAN, NodeName};
use crate::wire::{Reader, put_bytes, put_number};

const FORMAT: u8 = 1;

const HELLO: u8 = 1;
const REFUSED: u8 = 2;
const PART: u8 = 3;
const TAKEN: u8 = 4;
const ASK: u8 = 5;
const BELOW: u8 = 6;
const TELL: u8 = 7;
const WALKED: u8 = 8;
const RUMOR: u8 = 9;
const STORED: u8 = 10;
const PING: u8 = 11;
const PONG: u8 = 12;
const OFFER: u8 = 20;
const FETCH: u8 = 21;
const EPOCH: u8 = 13;
const READ: u8 = 14;
const ANSWER: u8 = 15;
const STANDING: u8 = 22;
const STANDS: u8 = 23;

const CHILDREN: u8 = 0;
const KEYS: u8 = 1;

/// The digest of a node with nothing below. In a tree with a leaf for each key there are many.
const NOTHING: [u8; 8] = [0; 8];

const TURNS: [Turn; 3] = [Turn::Ask, Turn::Same, Turn::Serve];
const REFUSALS: [Refusal; 4] =
    [Refusal::Unknown, Refusal::OtherData, Refusal::Damaged, Refusal::Minted];
const UNREAD: [Unread; 4] =
    [Unread::OtherEpoch, Unread::Recovering, Unread::Damaged, Unread::TooLong];

impl Message {
    /// The bytes of this message, for a peer that knows the folds up to `through`.
    #[must_use]
    pub fn encode(&self, through: FoldNumber) -> Vec<u8> {
        let mut out = vec![FORMAT];
        match self {
            Self::Hello { hello, turn, epoch } => {
                out.push(HELLO);
                put_choice(&mut out, &TURNS, turn);
                put_number(&mut out, *epoch);
                out.extend_from_slice(&hello.encode(through));
            }
            Self::Refused { session, why } => {
                out.push(REFUSED);
                put_number(&mut out, *session);
                put_choice(&mut out, &REFUSALS, why);
            }
            Self::Part(part) => {
                out.push(PART);
                out.extend_from_slice(&part.encode(through));
            }
            Self::Taken { session, number } => put_two(&mut out, TAKEN, *session, *number),
            Self::Ask { session, nodes } => {
                put_two(&mut out, ASK, *session, nodes.len() as u64);
                nodes.iter().for_each(|node| put_node(&mut out, *node));
            }
            Self::Below { session, nodes } => {
                put_two(&mut out, BELOW, *session, nodes.len() as u64);
                for (node, below) in nodes {
                    put_node(&mut out, *node);
                    put_below(&mut out, below);
                }
            }
            Self::Tell { session, number, keys } => {
                put_two(&mut out, TELL, *session, *number);
                put_number(&mut out, keys.len() as u64);
                keys.iter().for_each(|key| put_key(&mut out, key));
            }
            Self::Walked { session, tells } => put_two(&mut out, WALKED, *session, *tells),
            Self::Rumor { id, batch } => {
                out.push(RUMOR);
                put_number(&mut out, *id);
                put_bytes(&mut out, batch);
            }
            Self::Offer { id, batch } => {
                out.push(OFFER);
                put_number(&mut out, *id);
                put_bytes(&mut out, batch);
            }
            Self::Fetch { dot } => {
                out.push(FETCH);
                put_dot(&mut out, *dot);
            }
            Self::Stored { id, epoch } => put_two(&mut out, STORED, *id, *epoch),
            Self::Epoch { epoch } => {
                out.push(EPOCH);
                put_number(&mut out, *epoch);
            }
            Self::Read { id, epoch, range } => {
                put_two(&mut out, READ, *id, *epoch);
                answer::put_range(&mut out, range);
            }
            Self::Answer { id, epoch, told } => {
                put_two(&mut out, ANSWER, *id, *epoch);
                match told {
                    Ok(told) => {
                        out.push(0);
                        answer::put_told(&mut out, told, through);
                    }
                    Err(why) => {
                        out.push(1);
                        put_choice(&mut out, &UNREAD, why);
                    }
                }
            }
            Self::Standing { id } => {
                out.push(STANDING);
                put_number(&mut out, *id);
            }
            Self::Stands { id, actor, is_whole } => {
                put_two(&mut out, STANDS, *id, u64::from(*is_whole));
                out.extend_from_slice(actor.as_bytes());
            }
            Self::Ping { asked } => {
                out.push(PING);
                put_number(&mut out, *asked);
            }
            Self::Pong { asked, received, answered } => {
                put_two(&mut out, PONG, *asked, *received);
                put_number(&mut out, *answered);
            }
        }
        out
    }

    /// The message of these bytes. `folds` are those that the replica has heard of.
    ///
    /// # Errors
    /// [`DecodeError`] unless all of it is well-formed.
    pub fn decode(bytes: &[u8], folds: &Folds) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(bytes);
        reader.format(FORMAT)?;
        let message = read_message(&mut reader, folds)?;
        reader.end()?;
        Ok(message)
    }
}

fn read_message(reader: &mut Reader<'_>, folds: &Folds) -> Result<Message, DecodeError> {
    Ok(match reader.byte()? {
        HELLO => {
            let turn = read_choice(reader, &TURNS)?;
            let epoch = reader.number()?;
            Message::Hello { hello: Hello::decode(reader.rest(), folds)?, turn, epoch }
        }
        REFUSED => {
            let session = reader.number()?;
            Message::Refused { session, why: read_choice(reader, &REFUSALS)? }
        }
        PART => Message::Part(Part::decode(reader.rest(), folds)?),
        TAKEN => Message::Taken { session: reader.number()?, number: reader.number()? },
        ASK => {
            let session = reader.number()?;
            Message::Ask { session, nodes: read_all(reader, 2, read_node)? }
        }
        BELOW => {
            let session = reader.number()?;
            let each = |reader: &mut Reader<'_>| Ok((read_node(reader)?, read_below(reader)?));
            Message::Below { session, nodes: read_all(reader, 4, each)? }
        }
        TELL => {
            let (session, number) = (reader.number()?, reader.number()?);
            Message::Tell { session, number, keys: read_all(reader, 2, read_key)? }
        }
        WALKED => Message::Walked { session: reader.number()?, tells: reader.number()? },
        RUMOR => Message::Rumor { id: reader.number()?, batch: reader.bytes()? },
        PING => Message::Ping { asked: reader.number()? },
        PONG => {
            let (asked, received) = (reader.number()?, reader.number()?);
            Message::Pong { asked, received, answered: reader.number()? }
        }
        OFFER => Message::Offer { id: reader.number()?, batch: reader.bytes()? },
        FETCH => Message::Fetch { dot: read_dot(reader)? },
        STORED => Message::Stored { id: reader.number()?, epoch: reader.number()? },
        EPOCH => Message::Epoch { epoch: reader.number()? },
        READ => {
            let (id, epoch) = (reader.number()?, reader.number()?);
            Message::Read { id, epoch, range: answer::read_range(reader)? }
        }
        ANSWER => {
            let (id, epoch) = (reader.number()?, reader.number()?);
            let told = match reader.byte()? {
                0 => Ok(answer::read_told(reader, folds)?),
                1 => Err(read_choice(reader, &UNREAD)?),
                _ => return Err(DecodeError::OutOfRange("kind of an answer")),
            };
            Message::Answer { id, epoch, told }
        }
        STANDING => Message::Standing { id: reader.number()? },
        STANDS => {
            let id = reader.number()?;
            let is_whole = read_choice(reader, &[false, true])?;
            Message::Stands { id, actor: ActorId::from_bytes(reader.array()?), is_whole }
        }
        _ => return Err(DecodeError::OutOfRange("kind of a message")),
    })
}

fn put_two(out: &mut Vec<u8>, kind: u8, one: u64, other: u64) {
    out.push(kind);
    put_number(out, one);
    put_number(out, other);
}

fn put_choice<T: PartialEq>(out: &mut Vec<u8>, choices: &[T], choice: &T) {
    let place = choices.iter().position(|other| other == choice).expect("all choices are listed");
    out.push(place as u8);
}

fn read_choice<T: Copy>(reader: &mut Reader<'_>, choices: &[T]) -> Result<T, DecodeError> {
    let place = usize::from(reader.byte()?);
    choices.get(place).copied().ok_or(DecodeError::OutOfRange("choice"))
}

/// Reads a count and so many things that take at least `each` bytes.
fn read_all<T>(
    reader: &mut Reader<'_>,
    each: usize,
    mut read: impl FnMut(&mut Reader<'_>) -> Result<T, DecodeError>,
) -> Result<Vec<T>, DecodeError> {
    let count = reader.count(each)?;
    let mut all = Vec::with_capacity(count);
    for _ in 0..count {
        all.push(read(reader)?);
    }
    Ok(all)
}

/// A dot with its actor in full.
fn put_dot(out: &mut Vec<u8>, dot: Dot) {
    out.extend_from_slice(dot.actor.as_bytes());
    put_number(out, dot.counter);
}

fn read_dot(reader: &mut Reader<'_>) -> Result<Dot, DecodeError> {
    let actor = ActorId::from_bytes(reader.array()?);
    match reader.number()? {
        counter @ 1..=Dot::COUNTER_MAX => Ok(Dot::new(actor, counter)),
        _ => Err(DecodeError::OutOfRange("counter")),
    }
}

fn put_node(out: &mut Vec<u8>, node: NodeName) {
    out.push(node.level as u8);
    put_number(out, node.index as u64);
}

fn read_node(reader: &mut Reader<'_>) -> Result<NodeName, DecodeError> {
    let level = u64::from(reader.byte()?);
    let index = reader.number()?;
    NodeName::checked(level, index).ok_or(DecodeError::OutOfRange("node"))
}

fn put_below(out: &mut Vec<u8>, below: &Below) {
    match below {
        Below::Children(children) => {
            out.push(CHILDREN);
            let is_told = |(_, digest): &(usize, &[u8; 8])| **digest != NOTHING;
            let told = children.iter().enumerate().filter(is_told);
            let which = told.clone().fold(0, |which: u16, (child, _)| which | 1 << child);
            out.extend_from_slice(&which.to_be_bytes());
            told.for_each(|(_, digest)| out.extend_from_slice(digest));
        }
        Below::Keys(keys) => {
            out.push(KEYS);
            put_number(out, keys.len() as u64);
            for (key, digest) in keys {
                put_key(out, key);
                out.extend_from_slice(digest);
            }
        }
    }
}

fn read_below(reader: &mut Reader<'_>) -> Result<Below, DecodeError> {
    match reader.byte()? {
        CHILDREN => {
            let which = u16::from_be_bytes(reader.array()?);
            let mut children = Box::new([NOTHING; FAN]);
            for (child, digest) in children.iter_mut().enumerate() {
                if which & 1 << child != 0 {
                    *digest = reader.array()?;
                    if *digest == NOTHING {
                        return Err(DecodeError::OutOfRange("digest of nothing"));
                    }
                }
            }
            Ok(Below::Children(children))
        }
        KEYS => {
            let each = |reader: &mut Reader<'_>| Ok((read_key(reader)?, reader.array()?));
            Ok(Below::Keys(read_all(reader, 10, each)?))
        }
        _ => Err(DecodeError::OutOfRange("what is below a node")),
    }
}

#[cfg(test)]
mod tests;
