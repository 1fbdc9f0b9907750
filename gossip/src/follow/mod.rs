//! The core held against the model, step by step.
//!
//! A [`Follower`] has a replica of this crate for each replica of a model's world, and makes it do what the model's
//! does: the same writes with the same names and stamps, the same records, sessions, drops and starts. After each
//! batch of changes the two have to be the same, and the core has to be what its bytes rebuild.
//!
//! # How it works
//! - The model's [`World`](crate::model::World) tells each change as an [`Effect`](crate::model::Effect) before it
//!   makes it ([`Follow`](crate::model::Follow)). Operations could not be given to the core: they choose by what
//!   the model's replicas have.
//! - Names are given where a write is made (`names.rs`). An actor of the model is the same number in all of its bytes,
//!   so both sides order dots alike. Stamps are the model's.
//! - Everything goes the way that it has in a node: records through [`batch`](crate::batch), contexts of clients through
//!   [tokens](crate::token), sessions part by part through theirs, changes through their bytes in a log. A replica that starts
//!   is replayed from these bytes (`node.rs`).
//! - A batch of changes is an entry of the log. A crash takes some of the last ones, as far as nobody was told of them:
//!   by the model, and by the [positions](crate::position) of what the core let out.
//! - Compared are the clock, what is stored, what has a context, what is live, what is pending, the horizon, places
//!   and deadlines, actor and counter (`difference.rs`); sessions are flagged and closed in both or in neither.
//!   Of the core alone: the invariants of [`State`](crate::state::State), that its log rebuilds it, and its tree.
//!
//! # What is followed
//! | effect of the model | here |
//! |---|---|
//! | a client's write, also a quorum write, one of a session, one that is repeated | `Replica::write_at`; the context of a token after `TokenScope::issue` and `verify` |
//! | expiry | `Replica::expire` |
//! | collapse | has to come out of `write_at`, `expire`, `apply` or the close |
//! | a record arrives, by itself or for a quorum | `batch::decode`, `Replica::apply` |
//! | session: begin, record, entry, end | `Hello`, `meet`, `Serving`, `Taking` |
//! | a record is refused | its part is lost |
//! | certificates and contexts are dropped | `Replica::forget_certificate`, `forget_context` |
//! | start, crash, lost disk, disk put back | the log, whole or in part; `Replica::start` |
//! | members come and go | a replica begins empty |
//! | certificates sleep and wake | `Replica::sleep`, `wake` |
//! | a quorum read is answered, joined and repaired | `group::Told`, `quorum::join`, `Joined::lacking` |
//! | a disk loses writes, or its clock | the same in memory, or the item of the clock; the core has to find it |
//! | a replica starts over, and settles what waits | `Replica::salvage` or `Salvaged::of_items`, `take_back`, `settle_kept` |
//! | what was lost is superseded before it is found | the core is told, which cannot know |
//! | damage that a log below the replica mends | not followed: it is drawn as damage that none does |
//! | retirement | not followed yet: [`Follower::NOT_FOLLOWED`] |
//! | a client with a session reads or writes | `TokenScope::issue_session`, `verify_session`, `token::reach` |
//! | ids of writes, beats, claims, the gate of a replica that lost its disk | nothing in the core changes |

mod clients;
mod damage;
mod difference;
mod follower;
mod links;
mod names;
mod node;
mod runner;

pub use difference::Difference;
pub use follower::Follower;
pub use runner::{Followed, Outcome, Runner};
