//! Requests of clients that have not been answered.

use std::collections::{BTreeMap, BTreeSet};

use proto::{Applied, Code, Failure};

use super::io::{Request, RequestId, Ticks};

/// Whether a request can change anything.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// It only reads.
    Read,
    /// It wants an export, or a backup.
    Export,
    /// It writes.
    Write,
    /// It changes the catalogue.
    Manage,
}

#[derive(Debug)]
struct Open {
    kind: Kind,
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
        let older = self.open.insert(id, Open { kind: kind_of(request), deadline });
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
}

fn kind_of(request: &Request) -> Kind {
    match request {
        Request::Get(_)
        | Request::Range(_)
        | Request::History(_)
        | Request::Keyspaces
        | Request::Catalogue => Kind::Read,
        Request::Export | Request::Backup => Kind::Export,
        Request::Manage(_) => Kind::Manage,
        Request::Write { .. } => Kind::Write,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proto::v1;

    fn get() -> Request {
        Request::Get(v1::GetRequest::default())
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
}
