//! The bytes of liveness.
//!
//! ```text
//! packet    header | count 2 B | members                 as foca puts them together
//! header    format 1 | identity of the sender | its refutations 2 B | identity of the receiver | message
//! identity  node 8 B | incarnation 8 B
//! message   kind 1 B | kinds 1, 2: probe 1 B | kinds 3 to 6: identity, probe 1 B | kinds 7 to 11: nothing
//! member    identity | refutations 2 B | state 1 B
//! ```
//!
//! Numbers are big-endian, of fixed length.

use bytes::{Buf, BufMut, TryGetError};
use foca::{Codec, Header, Identity, Member, Message, State};
use proto::NodeId;

const FORMAT: u8 = 1;

const PING: u8 = 1;
const ACK: u8 = 2;
const PING_REQ: u8 = 3;
const INDIRECT_PING: u8 = 4;
const INDIRECT_ACK: u8 = 5;
const FORWARDED_ACK: u8 = 6;
const ANNOUNCE: u8 = 7;
const FEED: u8 = 8;
const GOSSIP: u8 = 9;
const BROADCAST: u8 = 10;
const TURN_UNDEAD: u8 = 11;

const ALIVE: u8 = 1;
const SUSPECT: u8 = 2;
const DOWN: u8 = 3;

const IDENTITY_BYTES: usize = 16;
const MEMBER_BYTES: usize = IDENTITY_BYTES + 3;
/// Of the longest message.
const HEADER_BYTES_MAX: usize = 1 + IDENTITY_BYTES + 2 + IDENTITY_BYTES + 1 + IDENTITY_BYTES + 1;

/// By how much an incarnation rises at least when a node is taken for dead. It begins as the time of the start in milliseconds;
/// a node whose clock was set back has to overtake its former self.
const RENEWED_BY_MIN: u64 = 1 << 16;

/// Of an incarnation, this part of itself is added: some three weeks now, so that a year is overtaken in a few rounds.
const RENEWED_BY_PART: u64 = 1 << 10;

/// A node in one of its lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Life {
    pub(super) node: NodeId,
    /// Rises with each start, and each time that it was taken for dead.
    pub(super) incarnation: u64,
}

impl Identity for Life {
    type Addr = NodeId;

    fn renew(&self) -> Option<Self> {
        let by = (self.incarnation / RENEWED_BY_PART).max(RENEWED_BY_MIN);
        let incarnation = self.incarnation.checked_add(by)?;
        Some(Self { incarnation, ..*self })
    }

    fn addr(&self) -> NodeId {
        self.node
    }

    fn win_addr_conflict(&self, adversary: &Self) -> bool {
        self.incarnation > adversary.incarnation
    }
}

/// Why something is no packet, or did not fit into one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum PacketError {
    #[error("it ends too early")]
    Short,
    #[error("{0} is not what it may be")]
    Unknown(&'static str),
    #[error("it does not fit into the packet")]
    Full,
}

impl From<TryGetError> for PacketError {
    fn from(_: TryGetError) -> Self {
        Self::Short
    }
}

/// Turns what foca says into bytes and back.
#[derive(Debug)]
pub(super) struct PacketCodec;

impl Codec<Life> for PacketCodec {
    type Error = PacketError;

    fn encode_header(
        &mut self,
        header: &Header<Life>,
        mut buf: impl BufMut,
    ) -> Result<(), PacketError> {
        if buf.remaining_mut() < HEADER_BYTES_MAX {
            return Err(PacketError::Full);
        }
        buf.put_u8(FORMAT);
        put_life(&mut buf, &header.src);
        buf.put_u16(header.src_incarnation);
        put_life(&mut buf, &header.dst);
        put_message(&mut buf, &header.message);
        Ok(())
    }

    fn decode_header(&mut self, mut buf: impl Buf) -> Result<Header<Life>, PacketError> {
        if buf.try_get_u8()? != FORMAT {
            return Err(PacketError::Unknown("format"));
        }
        let src = read_life(&mut buf)?;
        let src_incarnation = buf.try_get_u16()?;
        let dst = read_life(&mut buf)?;
        Ok(Header { src, src_incarnation, dst, message: read_message(&mut buf)? })
    }

    fn encode_member(
        &mut self,
        member: &Member<Life>,
        mut buf: impl BufMut,
    ) -> Result<(), PacketError> {
        if buf.remaining_mut() < MEMBER_BYTES {
            return Err(PacketError::Full);
        }
        put_life(&mut buf, member.id());
        buf.put_u16(member.incarnation());
        buf.put_u8(match member.state() {
            State::Alive => ALIVE,
            State::Suspect => SUSPECT,
            State::Down => DOWN,
        });
        Ok(())
    }

    fn decode_member(&mut self, mut buf: impl Buf) -> Result<Member<Life>, PacketError> {
        let life = read_life(&mut buf)?;
        let refutations = buf.try_get_u16()?;
        let state = match buf.try_get_u8()? {
            ALIVE => State::Alive,
            SUSPECT => State::Suspect,
            DOWN => State::Down,
            _ => return Err(PacketError::Unknown("state")),
        };
        Ok(Member::new(life, refutations, state))
    }
}

/// Who says that it sent this packet, and the packet without what it says of nodes that do not count.
pub(super) fn only_of(
    packet: &[u8],
    counts: impl Fn(NodeId) -> bool,
) -> Result<(NodeId, Vec<u8>), PacketError> {
    let mut rest = packet;
    let header = PacketCodec.decode_header(&mut rest)?;
    let mut kept = packet[..packet.len() - rest.len()].to_vec();
    if !rest.is_empty() {
        let told = usize::from(rest.try_get_u16()?);
        if rest.len() != told * MEMBER_BYTES {
            return Err(PacketError::Unknown("length"));
        }
        let mut members: Vec<&[u8]> = Vec::with_capacity(told);
        for bytes in rest.chunks_exact(MEMBER_BYTES) {
            if counts(PacketCodec.decode_member(bytes)?.id().node) {
                members.push(bytes);
            }
        }
        kept.put_u16(members.len() as u16);
        members.iter().for_each(|bytes| kept.put_slice(bytes));
    }
    Ok((header.src.node, kept))
}

fn put_life(buf: &mut impl BufMut, life: &Life) {
    buf.put_u64(life.node.get());
    buf.put_u64(life.incarnation);
}

fn read_life(buf: &mut impl Buf) -> Result<Life, PacketError> {
    let node = NodeId(buf.try_get_u64()?);
    Ok(Life { node, incarnation: buf.try_get_u64()? })
}

fn put_message(buf: &mut impl BufMut, message: &Message<Life>) {
    let mut relayed = |kind: u8, life: &Life, probe: u8| {
        buf.put_u8(kind);
        put_life(buf, life);
        buf.put_u8(probe);
    };
    match message {
        Message::PingReq { target, probe_number } => relayed(PING_REQ, target, *probe_number),
        Message::IndirectPing { origin, probe_number } => {
            relayed(INDIRECT_PING, origin, *probe_number);
        }
        Message::IndirectAck { target, probe_number } => {
            relayed(INDIRECT_ACK, target, *probe_number);
        }
        Message::ForwardedAck { origin, probe_number } => {
            relayed(FORWARDED_ACK, origin, *probe_number);
        }
        Message::Ping(probe) => buf.put_slice(&[PING, *probe]),
        Message::Ack(probe) => buf.put_slice(&[ACK, *probe]),
        Message::Announce => buf.put_u8(ANNOUNCE),
        Message::Feed => buf.put_u8(FEED),
        Message::Gossip => buf.put_u8(GOSSIP),
        Message::Broadcast => buf.put_u8(BROADCAST),
        Message::TurnUndead => buf.put_u8(TURN_UNDEAD),
    }
}

fn read_message(buf: &mut impl Buf) -> Result<Message<Life>, PacketError> {
    let kind = buf.try_get_u8()?;
    Ok(match kind {
        PING => Message::Ping(buf.try_get_u8()?),
        ACK => Message::Ack(buf.try_get_u8()?),
        PING_REQ | INDIRECT_PING | INDIRECT_ACK | FORWARDED_ACK => {
            let life = read_life(buf)?;
            let probe_number = buf.try_get_u8()?;
            match kind {
                PING_REQ => Message::PingReq { target: life, probe_number },
                INDIRECT_PING => Message::IndirectPing { origin: life, probe_number },
                INDIRECT_ACK => Message::IndirectAck { target: life, probe_number },
                _ => Message::ForwardedAck { origin: life, probe_number },
            }
        }
        ANNOUNCE => Message::Announce,
        FEED => Message::Feed,
        GOSSIP => Message::Gossip,
        BROADCAST => Message::Broadcast,
        TURN_UNDEAD => Message::TurnUndead,
        _ => return Err(PacketError::Unknown("kind of a message")),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_message_comes_out_as_it_went_in() {
        let life = |node, incarnation| Life { node: NodeId(node), incarnation };
        let (src, dst, third) = (life(1, 7), life(u64::MAX, 1 << 50), life(3, 0));
        let messages = [
            Message::Ping(1),
            Message::Ack(255),
            Message::PingReq { target: third, probe_number: 2 },
            Message::IndirectPing { origin: third, probe_number: 3 },
            Message::IndirectAck { target: third, probe_number: 4 },
            Message::ForwardedAck { origin: third, probe_number: 5 },
            Message::Announce,
            Message::Feed,
            Message::Gossip,
            Message::Broadcast,
            Message::TurnUndead,
        ];
        for message in messages {
            let header = Header { src, src_incarnation: 9, dst, message };
            let mut bytes = Vec::new();
            PacketCodec.encode_header(&header, &mut bytes).unwrap();
            assert!(bytes.len() <= HEADER_BYTES_MAX);
            assert_eq!(only_of(&bytes, |_| false), Ok((NodeId(1), bytes.clone())));
            let mut rest = &bytes[..];
            assert_eq!(PacketCodec.decode_header(&mut rest), Ok(header));
            assert!(rest.is_empty());
            for cut in 0..bytes.len() {
                assert_eq!(PacketCodec.decode_header(&bytes[..cut]), Err(PacketError::Short));
            }
        }
    }

    #[test]
    fn members_fit_or_leave_the_packet_as_it_was() {
        for state in [State::Alive, State::Suspect, State::Down] {
            let life = Life { node: NodeId(4), incarnation: 5 };
            let member = Member::new(life, 6, state);
            let mut bytes = Vec::new();
            PacketCodec.encode_member(&member, &mut bytes).unwrap();
            assert_eq!(bytes.len(), MEMBER_BYTES);
            assert_eq!(PacketCodec.decode_member(&bytes[..]), Ok(member.clone()));
            let mut short = Vec::new().limit(MEMBER_BYTES - 1);
            assert_eq!(PacketCodec.encode_member(&member, &mut short), Err(PacketError::Full));
            assert!(short.get_ref().is_empty());
        }
        let strange = [0; MEMBER_BYTES];
        assert_eq!(PacketCodec.decode_member(&strange[..]), Err(PacketError::Unknown("state")));
    }

    #[test]
    fn nothing_is_left_of_who_does_not_count() {
        let life = |node| Life { node: NodeId(node), incarnation: 7 };
        let header =
            Header { src: life(1), src_incarnation: 0, dst: life(2), message: Message::Gossip };
        let packet = |nodes: &[u64]| {
            let mut bytes = Vec::new();
            PacketCodec.encode_header(&header, &mut bytes).unwrap();
            bytes.put_u16(nodes.len() as u16);
            for node in nodes {
                let member = Member::new(life(*node), 0, State::Down);
                PacketCodec.encode_member(&member, &mut bytes).unwrap();
            }
            bytes
        };
        let odd = only_of(&packet(&[2, 3, 4, 5]), |node| node.get() % 2 == 1);
        assert_eq!(odd, Ok((NodeId(1), packet(&[3, 5]))));
        for wrong in [[&packet(&[3])[..], &[0]].concat(), packet(&[3, 5])[..60].to_vec()] {
            assert_eq!(only_of(&wrong, |_| true), Err(PacketError::Unknown("length")));
        }
    }

    #[test]
    fn a_later_life_wins() {
        let life = Life { node: NodeId(4), incarnation: 5 };
        let next = life.renew().unwrap();
        assert!(next.win_addr_conflict(&life) && !life.win_addr_conflict(&next));
        assert_eq!(Life { incarnation: u64::MAX, ..life }.renew(), None);
    }
}
