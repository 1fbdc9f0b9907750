//! Errors that cross the wire: a stable code, whether the write was applied, and what the server
//! knows.
//!
//! [`Code`] is the catalogue; `kv explain` prints its pages. [`Failure`] is one error: it travels
//! as a gRPC status whose details hold an `ErrorInfo` with the code and `applied`, and a
//! `RetryInfo` where waiting helps. An error of a write without that detail was made by something
//! that does not know the outcome, so it counts as [`Applied::Unknown`].

mod catalogue;
mod partial;

pub use catalogue::{Code, Page};
pub use partial::Partial;

use std::collections::HashMap;
use std::fmt;
use std::time::Duration;

use tonic_types::{ErrorDetails, StatusExt};

/// Domain of the `ErrorInfo` detail.
const DOMAIN: &str = "kvstore";

/// Whether a failed write changed anything.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Applied {
    /// It certainly changed nothing and never will; safe to repeat.
    No,
    /// It may have been applied, or may still be.
    Unknown,
    /// It was applied before; only its result is no longer kept.
    Yes,
}

impl Applied {
    /// The word used on the wire and in JSON.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::No => "no",
            Self::Unknown => "unknown",
            Self::Yes => "yes",
        }
    }

    /// Reads the word used on the wire.
    #[must_use]
    pub fn parse(word: &str) -> Option<Self> {
        [Self::No, Self::Unknown, Self::Yes].into_iter().find(|applied| applied.as_str() == word)
    }

    /// The number used between peers.
    #[must_use]
    pub const fn number(self) -> u32 {
        match self {
            Self::No => 1,
            Self::Unknown => 2,
            Self::Yes => 3,
        }
    }

    /// Reads the number used between peers; what is not understood is unknown.
    #[must_use]
    pub const fn from_number(number: u32) -> Self {
        match number {
            1 => Self::No,
            3 => Self::Yes,
            _ => Self::Unknown,
        }
    }
}

/// One error as a client sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// The stable code.
    pub code: Code,
    /// Whether the write was applied; `None` for what is no write.
    pub applied: Option<Applied>,
    /// What was asked of what, such as `write to "orders/17"`.
    pub subject: String,
    /// What the server knows about the cause.
    pub why: String,
    /// Client address of the leader, where the answering node knows one.
    pub leader: Option<String>,
    /// The earliest moment at which repeating makes sense.
    pub retry_after: Option<Duration>,
    /// What was written all the same, with [`Code::AckMissed`].
    pub partial: Option<Box<Partial>>,
}

impl Failure {
    /// An error that says nothing about a write yet.
    pub fn new(code: Code, subject: impl Into<String>, why: impl Into<String>) -> Self {
        Self {
            code,
            applied: None,
            subject: subject.into(),
            why: why.into(),
            leader: None,
            retry_after: None,
            partial: None,
        }
    }

    /// Says whether the write was applied.
    #[must_use]
    pub fn applied(mut self, applied: Applied) -> Self {
        self.applied = Some(applied);
        self
    }

    /// Names what was asked of what.
    #[must_use]
    pub fn subject(mut self, subject: impl Into<String>) -> Self {
        self.subject = subject.into();
        self
    }

    /// Names the leader's client address.
    #[must_use]
    pub fn leader(mut self, address: Option<String>) -> Self {
        self.leader = address;
        self
    }

    /// Says when repeating makes sense.
    #[must_use]
    pub fn retry_after(mut self, wait: Duration) -> Self {
        self.retry_after = Some(wait);
        self
    }

    /// Says what was written all the same.
    #[must_use]
    pub fn partial(mut self, partial: Partial) -> Self {
        self.partial = Some(Box::new(partial));
        self
    }

    /// The status that carries this error.
    #[must_use]
    pub fn to_status(&self) -> tonic::Status {
        let mut metadata = HashMap::from([
            ("subject".to_owned(), self.subject.clone()),
            ("why".to_owned(), self.why.clone()),
        ]);
        if let Some(applied) = self.applied {
            metadata.insert("applied".to_owned(), applied.as_str().to_owned());
        }
        if let Some(leader) = &self.leader {
            metadata.insert("leader".to_owned(), leader.clone());
        }
        if let Some(partial) = &self.partial {
            partial.put(&mut metadata);
        }
        let mut details = ErrorDetails::with_error_info(self.code.to_string(), DOMAIN, metadata);
        if let Some(wait) = self.retry_after {
            details.set_retry_info(Some(wait));
        }
        tonic::Status::with_error_details(self.code.grpc(), self.to_string(), details)
    }

    /// Reads the error out of a status; `None` when the status carries no detail of ours.
    #[must_use]
    pub fn from_status(status: &tonic::Status) -> Option<Self> {
        let details = status.check_error_details().ok()?;
        let info = details.error_info().filter(|info| info.domain == DOMAIN)?;
        let text = |key: &str| info.metadata.get(key).cloned();
        Some(Self {
            code: Code::parse(&info.reason)?,
            applied: text("applied").and_then(|word| Applied::parse(&word)),
            subject: text("subject").unwrap_or_default(),
            why: text("why").unwrap_or_default(),
            leader: text("leader"),
            retry_after: details.retry_info().and_then(|retry| retry.retry_delay),
            partial: Partial::read(&info.metadata).map(Box::new),
        })
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "[{}] {}: {}", self.code, self.subject, self.why)?;
        match self.applied {
            Some(applied) => write!(f, " (applied: {})", applied.as_str()),
            None => Ok(()),
        }
    }
}

impl std::error::Error for Failure {}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::v1;

    #[test]
    fn a_failure_survives_the_wire() {
        let failure = Failure::new(Code::NoQuorum, "write to \"a\"", "1 of 3 voters reachable")
            .applied(Applied::No)
            .leader(Some("127.0.0.1:7610".into()))
            .retry_after(Duration::from_millis(250))
            .partial(Partial {
                durable_on: 1,
                wanted: 2,
                dot: v1::Dot { actor: vec![7; 16].into(), counter: 3 },
                context: vec![0, 255].into(),
            });
        assert_eq!(Failure::from_status(&failure.to_status()), Some(failure));
    }

    #[test]
    fn every_code_survives_the_wire() {
        for code in Code::ALL {
            let failure = Failure::new(code, "s", "w");
            assert_eq!(Failure::from_status(&failure.to_status()), Some(failure));
        }
    }

    #[test]
    fn a_foreign_status_is_not_ours() {
        assert_eq!(Failure::from_status(&tonic::Status::internal("x")), None);
    }
}
