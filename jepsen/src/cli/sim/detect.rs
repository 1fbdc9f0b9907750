//! `kv-lab sim detect`.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, ValueEnum};
use serde_json::json;

use super::{Output, Report, loss, parse_chart, refuse_unused, table};
use crate::detect::{self, Detector, Findings, Phase, Pick, Plan, Swim, Timeout};
use crate::error::LabError;
use crate::report::curves::{Chart, Line, Panel};
use table::{Table, figure, heading, mean, measure, theory};

const EXAMPLES: &str = "\
Examples:
  kv-lab sim detect                                   SWIM among 100 members
  kv-lab sim detect --detector central,ring,all-to-all,gossip,swim --loss 0.05
  kv-lab sim detect --phase aligned --suspicion 0 --runs 1000        e / (e - 1) periods
  kv-lab sim detect --members 100,1000,10000 --chart detect.html     the load stays the same

Exit codes: 0 done, 2 usage, 1 or 3 the chart cannot be written, 130 stopped by Ctrl-C, with the runs done until then.";

/// Periods of silence that hardly ever come by loss.
const TIMEOUT: u32 = 5;

/// The arguments of `kv-lab sim detect`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct DetectArgs {
    /// How crashes are found.
    #[arg(long, value_enum, value_name = "LIST", value_delimiter = ',', default_value = "swim")]
    detector: Vec<DetectorName>,
    /// Number of members.
    #[arg(
        long,
        visible_alias = "nodes",
        value_name = "LIST",
        value_delimiter = ',',
        default_value = "100"
    )]
    members: Vec<u32>,
    /// Time between two heartbeats or probes of a member.
    #[arg(long, value_name = "DURATION", default_value = "1s", value_parser = humantime::parse_duration)]
    period: Duration,
    /// Periods of silence after which a member is taken for dead [default: 5; gossip: log2 N + ln N + 5].
    #[arg(long, value_name = "PERIODS")]
    timeout: Option<u32>,
    /// Members that one gossips to in a period [default: 1].
    #[arg(long, value_name = "N")]
    fanout: Option<u32>,
    /// Members that are asked to probe one that did not answer [default: 3].
    #[arg(long, value_name = "N")]
    indirect: Option<u32>,
    /// Periods in which a suspected member can object [default: log2 N].
    #[arg(long, value_name = "PERIODS")]
    suspicion: Option<u32>,
    /// Whom a member probes next [default: random].
    #[arg(long, value_enum)]
    pick: Option<Pick>,
    /// When the periods of members begin.
    #[arg(long, value_enum, default_value_t = Phase::Spread)]
    phase: Phase,
    /// Share of messages that are lost.
    #[arg(long, value_name = "SHARE", default_value_t = 0.0)]
    loss: f64,
    /// Mean time that a message takes.
    #[arg(long, value_name = "DURATION", default_value = "1ms", value_parser = humantime::parse_duration)]
    latency: Duration,
    /// Simulated time of a run, with the crash in its middle [default: 120 periods, or what the timeout and
    /// the news need].
    #[arg(long, value_name = "DURATION", value_parser = humantime::parse_duration)]
    time: Option<Duration>,
    /// How often it is repeated.
    #[arg(long, value_name = "N", default_value_t = 20)]
    runs: u32,
    /// Seed of all chance [default: random].
    #[arg(long)]
    seed: Option<u64>,
    /// Write a chart of who takes the crashed member for dead when, as a page or as a picture.
    #[arg(long, value_name = "FILE.html|FILE.svg", value_parser = parse_chart)]
    chart: Option<PathBuf>,
}

/// Detectors by name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum DetectorName {
    /// Heartbeats to one member, which tells the others.
    Central,
    /// Heartbeats to two neighbours; news go round the ring.
    Ring,
    /// Heartbeats to all.
    AllToAll,
    /// Heartbeats of all, passed on to random members.
    Gossip,
    /// Probes, indirect probes, suspicion.
    Swim,
}

impl DetectArgs {
    /// Every combination of what was given as a list.
    fn plans(&self) -> Result<Vec<Plan>, LabError> {
        self.refuse_unused()?;
        let seed = self.seed.unwrap_or_else(rand::random);
        let mut plans = Vec::new();
        for name in &self.detector {
            for members in &self.members {
                let detector = self.detector(*name, *members);
                let time = self.time.unwrap_or_else(|| self.enough(&detector, *members));
                let plan = Plan {
                    members: *members,
                    detector,
                    period: self.period,
                    latency: self.latency,
                    loss: self.loss,
                    phase: self.phase,
                    time,
                    runs: self.runs,
                    seed,
                };
                plan.validate().map_err(LabError::plan)?;
                plans.push(plan);
            }
        }
        Ok(plans)
    }

    fn detector(&self, name: DetectorName, members: u32) -> Detector {
        let size = f64::from(members.max(2));
        let timeout = Timeout { periods: self.timeout.unwrap_or(TIMEOUT) };
        match name {
            DetectorName::Central => Detector::Central(timeout),
            DetectorName::Ring => Detector::Ring(timeout),
            DetectorName::AllToAll => Detector::AllToAll(timeout),
            DetectorName::Gossip => {
                let rounds = (size.log2() + size.ln()).ceil() as u32 + TIMEOUT;
                let timeout = Timeout { periods: self.timeout.unwrap_or(rounds) };
                Detector::Gossip { timeout, fanout: self.fanout.unwrap_or(1) }
            }
            DetectorName::Swim => Detector::Swim(Swim {
                indirect: self.indirect.unwrap_or(3),
                suspicion: self.suspicion.unwrap_or(size.log2().ceil() as u32),
                pick: self.pick.unwrap_or(Pick::Random),
            }),
        }
    }

    /// Time in which the detector can be expected to be done with the crash, and as much before.
    fn enough(&self, detector: &Detector, members: u32) -> Duration {
        // News goes a member further each period, both ways round the ring.
        let news = if matches!(detector, Detector::Ring(_)) { members / 2 } else { 20 };
        let half = detector.patience().saturating_mul(2).saturating_add(news).max(60);
        self.period.saturating_mul(half.saturating_mul(2))
    }

    /// Refuses rules that no chosen detector has.
    fn refuse_unused(&self) -> Result<(), LabError> {
        use DetectorName::{AllToAll, Central, Gossip, Ring, Swim};
        let given: [(&str, bool, &[DetectorName]); 5] = [
            ("--timeout", self.timeout.is_some(), &[Central, Ring, AllToAll, Gossip]),
            ("--fanout", self.fanout.is_some(), &[Gossip]),
            ("--indirect", self.indirect.is_some(), &[Swim]),
            ("--suspicion", self.suspicion.is_some(), &[Swim]),
            ("--pick", self.pick.is_some(), &[Swim]),
        ];
        refuse_unused(&given, &self.detector, "detectors")
    }
}

/// Does the simulation, prints what it came to, and returns the exit code.
pub fn detect(args: &DetectArgs, output: Output) -> Result<u8, LabError> {
    let simulate = detect::simulate;
    let report = Report { name: "detect", simulate, alone, together, drawn, object };
    report.print(args.plans()?, args.chart.as_deref(), output)
}

fn object((plan, found): &(Plan, Findings)) -> serde_json::Value {
    json!({
        "members": plan.members,
        "title": plan.detector.title(),
        "rules": plan.detector,
        "period_s": plan.period.as_secs_f64(),
        "latency_s": plan.latency.as_secs_f64(),
        "loss": plan.loss,
        "phase": plan.phase,
        "time_s": plan.time.as_secs_f64(),
        "runs": plan.runs,
        "seed": plan.seed.to_string(),
        "findings": found,
    })
}

/// What all cases have in common.
fn setting(plan: &Plan) -> String {
    let loss = loss(plan.loss);
    let phase = match plan.phase {
        Phase::Spread => "spread",
        Phase::Aligned => "aligned",
    };
    format!(
        "period {:?} ({phase}), latency {:?}, {loss}, {} runs, seed {}",
        plan.period, plan.latency, plan.runs, plan.seed
    )
}

/// Everything about one case.
fn alone(plan: &Plan, found: &Findings) -> String {
    let mut out = format!(
        "{}\n{} members, {}\n{:?} a run, the crash in the middle",
        plan.detector.title(),
        plan.members,
        setting(plan),
        plan.time
    );
    let finished = found.all.map_or(0, |all| all.runs);
    out += &format!("; all found it in {finished} of {} runs\n", found.runs);
    let mut table = Table::default();
    table.row(heading());
    measure(&mut table, "first suspects it, s", found.suspected.as_ref());
    measure(&mut table, "first takes it for dead, s", found.first.as_ref());
    measure(&mut table, "all take it for dead, s", found.all.as_ref());
    let wrong = &found.false_positives_per_node_hour;
    measure(&mut table, "false positives a node-hour", Some(wrong));
    let suspicions = found.false_suspicions_per_node_hour.as_ref();
    measure(&mut table, "false suspicions a node-hour", suspicions);
    measure(&mut table, "messages a node a second", Some(&found.messages_per_node_second));
    measure(&mut table, "bytes a node a second", Some(&found.bytes_per_node_second));
    measure(
        &mut table,
        "busiest node, messages a second",
        Some(&found.busiest_messages_per_second),
    );
    out + &table.text(5)
}

/// A row for each case.
fn together(results: &[(Plan, Findings)]) -> String {
    let mut table = Table::default();
    let names = [
        "",
        "members",
        "patience",
        "first, s",
        "theory",
        "all, s",
        "p99",
        "theory",
        "in runs",
        "false",
        "suspected",
        "msg/s",
        "theory",
        "bytes/s",
        "busiest",
    ];
    table.row(names.map(str::to_owned));
    for (plan, found) in results {
        let all = found.all.as_ref();
        table.row([
            plan.detector.name().to_owned(),
            plan.members.to_string(),
            plan.detector.patience().to_string(),
            mean(found.first.as_ref()),
            theory(found.first.as_ref()),
            mean(all),
            all.map_or_else(|| "-".to_owned(), |all| figure(all.p99)),
            theory(all),
            format!("{}/{}", all.map_or(0, |all| all.runs), found.runs),
            figure(found.false_positives_per_node_hour.mean),
            mean(found.false_suspicions_per_node_hour.as_ref()),
            figure(found.messages_per_node_second.mean),
            theory(Some(&found.messages_per_node_second)),
            figure(found.bytes_per_node_second.mean),
            figure(found.busiest_messages_per_second.mean),
        ]);
    }
    let title = |plan: &Plan| format!("{} members: {}", plan.members, plan.detector.title());
    let titles: Vec<String> = results.iter().map(|(plan, _)| title(plan)).collect();
    let about = "false, suspected: members that live, taken for dead or suspected, a node-hour";
    let setting = setting(&results[0].0);
    format!("{}\n{setting}\n{about}\n\n{}", titles.join("\n"), table.text(names.len()))
}

/// Who takes the crashed member for dead when.
fn drawn(results: &[(Plan, Findings)], figures: &str) -> Chart {
    let line = |(plan, found): &(Plan, Findings)| Line {
        name: format!("{}, {} members", plan.detector.title(), plan.members),
        theory: false,
        points: found.curve.clone(),
    };
    Chart {
        title: format!("How a crash is found: {}", setting(&results[0].0)),
        figures: figures.to_owned(),
        panels: vec![Panel {
            title: "share of members that take the crashed one for dead".to_owned(),
            across: "seconds after the crash".to_owned(),
            logarithmic: false,
            lines: results.iter().map(line).collect(),
        }],
    }
}
