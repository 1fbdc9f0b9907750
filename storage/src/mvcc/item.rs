//! Items of the state store with their checksums.
//!
//! What the store holds under a key begins with the CRC32C, 4 bytes BE, over key and content; the
//! content follows. It is checked whenever an item is used, so a bit that flips in the store is an
//! error and never an answer, and an item that turns up under another key is noticed too.

use bytes::{Buf, BufMut, Bytes, BytesMut};

use crate::state::{BatchItem, ITEM_BYTES_MAX, StateError, StateStore};

/// What the checksum takes of each item.
const CHECKSUM_BYTES: usize = 4;

/// Bytes of content that fit under a key of this length.
pub const fn capacity(key_bytes: usize) -> usize {
    ITEM_BYTES_MAX - CHECKSUM_BYTES - key_bytes
}

/// The item that holds `parts`, one after the other, under `key`.
pub fn seal(key: Bytes, parts: &[&[u8]]) -> BatchItem {
    let bytes = parts.iter().map(|part| part.len()).sum::<usize>();
    let mut out = BytesMut::with_capacity(CHECKSUM_BYTES + bytes);
    let checksum =
        parts.iter().fold(crc32c::crc32c(&key), |sum, part| crc32c::crc32c_append(sum, part));
    out.put_u32(checksum);
    parts.iter().for_each(|part| out.put_slice(part));
    (key, Some(out.freeze()))
}

/// The content of the item that was found under `key`.
///
/// # Errors
/// [`StateError::Damaged`] when it does not match its checksum.
pub fn open(key: &[u8], mut stored: Bytes) -> Result<Bytes, StateError> {
    verify(key, &stored)?;
    stored.advance(CHECKSUM_BYTES);
    Ok(stored)
}

/// As [`open`], for an item that somebody else holds.
///
/// # Errors
/// As for [`open`].
pub fn verify<'a>(key: &[u8], stored: &'a [u8]) -> Result<&'a [u8], StateError> {
    if let Some((checksum, content)) = stored.split_first_chunk::<CHECKSUM_BYTES>()
        && u32::from_be_bytes(*checksum) == crc32c::crc32c_append(crc32c::crc32c(key), content)
    {
        return Ok(content);
    }
    let why = format!("the item under \"{}\" does not match its checksum", key.escape_ascii());
    Err(StateError::Damaged { why })
}

/// The content under `key`.
///
/// # Errors
/// Those of the store and of [`open`].
pub fn get(store: &dyn StateStore, key: &[u8]) -> Result<Option<Bytes>, StateError> {
    store.get(key)?.map(|stored| open(key, stored)).transpose()
}

/// All contents whose keys lie in `[from, to)`, in ascending order. Ends after the first error.
pub fn scan<'a>(
    store: &'a dyn StateStore,
    from: &[u8],
    to: &[u8],
) -> impl Iterator<Item = Result<(Bytes, Bytes), StateError>> + use<'a> {
    store.scan(from, to).map(|item| {
        let (key, stored) = item?;
        let content = open(&key, stored)?;
        Ok((key, content))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_flipped_bit_and_every_other_key_is_noticed() {
        let (key, stored) = seal(Bytes::from_static(b"key"), &[b"con", b"", b"tent"]);
        let stored = stored.unwrap();
        assert_eq!(open(&key, stored.clone()).unwrap(), "content");
        for bit in 0..stored.len() * 8 {
            let mut flipped = stored.to_vec();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert!(matches!(open(&key, flipped.into()), Err(StateError::Damaged { .. })));
        }
        for bytes in 0..stored.len() {
            assert!(open(&key, stored.slice(..bytes)).is_err(), "cut to {bytes}");
        }
        assert!(open(b"kez", stored).is_err());
    }

    #[test]
    fn an_item_may_be_filled() {
        let key = Bytes::from(vec![7; 100]);
        let content = vec![1; capacity(key.len())];
        let (key, stored) = seal(key, &[&content]);
        assert_eq!(key.len() + stored.unwrap().len(), ITEM_BYTES_MAX);
    }
}
