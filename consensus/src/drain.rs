//! Where the library's own log lines go: to `tracing`, at debug level at most.

use std::fmt::{self, Write};

use slog::{Drain, KV, Key, Logger, Never, OwnedKVList, Record, Serializer};

/// Target of the library's lines, for filters.
const TARGET: &str = "consensus::library";

/// A logger for one group.
pub(crate) fn logger() -> Logger {
    Logger::root(TracingDrain, slog::o!())
}

/// Forwards to `tracing`. What the library calls a warning is everyday life of a cluster, so
/// nothing is louder than debug; its fatal errors panic with their text anyway.
struct TracingDrain;

impl Drain for TracingDrain {
    type Ok = ();
    type Err = Never;

    fn log(&self, record: &Record<'_>, values: &OwnedKVList) -> Result<(), Never> {
        if tracing::enabled!(target: TARGET, tracing::Level::DEBUG) {
            let mut line = Line(record.msg().to_string());
            // `Line` never fails, and a value that cannot be formatted is only left out.
            let _ = record.kv().serialize(record, &mut line);
            let _ = values.serialize(record, &mut line);
            tracing::debug!(target: TARGET, level = record.level().as_str(), "{}", line.0);
        }
        Ok(())
    }
}

/// A line of text that key-value pairs are added to.
struct Line(String);

impl Serializer for Line {
    fn emit_arguments(&mut self, key: Key, value: &fmt::Arguments<'_>) -> slog::Result {
        write!(self.0, " {key}={value}")?;
        Ok(())
    }
}
