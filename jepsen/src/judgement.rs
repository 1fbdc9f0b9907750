//! A verdict as it is printed and stored.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::checker::{Checker, Verdict};
use crate::operation::Operation;

/// The verdict in one word; the later ones are worse.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Word {
    /// The promise held.
    Valid,
    /// Nobody knows.
    Unknown,
    /// The promise was broken.
    Invalid,
}

impl Word {
    /// The word itself.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Valid => "valid",
            Self::Unknown => "unknown",
            Self::Invalid => "invalid",
        }
    }

    /// The exit code of `kv-lab check`.
    #[must_use]
    pub const fn exit(self) -> u8 {
        match self {
            Self::Valid => 0,
            Self::Unknown => 10,
            Self::Invalid => 9,
        }
    }
}

/// What one model says about one history.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Judgement {
    /// The model.
    pub model: String,
    /// The verdict.
    pub verdict: Word,
    /// Why, if it is not valid.
    pub explanation: Option<String>,
    /// The key where a promise was broken.
    pub key: Option<String>,
    /// The smallest failing part that was found, one operation a line.
    pub failing: Vec<String>,
    /// Number of operations in the history.
    pub operations: usize,
}

impl Judgement {
    /// Asks a checker.
    #[must_use]
    pub fn of(checker: &dyn Checker, history: &[Operation]) -> Self {
        Self::from_verdict(checker.model(), checker.check(history), history.len())
    }

    /// What a checker has said about a history of so many operations. Of none, nobody knows.
    #[must_use]
    pub fn from_verdict(model: &str, verdict: Verdict, operations: usize) -> Self {
        let (verdict, explanation, key, failing) = match verdict {
            // Nothing was promised to anyone, or nothing was understood.
            Verdict::Valid if operations == 0 => {
                let why = "the history holds no operation of a client".to_owned();
                (Word::Unknown, Some(why), None, Vec::new())
            }
            Verdict::Valid => (Word::Valid, None, None, Vec::new()),
            Verdict::Unknown { why } => (Word::Unknown, Some(why), None, Vec::new()),
            Verdict::Invalid(violation) => {
                let failing = violation.operations.iter().map(Operation::to_string).collect();
                (Word::Invalid, Some(violation.explanation), Some(violation.key), failing)
            }
        };
        Self { model: model.to_owned(), verdict, explanation, key, failing, operations }
    }

    /// A judgement that no checker was asked for.
    #[must_use]
    pub fn unknown(model: &str, history: &[Operation], why: &str) -> Self {
        Self {
            model: model.to_owned(),
            verdict: Word::Unknown,
            explanation: Some(why.to_owned()),
            key: None,
            failing: Vec::new(),
            operations: history.len(),
        }
    }
}

/// Most operations of a failing part that are printed.
const SHOWN_MAX: usize = 40;

impl fmt::Display for Judgement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let word = self.verdict.as_str();
        write!(f, "{word}: {} operations, model {}", self.operations, self.model)?;
        if let Some(explanation) = &self.explanation {
            write!(f, "\n{explanation}")?;
        }
        if !self.failing.is_empty() {
            f.write_str("\nsmallest failing part found:")?;
        }
        for operation in self.failing.iter().take(SHOWN_MAX) {
            write!(f, "\n  {operation}")?;
        }
        if let Some(more) = self.failing.len().checked_sub(SHOWN_MAX).filter(|more| *more > 0) {
            write!(f, "\n  and {more} more")?;
        }
        Ok(())
    }
}
