//! Numbers with units, as they are typed.

use std::str::FromStr;
use std::time::Duration;

use proto::v1;

use crate::config::TIMEOUT_MAX;

/// A duration such as `1500ms`, longer than nothing and no longer than [`TIMEOUT_MAX`]: deadlines are
/// made of it.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    let duration = humantime::parse_duration(text).map_err(|error| error.to_string())?;
    if duration.is_zero() {
        return Err("it must be longer than nothing".into());
    }
    if duration > TIMEOUT_MAX {
        return Err("it must be no longer than 100 years".into());
    }
    Ok(duration)
}

/// How long a value lives: a duration of at least a millisecond.
pub(super) fn ttl(text: &str) -> Result<Duration, String> {
    let ttl = duration(text)?;
    if ttl.as_millis() == 0 {
        return Err("it must be a millisecond at least".into());
    }
    Ok(ttl)
}

/// A number of bytes: `4096`, `64KiB`, `1.5GiB`.
pub(super) fn bytes(text: &str) -> Result<u64, String> {
    const UNITS: [(&str, u64); 6] =
        [("TiB", 1 << 40), ("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10), ("B", 1), ("", 1)];
    let wrong = || "a size is a number with B, KiB, MiB, GiB or TiB, such as 64KiB".to_owned();
    let (number, unit) = UNITS
        .into_iter()
        .find_map(|(name, unit)| Some((text.strip_suffix(name)?.trim_end(), unit)))
        .ok_or_else(wrong)?;
    let (whole, fraction) = number.split_once('.').unwrap_or((number, "0"));
    let is_number =
        |digits: &str| !digits.is_empty() && digits.bytes().all(|digit| digit.is_ascii_digit());
    if !is_number(whole) || !is_number(fraction) || fraction.len() > 9 {
        return Err(wrong());
    }
    let too_large = |_| "the size is too large".to_owned();
    let whole: u64 = whole.parse().map_err(too_large)?;
    let scale = 10u128.pow(u32::try_from(fraction.len()).expect("at most nine digits"));
    let fraction: u128 = fraction.parse().expect("at most nine digits");
    let total = u128::from(whole) * u128::from(unit) + fraction * u128::from(unit) / scale;
    u64::try_from(total).map_err(|_| "the size is too large".to_owned())
}

/// How much history a keyspace keeps: so many revisions, or about so long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Retention {
    /// 0 means the default of the server.
    Revisions(u64),
    /// At least 1.
    Seconds(u64),
}

impl FromStr for Retention {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Ok(revisions) = text.parse() {
            return Ok(Self::Revisions(revisions));
        }
        let kept = humantime::parse_duration(text)
            .map_err(|_| "name revisions such as 5000, or a time such as 7days".to_owned())?;
        match kept.as_secs() {
            0 => Err("history is kept for whole seconds, at least one".into()),
            seconds => Ok(Self::Seconds(seconds)),
        }
    }
}

impl Retention {
    /// Puts it into settings, in place of what they say.
    pub(crate) fn set_in(self, settings: &mut v1::keyspace::Settings) {
        (settings.history_revisions, settings.history_seconds) = match self {
            Self::Revisions(revisions) => (revisions, 0),
            Self::Seconds(seconds) => (0, seconds),
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_binary_units() {
        for (text, size) in [
            ("0", 0),
            ("4096", 4096),
            ("12B", 12),
            ("64KiB", 64 << 10),
            ("64 KiB", 64 << 10),
            ("1.5GiB", 3 << 29),
            ("2TiB", 2 << 40),
        ] {
            assert_eq!(bytes(text), Ok(size), "{text}");
        }
        for text in ["", "KiB", "-1", "1KB", "1k", "1.KiB", ".5KiB", "99999999TiB", "1e3"] {
            assert!(bytes(text).is_err(), "{text}");
        }
    }

    #[test]
    fn durations_have_a_beginning_and_an_end() {
        assert_eq!(duration("1500ms"), Ok(Duration::from_millis(1_500)));
        assert_eq!(duration("36525days"), Ok(TIMEOUT_MAX));
        for text in ["", "0s", "36525days 1s", "500000000000years", "soon"] {
            assert!(duration(text).is_err(), "{text}");
        }
    }

    #[test]
    fn history_is_counted_or_timed() {
        assert_eq!("5000".parse(), Ok(Retention::Revisions(5_000)));
        assert_eq!("7days".parse(), Ok(Retention::Seconds(7 * 24 * 60 * 60)));
        assert_eq!("90s".parse(), Ok(Retention::Seconds(90)));
        for text in ["", "500ms", "soon", "-1"] {
            assert!(text.parse::<Retention>().is_err(), "{text}");
        }
    }
}
