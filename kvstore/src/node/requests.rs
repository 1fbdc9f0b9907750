//! Requests of clients that have not been answered.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use proto::{Applied, Code, Failure, log};

use super::io::{Request, RequestId, Ticks};

/// Whether a request can change anything.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// It only reads.
    Read,
    /// It wants an export.
    Export,
    /// It writes.
    Write,
    /// It changes the catalogue.
    Manage,
}

#[derive(Debug)]
struct Open {
    kind: Kind,
    /// The first key it names, for errors.
    key: Bytes,
    deadline: Ticks,
}

/// Open requests by id and by deadline.
///
/// Invariant: every deadline belongs to an open request; each request is closed exactly once.
#[derive(Debug, Default)]
pub struct Requests {
    open: BTreeMap<RequestId, Open>,
    deadlines: BTreeSet<(Ticks, RequestId)>,
}

impl Requests {
    /// Opens a request.
    ///
    /// # Panics
    /// When the id is in use: the driver must never reuse one.
    pub fn open(&mut self, id: RequestId, request: &Request, deadline: Ticks) {
        let (kind, key) = describe(request);
        let older = self.open.insert(id, Open { kind, key, deadline });
        assert!(older.is_none(), "request id {} is in use", id.0);
        self.deadlines.insert((deadline, id));
    }

    /// What kind of request it is, while it is open.
    #[must_use]
    pub fn kind(&self, id: RequestId) -> Option<Kind> {
        self.open.get(&id).map(|open| open.kind)
    }

    /// Closes a request; `None` when it was closed before.
    pub fn close(&mut self, id: RequestId) -> Option<Kind> {
        let open = self.open.remove(&id)?;
        self.deadlines.remove(&(open.deadline, id));
        Some(open.kind)
    }

    /// Takes a request out of the deadlines; its answer is on the way.
    pub fn give_up(&mut self, id: RequestId) {
        if let Some(open) = self.open.get(&id) {
            self.deadlines.remove(&(open.deadline, id));
        }
    }

    /// The next request whose deadline has passed.
    #[must_use]
    pub fn expired(&self, now: Ticks) -> Option<RequestId> {
        let (deadline, id) = self.deadlines.first()?;
        (*deadline <= now).then_some(*id)
    }

    /// The error for a request that its group did not answer in time. A read changed nothing; a write
    /// was handed to its group, so its outcome is unknown.
    #[must_use]
    pub fn timed_out(&self, id: RequestId) -> Failure {
        match self.open.get(&id).map(|open| open.kind) {
            Some(Kind::Write | Kind::Manage) => {
                let why = "no majority acknowledged it in time; it may be applied yet";
                Failure::new(Code::WriteTimedOut, "", why).applied(Applied::Unknown)
            }
            Some(Kind::Export) => {
                Failure::new(Code::ReadTimedOut, "", "the export takes longer; it goes on")
            }
            Some(Kind::Read) | None => {
                let why = "the leader could not confirm its leadership in time";
                Failure::new(Code::ReadTimedOut, "", why)
            }
        }
    }

    /// Fills in the subject of an error. One of a request that cannot change anything says nothing of
    /// whether it was applied.
    #[must_use]
    pub fn name(&self, id: RequestId, failure: Failure) -> Failure {
        match self.open.get(&id) {
            Some(open) => name(open.kind, &open.key, failure),
            None => failure,
        }
    }
}

fn name(kind: Kind, key: &Bytes, mut failure: Failure) -> Failure {
    let key = key.escape_ascii();
    failure.subject = match kind {
        Kind::Read | Kind::Export => format!("read of \"{key}\""),
        Kind::Write => format!("write to \"{key}\""),
        Kind::Manage => format!("change of {key}"),
    };
    if matches!(kind, Kind::Read | Kind::Export) {
        failure.applied = None;
    }
    failure
}

fn describe(request: &Request) -> (Kind, Bytes) {
    use proto::v1::op::Op;
    match request {
        Request::Get(get) => (Kind::Read, get.key.clone()),
        Request::Range(range) => (Kind::Read, range.from.clone()),
        Request::History(history) => (Kind::Read, history.key.clone()),
        Request::Keyspaces => (Kind::Read, Bytes::from_static(b"keyspaces")),
        Request::Catalogue => (Kind::Read, Bytes::from_static(b"members")),
        Request::Export => (Kind::Export, Bytes::from_static(b"snapshot")),
        Request::Manage(command) => (Kind::Manage, subject(command)),
        Request::Write { write, .. } => {
            let first = write.then_ops.first().and_then(|op| op.op.as_ref());
            let key = match first {
                Some(Op::Put(put)) => put.key.clone(),
                Some(Op::Delete(delete)) => delete.key.clone(),
                Some(Op::Get(get)) => get.key.clone(),
                None => write.compares.first().map(|c| c.key.clone()).unwrap_or_default(),
            };
            (Kind::Write, key)
        }
    }
}

/// What a command of group 0 is about.
fn subject(command: &log::Command) -> Bytes {
    use log::command::Body;
    let name = match &command.body {
        Some(Body::ChangeMember(change)) => format!("member {}", change.name),
        Some(Body::PutKeyspace(put)) => {
            let name = put.keyspace.as_ref().map_or("", |keyspace| keyspace.name.as_str());
            format!("keyspace {name}")
        }
        Some(_) | None => "the catalogue".to_owned(),
    };
    name.into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proto::v1;

    fn get() -> Request {
        Request::Get(v1::GetRequest { key: Bytes::from_static(b"a\n"), ..Default::default() })
    }

    #[test]
    fn requests_expire_in_order_and_close_once() {
        let mut requests = Requests::default();
        requests.open(RequestId(1), &get(), Ticks(9));
        requests.open(RequestId(2), &get(), Ticks(5));
        assert_eq!(requests.expired(Ticks(4)), None);
        assert_eq!(requests.expired(Ticks(9)), Some(RequestId(2)));
        assert_eq!(requests.close(RequestId(2)), Some(Kind::Read));
        assert_eq!(requests.close(RequestId(2)), None);
        assert_eq!(requests.expired(Ticks(9)), Some(RequestId(1)));
    }

    #[test]
    fn errors_name_the_key_with_its_bytes_escaped() {
        let mut requests = Requests::default();
        requests.open(RequestId(1), &get(), Ticks(9));
        let failure = requests.name(RequestId(1), Failure::new(Code::NoLeader, "", "x"));
        assert_eq!(failure.subject, "read of \"a\\n\"");
    }
}
