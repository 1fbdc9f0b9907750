//! `kv cluster status`; the other commands on the cluster are in `members`.

use std::time::{Duration, SystemTime};

use proto::{Hex, NodeId, v1};
use serde::Serialize;
use tokio::time::MissedTickBehavior;

use super::cert::time_left;
use super::convergence::{self, ConvergenceJson};
use super::members;
use crate::cli::args::ClusterCommand;
use crate::cli::errors::CliError;
use crate::cli::output::{Form, SCHEMA, grouped, json_line, json_row, one_line, size, table, time};
use crate::cli::run::Run;

/// Entries behind the leader from which on a note is due: fewer are on their way at any time.
const LAG_NOTED: u64 = 16;
/// A certificate that ends sooner is noted.
const CERTIFICATE_NOTED_SECONDS: i64 = 14 * 24 * 60 * 60;
/// The state of a node that is well.
const SERVING: &str = "serving";
/// Exit code of what may pass by itself.
const EXIT_UNAVAILABLE: u8 = 5;
/// Moves to the upper left corner and clears a terminal.
const CLEAR_SCREEN: &[u8] = b"\x1b[H\x1b[2J";

#[derive(Serialize)]
struct StatusJson {
    schema: u32,
    cluster: String,
    cluster_id: String,
    /// The node that answered.
    node: String,
    rev: u64,
    voters: u32,
    reachable: u32,
    quorum: u32,
    verdict: Verdict,
    nodes: Vec<NodeJson>,
    notes: Vec<String>,
}

#[derive(Serialize)]
struct NodeJson {
    name: String,
    id: String,
    role: &'static str,
    state: String,
    term: u64,
    applied: u64,
    lag: u64,
    rtt_us: u64,
    db_bytes: u64,
    certificate_expiry: u64,
    version: String,
    silent_ms: u64,
    client_address: String,
    peer_address: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    convergence: Option<ConvergenceJson>,
}

pub(super) async fn cluster(command: ClusterCommand, run: &mut Run<'_>) -> Result<(), CliError> {
    match command {
        ClusterCommand::Status { watch: None } => {
            let client = run.client()?;
            let reply = client.status(&run.options()).await?;
            let verdict = show(&reply, run)?;
            if verdict.serves() { Ok(()) } else { Err(CliError::Status(EXIT_UNAVAILABLE)) }
        }
        ClusterCommand::Status { watch: Some(every) } => watch(every, run).await,
        ClusterCommand::Members => members::list(run).await,
        ClusterCommand::Add(args) => members::add(args, run).await,
        ClusterCommand::Promote { name, dry_run } => members::promote(&name, dry_run, run).await,
        ClusterCommand::Remove { name, lose_unseen, dry_run } => {
            members::remove(&name, lose_unseen, dry_run, run).await
        }
        ClusterCommand::MoveLeader { name } => members::move_leader(&name, run).await,
    }
}

/// Shows the status again and again, until it is interrupted or nobody reads on. That the cluster does
/// not answer for a while ends nothing.
async fn watch(every: Duration, run: &mut Run<'_>) -> Result<(), CliError> {
    let client = run.client()?;
    let mut moments = tokio::time::interval(every);
    moments.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        moments.tick().await;
        match client.status(&run.options()).await {
            Ok(reply) => {
                if run.form == Form::People && run.terminal.stdout_is_tty {
                    run.out().write_all(CLEAR_SCREEN)?;
                }
                show(&reply, run)?;
                run.out().flush()?;
            }
            Err(error) => {
                let error = CliError::from(error);
                if error.exit() != EXIT_UNAVAILABLE {
                    return Err(error);
                }
                run.complain(&error);
            }
        }
    }
}

fn show(reply: &v1::StatusReply, run: &mut Run<'_>) -> Result<Verdict, CliError> {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let now = i64::try_from(now.as_secs()).unwrap_or(i64::MAX);
    let status = StatusJson::new(reply, now);
    match run.form {
        Form::Json => json_line(run.out(), &status)?,
        Form::JsonLines | Form::Raw => {
            for node in &status.nodes {
                json_row(run.out(), node)?;
            }
        }
        Form::People => print(&status, now, run)?,
    }
    Ok(status.verdict)
}

impl StatusJson {
    fn new(reply: &v1::StatusReply, now: i64) -> Self {
        let quorum = reply.voters / 2 + 1;
        let nodes: Vec<NodeJson> =
            reply.nodes.iter().map(|node| NodeJson::new(node, &reply.nodes)).collect();
        Self {
            schema: SCHEMA,
            cluster: reply.cluster_name.clone(),
            cluster_id: Hex(&reply.cluster_id).to_string(),
            node: reply.node.clone(),
            rev: reply.revision,
            voters: reply.voters,
            reachable: reply.reachable,
            quorum,
            verdict: Verdict::of(reply, quorum, &nodes),
            notes: notes(reply, &nodes, now),
            nodes,
        }
    }
}

impl NodeJson {
    fn new(node: &v1::NodeStatus, all: &[v1::NodeStatus]) -> Self {
        let member = node.member.clone().unwrap_or_default();
        Self {
            name: member.name,
            id: NodeId(member.id).to_string(),
            role: match node.role() {
                v1::Role::Leader => "leader",
                v1::Role::Follower => "follower",
                v1::Role::Candidate => "candidate",
                v1::Role::Learner => "learner",
                v1::Role::Unspecified => "-",
            },
            state: node.state.clone(),
            term: node.term,
            applied: node.applied,
            lag: node.lag,
            rtt_us: node.rtt_us,
            db_bytes: node.db_bytes,
            certificate_expiry: node.certificate_expiry,
            version: node.version.clone(),
            silent_ms: node.silent_ms,
            client_address: member.client_address,
            peer_address: member.peer_address,
            convergence: node.convergence.as_ref().map(|said| ConvergenceJson::new(said, all)),
        }
    }

    fn is_reachable(&self) -> bool {
        self.state != "unreachable"
    }
}

/// The cluster in a word or two; the texts are part of the JSON.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
enum Verdict {
    #[serde(rename = "healthy")]
    Healthy,
    /// It serves, but a node is missing or not well.
    #[serde(rename = "degraded")]
    Degraded,
    #[serde(rename = "no leader")]
    NoLeader,
    #[serde(rename = "NO QUORUM")]
    NoQuorum,
}

impl Verdict {
    fn of(reply: &v1::StatusReply, quorum: u32, nodes: &[NodeJson]) -> Self {
        if reply.reachable < quorum {
            Self::NoQuorum
        } else if nodes.iter().all(|node| node.role != "leader") {
            Self::NoLeader
        } else if reply.reachable >= reply.voters && nodes.iter().all(|node| node.state == SERVING)
        {
            Self::Healthy
        } else {
            Self::Degraded
        }
    }

    /// Whether writes are possible now.
    fn serves(self) -> bool {
        matches!(self, Self::Healthy | Self::Degraded)
    }
}

/// The verdict for people, with the nodes that are not well.
fn sentence(status: &StatusJson) -> String {
    let wrong = status.nodes.iter().filter(|node| node.state != SERVING);
    let wrong: Vec<String> = wrong.map(|node| format!("{} {}", node.name, node.state)).collect();
    match status.verdict {
        Verdict::Healthy => "healthy".to_owned(),
        Verdict::Degraded if wrong.is_empty() => "degraded".to_owned(),
        Verdict::Degraded => format!("degraded: {}", wrong.join(", ")),
        Verdict::NoLeader => "no leader".to_owned(),
        Verdict::NoQuorum => "NO QUORUM".to_owned(),
    }
}

fn notes(reply: &v1::StatusReply, nodes: &[NodeJson], now: i64) -> Vec<String> {
    let mut notes = Vec::new();
    for node in nodes {
        let name = &node.name;
        if !node.is_reachable() {
            let silent = time(Duration::from_millis(node.silent_ms));
            notes.push(format!("{name} was not heard by {} for {silent}", reply.node));
        } else if node.lag >= LAG_NOTED {
            let lag = grouped(node.lag);
            notes.push(format!(
                "{name} is {lag} entries behind; reads there at level \"eventual\" are that old"
            ));
        }
    }
    notes.extend(convergence::notes(converging(nodes)));
    notes.extend(certificate_note(nodes, now));
    let alone = reply.voters / 2 + 1;
    if reply.reachable == alone && reply.voters > 1 && reply.reachable < reply.voters {
        notes.push("one more node lost stops all writes".to_owned());
    }
    notes
}

/// The nodes that serve eventual keyspaces.
fn converging(nodes: &[NodeJson]) -> impl Iterator<Item = (&str, &ConvergenceJson)> {
    nodes.iter().filter_map(|node| Some((node.name.as_str(), node.convergence.as_ref()?)))
}

/// One note on all certificates that end soon, with the first end.
fn certificate_note(nodes: &[NodeJson], now: i64) -> Option<String> {
    let expiry = |node: &NodeJson| i64::try_from(node.certificate_expiry).unwrap_or(i64::MAX);
    let ends_soon = |node: &&NodeJson| {
        expiry(node) > 0 && expiry(node).saturating_sub(now) < CERTIFICATE_NOTED_SECONDS
    };
    let soon: Vec<&NodeJson> = nodes.iter().filter(ends_soon).collect();
    let first = soon.iter().map(|node| expiry(node)).min()?;
    let names: Vec<&str> = soon.iter().map(|node| node.name.as_str()).collect();
    Some(match time_left(first, now).as_str() {
        "expired" => format!("a certificate is expired; look at {}", names.join(" ")),
        left => format!("the first certificate of {} ends in {left}", names.join(" ")),
    })
}

fn print(status: &StatusJson, now: i64, run: &mut Run<'_>) -> Result<(), CliError> {
    let text = sentence(status);
    let text = one_line(&text);
    let verdict = match status.verdict {
        Verdict::Healthy => run.paint.good(&text),
        Verdict::NoQuorum => run.paint.error(&text),
        Verdict::Degraded | Verdict::NoLeader => run.paint.warning(&text),
    };
    let StatusJson { cluster, quorum, voters, .. } = status;
    let (cluster, revision) = (one_line(cluster), grouped(status.rev));
    let line =
        format!("CLUSTER {cluster}  revision {revision}  quorum {quorum} of {voters}  {verdict}");
    writeln!(run.out(), "{line}")?;
    let header = ["NODE", "ROLE", "STATE", "TERM", "APPLIED", "LAG", "RTT", "DB", "CERT"];
    let rows = status.nodes.iter().map(|node| row(node, now));
    run.out().write_all(table(&header, rows).as_bytes())?;
    if run.is_verbose() {
        let nodes: Vec<_> = converging(&status.nodes).collect();
        convergence::print(&nodes, run)?;
    }
    for note in &status.notes {
        let note = format!("{} {}", run.paint.warning("note:"), one_line(note));
        writeln!(run.out(), "{note}")?;
    }
    Ok(())
}

/// A row; of a node that is not reachable only what is known of it.
fn row(node: &NodeJson, now: i64) -> [String; 9] {
    let known = |text: String| if node.is_reachable() { text } else { "-".to_owned() };
    let expiry = i64::try_from(node.certificate_expiry).unwrap_or(i64::MAX);
    [
        one_line(&node.name).into_owned(),
        known(node.role.to_owned()),
        one_line(&node.state).into_owned(),
        known(node.term.to_string()),
        known(grouped(node.applied)),
        known(grouped(node.lag)),
        known(time(Duration::from_micros(node.rtt_us))),
        known(size(node.db_bytes)),
        if expiry == 0 { "-".to_owned() } else { time_left(expiry, now) },
    ]
}
