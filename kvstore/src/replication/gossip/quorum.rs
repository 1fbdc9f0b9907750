//! Reads of level `quorum`: the group asks the members, and what they answer becomes a reply here.
//!
//! ```text
//! read ─► group.read ─► asks and answers ─► group.take_read ─► reply, held until what it tells of is durable
//!                ▲                                  │
//!                └── values that had no room ◄──────┘
//! ```
//!
//! A member says of each key which values it has, and as many of the values themselves as a message has room for, the newest
//! first. Where a reply would begin with one that nobody sent, the members are asked once more, from there on.

use std::collections::BTreeMap;

use gossip::Dot;
use gossip::group::{Gathered, Missed, ReadRange, ReadValues, Unread, ValuePlace};
use gossip::hlc::Stamp;
use gossip::record::EntryKey;
use gossip::replica::Policy;
use proto::v1::Level;
use proto::{Code, Failure, KeyspaceId, NodeId, Revision};
use storage::mvcc::RangeQuery;

use super::keyspaces::KnownKeyspaces;
use super::reads::{ANSWER_BYTES, Listing, Shown, Wanted, reply_of_key, show, wanted};
use super::{GossipConfig, Serving};
use crate::node::RequestId;
use crate::replication::{Answered, Found, Outbox, Read};

/// How often the members are asked for values that had no room.
const ROUNDS_MAX: u32 = 4;

/// What a client waits before it repeats a read that found no majority.
const MISSED_RETRY: std::time::Duration = std::time::Duration::from_millis(250);

/// Quorum reads of clients that wait for answers.
#[derive(Debug, Default)]
pub(super) struct OpenReads {
    by_number: BTreeMap<u64, OpenRead>,
    numbers: BTreeMap<RequestId, u64>,
}

#[derive(Debug)]
struct OpenRead {
    id: RequestId,
    policy: Policy,
    wanted: Wanted,
    range: ReadRange,
    rounds: u32,
}

/// A reply cannot be made yet: a value is needed that stands there, or below.
struct Lacks(ValuePlace);

impl OpenReads {
    /// The reads that wait.
    pub(super) fn waiting(&self) -> impl Iterator<Item = RequestId> + '_ {
        self.numbers.keys().copied()
    }

    fn insert(&mut self, number: u64, read: OpenRead) {
        self.numbers.insert(read.id, number);
        self.by_number.insert(number, read);
    }

    fn remove(&mut self, number: u64) -> Option<OpenRead> {
        let read = self.by_number.remove(&number)?;
        self.numbers.remove(&read.id);
        Some(read)
    }
}

impl Serving {
    /// Asks the members.
    pub(super) fn begin_quorum_read(
        &mut self,
        read: &Read,
        keyspaces: &KnownKeyspaces,
        hears: bool,
        config: &GossipConfig,
    ) -> Result<(), Failure> {
        let (keyspace, policy) = keyspaces.named(&read.keyspace)?;
        if !hears {
            let why = format!(
                "{} hears no other replica while its disk is full, or its log and memory are",
                config.name
            );
            return Err(Failure::new(Code::ReplicasMissing, "", why).retry_after(MISSED_RETRY));
        }
        if self.group.is_full_of_reads() {
            let why = "too many reads of level quorum wait for answers";
            return Err(Failure::new(Code::QueueFull, "", why).retry_after(MISSED_RETRY));
        }
        let wanted = wanted(keyspace, &read.query)?;
        let range = asked(keyspace, &wanted);
        let number = self.group.read(range.clone());
        let open = OpenRead { id: read.id, policy, wanted, range, rounds: 1 };
        self.quorum_reads.insert(number, open);
        Ok(())
    }

    /// Answers the reads that have ended, as far as this poll has room for answers; one of them in any case.
    pub(super) fn finish_quorum_reads(&mut self, config: &GossipConfig, out: &mut Outbox) {
        while let Some((number, read)) = self.group.take_read() {
            let Some(open) = self.quorum_reads.remove(number) else { continue };
            match read {
                Ok(gathered) => self.finish_quorum_read(open, gathered, config, out),
                Err(missed) => out.answer(open.id, Err(self.no_majority(&missed, config))),
            }
            if out.reply_bytes_left == 0 {
                break;
            }
        }
        out.again |= self.group.has_read_done();
    }

    fn finish_quorum_read(
        &mut self,
        open: OpenRead,
        gathered: Gathered,
        config: &GossipConfig,
        out: &mut Outbox,
    ) {
        let found = match &open.wanted {
            Wanted::Values { key, after } => self.joined_key(&open, &gathered, key, *after, config),
            Wanted::Page(query) => self.joined_page(&open, &gathered, query, config),
        };
        let found = match found {
            Ok(found) => found,
            Err(Lacks(from)) => return self.ask_for_more(open, from, out),
        };
        let own = gathered.with_own.then_some(config.node);
        let answered_by: Vec<NodeId> = own.into_iter().chain(gathered.by).collect();
        let bytes = found.bytes();
        let (level, revision) = (Level::Quorum, Revision(0));
        let answer = Ok(Answered::Read { found, level, revision, answered_by });
        // It tells of what was answered here as well, and of what was just mended.
        self.held.answer_read(open.id, answer, bytes + ANSWER_BYTES);
        out.reply_bytes_left = out.reply_bytes_left.saturating_sub(bytes);
    }

    /// Asks once more, for values that had no room.
    fn ask_for_more(&mut self, open: OpenRead, from: ValuePlace, out: &mut Outbox) {
        if open.rounds >= ROUNDS_MAX {
            let why = "the values changed each time they were asked for";
            let failure = Failure::new(Code::ReadTimedOut, "", why).retry_after(MISSED_RETRY);
            return out.answer(open.id, Err(failure));
        }
        let range = ReadRange { values: ReadValues::From(from), ..open.range };
        let number = self.group.read(range.clone());
        let rounds = open.rounds + 1;
        self.quorum_reads.insert(number, OpenRead { range, rounds, ..open });
    }

    fn joined_key(
        &self,
        open: &OpenRead,
        gathered: &Gathered,
        key: &EntryKey,
        after: Option<Dot>,
        config: &GossipConfig,
    ) -> Result<Found, Lacks> {
        let now = self.group.now();
        let joined = gathered.keys.iter().find(|(of, _)| of == key).map(|(_, joined)| joined);
        let joined = joined.expect("a key that was asked for is among what was gathered");
        let shown = shown_of(joined, open.policy, now, after, (gathered, false))?;
        let context = self.issue(key, &joined.seen, config);
        Ok(Found::Siblings(Box::new(reply_of_key(key, shown, after.is_none(), context))))
    }

    fn joined_page(
        &self,
        open: &OpenRead,
        gathered: &Gathered,
        query: &RangeQuery,
        config: &GossipConfig,
    ) -> Result<Found, Lacks> {
        let now = self.group.now();
        let mut listing = Listing::of(query);
        for (key, joined) in &gathered.keys {
            if listing.is_full() {
                return Ok(listing.stopped(key.key.clone()));
            }
            let values = (gathered, listing.is_bare());
            let shown = match shown_of(joined, open.policy, now, None, values) {
                Ok(shown) => shown,
                // It comes first on the next page, where it has room.
                Err(_) if !listing.is_empty() => return Ok(listing.stopped(key.key.clone())),
                Err(lacks) => return Err(lacks),
            };
            listing.add(key, shown, || self.issue(key, &joined.seen, config));
        }
        Ok(match &gathered.next {
            Some(next) => listing.stopped(next.clone()),
            None => listing.ended(),
        })
    }

    fn no_majority(&self, missed: &Missed, config: &GossipConfig) -> Failure {
        let why = self.so_far(missed, config);
        Failure::new(Code::ReplicasMissing, "", why).retry_after(MISSED_RETRY)
    }

    fn so_far(&self, missed: &Missed, config: &GossipConfig) -> String {
        let Missed { counted, needed, refused, own } = missed;
        let (size, reachable) = (self.group.configuration().size(), self.group.reachable());
        let mut why = format!(
            "{counted} of {needed} replicas gave an answer that counts; {} has connections to \
             {reachable} of {size}, itself counted",
            config.name
        );
        let mut kinds: BTreeMap<&str, usize> = BTreeMap::new();
        for unread in refused.values().chain(own) {
            *kinds.entry(reason(*unread)).or_default() += 1;
        }
        for (kind, count) in kinds {
            why += &format!("; {count} {kind}");
        }
        why
    }

    /// A client waits no longer for a quorum read, if it was one.
    pub(super) fn give_up_read(&mut self, id: RequestId, config: &GossipConfig) -> Option<Failure> {
        let number = self.quorum_reads.numbers.get(&id).copied()?;
        self.quorum_reads.remove(number);
        let missed = self.group.give_up_read(number)?;
        Some(Failure::new(Code::ReadTimedOut, "", self.so_far(&missed, config)))
    }
}

/// The values of a joined key that a read shows.
fn shown_of(
    joined: &gossip::quorum::Joined,
    policy: Policy,
    now: Stamp,
    after: Option<Dot>,
    (gathered, keys_only): (&Gathered, bool),
) -> Result<Shown, Lacks> {
    let live = match policy {
        Policy::Siblings => {
            let live = joined.live.iter().filter(|(_, sibling)| sibling.is_shown(now));
            live.map(|(dot, sibling)| (*dot, sibling)).collect()
        }
        Policy::Lww => joined.winner(now).into_iter().collect(),
    };
    show(live, after, keys_only, &gathered.left_out).map_err(Lacks)
}

/// Which keys are to be asked for.
fn asked(keyspace: KeyspaceId, wanted: &Wanted) -> ReadRange {
    match wanted {
        Wanted::Values { key, .. } => ReadRange::of_key(key, ReadValues::All),
        Wanted::Page(query) => {
            let is_bare = Listing::of(query).is_bare();
            ReadRange {
                keyspace,
                from: query.from.clone(),
                to: query.to.clone(),
                limit: query.limit,
                values: if is_bare { ReadValues::None } else { ReadValues::All },
            }
        }
    }
}

/// Why an answer does not count, as the end of a sentence that begins with how many.
const fn reason(unread: Unread) -> &'static str {
    match unread {
        Unread::OtherEpoch => "of another configuration of members",
        Unread::Recovering => "recovering",
        Unread::Damaged => "damaged",
        Unread::TooLong => "with more to say than a message holds",
    }
}
