//! Events in the log of an old Jepsen run: `INFO  jepsen.util - PROCESS :TYPE :F VALUE`.

use super::edn;
use super::event::{Event, Kind, function_named};

/// What stands before an event.
const BEFORE: &str = "jepsen.util - ";

/// The event of a line; `None` if the line is something else, or of something that is no client.
pub(super) fn event(line: &str) -> Result<Option<Event<'_>>, String> {
    let Some((_, rest)) = line.split_once(BEFORE) else { return Ok(None) };
    let (process, rest) = word(rest);
    let Ok(process) = process.parse() else { return Ok(None) };
    let (kind, rest) = word(rest);
    let (function, rest) = word(rest);
    // Other things are logged by processes as well.
    let Some(kind) = kind.strip_prefix(':').and_then(Kind::named) else { return Ok(None) };
    let function = function.strip_prefix(':').ok_or("an event of a log is `:type :f value`")?;
    let mut event = Event::new(process, kind);
    event.function = Some(function_named(function)?);
    if matches!(kind, Kind::Invoke | Kind::Ok) {
        event.value = edn::datum(rest)?;
    } else {
        event.error = Some(rest.trim_start_matches(':').into());
    }
    Ok(Some(event))
}

/// The first word and what follows it.
fn word(text: &str) -> (&str, &str) {
    let text = text.trim_ascii_start();
    let end = text.find(|c: char| c.is_ascii_whitespace()).unwrap_or(text.len());
    (&text[..end], text[end..].trim_ascii())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::history::event::Datum;
    use crate::operation::Function;

    #[test]
    fn events_are_found_among_noise() {
        let read = event("INFO  jepsen.util - 17   :ok\t:read\t3").unwrap().unwrap();
        assert_eq!((read.process, read.kind, read.function), (17, Kind::Ok, Some(Function::Read)));
        assert_eq!(read.value, Some(Datum::Text("3".into())));
        let lost = event("INFO  jepsen.util - 1 :info :cas :timed-out").unwrap().unwrap();
        assert_eq!(lost.error.as_deref(), Some("timed-out"));
        for noise in [
            "",
            "at clojure.core$apply.invoke(core.clj:624)",
            "INFO  jepsen.util - :nemesis :info :start nil",
            "INFO  jepsen.util - 3 nodes are up",
        ] {
            assert_eq!(event(noise), Ok(None), "{noise}");
        }
        assert!(event("INFO  jepsen.util - 1 :ok :pop 3").unwrap_err().contains("\"pop\""));
        assert!(event("INFO  jepsen.util - 1 :ok :read [3").is_err());
    }
}
