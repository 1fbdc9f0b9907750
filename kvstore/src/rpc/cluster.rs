//! The service `kv.v1.Cluster`.

use std::sync::Arc;
use std::time::Instant;

use proto::v1::cluster_server::Cluster;
use proto::v1::{self, Role};
use proto::{Applied, Code, Failure, NodeId, log};
use tonic::{Request, Response, Status};

use super::convergence::convergence;
use super::front::{Front, Identity};
use super::manage::Management;
use super::state::{self, NodeState};
use crate::config::Address;
use crate::metrics::{Op, Outcome};
use crate::node::{Catalogue, Member, Members, OpenChange, Summary};
use crate::peer::PeerView;

/// A peer that said nothing for this long is shown as unreachable.
const UNREACHABLE_AFTER_MS: u64 = 3_000;

/// The handlers.
#[derive(Clone, Debug)]
pub struct ClusterService {
    front: Arc<Front>,
}

impl ClusterService {
    /// Handlers over what `front` shows of the node.
    pub fn new(front: Arc<Front>) -> Self {
        Self { front }
    }

    async fn reply(&self) -> Result<v1::StatusReply, Failure> {
        let running = self.front.running()?;
        let summary = running.handle.summary().await?;
        let identity = self.front.identity();
        let nodes = nodes(identity, &summary, &self.front.peers());
        let unreachable = NodeState::Unreachable.as_str();
        let reachable = nodes.iter().filter(|node| node.state != unreachable).count();
        Ok(v1::StatusReply {
            cluster_name: identity.cluster_name.clone(),
            cluster_id: running.cluster.0.to_vec().into(),
            node: identity.name.clone(),
            revision: summary.revision,
            voters: count(summary.voters.len()),
            reachable: count(reachable),
            nodes,
        })
    }
}

#[tonic::async_trait]
impl Cluster for ClusterService {
    async fn status(
        &self,
        _request: Request<v1::StatusRequest>,
    ) -> Result<Response<v1::StatusReply>, Status> {
        let start = Instant::now();
        let reply = self.reply().await;
        let outcome = if reply.is_ok() { Outcome::Ok } else { Outcome::Failed };
        self.front.metrics().request(Op::Status, "eventual", outcome, start.elapsed());
        match reply {
            Ok(reply) => Ok(Response::new(reply)),
            Err(mut failure) => {
                failure.applied = None;
                Err(failure.subject("cluster status").to_status())
            }
        }
    }

    async fn members(
        &self,
        request: Request<v1::MembersRequest>,
    ) -> Result<Response<v1::MembersReply>, Status> {
        let call = Management::new(&self.front, Op::Members, "members", request.metadata());
        let reply = self.list_members(&call).await;
        call.finish(reply)
    }

    async fn change_member(
        &self,
        request: Request<v1::ChangeMemberRequest>,
    ) -> Result<Response<v1::ChangeMemberReply>, Status> {
        let (meta, _, request) = request.into_parts();
        let subject = format!("member \"{}\"", request.name.escape_default());
        let call = Management::new(&self.front, Op::ChangeMember, subject, &meta);
        let reply = change(&call, request).await;
        call.finish(reply)
    }

    async fn move_leader(
        &self,
        request: Request<v1::MoveLeaderRequest>,
    ) -> Result<Response<v1::MoveLeaderReply>, Status> {
        let (meta, _, request) = request.into_parts();
        let subject = format!("leader \"{}\"", request.to.escape_default());
        let call = Management::new(&self.front, Op::MoveLeader, subject, &meta);
        let reply = move_leader(&call, &request.to).await;
        call.finish(reply)
    }
}

impl ClusterService {
    async fn list_members(&self, call: &Management) -> Result<v1::MembersReply, Failure> {
        let catalogue = call.catalogue().await?;
        let summary = self.front.running()?.handle.summary().await?;
        let statuses = nodes(self.front.identity(), &summary, &self.front.peers());
        let view = |member: &Member, leaving: bool| {
            let status = statuses.iter().find(|status| {
                status.member.as_ref().is_some_and(|found| found.id == member.member.id)
            });
            let role = match (leaving, member.id(), member.voter) {
                (true, ..) => "removing",
                (_, None, _) => "added",
                (_, _, true) => "voter",
                (_, _, false) => "learner",
            };
            v1::MemberView {
                member: Some(with_addresses(member.member.clone(), status)),
                role: role.to_owned(),
                promote: member.promote,
                state: status
                    .map_or_else(|| NodeState::Unreachable.to_string(), |s| s.state.clone()),
                leader: member.id().is_some() && member.id() == summary.leader,
                lag: status.map_or(0, |status| status.lag),
            }
        };
        let members = catalogue.members();
        let leaving = members.open_change().and_then(|open| open.leaving.as_ref());
        let all = members.iter().map(|m| view(m, false)).chain(leaving.map(|m| view(m, true)));
        let voters = members.iter().filter(|member| member.voter).count();
        let hands_on = catalogue.keyspaces().any_eventual();
        Ok(v1::MembersReply {
            members: all.collect(),
            change: members.open_change().map(|open| sentence(open, hands_on)).unwrap_or_default(),
            voters: count(voters),
            quorum: count(voters / 2 + 1),
        })
    }
}

/// Says what is being carried out, and what it waits for. `hands_on`: there are eventual keyspaces.
fn sentence(open: &OpenChange, hands_on: bool) -> String {
    use log::change_member::Kind;
    let name = &open.change.name;
    match open.change.kind() {
        // Open only once the node has said its id.
        Kind::Add => format!("{name} is being added; it learns what the others hold"),
        Kind::Promote => format!("{name} becomes a voter once it has caught up"),
        Kind::Remove if open.change.lose_unseen || !hands_on => format!("{name} is being removed"),
        Kind::Remove => format!(
            "{name} is being removed; it hands on what it took in eventual keyspaces (if it cannot: \
             kv cluster remove {name} --lose-unseen)"
        ),
        Kind::Unspecified => format!("{name} is being changed"),
    }
}

/// Changes members, or says what that would mean.
async fn change(
    call: &Management,
    request: v1::ChangeMemberRequest,
) -> Result<v1::ChangeMemberReply, Failure> {
    use v1::change_member_request::Kind;
    let kind = match request.kind() {
        Kind::Add => log::change_member::Kind::Add,
        Kind::Promote => log::change_member::Kind::Promote,
        Kind::Remove => log::change_member::Kind::Remove,
        Kind::Unspecified => {
            return Err(Failure::new(Code::InvalidRequest, "", "the kind of change is missing"));
        }
    };
    let before = call.catalogue().await?;
    let change = log::ChangeMember {
        kind: kind.into(),
        name: request.name.clone(),
        peer_address: request.peer_address.clone(),
        stay_learner: request.learner,
        lose_unseen: request.lose_unseen,
        decided_after: before.members().change_number(),
    };
    let (voters_before, mut voters_after) = before
        .members()
        .preview(&change)
        .map_err(|code| Failure::new(code, "", refused_why(code, &before)))
        .map_err(|failure| failure.applied(Applied::No))?;
    if kind == log::change_member::Kind::Add {
        check_address(&request.peer_address, before.members(), call.front())?;
    }
    let already = before.members().named(&request.name).is_some_and(|member| member.voter);
    if kind == log::change_member::Kind::Add && !request.learner {
        // It votes as soon as it has caught up.
        voters_after += 1;
    }
    let mut reply = v1::ChangeMemberReply {
        voters_before: count(voters_before),
        quorum_before: count(voters_before / 2 + 1),
        voters_after: count(voters_after),
        quorum_after: count(voters_after / 2 + 1),
        warnings: warnings(voters_before, voters_after),
    };
    if kind == log::change_member::Kind::Promote && already {
        reply.warnings.push(format!("{} is a voter already; nothing changes", request.name));
        return Ok(reply);
    }
    if kind == log::change_member::Kind::Remove && before.keyspaces().any_eventual() {
        reply.warnings.extend(unseen(call, before.members(), &request).await?);
    }
    if request.dry_run {
        return Ok(reply);
    }
    let number = call.manage(log::command::Body::ChangeMember(change)).await?;
    // What was added has nothing to be carried out before its node has started, perhaps much later; and
    // a node that is removed itself may end before it could answer.
    let own = request.name == call.front().identity().name;
    if own {
        reply.warnings.push("it is agreed on and being carried out: kv cluster members".to_owned());
    } else if kind != log::change_member::Kind::Add {
        let done = |catalogue: &Catalogue| {
            let members = catalogue.members();
            members.change_number() != number || members.open_change().is_none()
        };
        if !call.until(done).await {
            let note = "it is agreed on and still being carried out: kv cluster members";
            reply.warnings.push(note.to_owned());
        }
    }
    Ok(reply)
}

/// What is known of a member that is to be removed without what it alone took: when it was heard, and what of it is known.
///
/// # Errors
/// [`Code::MemberUnheard`] with the same where it is not heard and nothing may be lost.
async fn unseen(
    call: &Management,
    members: &Members,
    request: &v1::ChangeMemberRequest,
) -> Result<Option<String>, Failure> {
    let id = members.reachable().find(|member| member.member.name == request.name);
    let Some(id) = id.and_then(Member::id) else { return Ok(None) };
    let front = call.front();
    if front.identity().name == request.name {
        return Ok(None);
    }
    let peers = front.peers();
    let peer = peers.iter().find(|peer| peer.node == id);
    let is_heard = |peer: &&PeerView| peer.connected && peer.silent_ms < UNREACHABLE_AFTER_MS;
    if !request.lose_unseen && peer.is_none_or(|peer| is_heard(&peer)) {
        return Ok(None);
    }
    let heard = match peer {
        Some(peer) => format!("was heard {} s ago", peer.silent_ms / 1_000),
        None => "has no link to the node that was asked".to_owned(),
    };
    let summary = front.running()?.handle.summary().await?;
    let last = summary.last_known.iter().find(|(node, _)| *node == id);
    let known = match last {
        Some((_, dot)) => format!("the highest write of its last start that is known is {dot}"),
        None => "nothing is known of its last start".to_owned(),
    };
    let name = &request.name;
    if !request.lose_unseen {
        let why = format!("{name} {heard}, as {} sees it; {known}", front.identity().name);
        return Err(Failure::new(Code::MemberUnheard, "", why).applied(Applied::No));
    }
    let then = "what it alone took in eventual keyspaces is lost";
    Ok(Some(format!("{name} {heard}; {known}; {then}")))
}

/// Why a change is refused, with what is in its way.
fn refused_why(code: Code, catalogue: &Catalogue) -> String {
    match catalogue.members().open_change() {
        Some(open) if code == Code::ChangeInProgress => {
            sentence(open, catalogue.keyspaces().any_eventual())
        }
        Some(_) | None => code.page().cause.to_owned(),
    }
}

/// A node that is to be added must be somewhere, and where no other one is.
fn check_address(address: &str, members: &Members, front: &Front) -> Result<(), Failure> {
    let refuse =
        |why: String| Err(Failure::new(Code::InvalidRequest, "", why).applied(Applied::No));
    if let Err(why) = address.parse::<Address>() {
        return refuse(why);
    }
    // A member may have published nothing yet: what it says of itself counts as well.
    let own = front.identity();
    let own = v1::Member {
        name: own.name.clone(),
        peer_address: own.peer_address.clone(),
        ..v1::Member::default()
    };
    let peers = front.peers().into_iter().filter_map(|peer| peer.status?.member);
    let said = peers.chain([own]).filter(|member| members.named(&member.name).is_some());
    let published = members.reachable().map(|known| known.member.clone());
    match published.chain(said).find(|known| known.peer_address == address) {
        Some(known) => refuse(format!("{address} is the address of {}", known.name)),
        None => Ok(()),
    }
}

fn warnings(before: usize, after: usize) -> Vec<String> {
    let mut warnings = Vec::new();
    let tolerated = |voters: usize| (voters.max(1) - 1) / 2;
    if after == 2 {
        warnings.push("with two voters, the loss of either stops all writes".to_owned());
    } else if after.is_multiple_of(2) {
        let less = after - 1;
        warnings.push(format!("{after} voters survive no more failures than {less}"));
    }
    if tolerated(after) < tolerated(before) {
        let (from, to) = (tolerated(before), tolerated(after));
        warnings.push(format!("the cluster survives {to} failed voters instead of {from}"));
    }
    warnings
}

async fn move_leader(call: &Management, to: &str) -> Result<v1::MoveLeaderReply, Failure> {
    let handle = call.front().handle()?;
    let catalogue = call.catalogue().await?;
    let member = catalogue
        .members()
        .named(to)
        .ok_or_else(|| Failure::new(Code::MemberNotFound, "", Code::MemberNotFound.page().cause))?;
    let Some(id) = member.id().filter(|_| member.voter) else {
        return Err(Failure::new(Code::InvalidRequest, "", format!("{to} does not vote")));
    };
    handle.move_leader(id);
    let mut summaries = handle.summaries();
    let moved = summaries.wait_for(|summary| summary.leader == Some(id));
    match tokio::time::timeout(call.left(), moved).await {
        Ok(Ok(_)) => Ok(v1::MoveLeaderReply { leader: to.to_owned() }),
        Ok(Err(_)) | Err(_) => {
            let why = format!("{to} did not take over in time; is it up and close behind?");
            Err(Failure::new(Code::NoLeader, "", why).applied(Applied::Unknown))
        }
    }
}

/// This node as it tells its peers and its clients.
pub fn own_status(identity: &Identity, summary: &Summary, state: NodeState) -> v1::NodeStatus {
    let member = v1::Member {
        id: identity.id.get(),
        name: identity.name.clone(),
        client_address: identity.client_address.clone(),
        peer_address: identity.peer_address.clone(),
    };
    v1::NodeStatus {
        member: Some(member),
        role: summary.role.into(),
        state: state.to_string(),
        term: summary.term,
        applied: summary.applied,
        lag: summary.commit.saturating_sub(summary.applied),
        rtt_us: 0,
        db_bytes: summary.store_bytes,
        certificate_expiry: identity.certificate_expiry,
        version: client::version::VERSION.to_owned(),
        silent_ms: 0,
        convergence: summary.gossip.as_ref().map(convergence),
    }
}

/// All members as this node sees them, by name.
pub(super) fn nodes(
    identity: &Identity,
    summary: &Summary,
    peers: &[PeerView],
) -> Vec<v1::NodeStatus> {
    let mut nodes: Vec<v1::NodeStatus> = summary
        .members
        .iter()
        .map(|member| {
            if member.id == identity.id.get() {
                // It has just answered.
                let state = NodeState::of_running(true, summary);
                return own_status(identity, summary, state);
            }
            let view = peers.iter().find(|peer| peer.node == NodeId(member.id));
            // The leader knows exactly; elsewhere there is what the peer said of itself.
            let lag = summary.lag.iter().find(|(node, _)| node.get() == member.id);
            let status = peer_status(member, view, lag.map(|(_, lag)| *lag));
            with_leader(status, summary.leader)
        })
        .collect();
    nodes.sort_by(|a, b| name(a).cmp(name(b)));
    nodes
}

/// What a peer said of its role is up to a second old; who leads is known better here.
fn with_leader(mut status: v1::NodeStatus, leader: Option<NodeId>) -> v1::NodeStatus {
    let id = status.member.as_ref().map_or(0, |member| member.id);
    match leader {
        Some(leader) if leader.get() == id => status.set_role(Role::Leader),
        Some(_) if status.role() == Role::Leader => status.set_role(Role::Follower),
        Some(_) | None => {}
    }
    status
}

fn name(status: &v1::NodeStatus) -> &str {
    status.member.as_ref().map_or("", |member| &member.name)
}

/// A member with the addresses that it says itself where the catalogue has none: a new node's stand
/// there only once it has published them.
fn with_addresses(mut member: v1::Member, said: Option<&v1::NodeStatus>) -> v1::Member {
    let own = said.and_then(|status| status.member.as_ref());
    if member.client_address.is_empty()
        && let Some(own) = own.filter(|own| !own.client_address.is_empty())
    {
        member.client_address.clone_from(&own.client_address);
        member.peer_address.clone_from(&own.peer_address);
    }
    member
}

/// A peer: what it said last, and what the link says about it.
fn peer_status(member: &v1::Member, view: Option<&PeerView>, lag: Option<u64>) -> v1::NodeStatus {
    let said = view.and_then(|view| view.status.clone()).unwrap_or_default();
    let reachable =
        view.is_some_and(|view| view.connected && view.silent_ms < UNREACHABLE_AFTER_MS);
    let lag = lag.unwrap_or(said.lag);
    // What it was when it was last heard may be wrong by now.
    let role = if reachable { said.role } else { Role::Unspecified.into() };
    let state = state::of_peer(reachable, &said.state, lag).to_owned();
    v1::NodeStatus {
        member: Some(with_addresses(member.clone(), Some(&said))),
        role,
        state,
        lag,
        rtt_us: view.map_or(0, |view| view.rtt_us),
        silent_ms: view.map_or(0, |view| view.silent_ms),
        // As with its role.
        convergence: said.convergence.clone().filter(|_| reachable),
        ..said
    }
}

fn count(number: usize) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn identity() -> Identity {
        Identity {
            cluster_name: "test".into(),
            name: "n1".into(),
            id: NodeId(1),
            client_address: "127.0.0.1:1".into(),
            peer_address: "127.0.0.1:2".into(),
            certificate_expiry: 9,
        }
    }

    fn member(id: u64) -> v1::Member {
        v1::Member { id, name: format!("n{id}"), ..v1::Member::default() }
    }

    fn summary() -> Summary {
        Summary {
            ready: true,
            role: Role::Follower,
            leader: Some(NodeId(2)),
            commit: 10,
            applied: 9,
            members: vec![member(3), member(1), member(2)],
            voters: vec![NodeId(1), NodeId(2), NodeId(3)],
            ..Summary::default()
        }
    }

    fn peer(id: u64, said: v1::NodeStatus) -> PeerView {
        PeerView {
            node: NodeId(id),
            name: format!("n{id}"),
            connected: true,
            rtt_us: 200,
            status: Some(said),
            silent_ms: 5,
        }
    }

    fn said(role: Role, lag: u64) -> v1::NodeStatus {
        let member = Some(v1::Member { client_address: "c:1".into(), ..member(0) });
        let state = "serving".to_owned();
        v1::NodeStatus { member, role: role.into(), state, applied: 9, lag, ..Default::default() }
    }

    #[test]
    fn nodes_come_by_name_with_what_is_known_of_each() {
        let peers = [peer(2, said(Role::Candidate, 0)), peer(3, said(Role::Leader, 5_000))];
        let nodes = nodes(&identity(), &summary(), &peers);
        let names: Vec<&str> = nodes.iter().map(name).collect();
        assert_eq!(names, ["n1", "n2", "n3"]);
        assert_eq!((nodes[0].role(), nodes[0].lag, nodes[0].rtt_us), (Role::Follower, 1, 0));
        assert_eq!((nodes[1].role(), nodes[1].state.as_str()), (Role::Leader, "serving"));
        assert_eq!((nodes[2].role(), nodes[2].state.as_str()), (Role::Follower, "slow"));
        assert_eq!(nodes[2].member.as_ref().unwrap().client_address, "c:1");
    }

    #[test]
    fn addresses_that_were_not_published_yet_come_from_the_node_itself() {
        let said = said(Role::Follower, 0);
        assert_eq!(with_addresses(member(2), Some(&said)).client_address, "c:1");
        assert_eq!(with_addresses(member(2), None), member(2));
        let published = v1::Member { client_address: "p:1".into(), ..member(2) };
        assert_eq!(with_addresses(published.clone(), Some(&said)), published);
        let silent = v1::NodeStatus { member: Some(member(2)), ..v1::NodeStatus::default() };
        let added = v1::Member { peer_address: "p:2".into(), ..member(2) };
        assert_eq!(with_addresses(added.clone(), Some(&silent)), added);
    }

    #[test]
    fn the_leader_knows_the_lag_of_its_followers() {
        let summary = Summary { lag: vec![(NodeId(2), 7)], leader: Some(NodeId(1)), ..summary() };
        let nodes = nodes(&identity(), &summary, &[peer(2, said(Role::Follower, 9_999))]);
        assert_eq!((nodes[1].lag, nodes[1].state.as_str()), (7, "serving"));
    }

    #[test]
    fn what_a_node_says_of_convergence_is_shown_while_it_is_heard() {
        let gossip = crate::node::GossipSummary { unreplicated: 3, ..Default::default() };
        let own = Summary { gossip: Some(gossip), ..summary() };
        let mut said = said(Role::Follower, 0);
        said.convergence =
            Some(v1::Convergence { unreplicated_writes: 7, ..v1::Convergence::default() });
        let gone = PeerView { connected: false, ..peer(3, said.clone()) };
        let nodes = nodes(&identity(), &own, &[peer(2, said), gone]);
        let writes = |at: usize| {
            let convergence: Option<&v1::Convergence> = nodes[at].convergence.as_ref();
            convergence.map(|said| said.unreplicated_writes)
        };
        assert_eq!([writes(0), writes(1), writes(2)], [Some(3), Some(7), None]);
    }

    #[test]
    fn silence_and_broken_links_are_unreachable() {
        let silent = PeerView { silent_ms: 60_000, ..peer(2, said(Role::Follower, 0)) };
        let broken = PeerView { connected: false, ..peer(3, said(Role::Follower, 0)) };
        let nodes = nodes(&identity(), &summary(), &[silent, broken]);
        assert_eq!(nodes[1].state, "unreachable");
        assert_eq!((nodes[2].state.as_str(), nodes[2].role()), ("unreachable", Role::Unspecified));
    }
}
