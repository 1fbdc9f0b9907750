//! Reads of eventual keyspaces: what this replica has, with a token of it.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use bytes::Bytes;
use gossip::entry::{Entry, Sibling};
use gossip::group::{ValuePlace, value_place};
use gossip::hlc::Stamp;
use gossip::record::{Body, EntryKey};
use gossip::replica::Policy;
use gossip::tree::Leaf;
use gossip::{ActorId, Dot};
use proto::limits::{PAGE_BYTES_MAX, SIBLINGS_BYTES_MAX};
use proto::v1::{self, Level};
use proto::{Code, Failure, KeyspaceId, Revision};
use storage::mvcc::RangeQuery;

use super::keyspaces::KnownKeyspaces;
use super::tokens::shown;
use super::{GossipConfig, RECOVERING_RETRY, Serving};
use crate::consistency::ReadPlan;
use crate::replication::{Answered, Found, Outbox, Query, Read};

/// Keys that one page looks at, at most; deleted ones take time and no room.
const PAGE_LOOKS_MAX: usize = 10_000;

/// Bytes of answers to reads that may wait for the disk.
const HELD_BYTES_MAX: usize = 64 * 1024 * 1024;

/// What an answer takes beside what it shows.
pub(super) const ANSWER_BYTES: usize = 128;

/// What a client waits while too many answers wait.
const HELD_RETRY: std::time::Duration = std::time::Duration::from_millis(250);

/// What of a key goes into an answer.
#[derive(Debug, Default)]
pub(super) struct Shown {
    pub(super) siblings: Vec<v1::Sibling>,
    pub(super) more: u32,
    pub(super) bytes: usize,
}

impl Shown {
    /// The entry of a page.
    pub(super) fn entry(self, key: &EntryKey, context: Bytes) -> v1::Entry {
        let Self { siblings, more, .. } = self;
        v1::Entry { key: key.key.clone(), siblings, context, more }
    }
}

impl Serving {
    /// Answers the reads that wait, as far as this poll has room for answers.
    pub(super) fn answer_reads(
        &mut self,
        keyspaces: &KnownKeyspaces,
        hears: bool,
        config: &GossipConfig,
        out: &mut Outbox,
    ) {
        while let Some(read) = self.reads.pop_front() {
            if self.held.bytes() > HELD_BYTES_MAX {
                let why = "too many answers wait for the disk of this node";
                let failure = Failure::new(Code::QueueFull, "", why).retry_after(HELD_RETRY);
                out.answer(read.id, Err(failure));
                continue;
            }
            if read.plan == ReadPlan::AskMajority {
                if let Err(failure) = self.begin_quorum_read(&read, keyspaces, hears, config) {
                    out.answer(read.id, Err(failure));
                }
                continue;
            }
            let found = self.answer(&read, keyspaces, config);
            let bytes = found.as_ref().map_or(0, Found::bytes);
            let (level, revision) = (Level::Eventual, Revision(0));
            let answered_by = Vec::new();
            let answer = found.map(|found| Answered::Read { found, level, revision, answered_by });
            // It tells of all that was taken so far, which may not be durable yet.
            self.held.answer_read(read.id, answer, bytes + ANSWER_BYTES);
            out.reply_bytes_left = out.reply_bytes_left.saturating_sub(bytes);
            if out.reply_bytes_left == 0 {
                break;
            }
        }
        out.again |= !self.reads.is_empty();
    }

    fn answer(
        &self,
        read: &Read,
        keyspaces: &KnownKeyspaces,
        config: &GossipConfig,
    ) -> Result<Found, Failure> {
        let (keyspace, policy) = keyspaces.named(&read.keyspace)?;
        if !self.gate.is_open() {
            let why = "this replica began without data, and has not met every other member yet";
            return Err(Failure::new(Code::Recovering, "", why).retry_after(RECOVERING_RETRY));
        }
        match &read.query {
            Query::Get { at: Some(_), .. } | Query::History { .. } => Err(no_revisions()),
            Query::Get { key, at: None } => self.get(keyspace, policy, key, None, config),
            Query::Siblings { key, after } => {
                self.get(keyspace, policy, key, dot_of(after), config)
            }
            Query::Range(range) => self.page(keyspace, policy, range, config),
            Query::Resolve | Query::Keyspaces | Query::Catalogue => {
                Err(Failure::new(Code::InvalidRequest, "", "a replica of gossip has no catalogue"))
            }
        }
    }

    fn get(
        &self,
        keyspace: KeyspaceId,
        policy: Policy,
        key: &Bytes,
        after: Option<Dot>,
        config: &GossipConfig,
    ) -> Result<Found, Failure> {
        let key = EntryKey::new(keyspace, key.clone());
        if self.group.replica().verify(&key) == Leaf::Damaged {
            return Err(damaged());
        }
        let now = self.group.now();
        let shown = match self.group.entry(&key) {
            Some(entry) => show_entry(entry, policy, now, after, false),
            None => Shown::default(),
        };
        let context = self.read_token(&key, config);
        Ok(Found::Siblings(Box::new(reply_of_key(&key, shown, after.is_none(), context))))
    }

    fn page(
        &self,
        keyspace: KeyspaceId,
        policy: Policy,
        range: &RangeQuery,
        config: &GossipConfig,
    ) -> Result<Found, Failure> {
        if range.at.is_some() {
            return Err(no_revisions());
        }
        let now = self.group.now();
        let mut reply = v1::RangeReply::default();
        let (mut looks, mut bytes) = (0, 0);
        let from = EntryKey::new(keyspace, range.from.clone());
        let is_inside = |key: &EntryKey| {
            key.keyspace == keyspace && (range.to.is_empty() || key.key < range.to)
        };
        let entries = self.group.replica().state().entries_from(&from);
        for (key, entry) in entries.take_while(|(key, _)| is_inside(key)) {
            let count = reply.entries.len().max(usize::try_from(reply.count).unwrap_or(usize::MAX));
            if looks >= PAGE_LOOKS_MAX || count >= range.limit || bytes >= PAGE_BYTES_MAX {
                reply.more = true;
                reply.next = key.key.clone();
                break;
            }
            looks += 1;
            let keys_only = range.keys_only || range.count_only;
            let shown = show_entry(entry, policy, now, None, keys_only);
            if shown.siblings.is_empty() {
                continue;
            }
            if self.group.replica().verify(key) == Leaf::Damaged {
                return Err(damaged());
            }
            if range.count_only {
                reply.count += 1;
                continue;
            }
            let context = if range.keys_only { Bytes::new() } else { self.read_token(key, config) };
            bytes += key.key.len() + shown.bytes + context.len();
            reply.entries.push(shown.entry(key, context));
        }
        Ok(Found::Entries(Box::new(reply)))
    }
}

/// The answer to a read of one key; `is_first`: of its values from the first one on.
pub(super) fn reply_of_key(
    key: &EntryKey,
    shown: Shown,
    is_first: bool,
    context: Bytes,
) -> v1::GetReply {
    let item = match &shown.siblings[..] {
        [only] if shown.more == 0 && is_first => Some(v1::Item {
            key: key.key.clone(),
            value: only.value.clone(),
            value_size: only.value_size,
            ..v1::Item::default()
        }),
        _ => None,
    };
    v1::GetReply { proof: None, item, siblings: shown.siblings, context, more: shown.more }
}

/// The values of a key of this replica that a read shows, the newest first.
fn show_entry(
    entry: &Entry,
    policy: Policy,
    now: Stamp,
    after: Option<Dot>,
    keys_only: bool,
) -> Shown {
    let live: Vec<(Dot, &Sibling)> = match policy {
        Policy::Siblings => entry.live().filter(|(_, sibling)| sibling.is_shown(now)).collect(),
        Policy::Lww => entry.winner(now).into_iter().collect(),
    };
    let shown = show(live, after, keys_only, &BTreeMap::new());
    shown.expect("a replica has all values that it shows")
}

/// The same of these values. Those that are left out are known by their lengths only; if the first to be shown is one of
/// them, its place is the error.
pub(super) fn show(
    mut live: Vec<(Dot, &Sibling)>,
    after: Option<Dot>,
    keys_only: bool,
    left_out: &BTreeMap<Dot, u64>,
) -> Result<Shown, ValuePlace> {
    live.sort_by_key(|(dot, sibling)| Reverse((sibling.place(), *dot)));
    // What the reader had before it, it knows; where that is gone meanwhile, it begins anew.
    let skipped = after.and_then(|after| live.iter().position(|(dot, _)| *dot == after));
    let rest = &live[skipped.map_or(0, |at| at + 1)..];
    let mut shown = Shown::default();
    for (dot, sibling) in rest {
        let value = match &sibling.body {
            Body::Value(value) => value.clone(),
            Body::Certificate => continue,
        };
        let is_left_out = left_out.get(dot).copied();
        if is_left_out.is_some() && !keys_only {
            if shown.siblings.is_empty() {
                return Err(value_place(*dot, sibling));
            }
            break;
        }
        let bytes = if keys_only { 0 } else { value.len() };
        if !shown.siblings.is_empty() && shown.bytes + bytes > SIBLINGS_BYTES_MAX {
            break;
        }
        shown.bytes += bytes + SIBLING_BYTES;
        shown.siblings.push(v1::Sibling {
            value_size: is_left_out.unwrap_or(value.len() as u64),
            value: if keys_only { Bytes::new() } else { value },
            dot: Some(self::shown(*dot)),
            written_ms: sibling.stamp.ms(),
            expires_ms: sibling.deadline.map_or(0, Stamp::ms),
        });
    }
    shown.more = u32::try_from(rest.len() - shown.siblings.len()).unwrap_or(u32::MAX);
    Ok(shown)
}

/// What a sibling takes beside its value.
const SIBLING_BYTES: usize = 48;

pub(super) fn dot_of(dot: &v1::Dot) -> Option<Dot> {
    let actor = dot.actor[..].try_into().ok().map(ActorId::from_bytes)?;
    Some(Dot { actor, counter: dot.counter })
}

/// The error for a read of a past moment.
pub(super) fn no_revisions() -> Failure {
    not_offered("eventual keyspaces have no revisions: reads show what the replica has now")
}

pub(super) fn not_offered(why: &str) -> Failure {
    Failure::new(Code::VerbNotOffered, "", why)
}

fn damaged() -> Failure {
    let why = "the replica has lost something of the key, or of one beside it";
    Failure::new(Code::Recovering, "", why)
}
