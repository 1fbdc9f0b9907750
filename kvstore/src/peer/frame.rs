//! Frames of a peer connection.
//!
//! ```text
//! 4 bytes   length of the payload, little-endian, at most FRAME_BYTES_MAX
//! 1 byte    kind
//! n bytes   payload: one protobuf message, or a piece of one
//! ```
//!
//! Urgent messages and hellos are one frame each. A bulk message is cut into pieces, so that
//! urgent frames find a gap; the pieces of one message follow each other with nothing but other
//! kinds of frames between them.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use proto::limits::PEER_MESSAGE_BYTES_MAX;

/// Longest payload of a frame.
pub(super) const FRAME_BYTES_MAX: usize = 64 * 1024;
/// Length and kind.
pub(super) const HEADER_BYTES: usize = 5;
/// Longest message put together from pieces: what the sender is allowed, and its envelope.
pub(super) const MESSAGE_BYTES_MAX: usize = PEER_MESSAGE_BYTES_MAX + 64 * 1024;

/// What a frame holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// A hello.
    Hello = 0,
    /// A whole urgent message.
    Urgent = 1,
    /// A whole bulk message, or the last piece of one.
    Bulk = 2,
    /// A piece of a bulk message; more follow.
    Piece = 3,
}

impl Kind {
    const fn from_byte(byte: u8) -> Option<Self> {
        match byte {
            0 => Some(Self::Hello),
            1 => Some(Self::Urgent),
            2 => Some(Self::Bulk),
            3 => Some(Self::Piece),
            _ => None,
        }
    }
}

/// Why bytes are not ours. The connection is closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// The header announces more than a frame may hold.
    #[error("a frame of {0} bytes")]
    FrameTooLong(usize),
    /// No such kind of frame.
    #[error("a frame of unknown kind {0}")]
    UnknownKind(u8),
    /// The pieces of a message exceed what a message may have.
    #[error("a message of more than {MESSAGE_BYTES_MAX} bytes")]
    MessageTooLong,
    /// A piece that brings a message no further.
    #[error("an empty piece")]
    EmptyPiece,
}

/// Writes a header.
///
/// # Panics
/// When the payload is longer than a frame may be.
pub(super) fn put_header(out: &mut BytesMut, kind: Kind, payload_bytes: usize) {
    assert!(payload_bytes <= FRAME_BYTES_MAX, "a frame of {payload_bytes} bytes");
    out.reserve(HEADER_BYTES + payload_bytes);
    out.put_u32_le(u32::try_from(payload_bytes).expect("bounded above"));
    out.put_u8(kind as u8);
}

/// Takes one frame off the front of what was read; `None` when it is not all there. The payload
/// shares the buffer.
pub(super) fn take_frame(buffer: &mut BytesMut) -> Result<Option<(Kind, Bytes)>, FrameError> {
    let Some(header) = buffer.first_chunk::<HEADER_BYTES>() else { return Ok(None) };
    let [a, b, c, d, kind] = *header;
    let payload_bytes = u32::from_le_bytes([a, b, c, d]) as usize;
    // Judged before the payload is waited for, so that a lie about the length costs no memory.
    if payload_bytes > FRAME_BYTES_MAX {
        return Err(FrameError::FrameTooLong(payload_bytes));
    }
    let kind = Kind::from_byte(kind).ok_or(FrameError::UnknownKind(kind))?;
    if buffer.len() < HEADER_BYTES + payload_bytes {
        return Ok(None);
    }
    buffer.advance(HEADER_BYTES);
    Ok(Some((kind, buffer.split_to(payload_bytes).freeze())))
}

/// Puts bulk messages together from their pieces.
#[derive(Debug, Default)]
pub(super) struct Assembly {
    pieces: BytesMut,
}

impl Assembly {
    /// Takes a piece that is not the last one.
    pub(super) fn piece(&mut self, piece: &[u8]) -> Result<(), FrameError> {
        if piece.is_empty() {
            return Err(FrameError::EmptyPiece);
        }
        self.check(piece.len())?;
        self.pieces.extend_from_slice(piece);
        Ok(())
    }

    /// Takes the last piece and gives the message; one that came whole is not copied.
    pub(super) fn last(&mut self, piece: Bytes) -> Result<Bytes, FrameError> {
        if self.pieces.is_empty() {
            return Ok(piece);
        }
        self.check(piece.len())?;
        self.pieces.extend_from_slice(&piece);
        Ok(std::mem::take(&mut self.pieces).freeze())
    }

    fn check(&self, more: usize) -> Result<(), FrameError> {
        if self.pieces.len() + more > MESSAGE_BYTES_MAX {
            return Err(FrameError::MessageTooLong);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn frame(kind: Kind, payload: &[u8]) -> BytesMut {
        let mut out = BytesMut::new();
        put_header(&mut out, kind, payload.len());
        out.extend_from_slice(payload);
        out
    }

    #[test]
    fn frames_come_out_as_they_went_in() {
        let mut buffer = BytesMut::new();
        let long = vec![7; FRAME_BYTES_MAX];
        let frames: [(Kind, &[u8]); 4] =
            [(Kind::Hello, b"a"), (Kind::Urgent, b""), (Kind::Piece, &long), (Kind::Bulk, b"end")];
        for (kind, payload) in frames {
            buffer.unsplit(frame(kind, payload));
        }
        for (kind, payload) in frames {
            let (taken, bytes) = take_frame(&mut buffer).unwrap().unwrap();
            assert_eq!((taken, &bytes[..]), (kind, payload));
        }
        assert_eq!(take_frame(&mut buffer), Ok(None));
        assert!(buffer.is_empty());
    }

    #[test]
    fn a_cut_frame_is_waited_for() {
        let whole = frame(Kind::Urgent, b"hello");
        for len in 0..whole.len() {
            let mut buffer = BytesMut::from(&whole[..len]);
            assert_eq!(take_frame(&mut buffer), Ok(None));
            assert_eq!(buffer.len(), len);
        }
    }

    #[test]
    fn lies_are_found_in_the_header() {
        for payload_bytes in [FRAME_BYTES_MAX + 1, 1 << 30, u32::MAX as usize] {
            let mut buffer = BytesMut::new();
            buffer.put_u32_le(u32::try_from(payload_bytes).unwrap());
            buffer.put_u8(1);
            assert_eq!(take_frame(&mut buffer), Err(FrameError::FrameTooLong(payload_bytes)));
        }
        let mut buffer = BytesMut::from(&[0, 0, 0, 0, 4][..]);
        assert_eq!(take_frame(&mut buffer), Err(FrameError::UnknownKind(4)));
    }

    #[test]
    fn pieces_make_a_message() {
        let mut assembly = Assembly::default();
        assembly.piece(b"ab").unwrap();
        assembly.piece(b"c").unwrap();
        assert_eq!(assembly.last(Bytes::from_static(b"de")).unwrap(), "abcde");
        let whole = Bytes::from_static(b"x");
        let same = assembly.last(whole.clone()).unwrap();
        assert_eq!(same.as_ptr(), whole.as_ptr());
        assert_eq!(assembly.piece(b""), Err(FrameError::EmptyPiece));
    }

    #[test]
    fn a_message_without_end_is_refused() {
        let piece = [0; FRAME_BYTES_MAX];
        let mut assembly = Assembly::default();
        let mut bytes = 0;
        while assembly.piece(&piece).is_ok() {
            bytes += piece.len();
        }
        assert!(bytes <= MESSAGE_BYTES_MAX);
        assert!(bytes + piece.len() > MESSAGE_BYTES_MAX);
        let last = Bytes::copy_from_slice(&piece);
        assert_eq!(assembly.last(last), Err(FrameError::MessageTooLong));
    }

    proptest! {
        /// Whatever comes, in whatever portions, it is taken or refused, and never is more kept
        /// than one frame and one message.
        #[test]
        fn random_bytes_do_no_harm(
            bytes in proptest::collection::vec(any::<u8>(), 0..600),
            small in any::<bool>(),
            portion in 1_usize..50,
        ) {
            let mut bytes = bytes;
            if small {
                // Lengths that can be met, or nearly nothing would get past the first header.
                for header in bytes.chunks_mut(20) {
                    for (at, byte) in header.iter_mut().enumerate().take(HEADER_BYTES) {
                        *byte = match at { 0 => *byte % 16, 4 => *byte % 4, _ => 0 };
                    }
                }
            }
            let mut buffer = BytesMut::new();
            let mut assembly = Assembly::default();
            'all: for part in bytes.chunks(portion) {
                buffer.extend_from_slice(part);
                loop {
                    match take_frame(&mut buffer) {
                        Ok(None) => break,
                        Err(_) => break 'all,
                        Ok(Some((Kind::Piece, piece))) => if assembly.piece(&piece).is_err() { break 'all },
                        Ok(Some((Kind::Bulk, piece))) => if assembly.last(piece).is_err() { break 'all },
                        Ok(Some((Kind::Hello | Kind::Urgent, _))) => {}
                    }
                }
                prop_assert!(buffer.len() < HEADER_BYTES + FRAME_BYTES_MAX);
                prop_assert!(assembly.pieces.len() <= MESSAGE_BYTES_MAX);
            }
        }
    }
}
