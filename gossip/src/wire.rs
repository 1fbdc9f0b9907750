//! Bytes read and written: numbers of seven bits a byte, each in its shortest form.

use bytes::Bytes;
use proto::limits::VALUE_BYTES_MAX;

use crate::error::DecodeError;

/// Appends `value`, seven bits a byte, lowest first.
pub(crate) fn put_number(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push((value & 0x7f) as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// Appends the length of `bytes` and `bytes`.
pub(crate) fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    put_number(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

/// Reads bytes from their beginning on. Never panics, and never takes memory for more than is there.
#[derive(Debug)]
pub(crate) struct Reader<'a> {
    left: &'a [u8],
}

impl<'a> Reader<'a> {
    pub(crate) const fn new(bytes: &'a [u8]) -> Self {
        Self { left: bytes }
    }

    pub(crate) fn take(&mut self, count: usize) -> Result<&'a [u8], DecodeError> {
        let (taken, left) = self.left.split_at_checked(count).ok_or(DecodeError::Truncated)?;
        self.left = left;
        Ok(taken)
    }

    pub(crate) fn array<const N: usize>(&mut self) -> Result<[u8; N], DecodeError> {
        let (taken, left) = self.left.split_first_chunk().ok_or(DecodeError::Truncated)?;
        self.left = left;
        Ok(*taken)
    }

    pub(crate) fn byte(&mut self) -> Result<u8, DecodeError> {
        Ok(self.array::<1>()?[0])
    }

    /// The first byte, which says the format; only this one is known.
    pub(crate) fn format(&mut self, known: u8) -> Result<(), DecodeError> {
        match self.byte()? {
            format if format == known => Ok(()),
            format => Err(DecodeError::UnknownFormat(format)),
        }
    }

    /// A number; refused unless in its shortest form.
    pub(crate) fn number(&mut self) -> Result<u64, DecodeError> {
        let mut value = 0_u64;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            let bits = u64::from(byte & 0x7f);
            if shift == 63 && bits > 1 {
                return Err(DecodeError::OutOfRange("number"));
            }
            value |= bits << shift;
            if byte & 0x80 == 0 {
                if byte == 0 && shift > 0 {
                    return Err(DecodeError::NotCanonical("number"));
                }
                return Ok(value);
            }
        }
        Err(DecodeError::OutOfRange("number"))
    }

    /// A count of things that take at least `each` bytes: never more than fit into what is left.
    pub(crate) fn count(&mut self, each: usize) -> Result<usize, DecodeError> {
        let count = self.number()?;
        let fits = self.left.len() / each.max(1);
        match usize::try_from(count) {
            Ok(count) if count <= fits => Ok(count),
            _ => Err(DecodeError::Truncated),
        }
    }

    /// A value: no longer than clients may put one.
    pub(crate) fn value(&mut self) -> Result<Bytes, DecodeError> {
        self.bytes_up_to(VALUE_BYTES_MAX, "length of a value")
    }

    /// Bytes after their length, no more than so many.
    pub(crate) fn bytes_up_to(
        &mut self,
        most: usize,
        what: &'static str,
    ) -> Result<Bytes, DecodeError> {
        let bytes = self.bytes()?;
        if bytes.len() <= most { Ok(bytes) } else { Err(DecodeError::OutOfRange(what)) }
    }

    /// Bytes after their length.
    pub(crate) fn bytes(&mut self) -> Result<Bytes, DecodeError> {
        let count = self.count(1)?;
        Ok(Bytes::copy_from_slice(self.take(count)?))
    }

    /// Nothing is left.
    pub(crate) const fn is_at_end(&self) -> bool {
        self.left.is_empty()
    }

    /// All that is left.
    pub(crate) const fn rest(&mut self) -> &'a [u8] {
        let rest = self.left;
        self.left = &[];
        rest
    }

    /// The end was reached.
    pub(crate) const fn end(&self) -> Result<(), DecodeError> {
        if self.left.is_empty() { Ok(()) } else { Err(DecodeError::Trailing(self.left.len())) }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_number_is_read_as_written_and_has_one_form(value: u64, junk: Vec<u8>) {
            let mut out = Vec::new();
            put_number(&mut out, value);
            let mut reader = Reader::new(&out);
            prop_assert_eq!(reader.number(), Ok(value));
            prop_assert_eq!(reader.end(), Ok(()));

            let mut reader = Reader::new(&junk);
            if let Ok(value) = reader.number() {
                let mut again = Vec::new();
                put_number(&mut again, value);
                prop_assert_eq!(&junk[..again.len()], &again[..]);
            }
        }
    }

    #[test]
    fn overlong_and_overflowing_numbers_are_refused() {
        assert_eq!(Reader::new(&[0x80, 0]).number(), Err(DecodeError::NotCanonical("number")));
        let mut large = [0xff; 10];
        large[9] = 2;
        assert_eq!(Reader::new(&large).number(), Err(DecodeError::OutOfRange("number")));
        assert_eq!(Reader::new(&[0xff; 11]).number(), Err(DecodeError::OutOfRange("number")));
        assert_eq!(Reader::new(&[5]).count(1), Err(DecodeError::Truncated));
    }
}
