//! Scripts of single behaviours, one file each in `testscripts/`, with all messages, writes and
//! answers as expected output.
//!
//! Commands (nodes are numbers):
//!
//! - `cluster voters=3 [learners=1] [seed=1]`: a fresh cluster; comes first.
//! - `campaign 1`, `tick 1 [ticks]`, `propose 1 DATA`, `propose 1 bytes=N`, `read 1`,
//!   `transfer 1 to=2`, `unreachable 1 peer=2`: inputs of one node.
//! - `persist [1] [count=N]`: syncs what one node, or all, wrote, or only the N oldest writes.
//! - `deliver`, `drop`, `duplicate`, each with `[from=1] [to=2] [kind=append] [count=1]`: the
//!   selected messages among those on their way, oldest first.
//! - `wait TICKS`: time passes on all nodes, and nothing is delivered.
//! - `run`: syncs and delivers until nothing is left to do.
//! - `cut from=1 to=2`: that direction loses everything; `isolate 1`; `heal`.
//! - `crash 1 [keep=N]`: loses all unsynced writes but the first N; `restart 1 [applied=N]`.
//! - `wipe 1 [keep=N]`: a disk that forgot; without `keep` all of it, else only the log after N
//!   entries.
//! - `join 4`: a fresh node that knows no members.
//! - `change 1 v4 l5 r2 [number=N]`, `leave 1`: proposes a change of members (a voter, a learner,
//!   a removal), or to leave a joint configuration.
//! - `compact 1 to=N`, `free 1 to=N`: frees the log in memory, or on disk.
//! - `snapshot 1 [at=N]`: names the snapshot that may be offered, or none; `failed 1 to=2`.
//! - `status [1]`, `log [1]`, `acknowledged 1 index=N`, `members [1]`, `wanted 1`, `extent 1`: look
//!   without touching.

use std::error::Error;
use std::fmt::Display;
use std::path::Path;
use std::str::FromStr;

use bytes::Bytes;
use goldenscript::{ArgumentConsumer, Command, Context, Runner};
use proto::LogIndex;
use proto::log::conf_change_step::Kind;
use proto::log::{ConfChange, ConfChangeStep};

use crate::harness::{Cluster, Envelope};
use crate::history::check_logs;
use crate::print;

type Outcome<T> = Result<T, Box<dyn Error>>;

const DIRECTORY: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/testscripts");

macro_rules! scripts {
    ($($name:ident),* $(,)?) => {
        const NAMES: &[&str] = &[$(stringify!($name)),*];
        $(
            #[test]
            fn $name() {
                let path = Path::new(DIRECTORY).join(stringify!($name));
                goldenscript::run(&mut Script::default(), path).unwrap();
            }
        )*
    };
}

scripts! {
    append_conflict,
    b11_b38_install_twice,
    b20_removed_votes_do_not_count,
    b21_add_with_one_down,
    b31_removal_while_voters_are_silent,
    b34_one_add_one_remove,
    b34_two_adds,
    b34_two_removes,
    b35_one_to_three,
    b35_three_to_one,
    b36_leader_crashes_in_joint,
    b37_joint_with_one_side_down,
    b39_crash_after_install,
    b44_lost_log_tail,
    b48_transfer_interrupted,
    b49_one_way_partition,
    change_refused,
    check_quorum,
    commit_waits_for_persist,
    election,
    leader_removes_itself,
    learner_joins_and_is_promoted,
    log_full,
    lone_voter,
    lone_voter_with_learner,
    persist_in_order,
    pre_vote,
    read_index,
    read_lost_on_step_down,
    read_stale_echoes,
    read_waits_for_own_term,
    read_without_quorum,
    replication,
    restart_keeps_vote,
    snapshot_failed,
    snapshot_overtaken,
    snapshot_to_slow_follower,
    transfer,
}

#[test]
fn every_script_runs() {
    let files = std::fs::read_dir(DIRECTORY).unwrap();
    let mut found: Vec<String> =
        files.map(|file| file.unwrap().file_name().into_string().unwrap()).collect();
    found.sort();
    assert_eq!(found, NAMES);
}

#[derive(Default)]
struct Script {
    cluster: Option<Cluster>,
}

impl Script {
    fn cluster(&mut self) -> Outcome<&mut Cluster> {
        self.cluster.as_mut().ok_or_else(|| "the script begins with `cluster`".into())
    }

    fn inputs(&mut self, name: &str, args: &mut ArgumentConsumer) -> Outcome<bool> {
        let cluster = self.cluster()?;
        let node: u64 =
            if let "campaign" | "tick" | "propose" | "read" | "transfer" | "unreachable" = name {
                positional(args)?.ok_or("which node?")?
            } else {
                return Ok(false);
            };
        match name {
            "campaign" => cluster.campaign(node),
            "tick" => {
                for _ in 0..positional(args)?.unwrap_or(1) {
                    cluster.tick(node);
                }
            }
            "propose" => {
                let filler = key(args, "bytes")?.map(|bytes: usize| Bytes::from(vec![0; bytes]));
                let data = match filler {
                    Some(filler) => filler,
                    None => Bytes::from(args.next_pos().ok_or("which data?")?.to_owned()),
                };
                cluster.propose(node, data)?;
            }
            "read" => {
                cluster.read(node)?;
            }
            "transfer" => cluster.transfer(node, key(args, "to")?.ok_or("to whom?")?),
            "unreachable" => cluster.unreachable(node, key(args, "peer")?.ok_or("which peer?")?),
            _ => unreachable!("the names were listed above"),
        }
        Ok(true)
    }

    fn members(&mut self, name: &str, args: &mut ArgumentConsumer) -> Outcome<bool> {
        let cluster = self.cluster()?;
        let node: u64 = if let "join" | "change" | "leave" | "compact" | "free" | "snapshot"
        | "failed" = name
        {
            positional(args)?.ok_or("which node?")?
        } else {
            return Ok(false);
        };
        match name {
            "join" => cluster.join(node),
            "change" => {
                let change = key(args, "number")?.unwrap_or(0);
                let mut steps = Vec::new();
                while let Some(token) = args.next_pos() {
                    steps.push(step(token)?);
                }
                cluster.change(node, ConfChange { steps, change })?;
            }
            "leave" => {
                cluster.leave(node)?;
            }
            "compact" => cluster.compact(node, key(args, "to")?.ok_or("to where?")?),
            "free" => cluster.free(node, key(args, "to")?.ok_or("to where?")?),
            "snapshot" => cluster.snapshot(node, key(args, "at")?),
            "failed" => cluster.snapshot_failed(node, key(args, "to")?.ok_or("to whom?")?),
            _ => unreachable!("the names were listed above"),
        }
        Ok(true)
    }

    fn world(&mut self, name: &str, args: &mut ArgumentConsumer) -> Outcome<bool> {
        let cluster = self.cluster()?;
        match name {
            "persist" => {
                let count = key(args, "count")?.unwrap_or(usize::MAX);
                for node in one_or_all(cluster, args)? {
                    cluster.persist_first(node, count);
                }
            }
            "run" => cluster.settle(),
            "wait" => {
                for _ in 0..positional(args)?.ok_or("how long?")? {
                    for node in one_or_all(cluster, args)? {
                        cluster.tick(node);
                    }
                }
            }
            "deliver" => {
                for envelope in select(cluster, args, false)? {
                    // What was refused is shown.
                    let _ = cluster.deliver(envelope);
                }
            }
            "drop" => {
                select(cluster, args, false)?;
            }
            "duplicate" => {
                let copies = select(cluster, args, true)?;
                cluster.network.extend(copies);
            }
            "cut" => {
                let from = key(args, "from")?.ok_or("from where?")?;
                cluster.cuts.insert((from, key(args, "to")?.ok_or("to where?")?));
            }
            "isolate" => {
                let node = positional(args)?.ok_or("which node?")?;
                for other in cluster.ids() {
                    cluster.cuts.extend([(node, other), (other, node)]);
                }
            }
            "heal" => cluster.cuts.clear(),
            "crash" => {
                let node = positional(args)?.ok_or("which node?")?;
                cluster.crash(node, key(args, "keep")?.unwrap_or(0));
            }
            "restart" => {
                let node = positional(args)?.ok_or("which node?")?;
                cluster.restart(node, key(args, "applied")?.unwrap_or(0))?;
            }
            "wipe" => {
                let node = positional(args)?.ok_or("which node?")?;
                cluster.wipe(node, key(args, "keep")?);
            }
            _ => return Ok(false),
        }
        Ok(true)
    }

    fn look(&mut self, name: &str, args: &mut ArgumentConsumer) -> Outcome<bool> {
        let cluster = self.cluster()?;
        match name {
            "status" => {
                for node in one_or_all(cluster, args)? {
                    let status = cluster.group(node).status();
                    cluster.note(|| print::status(node, &status));
                }
            }
            "log" => {
                for node in one_or_all(cluster, args)? {
                    let log = cluster.members[&node].disk.log();
                    let after = match log.start {
                        0 => String::new(),
                        start => format!(" after {start}@{}", log.start_term),
                    };
                    cluster.note(|| format!("n{node} has {}{after}", print::entries(&log.entries)));
                }
            }
            "members" => {
                for node in one_or_all(cluster, args)? {
                    let group = cluster.group(node);
                    let (conf, change) = (group.conf_state(), group.applied_change());
                    let status = group.status();
                    cluster.note(|| print::membership(node, &conf, change, &status));
                }
            }
            "wanted" => {
                let node = positional(args)?.ok_or("which node?")?;
                let wanted = cluster.group(node).snapshot_wanted();
                cluster.note(|| match wanted {
                    Some(index) => format!("n{node} wants a snapshot at {index} or later"),
                    None => format!("n{node} wants no snapshot"),
                });
            }
            "extent" => {
                let node = positional(args)?.ok_or("which node?")?;
                let extent = cluster.group(node).log_extent();
                cluster.note(|| format!("n{node} holds [{}, {}]", extent.first, extent.last));
            }
            "acknowledged" => {
                let node = positional(args)?.ok_or("which node?")?;
                let index = LogIndex(key(args, "index")?.ok_or("which index?")?);
                let holders = cluster.group(node).acknowledged_by(index);
                let holders: Vec<String> = holders.iter().map(|id| format!("n{id}")).collect();
                cluster.note(|| format!("{index} is held by [{}]", holders.join(", ")));
            }
            _ => return Ok(false),
        }
        Ok(true)
    }

    fn create(&mut self, args: &mut ArgumentConsumer) -> Outcome<()> {
        let voters = key(args, "voters")?.ok_or("how many voters?")?;
        let learners = key(args, "learners")?.unwrap_or(0);
        let seed = key(args, "seed")?.unwrap_or(1);
        let cluster = self.cluster.insert(Cluster::new(voters, learners, seed));
        cluster.lines = Some(Vec::new());
        Ok(())
    }
}

impl Runner for Script {
    type Command = Command;

    fn run(&mut self, command: &Command, _: &Context) -> Outcome<String> {
        let mut args = command.consume_args();
        let name = command.name.as_str();
        if name == "cluster" {
            self.create(&mut args)?;
        } else {
            let known = self.inputs(name, &mut args)?
                || self.members(name, &mut args)?
                || self.world(name, &mut args)?
                || self.look(name, &mut args)?;
            if !known {
                return Err(format!("unknown command {name}").into());
            }
        }
        args.reject_next()?;
        let cluster = self.cluster()?;
        check_logs(cluster);
        let lines = cluster.lines.as_mut().ok_or("lines are recorded")?;
        Ok(std::mem::take(lines).iter().map(|line| format!("{line}\n")).collect())
    }
}

/// `v4`: a voter; `l4`: a learner; `r4`: a removal.
fn step(token: &str) -> Outcome<ConfChangeStep> {
    let kind = match token.chars().next() {
        Some('v') => Kind::AddVoter,
        Some('l') => Kind::AddLearner,
        Some('r') => Kind::Remove,
        Some(_) | None => return Err(format!("{token}: not a step").into()),
    };
    Ok(ConfChangeStep { kind: kind as i32, node: parse(&token[1..])? })
}

fn positional<T: FromStr<Err: Display>>(args: &mut ArgumentConsumer) -> Outcome<Option<T>> {
    args.next_pos().map(parse).transpose()
}

fn key<T: FromStr<Err: Display>>(args: &mut ArgumentConsumer, key: &str) -> Outcome<Option<T>> {
    args.take_key(key).map(parse).transpose()
}

fn parse<T: FromStr<Err: Display>>(text: &str) -> Outcome<T> {
    text.parse().map_err(|error| format!("{text}: {error}").into())
}

fn one_or_all(cluster: &Cluster, args: &mut ArgumentConsumer) -> Outcome<Vec<u64>> {
    let up = || cluster.ids().into_iter().filter(|id| cluster.is_up(*id)).collect();
    Ok(positional(args)?.map_or_else(up, |node| vec![node]))
}

/// The messages on their way that the arguments select; they are taken away unless `keep`.
fn select(
    cluster: &mut Cluster,
    args: &mut ArgumentConsumer,
    keep: bool,
) -> Outcome<Vec<Envelope>> {
    let from: Option<u64> = key(args, "from")?;
    let to: Option<u64> = key(args, "to")?;
    let kind = args.take_key("kind");
    let mut left: usize = key(args, "count")?.unwrap_or(usize::MAX);
    let mut chosen = Vec::new();
    let mut others = Vec::new();
    for envelope in std::mem::take(&mut cluster.network) {
        let selected = left > 0
            && from.is_none_or(|from| from == envelope.from)
            && to.is_none_or(|to| to == envelope.to)
            && kind.is_none_or(|kind| kind == print::kind(&envelope.message));
        if selected {
            left -= 1;
            chosen.push(envelope.clone());
        }
        if keep || !selected {
            others.push(envelope);
        }
    }
    cluster.network = others;
    if chosen.is_empty() {
        return Err("no such message is on its way".into());
    }
    Ok(chosen)
}
