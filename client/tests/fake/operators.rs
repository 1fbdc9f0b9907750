//! The calls of operators: members, keyspaces, single nodes.

use std::collections::BTreeMap;
use std::pin::Pin;

use proto::v1::change_member_request::Kind;
use proto::v1::cluster_server::Cluster;
use proto::v1::keyspaces_server::Keyspaces;
use proto::v1::node_server::Node;
use proto::{Applied, Code, Failure, v1};
use tonic::codegen::tokio_stream::{self, Stream, StreamExt};
use tonic::{Request, Response, Status, async_trait};

use super::FakeNode;

/// What the nodes share about themselves.
#[derive(Default)]
pub struct Operators {
    /// Members beside those that run; all of them are voters but for the learners.
    pub members: Vec<v1::MemberView>,
    pub change: String,
    /// Each change that arrived, dry runs too.
    pub changes: Vec<v1::ChangeMemberRequest>,
    pub warnings: Vec<String>,
    pub keyspaces: BTreeMap<String, v1::KeyspaceView>,
    /// So many times somebody else adds one to `keys_max` right before settings are set.
    pub raced_sets: u32,
    /// Calls that change keyspaces, by name.
    pub calls: Vec<String>,
    pub filters: BTreeMap<String, String>,
    pub snapshot: Vec<v1::SnapshotPart>,
    /// The stream never ends.
    pub snapshot_hangs: bool,
}

impl FakeNode {
    /// Refuses a call for another node.
    fn check_name(&self, asked: &str) -> Result<(), Status> {
        if asked.is_empty() || asked == self.name {
            return Ok(());
        }
        let why = format!("this is {}", self.name);
        Err(Failure::new(Code::WrongNode, format!("node {asked:?}"), why).to_status())
    }

    /// Carries out a change as the script says, or refuses it.
    async fn change<T>(
        &self,
        serve: impl FnOnce(&mut Operators) -> Result<T, Failure>,
    ) -> Result<Response<T>, Status> {
        let done = self.act(|| serve(&mut self.shared.lock().unwrap().operators)).await?;
        let done = done.into_inner().map(Response::new);
        done.map_err(|failure| failure.applied(Applied::No).to_status())
    }

    fn views(&self) -> Vec<v1::MemberView> {
        let members = self.members.lock().unwrap().clone();
        let mut views: Vec<v1::MemberView> = members
            .into_iter()
            .map(|member| v1::MemberView {
                leader: member.id == 1,
                member: Some(member),
                role: "voter".into(),
                state: "serving".into(),
                ..Default::default()
            })
            .collect();
        views.extend(self.shared.lock().unwrap().operators.members.clone());
        views
    }
}

fn named(views: &[v1::MemberView], name: &str) -> bool {
    views.iter().any(|view| view.member.as_ref().unwrap().name == name)
}

#[async_trait]
impl Cluster for FakeNode {
    async fn status(
        &self,
        _request: Request<v1::StatusRequest>,
    ) -> Result<Response<v1::StatusReply>, Status> {
        self.act(|| self.status.lock().unwrap().clone().unwrap_or_default()).await
    }

    async fn members(
        &self,
        _request: Request<v1::MembersRequest>,
    ) -> Result<Response<v1::MembersReply>, Status> {
        self.act(|| {
            let members = self.views();
            let voters = members.iter().filter(|view| view.role == "voter").count() as u32;
            let change = self.shared.lock().unwrap().operators.change.clone();
            v1::MembersReply { members, change, voters, quorum: voters / 2 + 1 }
        })
        .await
    }

    async fn change_member(
        &self,
        request: Request<v1::ChangeMemberRequest>,
    ) -> Result<Response<v1::ChangeMemberReply>, Status> {
        let request = request.into_inner();
        let views = self.views();
        self.change(|operators| {
            operators.changes.push(request.clone());
            let known = named(&views, &request.name);
            let refuse = |code, why| Err(Failure::new(code, request.name.clone(), why));
            let voters = views.iter().filter(|view| view.role == "voter").count() as u32;
            let after = match request.kind() {
                Kind::Add if known => return refuse(Code::MemberExists, "it is a member"),
                Kind::Promote | Kind::Remove if !known => {
                    return refuse(Code::MemberNotFound, "no member has that name");
                }
                Kind::Add if request.learner => voters,
                Kind::Add | Kind::Promote => voters + 1,
                Kind::Remove => voters - 1,
                Kind::Unspecified => return refuse(Code::InvalidRequest, "no kind"),
            };
            Ok(v1::ChangeMemberReply {
                voters_before: voters,
                quorum_before: voters / 2 + 1,
                voters_after: after,
                quorum_after: after / 2 + 1,
                warnings: operators.warnings.clone(),
            })
        })
        .await
    }

    async fn move_leader(
        &self,
        request: Request<v1::MoveLeaderRequest>,
    ) -> Result<Response<v1::MoveLeaderReply>, Status> {
        let to = request.into_inner().to;
        let known = named(&self.views(), &to);
        self.change(|operators| {
            operators.calls.push(format!("move leader to {to}"));
            if known {
                return Ok(v1::MoveLeaderReply { leader: to });
            }
            Err(Failure::new(Code::MemberNotFound, to, "no member has that name"))
        })
        .await
    }
}

#[async_trait]
impl Keyspaces for FakeNode {
    async fn create(
        &self,
        request: Request<v1::CreateKeyspaceRequest>,
    ) -> Result<Response<v1::KeyspaceReply>, Status> {
        let keyspace = request.into_inner().keyspace.expect("the client names one");
        self.change(|operators| {
            let name = keyspace.name.clone();
            operators.calls.push(format!("create {name}"));
            let subject = format!("creation of keyspace {name:?}");
            let eventual = keyspace.kind() == v1::keyspace::Kind::Eventual;
            let settings = keyspace.settings.unwrap_or_default();
            if eventual && settings != v1::keyspace::Settings::default() {
                return Err(Failure::new(Code::SettingNotOffered, subject, "not offered"));
            }
            if !eventual && keyspace.policy != 0 {
                return Err(Failure::new(Code::SettingNotOffered, subject, "not offered"));
            }
            if operators.keyspaces.contains_key(&name) {
                return Err(Failure::new(Code::KeyspaceExists, subject, "it exists"));
            }
            let keyspace = v1::Keyspace {
                id: operators.keyspaces.len() as u64 + 2,
                state: v1::keyspace::State::Ready as i32,
                policy: if eventual { keyspace.policy.max(1) } else { 0 },
                ..keyspace
            };
            let mut view =
                v1::KeyspaceView { keyspace: Some(keyspace.clone()), ..Default::default() };
            if !eventual {
                (view.revision, view.compacted) = (1_204, 7);
                (view.live_keys, view.live_bytes) = (3, 65_536);
            }
            operators.keyspaces.insert(name, view);
            Ok(v1::KeyspaceReply { keyspace: Some(keyspace) })
        })
        .await
    }

    async fn list(
        &self,
        request: Request<v1::ListKeyspacesRequest>,
    ) -> Result<Response<v1::ListKeyspacesReply>, Status> {
        let name = request.into_inner().name;
        if self.is_mute() {
            std::future::pending::<()>().await;
        }
        self.act(|| {
            let shared = self.shared.lock().unwrap();
            let all = shared.operators.keyspaces.iter();
            let asked = all.filter(|(found, _)| name.is_empty() || **found == name);
            v1::ListKeyspacesReply { keyspaces: asked.map(|(_, view)| view.clone()).collect() }
        })
        .await
    }

    async fn set(
        &self,
        request: Request<v1::SetKeyspaceRequest>,
    ) -> Result<Response<v1::KeyspaceReply>, Status> {
        let v1::SetKeyspaceRequest { name, settings, id, generation } = request.into_inner();
        self.change(|operators| {
            operators.calls.push(format!("set {name}"));
            let Some(view) = operators.keyspaces.get_mut(&name) else {
                return Err(Failure::new(Code::KeyspaceNotFound, name, "there is none"));
            };
            let keyspace = view.keyspace.as_mut().unwrap();
            if operators.raced_sets > 0 {
                operators.raced_sets -= 1;
                keyspace.settings.as_mut().unwrap().keys_max += 1;
                keyspace.generation += 1;
            }
            if id != 0 && (id, generation) != (keyspace.id, keyspace.generation) {
                return Err(Failure::new(Code::KeyspaceChanged, name, "it was changed"));
            }
            keyspace.settings = settings;
            keyspace.generation += 1;
            Ok(v1::KeyspaceReply { keyspace: Some(keyspace.clone()) })
        })
        .await
    }

    async fn remove(
        &self,
        request: Request<v1::RemoveKeyspaceRequest>,
    ) -> Result<Response<v1::KeyspaceReply>, Status> {
        let name = request.into_inner().name;
        self.change(|operators| {
            operators.calls.push(format!("remove {name}"));
            let subject = format!("removal of keyspace {name:?}");
            match operators.keyspaces.remove(&name) {
                Some(view) => Ok(v1::KeyspaceReply { keyspace: view.keyspace }),
                None => Err(Failure::new(Code::KeyspaceNotFound, subject, "there is none")),
            }
        })
        .await
    }
}

#[async_trait]
impl Node for FakeNode {
    async fn ping(
        &self,
        request: Request<v1::PingRequest>,
    ) -> Result<Response<v1::PingReply>, Status> {
        self.check_name(&request.into_inner().node)?;
        self.act(|| v1::PingReply {
            node: self.name.clone(),
            version: "0.1.0".into(),
            state: "serving".into(),
            uptime_ms: 3_723_400,
        })
        .await
    }

    async fn log_level(
        &self,
        request: Request<v1::LogLevelRequest>,
    ) -> Result<Response<v1::LogLevelReply>, Status> {
        let v1::LogLevelRequest { node, filter } = request.into_inner();
        self.check_name(&node)?;
        self.act(|| {
            let mut shared = self.shared.lock().unwrap();
            let kept = shared.operators.filters.entry(self.name.clone());
            let kept = kept.or_insert_with(|| "info".into());
            if !filter.is_empty() {
                *kept = filter;
            }
            v1::LogLevelReply { node: self.name.clone(), filter: kept.clone() }
        })
        .await
    }

    async fn compact(
        &self,
        request: Request<v1::CompactRequest>,
    ) -> Result<Response<v1::CompactReply>, Status> {
        self.check_name(&request.into_inner().node)?;
        self.act(|| v1::CompactReply {
            node: self.name.clone(),
            log_bytes_before: 3 << 20,
            log_bytes_after: 1 << 20,
            export_bytes: 2_048,
        })
        .await
    }

    type SaveSnapshotStream = Pin<Box<dyn Stream<Item = Result<v1::SnapshotPart, Status>> + Send>>;

    async fn save_snapshot(
        &self,
        _request: Request<v1::SaveSnapshotRequest>,
    ) -> Result<Response<Self::SaveSnapshotStream>, Status> {
        self.act(|| {
            let shared = self.shared.lock().unwrap();
            let parts: Vec<_> = shared.operators.snapshot.iter().cloned().map(Ok).collect();
            let parts = tokio_stream::iter(parts);
            let stream: Self::SaveSnapshotStream = match shared.operators.snapshot_hangs {
                true => Box::pin(parts.chain(tokio_stream::pending())),
                false => Box::pin(parts),
            };
            stream
        })
        .await
    }
}

/// A snapshot of these bytes, in parts of at most `each`.
pub fn parts(bytes: &[u8], each: usize) -> Vec<v1::SnapshotPart> {
    let total = bytes.len() as u64;
    let chunks = bytes.chunks(each);
    let part = |chunk: &[u8]| v1::SnapshotPart { data: chunk.to_vec().into(), total, cover: None };
    chunks.map(part).collect()
}
