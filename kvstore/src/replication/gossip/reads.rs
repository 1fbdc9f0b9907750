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

/// What a read wants to see.
#[derive(Debug)]
pub(super) enum Wanted {
    /// The values of a key, behind this one.
    Values {
        key: EntryKey,
        after: Option<Dot>,
    },
    Page(RangeQuery),
}

/// What of a keyspace a query asks for.
///
/// # Errors
/// This kind does not offer it.
pub(super) fn wanted(keyspace: KeyspaceId, query: &Query) -> Result<Wanted, Failure> {
    let of_key = |key: &Bytes, after| {
        let key = EntryKey::new(keyspace, key.clone());
        Ok(Wanted::Values { key, after })
    };
    match query {
        Query::Get { at: Some(_), .. } | Query::History { .. } => Err(no_revisions()),
        Query::Range(range) if range.at.is_some() => Err(no_revisions()),
        Query::Get { key, at: None } => of_key(key, None),
        Query::Siblings { key, after } => of_key(key, dot_of(after)),
        Query::Range(range) => Ok(Wanted::Page(range.clone())),
        Query::Resolve | Query::Keyspaces | Query::Catalogue => {
            Err(Failure::new(Code::InvalidRequest, "", "a replica of gossip has no catalogue"))
        }
    }
}

/// A page as it grows.
pub(super) struct Listing<'a> {
    query: &'a RangeQuery,
    reply: v1::RangeReply,
    bytes: usize,
}

impl<'a> Listing<'a> {
    /// An empty one.
    pub(super) fn of(query: &'a RangeQuery) -> Self {
        Self { query, reply: v1::RangeReply::default(), bytes: 0 }
    }

    /// Values are left out.
    pub(super) const fn is_bare(&self) -> bool {
        self.query.keys_only || self.query.count_only
    }

    /// Whether it shows nothing yet.
    pub(super) fn is_empty(&self) -> bool {
        self.reply.entries.is_empty()
    }

    /// Whether nothing more goes into it.
    pub(super) fn is_full(&self) -> bool {
        let counted = usize::try_from(self.reply.count).unwrap_or(usize::MAX);
        let count = self.reply.entries.len().max(counted);
        count >= self.query.limit || self.bytes >= PAGE_BYTES_MAX
    }

    /// Adds what is shown of a key, with its token, which is made only where it is shown as well.
    pub(super) fn add(&mut self, key: &EntryKey, shown: Shown, context: impl FnOnce() -> Bytes) {
        if shown.siblings.is_empty() {
            return;
        }
        if self.query.count_only {
            self.reply.count += 1;
            return;
        }
        let context = if self.query.keys_only { Bytes::new() } else { context() };
        self.bytes += key.key.len() + shown.bytes + context.len();
        self.reply.entries.push(shown.entry(key, context));
    }

    /// The last page.
    pub(super) fn ended(self) -> Found {
        Found::Entries(Box::new(self.reply))
    }

    /// The page that the next one follows, from this key on.
    pub(super) fn stopped(mut self, next: Bytes) -> Found {
        (self.reply.more, self.reply.next) = (true, next);
        self.ended()
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
        &mut self,
        read: &Read,
        keyspaces: &KnownKeyspaces,
        config: &GossipConfig,
    ) -> Result<Found, Failure> {
        let (keyspace, policy) = keyspaces.named(&read.keyspace)?;
        if !self.gate.is_open() {
            let why = "this replica began without data, and has not met every other member yet";
            return Err(Failure::new(Code::Recovering, "", why).retry_after(RECOVERING_RETRY));
        }
        match wanted(keyspace, &read.query)? {
            Wanted::Values { key, after } => self.get(&key, policy, after, config),
            Wanted::Page(query) => self.page(keyspace, policy, &query, config),
        }
    }

    fn get(
        &mut self,
        key: &EntryKey,
        policy: Policy,
        after: Option<Dot>,
        config: &GossipConfig,
    ) -> Result<Found, Failure> {
        if self.group.verify(key) == Leaf::Damaged {
            return Err(damaged());
        }
        let now = self.group.now();
        let shown = match self.group.entry(key) {
            Some(entry) => show_entry(entry, policy, now, after, false),
            None => Shown::default(),
        };
        let context = self.read_token(key, config);
        Ok(Found::Siblings(Box::new(reply_of_key(key, shown, after.is_none(), context))))
    }

    fn page(
        &mut self,
        keyspace: KeyspaceId,
        policy: Policy,
        query: &RangeQuery,
        config: &GossipConfig,
    ) -> Result<Found, Failure> {
        let now = self.group.now();
        let mut listing = Listing::of(query);
        let from = EntryKey::new(keyspace, query.from.clone());
        let is_inside = |key: &EntryKey| {
            key.keyspace == keyspace && (query.to.is_empty() || key.key < query.to)
        };
        let mut found_damaged = None;
        let entries = self.group.replica().state().entries_from(&from);
        let inside = entries.take_while(|(key, _)| is_inside(key));
        for (looks, (key, entry)) in inside.enumerate() {
            if looks >= PAGE_LOOKS_MAX || listing.is_full() {
                return Ok(listing.stopped(key.key.clone()));
            }
            let shown = show_entry(entry, policy, now, None, listing.is_bare());
            if !shown.siblings.is_empty() && self.group.replica().verify(key) == Leaf::Damaged {
                found_damaged = Some(key.clone());
                break;
            }
            listing.add(key, shown, || self.read_token(key, config));
        }
        if let Some(key) = found_damaged {
            let _ = self.group.verify(&key);
            return Err(damaged());
        }
        Ok(listing.ended())
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

fn dot_of(dot: &v1::Dot) -> Option<Dot> {
    let actor = dot.actor[..].try_into().ok().map(ActorId::from_bytes)?;
    Some(Dot { actor, counter: dot.counter })
}

/// The error for a read of a past moment.
fn no_revisions() -> Failure {
    not_offered("eventual keyspaces have no revisions: reads show what the replica has now")
}

pub(super) fn not_offered(why: &str) -> Failure {
    Failure::new(Code::VerbNotOffered, "", why)
}

fn damaged() -> Failure {
    let why = "the replica has lost something of the key, or of one beside it, and begins again";
    Failure::new(Code::Recovering, "", why).retry_after(RECOVERING_RETRY)
}
