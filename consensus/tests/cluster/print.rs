//! How scripts show messages, writes and entries.

use consensus::{GroupStatus, Persist, Role};
use prost::Message as _;
use proto::log::conf_change_step::Kind;
use proto::log::{ConfChange, ConfState, Entry, EntryKind};
use proto::peer::{RaftKind, RaftMessage};

/// Longest data shown in full.
const DATA_SHOWN_BYTES: usize = 16;

pub fn role(role: Role) -> &'static str {
    match role {
        Role::Follower => "follower",
        Role::PreCandidate => "pre-candidate",
        Role::Candidate => "candidate",
        Role::Leader => "leader",
    }
}

pub fn entry(entry: &Entry) -> String {
    let place = format!("{}@{}", entry.index, entry.term);
    if entry.kind() == EntryKind::ConfChange {
        return format!("{place} {}", change(&entry.data));
    }
    match entry.data.len() {
        0 => format!("{place} no-op"),
        bytes if bytes > DATA_SHOWN_BYTES => format!("{place} {bytes} bytes"),
        _ => format!("{place} {}", String::from_utf8_lossy(&entry.data)),
    }
}

fn change(data: &[u8]) -> String {
    if data.is_empty() {
        return "leave".to_owned();
    }
    let change = ConfChange::decode(data).unwrap();
    let steps = change.steps.iter().map(|step| match step.kind() {
        Kind::AddVoter => format!("v{}", step.node),
        Kind::AddLearner => format!("l{}", step.node),
        Kind::Remove => format!("r{}", step.node),
        Kind::Unspecified => format!("?{}", step.node),
    });
    format!("change #{} {}", change.change, steps.collect::<Vec<_>>().join(" "))
}

pub fn members(conf: &ConfState) -> String {
    let mut line = format!("voters={:?}", conf.voters);
    for (name, list) in [
        ("outgoing", &conf.voters_outgoing),
        ("learners", &conf.learners),
        ("learners_next", &conf.learners_next),
    ] {
        if !list.is_empty() {
            line += &format!(" {name}={list:?}");
        }
    }
    line
}

pub fn entries(entries: &[Entry]) -> String {
    format!("[{}]", entries.iter().map(entry).collect::<Vec<_>>().join(", "))
}

pub fn persist(persist: &Persist) -> String {
    let mut line = format!("#{}", persist.ready);
    if !persist.entries.is_empty() {
        line += &format!(" {}", entries(&persist.entries));
    }
    if let Some(state) = &persist.hard_state {
        line += &format!(" term={} vote={} commit={}", state.term, state.vote, state.commit);
    }
    if !persist.must_sync {
        line += " (no sync)";
    }
    line
}

pub fn kind(message: &RaftMessage) -> &'static str {
    match (RaftKind::try_from(message.kind).unwrap(), message.reject) {
        (RaftKind::Append, _) => "append",
        (RaftKind::AppendResponse, false) => "append-ok",
        (RaftKind::AppendResponse, true) => "append-no",
        (RaftKind::Heartbeat, _) => "heartbeat",
        (RaftKind::HeartbeatResponse, _) => "heartbeat-ok",
        (RaftKind::Vote, _) => "vote",
        (RaftKind::VoteResponse, false) => "vote-ok",
        (RaftKind::VoteResponse, true) => "vote-no",
        (RaftKind::PreVote, _) => "prevote",
        (RaftKind::PreVoteResponse, false) => "prevote-ok",
        (RaftKind::PreVoteResponse, true) => "prevote-no",
        (RaftKind::TimeoutNow, _) => "timeout-now",
        (RaftKind::Snapshot, _) => "snapshot",
        (RaftKind::Unspecified, _) => "unspecified",
    }
}

pub fn message(message: &RaftMessage) -> String {
    let mut line = format!("{} term={}", kind(message), message.term);
    let place = format!("{}@{}", message.index, message.log_term);
    match RaftKind::try_from(message.kind).unwrap() {
        RaftKind::Append => {
            line += &format!(" prev={place} commit={}", message.commit);
            line += &format!(" {}", entries(&message.entries));
        }
        RaftKind::AppendResponse => {
            line += &format!(" index={} commit={}", message.index, message.commit);
            if message.reject {
                line += &format!(" hint={}@{}", message.reject_hint, message.log_term);
            }
        }
        RaftKind::Heartbeat | RaftKind::HeartbeatResponse => {
            line += &format!(" commit={}", message.commit);
            if let Some((_, number)) = message.context.split_last_chunk::<8>() {
                line += &format!(" read={}", u64::from_be_bytes(*number));
            }
        }
        RaftKind::Vote | RaftKind::PreVote => {
            line += &format!(" last={place} commit={}@{}", message.commit, message.commit_term);
            if !message.context.is_empty() {
                line += &format!(" {}", String::from_utf8_lossy(&message.context));
            }
        }
        RaftKind::VoteResponse
        | RaftKind::PreVoteResponse
        | RaftKind::TimeoutNow
        | RaftKind::Unspecified => {}
        RaftKind::Snapshot => {
            let header = message.snapshot.as_ref().unwrap();
            let conf = header.conf_state.as_ref().unwrap();
            line += &format!(" at={}@{} {}", header.index, header.term, members(conf));
        }
    }
    line
}

pub fn status(id: u64, status: &GroupStatus) -> String {
    let mut line = format!("n{id} is {} in term {}", role(status.role), status.term);
    match status.leader {
        Some(leader) => line += &format!(" under n{leader}"),
        None => line += " without leader",
    }
    line += &format!(
        ", commit={} applied={} last={}",
        status.commit, status.applied, status.last_index
    );
    for (flag, text) in
        [(status.ready_for_reads, "ready for reads"), (status.majority_active, "majority active")]
    {
        if flag {
            line += &format!(", {text}");
        }
    }
    if let Some(to) = status.transferring_to {
        line += &format!(", handing over to n{to}");
    }
    for peer in &status.peers {
        let active = if peer.active { "active" } else { "silent" };
        line += &format!("; n{} matched={} {active}", peer.node, peer.matched);
        if let Some(index) = peer.snapshot {
            line += &format!(" offered={index}");
        }
    }
    line
}

/// What a status says of members and their changes.
pub fn membership(id: u64, conf: &ConfState, change: u64, status: &GroupStatus) -> String {
    let mut line = format!("n{id} knows {} change={change}", members(conf));
    for (flag, text) in [(status.joint, "joint"), (status.conf_pending, "pending")] {
        if flag {
            line += &format!(", {text}");
        }
    }
    let ids = |nodes: &[proto::NodeId]| nodes.iter().map(|id| id.get()).collect::<Vec<_>>();
    line += &format!(", active={:?}", ids(&status.active_voters));
    line + &format!(", caught up={:?}", ids(&status.learners_caught_up))
}
