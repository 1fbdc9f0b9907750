//! `kv cluster members`, `add`, `promote`, `remove`, `move-leader`.

use proto::{NodeId, v1};
use serde::Serialize;

use crate::cli::args::AddArgs;
use crate::cli::errors::CliError;
use crate::cli::output::{Form, SCHEMA, grouped, json_line, json_row, one_line, table};
use crate::cli::run::Run;
use crate::error::ClientError;

/// What shows the outcome of a change.
const LOOK: &str = "kv cluster members";

#[derive(Serialize)]
struct MembersJson {
    schema: u32,
    voters: u32,
    quorum: u32,
    /// The change that is being carried out.
    #[serde(skip_serializing_if = "String::is_empty")]
    change: String,
    members: Vec<MemberJson>,
}

#[derive(Serialize)]
struct MemberJson {
    name: String,
    id: String,
    role: String,
    leader: bool,
    promote: bool,
    state: String,
    lag: u64,
    client_address: String,
    peer_address: String,
}

#[derive(Serialize)]
struct ChangeJson<'a> {
    schema: u32,
    change: &'static str,
    name: &'a str,
    dry_run: bool,
    voters_before: u32,
    quorum_before: u32,
    voters_after: u32,
    quorum_after: u32,
    warnings: &'a [String],
}

#[derive(Serialize)]
struct LeaderJson<'a> {
    schema: u32,
    leader: &'a str,
}

/// A change in words.
struct Words {
    /// For JSON.
    change: &'static str,
    done: &'static str,
    would: &'static str,
}

const ADD: Words = Words { change: "add", done: "added", would: "would add" };
const PROMOTE: Words = Words { change: "promote", done: "promoted", would: "would promote" };
const REMOVE: Words = Words { change: "remove", done: "removed", would: "would remove" };

pub(super) async fn list(run: &mut Run<'_>) -> Result<(), CliError> {
    let reply = run.client()?.members().list(&run.options()).await?;
    let members = MembersJson {
        schema: SCHEMA,
        voters: reply.voters,
        quorum: reply.quorum,
        change: reply.change,
        members: reply.members.into_iter().map(MemberJson::new).collect(),
    };
    match run.form {
        Form::Json => json_line(run.out(), &members)?,
        Form::JsonLines => {
            for member in &members.members {
                json_row(run.out(), member)?;
            }
        }
        Form::Raw => {
            for member in &members.members {
                let MemberJson { name, role, state, lag, .. } = member;
                let MemberJson { client_address, peer_address, .. } = member;
                let leader = if member.leader { "leader" } else { "" };
                writeln!(
                    run.out(),
                    "{name}\t{role}\t{leader}\t{state}\t{lag}\t{client_address}\t{peer_address}"
                )?;
            }
        }
        Form::People => print(&members, run)?,
    }
    Ok(())
}

impl MemberJson {
    fn new(view: v1::MemberView) -> Self {
        let member = view.member.unwrap_or_default();
        Self {
            name: member.name,
            id: NodeId(member.id).to_string(),
            role: view.role,
            leader: view.leader,
            promote: view.promote,
            state: view.state,
            lag: view.lag,
            client_address: member.client_address,
            peer_address: member.peer_address,
        }
    }

    /// The role for people, with what is to become of it.
    fn role(&self) -> String {
        let more = match (self.leader, self.promote) {
            (true, _) => ", leader",
            (false, true) => ", to be a voter",
            (false, false) => "",
        };
        format!("{}{more}", one_line(&self.role))
    }
}

fn print(members: &MembersJson, run: &mut Run<'_>) -> Result<(), CliError> {
    let header = ["NODE", "ROLE", "STATE", "LAG", "CLIENT", "PEER"];
    let text = |text: &str| match text {
        "" => "-".to_owned(),
        text => one_line(text).into_owned(),
    };
    let rows = members.members.iter().map(|member| {
        [
            text(&member.name),
            member.role(),
            text(&member.state),
            grouped(member.lag),
            text(&member.client_address),
            text(&member.peer_address),
        ]
    });
    let table = table(&header, rows);
    run.out().write_all(table.as_bytes())?;
    let MembersJson { voters, quorum, .. } = members;
    writeln!(run.out(), "quorum {quorum} of {voters} voters")?;
    if !members.change.is_empty() {
        let note = format!("{} {}", run.paint.warning("note:"), one_line(&members.change));
        writeln!(run.out(), "{note}")?;
    }
    Ok(())
}

pub(super) async fn add(args: AddArgs, run: &mut Run<'_>) -> Result<(), CliError> {
    let AddArgs { member: (name, address), learner, dry_run } = args;
    let members = run.client()?.members();
    let options = run.options();
    let sent = members.add(&name, &address, learner, dry_run, &options);
    let added = run.change(format!("addition of {name}"), LOOK, sent).await;
    let reply = added.map_err(change_error)?;
    report(&ADD, &name, dry_run, &reply, run)?;
    if !dry_run {
        let then = match learner {
            true => "it stays a learner until `kv cluster promote`",
            false => "it becomes a voter once it has caught up",
        };
        run.note(&format!("start {name} with `join`; {then}"));
    }
    Ok(())
}

pub(super) async fn promote(name: &str, dry_run: bool, run: &mut Run<'_>) -> Result<(), CliError> {
    let (members, options) = (run.client()?.members(), run.options());
    let sent = members.promote(name, dry_run, &options);
    let promoted = run.change(format!("promotion of {name}"), LOOK, sent).await;
    report(&PROMOTE, name, dry_run, &promoted.map_err(change_error)?, run)
}

pub(super) async fn remove(
    name: &str,
    lose_unseen: bool,
    dry_run: bool,
    run: &mut Run<'_>,
) -> Result<(), CliError> {
    let members = run.client()?.members();
    let options = run.options();
    let send = async |dry_run| match lose_unseen {
        true => members.remove_losing(name, dry_run, &options).await,
        false => members.remove(name, dry_run, &options).await,
    };
    if !dry_run {
        if run.would_ask() {
            // Whoever decides sees first what would happen.
            let plan = send(true).await?;
            run.note(&summary(&REMOVE, name, true, &plan));
            for warning in &plan.warnings {
                let label = run.paint_err.warning("warning:");
                run.note(&format!("{label} {}", one_line(warning)));
            }
        }
        run.confirm(&format!("removing member \"{name}\" for good"))?;
    }
    let removed = run.change(format!("removal of {name}"), LOOK, send(dry_run)).await;
    report(&REMOVE, name, dry_run, &removed.map_err(change_error)?, run)
}

pub(super) async fn move_leader(name: &str, run: &mut Run<'_>) -> Result<(), CliError> {
    let moved = run.client()?.members().move_leader(name, &run.options()).await;
    let leader = moved.map_err(change_error)?.leader;
    match run.form {
        Form::Json | Form::JsonLines => {
            json_line(run.out(), &LeaderJson { schema: SCHEMA, leader: &leader })?;
        }
        Form::People => writeln!(run.out(), "{} leads", one_line(&leader))?,
        Form::Raw => writeln!(run.out(), "{leader}")?,
    }
    Ok(())
}

fn change_error(error: ClientError) -> CliError {
    CliError::of_change(error, LOOK)
}

fn report(
    words: &Words,
    name: &str,
    dry_run: bool,
    reply: &v1::ChangeMemberReply,
    run: &mut Run<'_>,
) -> Result<(), CliError> {
    match run.form {
        Form::Json | Form::JsonLines => {
            let change = ChangeJson {
                schema: SCHEMA,
                change: words.change,
                name,
                dry_run,
                voters_before: reply.voters_before,
                quorum_before: reply.quorum_before,
                voters_after: reply.voters_after,
                quorum_after: reply.quorum_after,
                warnings: &reply.warnings,
            };
            json_line(run.out(), &change)?;
        }
        Form::People => {
            writeln!(run.out(), "{}", summary(words, name, dry_run, reply))?;
            for warning in &reply.warnings {
                let label = run.paint.warning("warning:");
                writeln!(run.out(), "{label} {}", one_line(warning))?;
            }
        }
        Form::Raw => {
            let v1::ChangeMemberReply { voters_before, voters_after, .. } = reply;
            let v1::ChangeMemberReply { quorum_before, quorum_after, .. } = reply;
            writeln!(run.out(), "voters\t{voters_before}\t{voters_after}")?;
            writeln!(run.out(), "quorum\t{quorum_before}\t{quorum_after}")?;
            for warning in &reply.warnings {
                writeln!(run.out(), "warning\t{}", one_line(warning))?;
            }
        }
    }
    Ok(())
}

/// One line on a change: `would remove n3  voters 3 -> 2  quorum 2 -> 2`.
fn summary(words: &Words, name: &str, dry_run: bool, reply: &v1::ChangeMemberReply) -> String {
    let verb = if dry_run { words.would } else { words.done };
    let v1::ChangeMemberReply { voters_before, voters_after, .. } = reply;
    let v1::ChangeMemberReply { quorum_before, quorum_after, .. } = reply;
    format!(
        "{verb} {name}  voters {voters_before} -> {voters_after}  \
         quorum {quorum_before} -> {quorum_after}"
    )
}
