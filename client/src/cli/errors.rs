//! What went wrong, told in four parts: what, why, the state, and what to try.

use std::fmt::Write as _;
use std::io;
use std::path::PathBuf;

use proto::error::Partial;
use proto::{Applied, Code, Failure};
use serde::Serialize;

use super::EXIT_INTERRUPTED;
use super::context::ContextError;
use super::output::{JsonWritten, Paint, one_line};
use crate::error::{ClientError, exit};
use crate::pki::PkiError;

/// Exit code of a usage error.
pub(crate) const EXIT_USAGE: u8 = 2;
/// Exit code of what is not there.
const EXIT_NOT_FOUND: u8 = 3;
/// Exit code of what should not happen.
const EXIT_INTERNAL: u8 = 1;
/// Exit code of what was done in part.
pub(crate) const EXIT_PARTIAL: u8 = 10;

/// A change that is on its way.
#[derive(Clone, Debug)]
pub(crate) struct Change {
    /// What it is, such as `write to "a"`.
    pub(crate) subject: String,
    /// A command that shows what became of it.
    pub(crate) look: String,
}

/// Why a command did not succeed.
#[derive(Debug)]
pub(crate) enum CliError {
    /// A stable error code says it.
    Failure {
        /// The error.
        failure: Box<Failure>,
        /// A command worth trying that only the caller knows.
        hint: Option<String>,
    },
    /// The command line makes no sense, or asks for what needs a person.
    Usage(String),
    /// A file of the user's cannot be read.
    File {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A file of the user's cannot be written.
    Unwritten {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A file of the user's is in the way.
    InTheWay {
        /// The file.
        path: PathBuf,
        /// What to do about it.
        why: &'static str,
    },
    /// The output cannot be written.
    Output(io::Error),
    /// A part was done before this happened; what was done has been said.
    Partial(Box<CliError>),
    /// Ctrl-C while a change was on its way.
    Interrupted(Change),
    /// All was said; only the status is left.
    Status(u8),
}

impl CliError {
    /// The stable code, where one says it.
    #[cfg(test)]
    pub(crate) fn code(&self) -> Option<Code> {
        self.failure().map(|failure| failure.code)
    }

    /// The failure, where one says it.
    pub(crate) fn failure(&self) -> Option<&Failure> {
        match self {
            Self::Failure { failure, .. } => Some(failure),
            Self::Partial(cause) => cause.failure(),
            Self::Usage(_)
            | Self::File { .. }
            | Self::Unwritten { .. }
            | Self::InTheWay { .. }
            | Self::Output(_)
            | Self::Interrupted(_)
            | Self::Status(_) => None,
        }
    }

    /// The error of a change. When nobody knows whether it was made, `look` shows it.
    pub(crate) fn of_change(error: ClientError, look: impl Into<String>) -> Self {
        let unknown = error.applied() == Some(Applied::Unknown);
        let error = Self::from(error);
        if unknown { error.hint(look) } else { error }
    }

    /// Adds a command worth trying.
    pub(crate) fn hint(self, command: impl Into<String>) -> Self {
        match self {
            Self::Failure { failure, .. } => Self::Failure { failure, hint: Some(command.into()) },
            other => other,
        }
    }

    /// The exit code. A reader that hangs up is no failure.
    pub(crate) fn exit(&self) -> u8 {
        match self {
            Self::Failure { failure, .. } => exit(failure),
            Self::Usage(_) => EXIT_USAGE,
            Self::File { source, .. } if source.kind() == io::ErrorKind::NotFound => EXIT_NOT_FOUND,
            Self::File { .. } | Self::Unwritten { .. } => EXIT_INTERNAL,
            Self::InTheWay { .. } => EXIT_USAGE,
            Self::Partial(_) => EXIT_PARTIAL,
            Self::Output(error) if error.kind() == io::ErrorKind::BrokenPipe => 0,
            Self::Output(_) => EXIT_INTERNAL,
            Self::Interrupted(_) => EXIT_INTERRUPTED,
            Self::Status(status) => *status,
        }
    }

    /// The text for stderr; empty when nothing is to be said.
    pub(crate) fn render(&self, json: bool, paint: Paint) -> String {
        self.render_with(self.exit(), json, paint)
    }

    fn render_with(&self, exit: u8, json: bool, paint: Paint) -> String {
        let (code, what, why, state, tries) = match self {
            Self::Failure { failure, hint } => (
                Some(failure.code),
                headline(failure),
                failure.why.clone(),
                state(failure),
                suggestions(failure.code, hint.as_deref()),
            ),
            Self::Usage(why) => {
                let tries = vec!["the same command with --help".to_owned()];
                (None, "usage".to_owned(), why.clone(), None, tries)
            }
            Self::File { path, source } => {
                let what = format!("cannot read {}", path.display());
                (None, what, source.to_string(), None, vec![])
            }
            Self::Unwritten { path, source } => {
                let what = format!("cannot write {}", path.display());
                (None, what, source.to_string(), None, vec![])
            }
            Self::InTheWay { path, why } => {
                let what = format!("{} exists", path.display());
                (None, what, (*why).to_owned(), None, vec![])
            }
            Self::Partial(cause) => return cause.render_with(exit, json, paint),
            Self::Output(error) if error.kind() == io::ErrorKind::BrokenPipe => {
                return String::new();
            }
            Self::Output(error) => {
                (None, "cannot write the output".to_owned(), error.to_string(), None, vec![])
            }
            Self::Interrupted(Change { subject, look }) => {
                let what = format!("{subject} has an unknown outcome: interrupted");
                let why = "it was on its way, and its answer had not come yet".to_owned();
                (None, what, why, Some(UNKNOWN.to_owned()), vec![look.clone()])
            }
            Self::Status(_) => return String::new(),
        };
        if json {
            let applied = match self {
                Self::Interrupted(_) => Some(Applied::Unknown),
                _ => self.failure().and_then(|failure| failure.applied),
            };
            let applied = applied.map(Applied::as_str);
            let code = code.map(|code| code.to_string());
            let partial = self.failure().and_then(|failure| failure.partial.as_deref());
            let partial = partial.map(PartialJson::new);
            let error = JsonError { code, what, why, applied, partial, tries, exit };
            return render_json(&error);
        }
        let mut text = match code {
            Some(code) => paint.error(&format!("error[{code}]:")),
            None => paint.error("error:"),
        };
        // Text of others may hold anything; on a terminal it must stay text on one line.
        let _ = writeln!(text, " {}", one_line(&what));
        let mut part = |label: &str, words: &str| {
            let _ = writeln!(text, "  {} {}", paint.dim(&format!("{label:<6}")), one_line(words));
        };
        part("why:", &why);
        if let Some(state) = state {
            part("state:", &state);
        }
        if !tries.is_empty() {
            part("try:", &tries.join("      or "));
        }
        text
    }
}

#[derive(Serialize)]
struct JsonError {
    #[serde(skip_serializing_if = "Option::is_none")]
    code: Option<String>,
    what: String,
    why: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    applied: Option<&'static str>,
    #[serde(flatten)]
    partial: Option<PartialJson>,
    #[serde(rename = "try")]
    tries: Vec<String>,
    exit: u8,
}

/// A write that is on fewer replicas than asked for.
#[derive(Serialize)]
struct PartialJson {
    durable_on: u32,
    wanted: u32,
    #[serde(flatten)]
    written: JsonWritten,
}

impl PartialJson {
    fn new(partial: &Partial) -> Self {
        Self {
            durable_on: partial.durable_on,
            wanted: partial.wanted,
            written: JsonWritten::new(Some(&partial.dot), &partial.context),
        }
    }
}

fn render_json(error: &JsonError) -> String {
    #[derive(Serialize)]
    struct Envelope<'a> {
        schema: u32,
        error: &'a JsonError,
    }
    let line = serde_json::to_string(&Envelope { schema: 1, error });
    line.expect("an error is plain data") + "\n"
}

/// The subject and what became of it.
fn headline(failure: &Failure) -> String {
    let title = failure.code.page().title;
    let verb = match failure.applied {
        Some(Applied::Unknown) => "has an unknown outcome",
        Some(Applied::Yes) if failure.partial.is_some() => "was applied",
        Some(Applied::Yes) => "was applied before",
        Some(Applied::No) => "refused",
        None => "failed",
    };
    format!("{} {verb}: {title}", failure.subject)
}

/// The state of a write that nobody knows more about.
const UNKNOWN: &str = "UNKNOWN: it may have been applied, or may still be";

/// What is known about the data, for a write.
fn state(failure: &Failure) -> Option<String> {
    failure.applied.map(|applied| match (applied, &failure.partial) {
        (Applied::No, _) => "NOT applied; safe to retry".to_owned(),
        (Applied::Unknown, _) => UNKNOWN.to_owned(),
        (Applied::Yes, Some(partial)) => {
            let Partial { durable_on, wanted, dot, .. } = &**partial;
            format!("applied; durable on {durable_on} of {wanted} replicas, dot {dot}")
        }
        (Applied::Yes, None) => "applied; only its result is no longer kept".to_owned(),
    })
}

/// At most two things to do next.
fn suggestions(code: Code, hint: Option<&str>) -> Vec<String> {
    let first = match code {
        // What was changed can be looked at by the command that only the caller knows.
        Code::WriteTimedOut | Code::ForwardBroken | Code::Transport if hint.is_some() => {
            let look = hint.map(str::to_owned);
            return look.into_iter().chain([format!("kv explain {code}")]).collect();
        }
        // Where the caller knows what is to be corrected.
        Code::ConfigInvalid if hint.is_some() => {
            let mend = hint.map(str::to_owned);
            return mend.into_iter().chain([format!("kv explain {code}")]).collect();
        }
        Code::NoQuorum
        | Code::NoLeader
        | Code::LeadershipLost
        | Code::ReadTimedOut
        | Code::ReplicasMissing
        | Code::Recovering
        | Code::AckMissed
        | Code::LogFull => "kv cluster status".to_owned(),
        Code::NotReady | Code::TokenAhead => "repeat in a moment".to_owned(),
        Code::WriteTimedOut
        | Code::ForwardBroken
        | Code::Transport
        | Code::OutcomeForgotten
        | Code::WriteElsewhere => "read the key, then decide".to_owned(),
        Code::CannotConnect => "kv node ping --endpoints HOST:PORT".to_owned(),
        Code::NotConfigured => {
            "kv context add NAME --endpoints HOST:PORT --ca FILE --cert FILE --key FILE".to_owned()
        }
        Code::TlsRejected | Code::RoleRefused => "kv cert ls --dir pki".to_owned(),
        Code::InvalidRequest
        | Code::KeyEmpty
        | Code::KeyTooLarge
        | Code::ValueTooLarge
        | Code::TooManyOperations
        | Code::RequestTooLarge
        | Code::LevelNotOffered
        | Code::KeyspaceNotFound
        | Code::Unimplemented
        | Code::KeyWrittenTwice
        | Code::RangeDeleteTooLarge
        | Code::KeyspaceExists
        | Code::KeyspaceNameInvalid
        | Code::KeyspaceProtected
        | Code::KindNotOffered
        | Code::WrongNode
        | Code::KeyspaceChanged
        | Code::SettingNotOffered
        | Code::MemberNotFound
        | Code::MemberExists
        | Code::ChangeInProgress
        | Code::MemberNotCaughtUp
        | Code::MemberUnheard
        | Code::CompactionAhead
        | Code::KeyspaceFull
        | Code::Removed
        | Code::ExportInvalid
        | Code::Repairing
        | Code::KeyspaceNotReady
        | Code::ExportFailed
        | Code::QuorumAtRisk
        | Code::KeyNotFound
        | Code::ConditionFailed
        | Code::WriteAnswered
        | Code::Compacted
        | Code::FutureRevision
        | Code::VerbNotOffered
        | Code::TokenInvalid
        | Code::TokenExpired
        | Code::TokenOtherKeyspace
        | Code::SiblingsFull
        | Code::SeveralValues
        | Code::QueueFull
        | Code::ReadOnly
        | Code::ConfigInvalid
        | Code::KeyFileMode
        | Code::CertificateUnusable
        | Code::DirectoryLocked
        | Code::DirectoryUnusable
        | Code::DataForeign
        | Code::DataDamaged
        | Code::DataLost
        | Code::Internal => code.page().fix.trim_end_matches('.').to_owned(),
    };
    let second = hint.map_or_else(|| format!("kv explain {code}"), str::to_owned);
    vec![first, second]
}

impl From<Failure> for CliError {
    fn from(failure: Failure) -> Self {
        Self::Failure { failure: Box::new(failure), hint: None }
    }
}

impl From<ClientError> for CliError {
    fn from(error: ClientError) -> Self {
        error.failure().clone().into()
    }
}

impl From<PkiError> for CliError {
    fn from(error: PkiError) -> Self {
        match error {
            PkiError::Read { path, source } => Self::File { path, source },
            PkiError::Exists { path } => Self::InTheWay {
                path,
                why: "certificates and keys are not overwritten: move it away, or name another \
                      --dir; kv cert issue --renew replaces a certificate",
            },
            error => Failure::new(error.code(), "certificates", error.to_string()).into(),
        }
    }
}

impl From<ContextError> for CliError {
    fn from(error: ContextError) -> Self {
        let failure = Failure::new(Code::ConfigInvalid, "contexts", error.to_string());
        Self::from(failure).hint("kv context ls")
    }
}

/// The output is the only thing that commands write to with `?`.
impl From<io::Error> for CliError {
    fn from(error: io::Error) -> Self {
        Self::Output(error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_has_four_parts() {
        let why = "1 of 3 voters reachable from n1";
        let failure = Failure::new(Code::NoQuorum, "write to \"orders/17\"", why);
        let error = CliError::from(failure.applied(Applied::No));
        let error = error.hint("kv get orders/17 --consistency eventual");
        let expected = "error[KV1201]: write to \"orders/17\" refused: no quorum\n  \
             why:   1 of 3 voters reachable from n1\n  \
             state: NOT applied; safe to retry\n  \
             try:   kv cluster status      or kv get orders/17 --consistency eventual\n";
        assert_eq!(error.render(false, Paint::plain()), expected);
        assert_eq!(error.exit(), 5);
    }

    #[test]
    fn a_json_error_is_one_line() {
        let failure = Failure::new(Code::WriteTimedOut, "write to \"a\"", "no answer");
        let error = CliError::from(failure.applied(Applied::Unknown));
        let text = error.render(true, Paint::plain());
        let expected = "{\"schema\":1,\"error\":{\"code\":\"KV1204\",\
             \"what\":\"write to \\\"a\\\" has an unknown outcome: write timed out\",\
             \"why\":\"no answer\",\"applied\":\"unknown\",\
             \"try\":[\"read the key, then decide\",\"kv explain KV1204\"],\"exit\":6}}\n";
        assert_eq!(text, expected);
    }

    #[test]
    fn an_interrupted_change_says_that_nobody_knows() {
        let look = "kv get a".to_owned();
        let error = CliError::Interrupted(Change { subject: "write to \"a\"".to_owned(), look });
        let text = error.render(false, Paint::plain());
        assert!(text.contains("write to \"a\" has an unknown outcome: interrupted\n"), "{text}");
        assert!(text.contains("UNKNOWN") && text.contains("kv get a"), "{text}");
        assert!(error.render(true, Paint::plain()).contains("\"applied\":\"unknown\""));
        assert_eq!(error.exit(), 130);
    }

    #[test]
    fn exit_codes_follow_the_code() {
        let not_found = io::Error::from(io::ErrorKind::NotFound);
        let broken = io::Error::from(io::ErrorKind::BrokenPipe);
        let denied = io::Error::from(io::ErrorKind::PermissionDenied);
        let file = |source| CliError::File { path: "x".into(), source };
        for (error, exit) in [
            (CliError::from(Failure::new(Code::KeyNotFound, "", "")), 3),
            (CliError::from(Failure::new(Code::ConditionFailed, "", "")), 4),
            (CliError::from(Failure::new(Code::NotConfigured, "", "")), 2),
            (CliError::Usage(String::new()), 2),
            (file(not_found), 3),
            (file(denied), 1),
            (CliError::Output(broken), 0),
            (CliError::Status(130), 130),
            (CliError::Partial(Box::new(CliError::Usage(String::new()))), 10),
            (CliError::InTheWay { path: "x".into(), why: "" }, 2),
        ] {
            assert_eq!(error.exit(), exit, "{error:?}");
        }
    }

    #[test]
    fn text_of_others_cannot_take_over_the_terminal() {
        let failure = Failure::new(Code::Internal, "read of \u{1b}[2J", "a\nb");
        let text = CliError::from(failure).render(false, Paint::plain());
        assert!(!text.contains('\u{1b}'), "{text:?}");
        assert_eq!(text.lines().count(), 3, "{text:?}");
    }
}
