//! Level `eventual`: the read sees what the answering replica has applied.
//!
//! Check: none. May be stale by any amount, for example on a node that is cut off; each replica
//! still shows every key at one revision, never a mixture. Cost: none beyond the request. Never
//! refused while the replica runs.

use super::ReadPlan;

/// How the level is served.
pub const PLAN: ReadPlan = ReadPlan::Local;
