//! `kv-lab sim spread`.

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use serde_json::json;

use super::{Output, Report, loss, parse_chart, refuse_unused, table};
use crate::error::LabError;
use crate::report::curves::{Chart, Line, Panel};
use crate::spread::strategy::{Counted, Interest, Judged, Stop, Useful};
use crate::spread::{
    self, AntiEntropy, Direction, Findings, Graph, GraphKind, Plan, Routers, Rumor, Strategy,
};
use table::{Table, figure, heading, mean, measure, theory};

const EXAMPLES: &str = "\
Examples:
  kv-lab sim spread                                   push-pull anti-entropy on 1,000 nodes
  kv-lab sim spread --strategy rumor --k 1,2,3,4,5    push, feedback, counter: Demers' Table 1
  kv-lab sim spread --strategy rumor --interest blind --stop coin --k 1,2,3      his Table 2
  kv-lab sim spread --strategy rumor --stop coin --judged arrival --nodes 10000  as the equations have it
  kv-lab sim spread --strategy flood,tree,anti-entropy,rumor --loss 0.05 --chart spread.html

Exit codes: 0 done, 2 usage, 1 or 3 the chart cannot be written, 130 stopped by Ctrl-C, with the runs done until then.";

/// The arguments of `kv-lab sim spread`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct SpreadArgs {
    /// How the update spreads.
    #[arg(
        long,
        value_enum,
        value_name = "LIST",
        value_delimiter = ',',
        default_value = "anti-entropy"
    )]
    strategy: Vec<StrategyName>,
    /// Number of nodes, the source among them.
    #[arg(long, value_name = "LIST", value_delimiter = ',', default_value = "1000")]
    nodes: Vec<u32>,
    /// Which way the update travels [default: push-pull for anti-entropy, push for rumors].
    #[arg(long, value_enum, value_name = "LIST", value_delimiter = ',')]
    direction: Vec<Direction>,
    /// Whether a node that spreads a rumor takes into account what others knew [default: feedback].
    #[arg(long, value_enum)]
    interest: Option<Interest>,
    /// How it decides to stop [default: counter].
    #[arg(long, value_enum)]
    stop: Option<Stop>,
    /// Unnecessary contacts after which it stops, or the mean of them with a coin [default: 3].
    #[arg(long, value_name = "LIST", value_delimiter = ',')]
    k: Vec<u32>,
    /// When a push counts as unnecessary [default: start].
    #[arg(long, value_enum)]
    judged: Option<Judged>,
    /// What a useful contact does to the counter [default: reset].
    #[arg(long, value_enum)]
    useful: Option<Useful>,
    /// How several contacts of one node in one cycle count [default: cycle].
    #[arg(long, value_enum)]
    counted: Option<Counted>,
    /// Anti-entropy after the rumor, until all have the update.
    #[arg(long, value_enum)]
    repair: Option<Direction>,
    /// Contacts of a node in a round, or children of a node of a tree [default: 1, tree: 4].
    #[arg(long, value_name = "N")]
    fanout: Option<u32>,
    /// What is flooded [default: random].
    #[arg(long, value_enum)]
    graph: Option<GraphKind>,
    /// Neighbours of a node of a random graph [default: 4].
    #[arg(long, value_name = "N")]
    degree: Option<u32>,
    /// Share of messages that are lost.
    #[arg(long, value_name = "SHARE", default_value_t = 0.0)]
    loss: f64,
    /// The network below the nodes, for stress and stretch; nodes are placed in it at random.
    #[arg(long, value_enum, default_value_t = Routers::Tree)]
    routers: Routers,
    /// How often it is repeated.
    #[arg(long, value_name = "N", default_value_t = 100)]
    runs: u32,
    /// Seed of all chance [default: random].
    #[arg(long)]
    seed: Option<u64>,
    /// Write a chart of who hears it when, as a page or as a picture.
    #[arg(long, value_name = "FILE.html|FILE.svg", value_parser = parse_chart)]
    chart: Option<PathBuf>,
}

/// Strategies by name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum StrategyName {
    /// Whoever hears the update first sends it to all neighbours in a graph.
    Flood,
    /// Down a tree whose root is the source.
    Tree,
    /// All nodes compare with others until all have it.
    AntiEntropy,
    /// Nodes that heard it spread it until they lose interest.
    Rumor,
}

impl SpreadArgs {
    /// Every combination of what was given as a list.
    fn plans(&self) -> Result<Vec<Plan>, LabError> {
        self.refuse_unused()?;
        let seed = self.seed.unwrap_or_else(rand::random);
        let mut plans = Vec::new();
        for name in &self.strategy {
            for strategy in self.strategies(*name) {
                for nodes in &self.nodes {
                    let (loss, runs, routers) = (self.loss, self.runs, self.routers);
                    let plan = Plan { nodes: *nodes, strategy, loss, runs, seed, routers };
                    plan.validate().map_err(LabError::plan)?;
                    plans.push(plan);
                }
            }
        }
        Ok(plans)
    }

    fn strategies(&self, name: StrategyName) -> Vec<Strategy> {
        let directions = |default| match &self.direction[..] {
            [] => vec![default],
            given => given.to_vec(),
        };
        let fanout = self.fanout.unwrap_or(1);
        match name {
            StrategyName::Flood => vec![Strategy::Flood(Graph {
                kind: self.graph.unwrap_or(GraphKind::Random),
                degree: self.degree.unwrap_or(4),
            })],
            StrategyName::Tree => vec![Strategy::Tree { fanout: self.fanout.unwrap_or(4) }],
            StrategyName::AntiEntropy => {
                let all = directions(Direction::PushPull).into_iter();
                let rules = all.map(|direction| AntiEntropy { direction, fanout });
                rules.map(Strategy::AntiEntropy).collect()
            }
            StrategyName::Rumor => {
                let many = if self.k.is_empty() { &[3][..] } else { &self.k };
                let all = directions(Direction::Push).into_iter();
                let pairs = all.flat_map(|direction| many.iter().map(move |k| (direction, *k)));
                pairs.map(|(direction, k)| Strategy::Rumor(self.rumor(direction, k))).collect()
            }
        }
    }

    fn rumor(&self, direction: Direction, k: u32) -> Rumor {
        Rumor {
            direction,
            interest: self.interest.unwrap_or(Interest::Feedback),
            stop: self.stop.unwrap_or(Stop::Counter),
            k,
            judged: self.judged.unwrap_or(Judged::Start),
            useful: self.useful.unwrap_or(Useful::Reset),
            counted: self.counted.unwrap_or(Counted::Cycle),
            fanout: self.fanout.unwrap_or(1),
            repair: self.repair,
        }
    }

    /// Refuses rules that no chosen strategy has.
    fn refuse_unused(&self) -> Result<(), LabError> {
        use StrategyName::{AntiEntropy, Flood, Rumor, Tree};
        let given: [(&str, bool, &[StrategyName]); 11] = [
            ("--direction", !self.direction.is_empty(), &[AntiEntropy, Rumor]),
            ("--interest", self.interest.is_some(), &[Rumor]),
            ("--stop", self.stop.is_some(), &[Rumor]),
            ("--k", !self.k.is_empty(), &[Rumor]),
            ("--judged", self.judged.is_some(), &[Rumor]),
            ("--useful", self.useful.is_some(), &[Rumor]),
            ("--counted", self.counted.is_some(), &[Rumor]),
            ("--repair", self.repair.is_some(), &[Rumor]),
            ("--fanout", self.fanout.is_some(), &[Tree, AntiEntropy, Rumor]),
            ("--graph", self.graph.is_some(), &[Flood]),
            ("--degree", self.degree.is_some(), &[Flood]),
        ];
        refuse_unused(&given, &self.strategy, "strategies")?;
        if self.degree.is_some() && self.graph.is_some_and(|kind| kind != GraphKind::Random) {
            return Err(LabError::Parameters("--degree is of random graphs".to_owned()));
        }
        Ok(())
    }
}

/// Does the simulation, prints what it came to, and returns the exit code.
pub fn spread(args: &SpreadArgs, output: Output) -> Result<u8, LabError> {
    let simulate = spread::simulate;
    let report = Report { name: "spread", simulate, alone, together, drawn, object };
    report.print(args.plans()?, args.chart.as_deref(), output)
}

fn object((plan, found): &(Plan, Findings)) -> serde_json::Value {
    let mut case = json!({
        "nodes": plan.nodes,
        "loss": plan.loss,
        "runs": plan.runs,
        "seed": plan.seed.to_string(),
        "routers": plan.routers,
        "title": plan.strategy.title(),
        "findings": found,
    });
    let rules = serde_json::to_value(plan.strategy).expect("names and numbers are JSON");
    let (Some(case_fields), Some(rules)) = (case.as_object_mut(), rules.as_object()) else {
        unreachable!("a case and a strategy are objects");
    };
    for (name, value) in rules {
        case_fields.insert(name.clone(), value.clone());
    }
    case
}

/// What all cases have in common.
fn setting(plan: &Plan) -> String {
    let loss = loss(plan.loss);
    format!("{loss}, {}, {} runs, seed {}", plan.routers.title(), plan.runs, plan.seed)
}

/// Everything about one case.
fn alone(plan: &Plan, found: &Findings) -> String {
    let mut out = format!("{}\n{} nodes, {}\n", plan.strategy.title(), plan.nodes, setting(plan));
    if found.residue.runs < plan.runs as usize {
        out += &format!("only {} runs were done\n", found.residue.runs);
    }
    let mut table = Table::default();
    table.row(heading());
    measure(&mut table, "traffic m, updates a node", Some(&found.traffic));
    measure(&mut table, "residue s", Some(&found.residue));
    measure(&mut table, "t_ave, rounds", found.t_ave.as_ref());
    measure(&mut table, "t_last, rounds", Some(&found.t_last));
    measure(&mut table, "rounds of repair", found.repair_rounds.as_ref());
    measure(&mut table, "link stress, most", found.stress_most.as_ref());
    measure(&mut table, "link stress, mean", found.stress_mean.as_ref());
    measure(&mut table, "stretch, mean", found.stretch_mean.as_ref());
    measure(&mut table, "stretch, most", found.stretch_most.as_ref());
    out += &table.text(5);
    if let Some(residual) = found.step_residual {
        out += &format!("one round off from its exact expectation: {}\n", figure(residual));
    }
    out
}

/// A row for each case.
fn together(results: &[(Plan, Findings)]) -> String {
    let mut table = Table::default();
    let names = [
        "", "nodes", "s", "theory", "m", "theory", "t_ave", "t_last", "error", "p99", "theory",
        "repair", "stress", "most", "stretch", "most",
    ];
    table.row(names.map(str::to_owned));
    for (plan, found) in results {
        table.row([
            plan.strategy.short(),
            plan.nodes.to_string(),
            figure(found.residue.mean),
            theory(Some(&found.residue)),
            figure(found.traffic.mean),
            theory(Some(&found.traffic)),
            mean(found.t_ave.as_ref()),
            figure(found.t_last.mean),
            found.t_last.error.map_or_else(|| "-".to_owned(), figure),
            figure(found.t_last.p99),
            theory(Some(&found.t_last)),
            mean(found.repair_rounds.as_ref()),
            mean(found.stress_mean.as_ref()),
            mean(found.stress_most.as_ref()),
            mean(found.stretch_mean.as_ref()),
            mean(found.stretch_most.as_ref()),
        ]);
    }
    let mut titles: Vec<String> = Vec::new();
    for (plan, _) in results {
        if titles.last() != Some(&plan.strategy.title()) {
            titles.push(plan.strategy.title());
        }
    }
    format!("{}\n{}\n\n{}", titles.join("\n"), setting(&results[0].0), table.text(names.len()))
}

/// Who lacks the update after each round.
fn drawn(results: &[(Plan, Findings)], figures: &str) -> Chart {
    let mut lines = Vec::new();
    for (plan, found) in results {
        let name = format!("{}, {} nodes", plan.strategy.short(), plan.nodes);
        let points = |curve: &[f64]| (0..).map(f64::from).zip(curve.iter().copied()).collect();
        let line = |theory, curve| Line { name: name.clone(), theory, points: points(curve) };
        lines.push(line(false, &found.curve));
        lines.extend(found.curve_theory.as_deref().map(|curve| line(true, curve)));
    }
    let panel = |title: &str, logarithmic| Panel {
        title: format!("share of nodes without the update{title}"),
        across: "rounds (dashed: theory)".to_owned(),
        logarithmic,
        lines: lines.clone(),
    };
    Chart {
        title: format!("How an update spreads: {}", setting(&results[0].0)),
        figures: figures.to_owned(),
        panels: vec![panel("", false), panel(", logarithmic", true)],
    }
}
