//! `kv bench`.

use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::time::Duration;

use serde::Serialize;

use crate::bench::{Assertion, Mix, Operation, Pace, Plan, Report, Running, Tally, load};
use crate::cli::EXIT_INTERRUPTED;
use crate::cli::args::{BenchArgs, BenchCommand};
use crate::cli::errors::CliError;
use crate::cli::output::{Form, SCHEMA, grouped, json_line, level_name, table, time};
use crate::cli::run::Run;
use crate::cli::settings;
use crate::client::Client;

/// Operations at once in a closed loop.
const IN_FLIGHT: u32 = 16;
/// Most open operations on a schedule.
const OPEN_IN_FLIGHT: u32 = 4_096;
/// Exit code when an assertion does not hold.
const EXIT_ASSERTION: u8 = 9;

#[derive(Serialize)]
struct BenchJson {
    schema: u32,
    level: &'static str,
    elapsed_ms: u64,
    in_flight: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    rate: Option<u32>,
    connections: u16,
    keys: u64,
    value_size: u32,
    seed: u64,
    rows: Vec<RowJson>,
    missed: u64,
    errors: BTreeMap<String, u64>,
    failed_assertions: Vec<String>,
}

#[derive(Serialize)]
struct RowJson {
    op: &'static str,
    sent: u64,
    ok: u64,
    fail: u64,
    unknown: u64,
    per_second: f64,
    p50_us: u64,
    p99_us: u64,
    p999_us: u64,
    max_us: u64,
}

pub(super) async fn bench(command: BenchCommand, run: &mut Run<'_>) -> Result<(), CliError> {
    let (mix, args) = match command {
        BenchCommand::Put(args) => (Mix::only(Operation::Put), args),
        BenchCommand::Get(args) => (Mix::only(Operation::Get), args),
        BenchCommand::Mixed { args, mix } => (Mix::parse(&mix).map_err(CliError::Usage)?, args),
    };
    let assertions = args.assert.as_deref().map_or(Ok(vec![]), Assertion::parse_list);
    let assertions = assertions.map_err(CliError::Usage)?;
    let plan = plan(mix, &args);
    let mut config = settings::config(&run.global, run.terminal)?;
    config.connections = usize::from(args.connections);
    let asked = config.level;
    let client = Client::connect(config)?;
    let level = level_name(client.level(asked, &run.options()).await as i32);

    client.prepare_writes(&run.options()).await?;
    if mix.has(Operation::Get) {
        let written = load(&client, &plan).await?;
        if written > 0 {
            run.detail(&format!("{} keys written first", grouped(written)));
        }
    }
    let (report, interrupted) = measure(&client, plan.clone(), run).await?;

    let failed: Vec<&Assertion> =
        assertions.iter().filter(|assertion| !assertion.holds(&report)).collect();
    print(&report, &plan, &args, level, &failed, run)?;
    if report.missed > 0 {
        let missed = grouped(report.missed);
        run.note(&format!(
            "note: {missed} operations were due and not started: too many were open"
        ));
    }
    if interrupted {
        return Err(CliError::Status(EXIT_INTERRUPTED));
    }
    if failed.is_empty() {
        return Ok(());
    }
    for assertion in failed {
        run.note(&format!("assertion not met: {assertion}"));
    }
    Err(CliError::Status(EXIT_ASSERTION))
}

fn plan(mix: Mix, args: &BenchArgs) -> Plan {
    let at_least_one = |number: u32| NonZeroU32::new(number).unwrap_or(NonZeroU32::MIN);
    let pace = match args.rate {
        Some(rate) => Pace::Open {
            rate: at_least_one(rate),
            in_flight: at_least_one(args.in_flight.unwrap_or(OPEN_IN_FLIGHT)),
        },
        None => Pace::Closed { in_flight: at_least_one(args.in_flight.unwrap_or(IN_FLIGHT)) },
    };
    Plan {
        mix,
        pace,
        duration: args.duration,
        keys: args.keys,
        value_bytes: args.value_size as usize,
        seed: args.seed,
    }
}

/// Runs the plan. The first Ctrl-C ends it early, the second does not wait for open operations.
async fn measure(
    client: &Client,
    plan: Plan,
    run: &mut Run<'_>,
) -> Result<(Report, bool), CliError> {
    let show = run.terminal.stderr_is_tty && !run.global.quiet;
    let mut running = Running::start(client, plan);
    let mut seconds = tokio::time::interval(Duration::from_secs(1));
    seconds.tick().await;
    let mut interrupt = std::pin::pin!(tokio::signal::ctrl_c());
    let mut interrupted = false;
    let mut before = 0;
    loop {
        tokio::select! {
            () = running.wait() => break,
            _ = seconds.tick(), if show => {
                let progress = running.progress();
                let line = format!(
                    "\r{:>4} s  {:>9}/s  ok {}  failed {}   ",
                    running.elapsed().as_secs(),
                    grouped(progress.ok - before),
                    grouped(progress.ok),
                    grouped(progress.failed),
                );
                before = progress.ok;
                // Progress that cannot be shown is not worth failing for.
                let _ = run.terminal.stderr.write_all(line.as_bytes());
                let _ = run.terminal.stderr.flush();
            }
            signal = &mut interrupt => {
                signal?;
                if interrupted {
                    break;
                }
                interrupted = true;
                running.stop();
                interrupt.set(tokio::signal::ctrl_c());
            }
        }
    }
    if show {
        let _ = run.terminal.stderr.write_all(b"\r\x1b[K");
    }
    Ok((running.report(), interrupted))
}

fn print(
    report: &Report,
    plan: &Plan,
    args: &BenchArgs,
    level: &'static str,
    failed: &[&Assertion],
    run: &mut Run<'_>,
) -> Result<(), CliError> {
    let total = report.total();
    let mut rows: Vec<(&'static str, &Tally)> =
        report.tallies.iter().map(|(operation, tally)| (operation.name(), tally)).collect();
    if rows.len() > 1 {
        rows.push(("all", &total));
    }
    match run.form {
        Form::Json | Form::JsonLines => {
            let json = BenchJson {
                schema: SCHEMA,
                level,
                elapsed_ms: millis(report.elapsed),
                in_flight: plan.pace.in_flight().get(),
                rate: args.rate,
                connections: args.connections,
                keys: args.keys,
                value_size: args.value_size,
                seed: args.seed,
                rows: rows.iter().map(|(op, tally)| row_json(op, tally, report)).collect(),
                missed: report.missed,
                errors: errors(&total).collect(),
                failed_assertions: failed.iter().map(ToString::to_string).collect(),
            };
            json_line(run.out(), &json)?;
        }
        Form::People => {
            let header = ["OP", "LEVEL", "SENT", "OK", "FAIL", "UNKNOWN", "OK/S"];
            let header = [&header[..], &["p50", "p99", "p99.9", "MAX"]].concat();
            let rows = rows.iter().map(|(op, tally)| row(op, level, tally, report));
            run.out().write_all(table(&header, rows).as_bytes())?;
            for (code, count) in errors(&total) {
                run.note(&format!("note: {code} occurred {} times", grouped(count)));
            }
        }
        Form::Raw => {
            writeln!(
                run.out(),
                "op\tlevel\tsent\tok\tfail\tunknown\tok_per_second\tp50_us\tp99_us\tp999_us\tmax_us"
            )?;
            for (op, tally) in &rows {
                let row = row_json(op, tally, report);
                let RowJson { sent, ok, fail, unknown, per_second, .. } = row;
                let RowJson { p50_us, p99_us, p999_us, max_us, .. } = row;
                writeln!(
                    run.out(),
                    "{op}\t{level}\t{sent}\t{ok}\t{fail}\t{unknown}\t{per_second:.1}\t{p50_us}\t{p99_us}\t{p999_us}\t{max_us}"
                )?;
            }
        }
    }
    Ok(())
}

fn errors(total: &Tally) -> impl Iterator<Item = (String, u64)> {
    total.errors.iter().map(|(code, count)| (code.to_string(), *count))
}

fn row(op: &str, level: &str, tally: &Tally, report: &Report) -> Vec<String> {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a rate is positive"
    )]
    let per_second = report.per_second(tally).round() as u64;
    vec![
        op.to_owned(),
        if op == Operation::Put.name() { "-".to_owned() } else { level.to_owned() },
        grouped(tally.sent),
        grouped(tally.ok),
        grouped(tally.fail),
        grouped(tally.unknown),
        grouped(per_second),
        time(tally.quantile(0.5)),
        time(tally.quantile(0.99)),
        time(tally.quantile(0.999)),
        time(tally.max()),
    ]
}

fn row_json(op: &'static str, tally: &Tally, report: &Report) -> RowJson {
    RowJson {
        op,
        sent: tally.sent,
        ok: tally.ok,
        fail: tally.fail,
        unknown: tally.unknown,
        per_second: report.per_second(tally),
        p50_us: micros(tally.quantile(0.5)),
        p99_us: micros(tally.quantile(0.99)),
        p999_us: micros(tally.quantile(0.999)),
        max_us: micros(tally.max()),
    }
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
