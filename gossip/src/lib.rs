//! Eventual keyspaces: the rules by which replicas take writes anywhere and come to the same values.
//!
//! A synchronous core without I/O, clock, thread or chance of its own: what it is told comes in as
//! arguments, and what it decides goes out as data. The same code runs in a node and in simulations.
//!
//! # How it works
//! - Each write of a group has a [`Dot`], issued by one [`ActorId`]; a node mints an actor at every
//!   start ([`actor`], [`dot`]).
//! - A replica keeps one [`Clock`] of all dots that it stores or knows to be obsolete, small because it
//!   is bases and exceptions ([`clock`]).
//! - A write travels as an immutable [`Record`](record::Record) with its context: what it supersedes
//!   ([`record`], [`context`], [`batch`]).
//! - A [`Replica`] changes by three operations, write, apply and close, and answers each with the
//!   [`Change`](change::Change)s to make durable ([`replica`], [`state`], [`change`]).
//! - What became of them is stored as items, from which the replica is rebuilt ([`items`]).
//! - A [`Horizon`](horizon::Horizon) says what a replica has forgotten, so that a session knows when
//!   records do not tell everything ([`horizon`]); then the hash tree is walked ([`tree`]).
//! - A session brings one replica up to the position of another ([`session`]).
//! - A [`Group`](group::Group) is one member with its replica: what it tells the others, and when ([`group`]).
//! - Who seems to be up is for people: it decides nothing ([`liveness`]).
//! - A read may ask several replicas and repair what they lack ([`quorum`]).
//! - Clients carry contexts as tokens ([`token`]).
//! - What leaves a node says what has to be durable before ([`position`]).
//! - Stamps are for winners and for display, never for what is obsolete ([`hlc`]). They come from a clock that does not
//!   jump ([`timekeeper`]) and is corrected by what the others' clocks say ([`offset`]).
//!
//! The same rules as plain data, with an oracle that knows what is true and a search for schedules that break a
//! promise, are the [`model`]: it comes first, and decides. This core follows it step by step ([`follow`]).
//!
//! # Order of things
//! A dot leaves a replica only once the changes that issued it are durable. Clocks are joined at the end
//! of a completed session only ([`Replica::close`]). These two rules carry the argument for safety;
//! [`replica`] has the guarantees.
//!
//! # Left out
//! In [`group`], so far: dormant certificates.

pub mod actor;
pub mod batch;
pub mod change;
pub mod clock;
pub mod context;
pub mod dot;
pub mod entry;
pub mod error;
pub mod follow;
pub mod group;
pub mod hlc;
pub mod horizon;
pub mod items;
pub mod liveness;
pub mod model;
pub mod offset;
pub mod position;
pub mod quorum;
pub mod record;
pub mod replica;
pub mod session;
pub mod state;
pub mod tally;
pub mod timekeeper;
pub mod token;
pub mod tree;

mod table;
mod wire;

pub use actor::ActorId;
pub use clock::Clock;
pub use dot::Dot;
pub use error::DecodeError;
pub use replica::Replica;
