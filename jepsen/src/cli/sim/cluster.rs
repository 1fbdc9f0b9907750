//! `kv-lab sim cluster`.

use std::io::{self, Write};

use clap::Args;
use clap::builder::{PossibleValuesParser, TypedValueParser};
use serde_json::json;

use super::{EXIT_INTERRUPTED, Output, table};
use crate::converge::{self, CERTIFICATE_MS, Event, Failure, Findings, Plan, Sabotage};
use crate::error::LabError;
use crate::judgement::Word;
use table::Table;

const EXAMPLES: &str = "\
Examples:
  kv-lab sim cluster                                  1000 schedules, each of another shape
  kv-lab sim cluster --time-based                     beside replicas that drop death certificates by age
  kv-lab sim cluster --nodes 3 --keys 1 --seeds 0..100000
  kv-lab sim cluster --seed 17                        one schedule again
  kv-lab sim cluster --broken entry-lost              a disk that loses entries, which has to be found

Exit codes: 0 valid, 9 a promise was broken (the first seed is told), 2 usage, 130 stopped by Ctrl-C, with the schedules
played until then.";

/// Seeds that are played if nothing is said.
const SEEDS: u64 = 1_000;

/// The arguments of `kv-lab sim cluster`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct ClusterArgs {
    /// Number of members [default: drawn for each seed, 2 to 5, now and then 10].
    #[arg(long, value_name = "N")]
    nodes: Option<usize>,
    /// Number of keys [default: drawn for each seed, 1 to 4].
    #[arg(long, value_name = "N")]
    keys: Option<usize>,
    /// Steps of a schedule before all faults end.
    #[arg(long, value_name = "N", default_value_t = 200)]
    steps: usize,
    /// Share of messages that are lost, in hundredths [default: drawn for each seed, 0, 0.05 or 0.3].
    #[arg(long, value_name = "SHARE", value_parser = parse_loss)]
    loss: Option<u32>,
    /// The seeds, from the first one to the one behind the last [default: 0..1000].
    #[arg(long, value_name = "F..T", value_parser = parse_seeds)]
    seeds: Option<(u64, u64)>,
    /// One seed.
    #[arg(long, value_name = "N", conflicts_with = "seeds")]
    seed: Option<u64>,
    /// Play the same schedules on replicas that drop death certificates when they are an hour old.
    #[arg(long)]
    time_based: bool,
    /// Break something on purpose, to see that it is found.
    #[arg(long, value_name = "WHAT", value_parser = parse_broken())]
    broken: Option<Sabotage>,
}

impl ClusterArgs {
    fn plan(&self) -> Result<Plan, LabError> {
        let one = self.seed.map(|seed| (seed, seed.saturating_add(1)));
        let (first, after) = one.or(self.seeds).unwrap_or((0, SEEDS));
        let plan = Plan {
            nodes: self.nodes,
            keys: self.keys,
            steps: self.steps,
            loss: self.loss,
            first,
            after,
            time_based: self.time_based,
            broken: self.broken,
        };
        plan.validate().map_err(LabError::plan)?;
        Ok(plan)
    }
}

/// Does the simulation, prints what it came to, and returns the exit code.
pub fn cluster(args: &ClusterArgs, output: Output) -> Result<u8, LabError> {
    let plan = args.plan()?;
    let played = {
        let plan = plan.clone();
        super::at_length(move |teller| {
            let all = plan.after - plan.first;
            let mut tell = |played: u64| teller.tell(|| format!("{played} of {all} schedules"));
            converge::simulate(&plan, &mut tell).map_err(LabError::plan)
        })?
    };
    let found = played.transpose()?.unwrap_or_default();
    let printed = match output {
        Output::Text => text(&plan, &found),
        Output::Json => object(&plan, &found).to_string() + "\n",
    };
    // Whoever closed the pipe does not want to know.
    let _ = io::stdout().write_all(printed.as_bytes());
    let verdict = verdict(&plan, &found);
    Ok(if verdict == Word::Unknown { EXIT_INTERRUPTED } else { verdict.exit() })
}

/// Unknown if it was stopped before its end.
fn verdict(plan: &Plan, found: &Findings) -> Word {
    match found.failure {
        Some(_) => Word::Invalid,
        None if found.schedules == plan.after - plan.first => Word::Valid,
        None => Word::Unknown,
    }
}

fn text(plan: &Plan, found: &Findings) -> String {
    let word = verdict(plan, found).as_str();
    let Plan { steps, first, after, .. } = plan;
    let mut out = match &found.failure {
        Some(failure) => broken(failure, plan),
        None => format!(
            "{word}: {} of {} schedules of {steps} steps, seeds {first}..{after}\n\
             no acknowledged write vanished without a successor, nothing deleted came back, siblings are true, all came \
             to the same\n",
            found.schedules,
            after - first,
        ),
    };
    if plan.time_based {
        out += &format!(
            "certificates dropped after {} min: deleted values came back in {} of {} schedules, {} times{}\n",
            CERTIFICATE_MS / 60_000,
            found.time_based_schedules,
            found.schedules,
            found.time_based_returned,
            found
                .time_based_first
                .map_or_else(String::new, |seed| format!(", first in seed {seed}")),
        );
    }
    let mut table = Table::default();
    for event in Event::ALL {
        let name = event.name().replace('_', " ");
        table.row([name, found.counts.of(event).to_string()]);
    }
    table.row(["simulated hours".to_owned(), (found.ms / 3_600_000).to_string()]);
    format!("{out}\n{}", table.text(2))
}

fn broken(failure: &Failure, plan: &Plan) -> String {
    let when = if failure.step > plan.steps {
        "after the end".to_owned()
    } else {
        format!("after step {} of {}", failure.step, plan.steps)
    };
    let mut out = format!(
        "invalid: seed {}, {when}: {}\nplay it again: {}\n",
        failure.seed, failure.violation, failure.command
    );
    for step in &failure.steps {
        out += &format!("  {step}\n");
    }
    out
}

fn object(plan: &Plan, found: &Findings) -> serde_json::Value {
    let counts: serde_json::Map<String, serde_json::Value> = Event::ALL
        .map(|event| (event.name().to_owned(), found.counts.of(event).into()))
        .into_iter()
        .collect();
    let failure = found.failure.as_ref().map(|failure| {
        json!({
            "seed": failure.seed.to_string(),
            "step": failure.step,
            "kind": failure.violation.kind.name(),
            "what": failure.violation.what,
            "command": failure.command,
            "steps": failure.steps,
        })
    });
    let time_based = plan.time_based.then(|| {
        json!({
            "certificate_ms": CERTIFICATE_MS,
            "schedules": found.time_based_schedules,
            "returned": found.time_based_returned,
            "first_seed": found.time_based_first.map(|seed| seed.to_string()),
        })
    });
    let verdict = verdict(plan, found);
    json!({
        "schema": 1,
        "simulation": "cluster",
        "verdict": verdict,
        "complete": verdict != Word::Unknown,
        "seeds": [plan.first.to_string(), plan.after.to_string()],
        "steps": plan.steps,
        "schedules": found.schedules,
        "simulated_ms": found.ms,
        "failure": failure,
        "time_based": time_based,
        "counts": counts,
    })
}

fn parse_broken() -> impl TypedValueParser<Value = Sabotage> {
    PossibleValuesParser::new(Sabotage::ALL.map(Sabotage::name)).map(|name| {
        let named = Sabotage::ALL.into_iter().find(|broken| broken.name() == name);
        named.expect("the parser knows the names")
    })
}

fn parse_loss(text: &str) -> Result<u32, String> {
    let share: f64 = text.parse().map_err(|_| "takes a share, such as 0.05".to_owned())?;
    if !(0.0..=0.9).contains(&share) {
        return Err("takes a share of 0 to 0.9".to_owned());
    }
    Ok((share * 100.0).round() as u32)
}

fn parse_seeds(text: &str) -> Result<(u64, u64), String> {
    let wrong = || "takes the first seed and the one behind the last, such as 0..1000".to_owned();
    let (first, after) = text.split_once("..").ok_or_else(wrong)?;
    Ok((first.parse().map_err(|_| wrong())?, after.parse().map_err(|_| wrong())?))
}
