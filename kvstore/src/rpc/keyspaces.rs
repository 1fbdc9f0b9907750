//! The service `kv.v1.Keyspaces`.

use std::sync::Arc;

use proto::log::command::Body;
use proto::log::{PutKeyspace, put_keyspace::Step};
use proto::v1::keyspaces_server::Keyspaces;
use proto::v1::{self};
use proto::{Applied, Code, Failure};
use tonic::{Request, Response, Status};

use super::front::Front;
use super::manage::{Management, mixed_up};
use crate::metrics::Op;
use crate::node::{Catalogue, Reply};

/// The handlers.
#[derive(Clone, Debug)]
pub struct KeyspacesService {
    front: Arc<Front>,
}

impl KeyspacesService {
    /// Handlers over what `front` shows of the node.
    pub fn new(front: Arc<Front>) -> Self {
        Self { front }
    }

    /// What the data group holds, with the states that the catalogue knows; keyspaces that the data
    /// group does not have yet hold nothing.
    async fn all(call: &Management) -> Result<Vec<v1::KeyspaceView>, Failure> {
        let Reply::Keyspaces(held) = call.ask(crate::node::Request::Keyspaces).await? else {
            return Err(mixed_up());
        };
        let id = |view: &v1::KeyspaceView| view.keyspace.as_ref().map_or(0, |keyspace| keyspace.id);
        let view = |keyspace: &v1::Keyspace| {
            let found = held.iter().find(|view| id(view) == keyspace.id);
            let found = found.cloned().unwrap_or_default();
            v1::KeyspaceView { keyspace: Some(keyspace.clone()), ..found }
        };
        Ok(call.catalogue().await?.keyspaces().iter().map(view).collect())
    }

    /// Puts a keyspace into the catalogue, then waits until the data group has followed.
    async fn put(
        call: &Management,
        step: Step,
        keyspace: v1::Keyspace,
    ) -> Result<v1::KeyspaceReply, Failure> {
        let put = PutKeyspace { step: step.into(), keyspace: Some(keyspace.clone()) };
        let id = call.manage(Body::PutKeyspace(put)).await?;
        let open = |catalogue: &Catalogue| catalogue.keyspaces().unsettled().any(|k| k.id == id);
        if !call.until(|catalogue| !open(catalogue)).await {
            let why = "the change is agreed on, but its group has not followed in time";
            return Err(Failure::new(Code::WriteTimedOut, "", why).applied(Applied::Unknown));
        }
        let found = call.catalogue().await.map_err(|failure| failure.applied(Applied::Yes))?;
        let now = found.keyspaces().iter().find(|keyspace| keyspace.id == id).cloned();
        Ok(v1::KeyspaceReply { keyspace: Some(now.unwrap_or(v1::Keyspace { id, ..keyspace })) })
    }
}

#[tonic::async_trait]
impl Keyspaces for KeyspacesService {
    async fn create(
        &self,
        request: Request<v1::CreateKeyspaceRequest>,
    ) -> Result<Response<v1::KeyspaceReply>, Status> {
        let (meta, _, request) = request.into_parts();
        let keyspace = request.keyspace.unwrap_or_default();
        let subject = subject(&keyspace.name);
        let call = Management::new(&self.front, Op::PutKeyspace, subject, &meta);
        let reply = Self::put(&call, Step::Create, keyspace).await;
        call.finish(reply)
    }

    async fn list(
        &self,
        request: Request<v1::ListKeyspacesRequest>,
    ) -> Result<Response<v1::ListKeyspacesReply>, Status> {
        let (meta, _, request) = request.into_parts();
        let call = Management::new(&self.front, Op::Keyspaces, subject(&request.name), &meta);
        let reply = Self::all(&call).await.and_then(|all| chosen(all, &request.name));
        call.finish(reply)
    }

    async fn set(
        &self,
        request: Request<v1::SetKeyspaceRequest>,
    ) -> Result<Response<v1::KeyspaceReply>, Status> {
        let (meta, _, request) = request.into_parts();
        let v1::SetKeyspaceRequest { name, settings, id, generation } = request;
        let call = Management::new(&self.front, Op::PutKeyspace, subject(&name), &meta);
        let keyspace = v1::Keyspace { id, name, settings, generation, ..v1::Keyspace::default() };
        let reply = Self::put(&call, Step::Set, keyspace).await;
        call.finish(reply)
    }

    async fn remove(
        &self,
        request: Request<v1::RemoveKeyspaceRequest>,
    ) -> Result<Response<v1::KeyspaceReply>, Status> {
        let (meta, _, request) = request.into_parts();
        let call = Management::new(&self.front, Op::PutKeyspace, subject(&request.name), &meta);
        let keyspace = v1::Keyspace { name: request.name, ..v1::Keyspace::default() };
        let reply = Self::put(&call, Step::Remove, keyspace).await;
        call.finish(reply)
    }
}

fn subject(name: &str) -> String {
    if name.is_empty() {
        "keyspaces".to_owned()
    } else {
        format!("keyspace \"{}\"", name.escape_default())
    }
}

/// All, or the one of this name.
fn chosen(all: Vec<v1::KeyspaceView>, name: &str) -> Result<v1::ListKeyspacesReply, Failure> {
    let wanted = |view: &v1::KeyspaceView| {
        name.is_empty() || view.keyspace.as_ref().is_some_and(|keyspace| keyspace.name == name)
    };
    let keyspaces: Vec<v1::KeyspaceView> = all.into_iter().filter(wanted).collect();
    if keyspaces.is_empty() && !name.is_empty() {
        return Err(crate::replication::raft::no_keyspace(name));
    }
    Ok(v1::ListKeyspacesReply { keyspaces })
}
