//! What happens when a node cannot go on.

use std::fmt;
use std::sync::Arc;

/// Ends the node after a failure that no retry can mend, such as a failed fsync.
///
/// Whoever calls it acknowledges nothing afterwards and ends its thread.
#[derive(Clone)]
pub struct Fatal(Arc<dyn Fn(&str) + Send + Sync>);

impl Fatal {
    /// Calls `end` with the reason; it may be called from any thread and more than once.
    pub fn new(end: impl Fn(&str) + Send + Sync + 'static) -> Self {
        Self(Arc::new(end))
    }

    /// Reports why the node ends.
    pub fn report(&self, why: &str) {
        tracing::error!(why, "the node cannot go on");
        (self.0)(why);
    }
}

impl fmt::Debug for Fatal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Fatal")
    }
}
