//! How far the eventual keyspaces agree, for `kv cluster status`.

use std::io;
use std::time::Duration;

use proto::v1;
use serde::Serialize;

use super::put::nameless;
use crate::cli::output::{grouped, one_line, size, table, time};
use crate::cli::run::Run;

/// A node that lacks what another took for longer is noted: exchanges come every second.
const LAG_NOTED_MS: u64 = 10_000;
/// So many certificates that wait for a node are noted.
const BLOCKED_NOTED: u64 = 1_000;

/// What one node says of itself.
#[derive(Serialize)]
pub(super) struct ConvergenceJson {
    recovering: bool,
    unreplicated_writes: u64,
    /// The largest of all peers.
    lag_ms: u64,
    certificates: u64,
    actors: u64,
    holes: u64,
    conflicts: u64,
    flagged_sessions: u64,
    keys_differing: u64,
    bytes: BytesJson,
    peers: Vec<PeerJson>,
}

/// What one node says of another.
#[derive(Serialize)]
struct PeerJson {
    name: String,
    /// By liveness, which decides nothing.
    seems: &'static str,
    linked: bool,
    /// Null until clocks were compared.
    compared: Option<ComparedJson>,
    level_ms: Option<u64>,
    blocked_certificates: u64,
    lag_ms: u64,
    /// Null while it does not answer.
    offset_us: Option<i64>,
    round_trip_us: Option<u64>,
    flagged_sessions: u64,
    bytes: BytesJson,
}

#[derive(Serialize)]
struct ComparedJson {
    ago_ms: u64,
    lacked_here: u64,
    lacked_there: u64,
    roots_agree: bool,
}

#[derive(Serialize)]
struct BytesJson {
    sessions_sent: u64,
    sessions_received: u64,
    rumors_sent: u64,
    rumors_received: u64,
}

impl ConvergenceJson {
    pub(super) fn new(said: &v1::Convergence, nodes: &[v1::NodeStatus]) -> Self {
        Self {
            recovering: said.recovering,
            unreplicated_writes: said.unreplicated_writes,
            lag_ms: said.peers.iter().map(|peer| peer.lag_ms).max().unwrap_or(0),
            certificates: said.certificates,
            actors: said.actors,
            holes: said.holes,
            conflicts: said.conflicts,
            flagged_sessions: said.flagged_sessions,
            keys_differing: said.keys_differing,
            bytes: BytesJson::new(said.traffic.as_ref()),
            peers: said.peers.iter().map(|peer| PeerJson::new(peer, nodes)).collect(),
        }
    }
}

impl PeerJson {
    fn new(said: &v1::PeerConvergence, nodes: &[v1::NodeStatus]) -> Self {
        Self {
            name: name_of(said.node, nodes),
            seems: match said.vitality() {
                v1::Vitality::Unspecified => "unknown",
                v1::Vitality::Up => "up",
                v1::Vitality::Suspect => "suspect",
                v1::Vitality::Down => "down",
            },
            linked: said.linked,
            compared: said.compared.as_ref().map(|compared| ComparedJson {
                ago_ms: compared.ago_ms,
                lacked_here: compared.lacked_here,
                lacked_there: compared.lacked_there,
                roots_agree: compared.roots_agree,
            }),
            level_ms: said.level_ms,
            blocked_certificates: said.blocked_certificates,
            lag_ms: said.lag_ms,
            offset_us: said.offset_us,
            round_trip_us: said.round_trip_us,
            flagged_sessions: said.flagged_sessions,
            bytes: BytesJson::new(said.traffic.as_ref()),
        }
    }
}

impl BytesJson {
    fn new(said: Option<&v1::Traffic>) -> Self {
        let said = said.copied().unwrap_or_default();
        Self {
            sessions_sent: said.sessions_sent,
            sessions_received: said.sessions_received,
            rumors_sent: said.rumors_sent,
            rumors_received: said.rumors_received,
        }
    }

    fn sent(&self) -> u64 {
        self.sessions_sent.saturating_add(self.rumors_sent)
    }

    fn received(&self) -> u64 {
        self.sessions_received.saturating_add(self.rumors_received)
    }
}

fn name_of(node: u64, nodes: &[v1::NodeStatus]) -> String {
    let mut members = nodes.iter().filter_map(|node| node.member.as_ref());
    let known = members.find(|member| member.id == node);
    known.map_or_else(|| nameless(node), |member| member.name.clone())
}

/// What somebody should know of it.
pub(super) fn notes<'a>(
    nodes: impl Iterator<Item = (&'a str, &'a ConvergenceJson)>,
) -> Vec<String> {
    let mut notes = Vec::new();
    for (name, said) in nodes {
        let behind = said.peers.iter().filter(|peer| peer.lag_ms >= LAG_NOTED_MS);
        let behind: Vec<&str> = behind.map(|peer| peer.name.as_str()).collect();
        if said.unreplicated_writes > 0 && !behind.is_empty() {
            let writes = grouped(said.unreplicated_writes);
            notes.push(format!("{name} took {writes} writes that no other node is known to have"));
        } else if !behind.is_empty() {
            let lag = time(Duration::from_millis(said.lag_ms));
            let behind = behind.join(" ");
            notes.push(format!("{behind} lacks writes that {name} took up to {lag} ago"));
        }
        for peer in &said.peers {
            if peer.blocked_certificates >= BLOCKED_NOTED {
                let (count, peer) = (grouped(peer.blocked_certificates), &peer.name);
                notes.push(format!("{name} keeps {count} deletes in mind until {peer} has them"));
            }
        }
    }
    notes
}

/// Two tables: the nodes, and what each says of the others.
pub(super) fn print(
    nodes: &[(&str, &ConvergenceJson)],
    run: &mut Run<'_>,
) -> Result<(), io::Error> {
    if nodes.is_empty() {
        return writeln!(run.out(), "\nno node serves eventual keyspaces");
    }
    let header =
        ["EVENTUAL", "STATE", "UNREPLICATED", "LAG", "DELETES", "CONFLICTS", "HOLES", "FLAGGED"];
    let own = table(&header, nodes.iter().map(|(name, said)| own_row(name, said)));
    let header = [
        "OF",
        "BY",
        "SEEMS",
        "COMPARED",
        "LACKED",
        "BY LACKED",
        "VALUES",
        "LAG",
        "OFFSET",
        "BLOCKS",
        "SENT",
        "RECEIVED",
    ];
    let pairs = nodes.iter().flat_map(|(name, said)| said.peers.iter().map(move |p| (*name, p)));
    let peers = table(&header, pairs.map(|(name, peer)| peer_row(name, peer)));
    write!(run.out(), "\n{own}\n{peers}")
}

fn own_row(name: &str, said: &ConvergenceJson) -> [String; 8] {
    let state = if said.recovering { "recovering" } else { "serving" };
    [
        one_line(name).into_owned(),
        state.to_owned(),
        grouped(said.unreplicated_writes),
        time(Duration::from_millis(said.lag_ms)),
        grouped(said.certificates),
        grouped(said.conflicts),
        grouped(said.holes),
        grouped(said.flagged_sessions),
    ]
}

fn peer_row(by: &str, peer: &PeerJson) -> [String; 12] {
    let none = || "-".to_owned();
    let compared = peer.compared.as_ref();
    let values = |compared: &ComparedJson| {
        let word = if compared.roots_agree { "equal" } else { "differ" };
        word.to_owned()
    };
    [
        one_line(&peer.name).into_owned(),
        one_line(by).into_owned(),
        peer.seems.to_owned(),
        compared.map_or_else(none, |at| format!("{} ago", time(Duration::from_millis(at.ago_ms)))),
        compared.map_or_else(none, |at| grouped(at.lacked_there)),
        compared.map_or_else(none, |at| grouped(at.lacked_here)),
        compared.map_or_else(none, values),
        time(Duration::from_millis(peer.lag_ms)),
        peer.offset_us.map_or_else(none, offset),
        grouped(peer.blocked_certificates),
        size(peer.bytes.sent()),
        size(peer.bytes.received()),
    ]
}

/// By how much a clock is ahead, or behind: `+0.3 ms`, `-2.5 s`.
fn offset(offset_us: i64) -> String {
    let sign = if offset_us < 0 { '-' } else { '+' };
    format!("{sign}{}", time(Duration::from_micros(offset_us.unsigned_abs())))
}
