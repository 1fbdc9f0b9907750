//! What the handlers of management calls share: ask the node, wait for what was asked to be done,
//! measure, name what failed.

use std::sync::Arc;
use std::time::{Duration, Instant};

use proto::{Applied, Code, Failure};
use tonic::metadata::MetadataMap;
use tonic::{Response, Status};

use super::front::Front;
use super::patience::patience;
use crate::metrics::{Op, Outcome};
use crate::node::{Catalogue, Reply, Request};

/// How often something that is being carried out is looked at.
const LOOK_PERIOD: Duration = Duration::from_millis(50);

/// One management call.
pub struct Management {
    front: Arc<Front>,
    op: Op,
    subject: String,
    start: Instant,
    patience: Duration,
}

impl Management {
    /// A call about `subject`.
    pub fn new(front: &Arc<Front>, op: Op, subject: impl Into<String>, meta: &MetadataMap) -> Self {
        Self {
            front: Arc::clone(front),
            op,
            subject: subject.into(),
            start: Instant::now(),
            patience: patience(meta),
        }
    }

    /// The same call with another patience than the client asked for.
    #[must_use]
    pub fn with_patience(self, patience: Duration) -> Self {
        Self { patience, ..self }
    }

    /// The node that is asked.
    pub fn front(&self) -> &Front {
        &self.front
    }

    /// Time left of what the caller waits.
    pub fn left(&self) -> Duration {
        self.patience.saturating_sub(self.start.elapsed())
    }

    /// Asks the node.
    pub async fn ask(&self, request: Request) -> Result<Reply, Failure> {
        self.front.handle()?.call(request, self.left()).await
    }

    /// Carries out a command of group 0; returns the number of the change or the id of the keyspace.
    pub async fn manage(&self, body: proto::log::command::Body) -> Result<u64, Failure> {
        match self.ask(Request::Manage(proto::log::Command { body: Some(body) })).await? {
            Reply::Managed(number) => Ok(number),
            _ => Err(mixed_up()),
        }
    }

    /// The catalogue as of now.
    pub async fn catalogue(&self) -> Result<Catalogue, Failure> {
        match self.ask(Request::Catalogue).await? {
            Reply::Catalogue(catalogue) => Ok(*catalogue),
            _ => Err(mixed_up()),
        }
    }

    /// Looks at the catalogue until `done`; false when the caller's patience ends first.
    pub async fn until(&self, done: impl Fn(&Catalogue) -> bool) -> bool {
        while self.left() > LOOK_PERIOD {
            match self.catalogue().await {
                Ok(catalogue) if done(&catalogue) => return true,
                // The change of a leader may be what was asked for.
                Ok(_) | Err(_) => tokio::time::sleep(LOOK_PERIOD).await,
            }
        }
        false
    }

    /// Measures the call and turns its result into what tonic sends.
    pub fn finish<T>(&self, result: Result<T, Failure>) -> Result<Response<T>, Status> {
        let outcome = match &result {
            Ok(_) => Outcome::Ok,
            Err(failure) if failure.applied == Some(Applied::Unknown) => Outcome::Unknown,
            Err(_) => Outcome::Failed,
        };
        self.front.metrics().request(self.op, "linearizable", outcome, self.start.elapsed());
        result.map(Response::new).map_err(|mut failure| {
            if matches!(self.op, Op::ChangeMember | Op::MoveLeader | Op::PutKeyspace) {
                // Whatever may have been agreed on says so itself.
                failure.applied = failure.applied.or(Some(Applied::No));
            }
            failure.subject(self.subject.clone()).to_status()
        })
    }
}

/// The node answered another question: a bug.
pub fn mixed_up() -> Failure {
    Failure::new(Code::Internal, "", "the node answered another question")
}
