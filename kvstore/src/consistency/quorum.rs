//! Level `quorum` in an eventual keyspace: the read sees every write that a majority had acknowledged
//! (`ack` of `quorum` or `all`) before the read began.
//!
//! Check: a majority of the members answers, each with what it has and what it knows to be obsolete, all in one
//! configuration; the answers are joined, and members that lack something of it are sent it. Two majorities meet, so one
//! of those that answer has the write. A member that is recovering does not count. May miss what was acknowledged by
//! fewer, and is not monotonic for that. Cost: one round trip to a majority. Refused without one
//! (`KV1407`, `KV1205`). In a linearizable keyspace the level is that of `linearizable`.

use super::ReadPlan;

/// How the level is served.
pub const PLAN: ReadPlan = ReadPlan::AskMajority;
