//! Level `linearizable`: the read sees every write that was acknowledged before the read began.
//!
//! Check: the leader confirms with a majority, after the read arrived, that it still leads, and
//! names its commit index; the answering replica answers once it has applied that index (Raft
//! thesis section 6.4). Any voter or learner can answer. Nothing may be stale. Cost: one round of
//! heartbeats, shared by all reads of a turn of the loop, plus one round trip where the answering
//! node is not the leader. Refused without a leader (`KV1202`) or a majority (`KV1201`,
//! `KV1205`). Checked by the register workload of the lab and by every simulation seed.

use super::ReadPlan;

/// How the level is served.
pub const PLAN: ReadPlan = ReadPlan::ConfirmIndex;
