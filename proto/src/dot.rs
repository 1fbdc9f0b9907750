//! The name of a write to an eventual keyspace, as text: 32 hex digits, a colon, and a number.

use std::fmt;
use std::str::FromStr;

use crate::{Hex, v1};

/// Text that names no write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotADot;

impl fmt::Display for NotADot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a dot is 32 hex digits, a colon and a number above 0")
    }
}

impl std::error::Error for NotADot {}

impl fmt::Display for v1::Dot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", Hex(&self.actor), self.counter)
    }
}

impl FromStr for v1::Dot {
    type Err = NotADot;

    fn from_str(text: &str) -> Result<Self, NotADot> {
        let (actor, counter) = text.split_once(':').ok_or(NotADot)?;
        let actor = Hex::read(actor).filter(|actor| actor.len() == 16).ok_or(NotADot)?;
        let counter = counter.parse().ok().filter(|counter| *counter > 0).ok_or(NotADot)?;
        Ok(Self { actor: actor.into(), counter })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dots_are_read_as_they_are_written() {
        let dot = v1::Dot { actor: (0..16).collect::<Vec<u8>>().into(), counter: 70 };
        let text = dot.to_string();
        assert_eq!(text, "000102030405060708090a0b0c0d0e0f:70");
        assert_eq!(text.parse(), Ok(dot));
        for bad in ["", "00:1", &text[..33], &text.replace(":70", ":0"), &text.replace('0', "g")] {
            assert_eq!(bad.parse::<v1::Dot>(), Err(NotADot), "{bad}");
        }
    }
}
