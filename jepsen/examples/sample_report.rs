//! Makes the report of a simulated run, to look at and to measure:
//! `cargo run -p jepsen --example sample_report -- DIR [OPERATIONS]`.
//!
//! A register that returns stale reads late in the run, with faults that nobody did.

use std::fs;
use std::io::{BufWriter, Write};
use std::path::Path;
use std::time::Instant;

use jepsen::checker::{self, ModelOptions};
use jepsen::history;
use jepsen::judgement::Judgement;
use jepsen::report;
use jepsen::simulated::{Flaw, Simulation};
use serde_json::json;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut args = std::env::args().skip(1);
    let dir = args.next().ok_or("name a directory")?;
    let operations = args.next().map_or(Ok(100), |count| count.parse::<usize>())?;
    let dir = Path::new(&dir);
    fs::create_dir_all(dir)?;
    let flaw = Flaw::StaleReads(u32::try_from(operations / 40)?.max(5));
    let simulation = Simulation {
        operations,
        clients: 6,
        keys: 3,
        cas: 15,
        crashes: 1,
        flaw,
        ..Simulation::default()
    };
    let mut history = simulation.run();
    for (place, operation) in history.iter_mut().enumerate() {
        operation.node = Some(format!("n{}", place % 3 + 1));
    }
    let end = history.iter().filter_map(|operation| operation.return_ns).max().unwrap_or(1);
    let checks: Vec<Judgement> = ["register", "revision"]
        .iter()
        .filter_map(|model| checker::by_model(model, &ModelOptions::default()))
        .map(|checker| Judgement::of(&*checker, &history))
        .collect();
    let result = json!({
        "run": "register:kill+partition", "seed": "0", "checks": checks, "error": null,
        "interrupted": false, "replay": "kv-lab run register:kill+partition --nodes 3 --seed 0",
    });
    fs::write(dir.join("result.json"), result.to_string())?;
    let mut run = "schema = 2\nlab_version = \"simulated\"\n".to_owned();
    for k in 0..8 {
        let (nemesis, what) =
            [("kill", "kill leader"), ("partition", "isolate one"), ("kill", "kill one")][k % 3];
        let begin = end / 9 * u64::try_from(k)? + end / 20;
        let last = begin + end / if k % 3 == 1 { 7 } else { 16 };
        run.push_str(&format!(
            "[[fault]]\nnemesis = \"{nemesis}\"\nwhat = \"{what}\"\nnodes = [\"n{}\"]\n\
             place = \"processes\"\nbegin_ns = {begin}\nend_ns = {last}\neffects = {}\n",
            k % 3 + 1,
            k % 4
        ));
    }
    fs::write(dir.join("run.toml"), run)?;
    let mut lines = BufWriter::new(fs::File::create(dir.join("history.jsonl"))?);
    history::write(&mut lines, &history)?;
    lines.flush()?;
    let begun = Instant::now();
    let path = report::write(dir)?;
    println!("{}: {} bytes in {:?}", path.display(), fs::metadata(&path)?.len(), begun.elapsed());
    Ok(())
}
