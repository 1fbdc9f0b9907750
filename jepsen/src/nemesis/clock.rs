//! Wall clocks that jump, or go too fast or too slowly, and are put right again. The monotonic clock
//! goes on as it should, as on real machines.
//!
//! Whether a node has seen it is asked of the node: it writes a line to its log when its filter is set,
//! with its time of day. Such a line is between the question and the answer, so its clock is wrong for
//! certain if its time is not.
//!
//! Jumps are of an hour at most: certificates of the lab are valid from before that, and a clock beyond
//! them has nobody to talk to.

use std::fs;
use std::time::{Duration, SystemTime};

use client::CallOptions;
use rand::RngExt;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;
use tokio::time::{Instant, sleep};

use super::field::{Field, LOOK};
use super::strike::Strike;
use crate::cluster::NodeClock;
use crate::error::LabError;

/// How long a clock is wrong, in milliseconds.
const LASTS_MS: std::ops::Range<u64> = 1_000..6_000;

/// The least jump, in microseconds, and how many times as far the greatest one goes: 1 s to an hour.
const JUMP_US: f64 = 1e6;
const JUMP_TIMES: f64 = 3_600.0;

/// How much a drifting clock gains or loses in a million microseconds: up to 5 %.
const DRIFT_PPM: std::ops::RangeInclusive<i64> = 10_000..=50_000;

/// How often a drifting clock is moved.
const DRIFT_STEP: Duration = Duration::from_millis(20);

/// How long to wait for a line that a node has written.
const LINE_MAX: Duration = Duration::from_secs(1);

/// What the filter of a node has besides its own, so that the line is written and is told from others.
const MARK: &str = ",kvstore::logging=info,lab_clock_";

/// What is wrong with a clock.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Wrong {
    /// So many microseconds.
    Jump(i64),
    /// So many microseconds more each second.
    Drift(i64),
}

impl Wrong {
    /// How far it is off after so long, in microseconds.
    fn offset_us(self, after: Duration) -> i64 {
        match self {
            Self::Jump(us) => us,
            Self::Drift(ppm) => {
                let after_us = i64::try_from(after.as_micros()).unwrap_or(i64::MAX);
                after_us.saturating_mul(ppm) / 1_000_000
            }
        }
    }

    fn text(self) -> String {
        match self {
            Self::Jump(us) => format!("{:+.3} s", us as f64 / 1e6),
            Self::Drift(ppm) => format!("{:+.1} %", ppm as f64 / 1e4),
        }
    }
}

/// What is done to which nodes; jumps and drifts take turns.
fn draw(rng: &mut ChaCha8Rng, count: usize, nodes: usize) -> Vec<(usize, Wrong)> {
    let minority = ((nodes - 1) / 2).max(1);
    let struck = [1, minority, nodes][rng.random_range(0..3)];
    let mut all: Vec<usize> = (0..nodes).collect();
    all.shuffle(rng);
    all.truncate(struck);
    all.sort_unstable();
    let mut wrong = |_| {
        let sign = if rng.random_bool(0.5) { 1 } else { -1 };
        if count.is_multiple_of(2) {
            // Small jumps are as frequent as great ones.
            let us = JUMP_US * JUMP_TIMES.powf(rng.random::<f64>());
            Wrong::Jump(sign * us as i64)
        } else {
            Wrong::Drift(sign * rng.random_range(DRIFT_PPM))
        }
    };
    all.into_iter().map(|node| (node, wrong(node))).collect()
}

/// Moves the clocks of some nodes for a while.
pub async fn strike(strike: &mut Strike<'_>) -> Result<(), LabError> {
    let field = strike.field;
    let struck = draw(&mut strike.rng, strike.count, field.nodes);
    let lasts = Duration::from_millis(strike.rng.random_range(LASTS_MS));
    let mut clocks = Vec::new();
    {
        let cluster = field.cluster.lock().await;
        for &(node, wrong) in &struck {
            let clock = cluster.clock(node).cloned();
            let clock = clock.expect("a run with this nemesis has clocks that can be moved");
            clocks.push((clock, wrong));
        }
    }
    let nodes: Vec<usize> = struck.iter().map(|(node, _)| *node).collect();
    let shown: Vec<String> = struck
        .iter()
        .map(|(node, wrong)| format!("{} {}", field.names[*node], wrong.text()))
        .collect();
    let what = match struck[0].1 {
        Wrong::Jump(_) => "jump of the clock of",
        Wrong::Drift(_) => "drift of the clock of",
    };
    let fault =
        strike.note(what, &nodes, &format!("wall clock, by libfaketime: {}", shown.join(", ")));
    hold(strike, &clocks, lasts).await?;
    let seen = seen(field, fault, &nodes).await;
    clocks.iter().try_for_each(|(clock, _)| clock.set(0))?;
    strike.over(fault, seen);
    Ok(())
}

/// Lets clocks be wrong for so long, or until the run ends.
async fn hold(
    strike: &mut Strike<'_>,
    clocks: &[(NodeClock, Wrong)],
    lasts: Duration,
) -> Result<(), LabError> {
    let begin = Instant::now();
    loop {
        let after = begin.elapsed();
        clocks.iter().try_for_each(|(clock, wrong)| clock.set(wrong.offset_us(after)))?;
        let left = lasts.saturating_sub(after);
        if left.is_zero() || *strike.stop.borrow() {
            return Ok(());
        }
        let drifts = clocks.iter().any(|(_, wrong)| matches!(wrong, Wrong::Drift(_)));
        strike.rest(if drifts { left.min(DRIFT_STEP) } else { left }).await;
    }
}

/// Of how many of these nodes the clock is wrong for certain; `None` if none of them answers.
async fn seen(field: &Field, fault: usize, nodes: &[usize]) -> Option<u64> {
    let asked = nodes.iter().map(|node| asked(field, fault, *node));
    let mut seen = None;
    for one in asked {
        if let Some(wrong) = one.await {
            seen = Some(seen.unwrap_or(0) + u64::from(wrong));
        }
    }
    seen
}

/// Whether the clock of a node is wrong for certain; `None` if it does not say the time.
async fn asked(field: &Field, fault: usize, node: usize) -> Option<bool> {
    let (endpoint, log) = {
        let cluster = field.cluster.lock().await;
        (cluster.endpoint(node), cluster.log(node).to_owned())
    };
    let (name, options) = (&field.names[node], CallOptions::default());
    let client = field.client.node(&endpoint).ok()?;
    let filter = client.log_level(name, None, &options).await.ok()?.filter;
    let own = filter.split(MARK).next().unwrap_or_default();
    let new = format!("{own}{MARK}{fault}=off");
    let before = SystemTime::now();
    client.log_level(name, Some(&new), &options).await.ok()?;
    let after = SystemTime::now();
    let deadline = Instant::now() + LINE_MAX;
    loop {
        let text = fs::read(&log).unwrap_or_default();
        if let Some(time) = time_of(&String::from_utf8_lossy(&text), &new) {
            return Some(time < before || time > after);
        }
        if Instant::now() >= deadline {
            return None;
        }
        sleep(LOOK).await;
    }
}

/// The time of the line of a log that says that the filter is this one now: of the first such line, since a
/// request that was repeated may have an effect once more after the answer.
fn time_of(log: &str, filter: &str) -> Option<SystemTime> {
    let mut lines = log.lines().filter(|line| line.contains(filter));
    lines.find_map(|line| {
        let line: serde_json::Value = serde_json::from_str(line).ok()?;
        if line["filter"] != filter {
            return None;
        }
        humantime::parse_rfc3339_weak(line["timestamp"].as_str()?).ok()
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use rand::SeedableRng;

    use super::*;

    #[test]
    fn what_is_drawn_stays_within_its_bounds_and_follows_from_the_seed() {
        for nodes in 1..=9 {
            let mut sizes = BTreeSet::new();
            let (mut ahead, mut behind, mut small, mut great) = (0, 0, 0, 0);
            for seed in 0..200 {
                let count = usize::try_from(seed).unwrap();
                let draw = || draw(&mut ChaCha8Rng::seed_from_u64(seed), count, nodes);
                let drawn = draw();
                assert_eq!(drawn, draw());
                let distinct: BTreeSet<usize> = drawn.iter().map(|(node, _)| *node).collect();
                assert!(distinct.len() == drawn.len() && distinct.iter().all(|node| *node < nodes));
                sizes.insert(drawn.len());
                for (_, wrong) in drawn {
                    let amount = match wrong {
                        Wrong::Jump(us) => {
                            assert!(count.is_multiple_of(2));
                            assert!((1_000_000..=3_600_000_000).contains(&us.abs()), "{us}");
                            small += u32::from(us.abs() < 60_000_000);
                            great += u32::from(us.abs() > 60_000_000);
                            us
                        }
                        Wrong::Drift(ppm) => {
                            assert!(!count.is_multiple_of(2));
                            assert!((10_000..=50_000).contains(&ppm.abs()), "{ppm}");
                            ppm
                        }
                    };
                    if amount > 0 { ahead += 1 } else { behind += 1 }
                }
            }
            assert_eq!(sizes, BTreeSet::from([1, ((nodes - 1) / 2).max(1), nodes]));
            assert!(ahead > 50 && behind > 50 && small > 20 && great > 20);
        }
    }

    #[test]
    fn a_drift_grows_and_a_jump_does_not() {
        let [now, later] = [0, 4].map(Duration::from_secs);
        let (jump, drift) = (Wrong::Jump(-5_000_000), Wrong::Drift(50_000));
        assert_eq!([now, later].map(|after| jump.offset_us(after)), [-5_000_000; 2]);
        assert_eq!([now, later].map(|after| drift.offset_us(after)), [0, 200_000]);
        assert_eq!(Wrong::Drift(-10_000).offset_us(later), -40_000);
        assert_eq!((jump.text().as_str(), drift.text().as_str()), ("-5.000 s", "+5.0 %"));
    }

    #[test]
    fn the_time_of_a_line_is_found_by_its_filter() {
        let line = |second: u32, filter: &str| {
            format!(
                "{{\"timestamp\":\"2026-11-22T00:27:0{second}.250000Z\",\"level\":\"INFO\",\
                 \"message\":\"log filter replaced\",\"filter\":\"{filter}\"}}\n"
            )
        };
        let log = format!(
            "--- the lab starts n1\n{}{}{{\"fil",
            line(1, "info,a_1=off"),
            line(2, "info,a_11=off") + &line(3, "info,a_1=off")
        );
        let at = |text: &str| humantime::parse_rfc3339_weak(text).unwrap();
        assert_eq!(time_of(&log, "info,a_1=off"), Some(at("2026-11-22T00:27:01.25Z")));
        assert_eq!(time_of(&log, "info,a_11=off"), Some(at("2026-11-22T00:27:02.25Z")));
        assert_eq!(time_of(&log, "info,a_2=off"), None);
    }
}
