//! Nemeses: what is done to a cluster while clients use it.
//!
//! Each nemesis strikes again and again, with calm in between that is longer than an election, so
//! that both calm and disturbed operation are seen. What it does follows from the seed of the run and
//! from its name, so adding another one does not change it. Several work at the same time; what they
//! must not do to each other is in `field`.
//!
//! - `kind`: their names. `fault`: the record. `field`, `strike`: what they work with.
//! - `kill`, `pause`: processes. `partition`, `lines`: the network, by the proxies of
//!   [`network`](crate::network). `members`, `leader`: requests of an operator. `files`: the disk of
//!   a stopped node. `disk`, `messages`: what a server with the feature `lab` does to itself.
//!   `clock`: the wall clock that a process sees.
//!
//! To add one: a function that strikes once and puts everything right again, a name in `kind`, and a
//! line in `strike_once`.

mod clock;
mod disk;
mod fault;
mod field;
mod files;
mod kill;
mod kind;
mod leader;
mod lines;
mod members;
mod messages;
mod partition;
mod pause;
mod strike;

use std::sync::Arc;
use std::time::Duration;

use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use tokio::sync::watch;
use tokio::task::JoinSet;

pub use self::fault::{Fault, Faults};
pub use self::field::Field;
pub use self::kind::NemesisKind;
use self::strike::Strike;
use crate::error::LabError;
use crate::seed;

/// How long nodes may take to become ready after a fault, while other faults are in force.
const RECOVERY_MAX: Duration = Duration::from_secs(60);

/// Time without a fault of one nemesis, in milliseconds.
const CALM_MS: std::ops::Range<u64> = 500..2_500;

/// Disturbs the cluster until `stop` becomes true. All nodes run and are ready when it returns
/// without an error.
///
/// # Errors
///
/// [`LabError::Node`] if a node ends by itself or does not become ready again: that is a finding,
/// too. The first error of any nemesis ends all of them.
pub async fn run(
    kinds: &[NemesisKind],
    seed: u64,
    field: Arc<Field>,
    stop: watch::Receiver<bool>,
) -> Result<(), LabError> {
    let mut nemeses = JoinSet::new();
    // The first one only looks whether the nodes live.
    for kind in [NemesisKind::None].into_iter().chain(kinds.iter().copied()) {
        let (field, stop) = (Arc::clone(&field), stop.clone());
        nemeses.spawn(async move {
            let rng = ChaCha8Rng::seed_from_u64(seed ^ seed::of_name(kind.as_str()));
            let strike = Strike { kind, rng, count: 0, field: &field, stop };
            again_and_again(strike).await
        });
    }
    while let Some(ended) = nemeses.join_next().await {
        let ended = ended.map_err(LabError::client("a nemesis")).and_then(|ended| ended);
        if let Err(error) = ended {
            nemeses.shutdown().await;
            return Err(error);
        }
    }
    let all: Vec<usize> = (0..field.nodes).collect();
    field.wait_ready(&all, RECOVERY_MAX).await
}

async fn again_and_again(mut strike: Strike<'_>) -> Result<(), LabError> {
    loop {
        strike.wait(CALM_MS).await;
        if *strike.stop.borrow() {
            return Ok(());
        }
        if strike.kind == NemesisKind::None {
            strike.field.check_unstruck().await?;
        } else {
            strike_once(&mut strike).await?;
        }
    }
}

async fn strike_once(strike: &mut Strike<'_>) -> Result<(), LabError> {
    match strike.kind {
        NemesisKind::None => Ok(()),
        NemesisKind::Kill => kill::strike(strike).await,
        NemesisKind::Pause => pause::strike(strike).await,
        NemesisKind::Partition => partition::strike(strike).await,
        NemesisKind::Delay | NemesisKind::Throttle => lines::slow(strike).await,
        NemesisKind::Reset => lines::reset(strike).await,
        NemesisKind::Members => members::strike(strike).await,
        NemesisKind::Leader => leader::strike(strike).await,
        NemesisKind::Files => files::strike(strike).await,
        NemesisKind::Disk => disk::strike(strike).await,
        NemesisKind::Messages => messages::strike(strike).await,
        NemesisKind::Clock => clock::strike(strike).await,
    }
}
