//! How long a client waits, from its `grpc-timeout` header.

use std::time::Duration;

use tonic::metadata::MetadataMap;

/// Patience of a client that names none.
pub const PATIENCE_DEFAULT: Duration = Duration::from_secs(5);
/// Longest patience of any client; a longer one is cut to this.
pub const PATIENCE_MAX: Duration = Duration::from_secs(30);

/// The node gives up this much earlier than the client, so that its typed error arrives in time.
const MARGIN_MAX: Duration = Duration::from_millis(100);
/// A short patience gives up at most this part of it.
const MARGIN_PART: u32 = 8;

/// The time a node may spend on a request with these headers.
pub fn patience(metadata: &MetadataMap) -> Duration {
    let asked = metadata.get("grpc-timeout").and_then(|value| parse(value.to_str().ok()?));
    let wait = asked.unwrap_or(PATIENCE_DEFAULT).min(PATIENCE_MAX);
    wait - (wait / MARGIN_PART).min(MARGIN_MAX)
}

/// Reads the value of a `grpc-timeout` header: at most eight digits and a unit.
fn parse(value: &str) -> Option<Duration> {
    let unit_at = value.len().checked_sub(1)?;
    let (digits, unit) = (value.get(..unit_at)?, value.get(unit_at..)?);
    if digits.is_empty() || digits.len() > 8 || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let amount: u64 = digits.parse().ok()?;
    Some(match unit {
        "H" => Duration::from_secs(amount * 3600),
        "M" => Duration::from_secs(amount * 60),
        "S" => Duration::from_secs(amount),
        "m" => Duration::from_millis(amount),
        "u" => Duration::from_micros(amount),
        "n" => Duration::from_nanos(amount),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with_header(value: &'static str) -> Duration {
        let mut metadata = MetadataMap::new();
        metadata.insert("grpc-timeout", value.parse().unwrap());
        patience(&metadata)
    }

    #[test]
    fn units_are_read() {
        for (value, expected) in [
            ("2H", Duration::from_secs(7200)),
            ("3M", Duration::from_secs(180)),
            ("4S", Duration::from_secs(4)),
            ("500m", Duration::from_millis(500)),
            ("7u", Duration::from_micros(7)),
            ("99999999n", Duration::from_nanos(99_999_999)),
        ] {
            assert_eq!(parse(value), Some(expected), "{value}");
        }
        for value in ["", "S", "5", "5s", "-5S", "999999999S", "5\u{20ac}", "+5S"] {
            assert_eq!(parse(value), None, "{value}");
        }
    }

    #[test]
    fn patience_is_bounded_and_leaves_time_for_the_answer() {
        assert_eq!(with_header("2S"), Duration::from_millis(1900));
        assert_eq!(with_header("80m"), Duration::from_millis(70));
        assert_eq!(with_header("5H"), PATIENCE_MAX - MARGIN_MAX);
        assert_eq!(with_header("soon"), PATIENCE_DEFAULT - MARGIN_MAX);
        assert_eq!(patience(&MetadataMap::new()), PATIENCE_DEFAULT - MARGIN_MAX);
        assert_eq!(with_header("0S"), Duration::ZERO);
    }
}
