//! `kv node`.

use std::time::{Duration, Instant};

use proto::{Code, Failure, v1};
use serde::Serialize;

use crate::cli::args::NodeCommand;
use crate::cli::errors::CliError;
use crate::cli::output::{Form, SCHEMA, json_line, one_line, size, time};
use crate::cli::run::{Run, TimeLeft};
use crate::config::CallOptions;
use crate::node::NodeClient;

/// How long the cluster may take to say who belongs to it.
const MEMBERS: Duration = Duration::from_secs(1);
/// How long a compaction may take when nobody says otherwise.
const COMPACTION: Duration = Duration::from_secs(10 * 60);

#[derive(Serialize)]
struct PingJson<'a> {
    schema: u32,
    node: &'a str,
    state: &'a str,
    version: &'a str,
    uptime_ms: u64,
    took_us: u64,
}

#[derive(Serialize)]
struct LogLevelJson<'a> {
    schema: u32,
    node: &'a str,
    filter: &'a str,
}

#[derive(Serialize)]
struct CompactJson<'a> {
    schema: u32,
    node: &'a str,
    log_bytes_before: u64,
    log_bytes_after: u64,
    export_bytes: u64,
}

pub(super) async fn node(command: NodeCommand, run: &mut Run<'_>) -> Result<(), CliError> {
    match command {
        NodeCommand::Ping { name } => ping(&name, run).await,
        NodeCommand::LogLevel { name, set } => log_level(&name, set.as_deref(), run).await,
        NodeCommand::Compact { name } => compact(&name, run).await,
    }
}

/// Finds the client address of a node. A cluster that cannot say who belongs to it at the moment may
/// still know who did.
async fn find(name: &str, left: TimeLeft, run: &Run<'_>) -> Result<NodeClient, CliError> {
    let client = run.client()?;
    let first = CallOptions { timeout: Some(MEMBERS.min(left.get() / 2)), ..run.options() };
    let members: Vec<v1::Member> = match client.members().list(&first).await {
        Ok(reply) => reply.members.into_iter().filter_map(|view| view.member).collect(),
        Err(_) => client.hello(&left.options()).await?.members,
    };
    let Some(member) = members.iter().find(|member| member.name == name) else {
        let known: Vec<&str> = members.iter().map(|member| member.name.as_str()).collect();
        let why = format!("the members are: {}", known.join(", "));
        let failure = Failure::new(Code::MemberNotFound, format!("node {name:?}"), why);
        return Err(CliError::from(failure).hint("kv cluster members"));
    };
    if member.client_address.is_empty() {
        let why = "it has not started yet, so its client address is not known";
        let failure = Failure::new(Code::CannotConnect, format!("node {name:?}"), why);
        return Err(CliError::from(failure).hint("kv cluster members"));
    }
    Ok(client.node(&member.client_address)?)
}

async fn ping(name: &str, run: &mut Run<'_>) -> Result<(), CliError> {
    let left = run.time_left()?;
    let node = find(name, left, run).await?;
    let started = Instant::now();
    let reply = node.ping(name, &left.options()).await?;
    let took = started.elapsed();
    let v1::PingReply { node, version, state, uptime_ms } = &reply;
    match run.form {
        Form::Json | Form::JsonLines => {
            let took_us = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
            let uptime_ms = *uptime_ms;
            let ping = PingJson { schema: SCHEMA, node, state, version, uptime_ms, took_us };
            json_line(run.out(), &ping)?;
        }
        Form::People => {
            let up = humantime::format_duration(Duration::from_secs(uptime_ms / 1_000));
            let (node, state, version) = (one_line(node), one_line(state), one_line(version));
            let took = time(took);
            writeln!(run.out(), "{node}  {state}  {took}  up {up}  version {version}")?;
        }
        Form::Raw => writeln!(run.out(), "{node}\t{state}\t{uptime_ms}\t{version}")?,
    }
    Ok(())
}

async fn log_level(name: &str, set: Option<&str>, run: &mut Run<'_>) -> Result<(), CliError> {
    if set.is_some_and(|filter| filter.trim().is_empty()) {
        return Err(CliError::Usage("--set needs a filter such as info or kvstore=debug".into()));
    }
    let left = run.time_left()?;
    let node = find(name, left, run).await?;
    let reply = node.log_level(name, set, &left.options()).await?;
    let v1::LogLevelReply { node, filter } = &reply;
    match run.form {
        Form::Json | Form::JsonLines => {
            json_line(run.out(), &LogLevelJson { schema: SCHEMA, node, filter })?;
        }
        Form::People => {
            let (node, filter) = (one_line(node), one_line(filter));
            writeln!(run.out(), "{node}  {filter}")?;
        }
        Form::Raw => writeln!(run.out(), "{filter}")?,
    }
    Ok(())
}

async fn compact(name: &str, run: &mut Run<'_>) -> Result<(), CliError> {
    let left = TimeLeft::of(run.timeout_or(COMPACTION)?);
    // Who belongs to the cluster is not worth that long a wait.
    let node = find(name, run.time_left()?, run).await?;
    let reply = node.compact(name, &left.options()).await?;
    let v1::CompactReply { node, log_bytes_before, log_bytes_after, export_bytes } = reply;
    match run.form {
        Form::Json | Form::JsonLines => {
            let node = &node;
            let schema = SCHEMA;
            let compact =
                CompactJson { schema, node, log_bytes_before, log_bytes_after, export_bytes };
            json_line(run.out(), &compact)?;
        }
        Form::People => {
            let sizes = [log_bytes_before, log_bytes_after, export_bytes].map(size);
            let [before, after, export] = sizes;
            let node = one_line(&node);
            writeln!(run.out(), "{node}  log {before} -> {after}  export {export}")?;
        }
        Form::Raw => {
            writeln!(run.out(), "{node}\t{log_bytes_before}\t{log_bytes_after}\t{export_bytes}")?;
        }
    }
    Ok(())
}
