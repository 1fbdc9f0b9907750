//! An eventual keyspace beside a linearizable one and beside a server that does nothing, in one run on one machine.
//!
//! The server that does nothing ("null") is a process of its own that speaks the same protocol behind the same TLS and
//! answers every read with one value: what is left is the cost of calls. Phases take turns, since a machine does not
//! stay as it is; of each the rounds are added up.

use std::io::{BufRead, BufReader, Write};
use std::num::NonZeroU32;
use std::path::PathBuf;
use std::process::{Child, Command, ExitCode, Stdio};
use std::time::Duration;

use clap::Parser;
use client::bench::{Mix, Operation, Pace, Plan, Running, load};
use client::{CallOptions, Client, Config};
use jepsen::cluster::Cluster;
use kvstore::tls::{Acceptor, AcceptorOptions, Material};
use proto::v1;
use proto::v1::kv_server::{Kv, KvServer};
use tests::measure::{Failed, Place, Promises};
use tonic::{Request, Response, Status};

/// As the server has it, so that the one that does nothing is no slower.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// The eventual keyspace.
const KEYSPACE: &str = "ratios";

/// Time of one call.
const CALL_MAX: Duration = Duration::from_secs(10);

/// Bytes of a value.
const VALUE_BYTES: usize = 256;

/// Keys.
const KEYS: u64 = 10_000;

/// Operations at once where the rate is asked for.
const IN_FLIGHT: u32 = 128;

/// Measures eventual keyspaces beside linearizable ones and a server that does nothing.
#[derive(Debug, Parser)]
struct Args {
    /// How long each phase of each round takes.
    #[arg(long, default_value_t = 8)]
    seconds: u64,
    /// How often all phases are done.
    #[arg(long, default_value_t = 3)]
    rounds: u32,
    #[command(flatten)]
    place: Place,
    /// Be the server that does nothing, with the certificate of this configuration.
    #[arg(long, hide = true)]
    null: Option<PathBuf>,
}

/// What is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    LinearizablePut,
    EventualPut,
    NullGet,
    EventualGet,
    LinearizablePutAlone,
    EventualPutAlone,
}

impl Phase {
    const ALL: [Self; 6] = [
        Self::LinearizablePut,
        Self::EventualPut,
        Self::NullGet,
        Self::EventualGet,
        Self::LinearizablePutAlone,
        Self::EventualPutAlone,
    ];

    const fn name(self) -> &'static str {
        match self {
            Self::LinearizablePut => "linearizable put, 128 in flight",
            Self::EventualPut => "eventual put, 128 in flight",
            Self::NullGet => "null get, 128 in flight",
            Self::EventualGet => "eventual get, 128 in flight",
            Self::LinearizablePutAlone => "linearizable put, 1 in flight",
            Self::EventualPutAlone => "eventual put, 1 in flight",
        }
    }

    const fn operation(self) -> Operation {
        match self {
            Self::NullGet | Self::EventualGet => Operation::Get,
            Self::LinearizablePut
            | Self::EventualPut
            | Self::LinearizablePutAlone
            | Self::EventualPutAlone => Operation::Put,
        }
    }

    const fn in_flight(self) -> u32 {
        match self {
            Self::LinearizablePutAlone | Self::EventualPutAlone => 1,
            Self::LinearizablePut | Self::EventualPut | Self::NullGet | Self::EventualGet => {
                IN_FLIGHT
            }
        }
    }
}

/// What was found in a phase, over all rounds.
#[derive(Clone, Copy, Debug, Default)]
struct Figures {
    per_second: f64,
    p50_ms: f64,
    p99_ms: f64,
    failed: u64,
}

fn main() -> Result<ExitCode, Failed> {
    let args = Args::parse();
    let runtime = tokio::runtime::Runtime::new()?;
    if let Some(config) = &args.null {
        runtime.block_on(serve_nothing(config))?;
        return Ok(ExitCode::SUCCESS);
    }
    runtime.block_on(measure(&args))
}

async fn measure(args: &Args) -> Result<ExitCode, Failed> {
    let cluster = args.place.boot("ratios").await?;
    let linearizable = Place::connect(&cluster, CALL_MAX, 1)?;
    let (kind, settings) = (v1::keyspace::Kind::Eventual, v1::keyspace::Settings::default());
    let options = CallOptions::default();
    linearizable.keyspaces().create(KEYSPACE, kind, settings, &options).await?;
    let config = cluster.client_config(cluster.endpoints(), CALL_MAX)?;
    let eventual = Client::connect(Config { keyspace: KEYSPACE.to_owned(), ..config })?;
    let null = Null::start(&cluster)?;
    let nothing = Client::connect(cluster.client_config(vec![null.address.clone()], CALL_MAX)?)?;
    linearizable.prepare_writes(&options).await?;
    for client in [&linearizable, &eventual] {
        load(client, &plan(Phase::EventualPut, args.seconds)).await?;
    }
    let mut found = [Figures::default(); Phase::ALL.len()];
    for _ in 0..args.rounds {
        for (phase, figures) in Phase::ALL.into_iter().zip(&mut found) {
            let client = match phase {
                Phase::LinearizablePut | Phase::LinearizablePutAlone => &linearizable,
                Phase::EventualPut | Phase::EventualGet | Phase::EventualPutAlone => &eventual,
                Phase::NullGet => &nothing,
            };
            add(figures, client, plan(phase, args.seconds), args.rounds).await;
        }
    }
    Ok(print(&found))
}

fn plan(phase: Phase, seconds: u64) -> Plan {
    let in_flight = NonZeroU32::new(phase.in_flight()).expect("a phase has operations");
    Plan {
        mix: Mix::only(phase.operation()),
        pace: Pace::Closed { in_flight },
        duration: Duration::from_secs(seconds),
        keys: KEYS,
        value_bytes: VALUE_BYTES,
        seed: 1,
    }
}

/// Does a phase once, and adds its share.
async fn add(figures: &mut Figures, client: &Client, plan: Plan, rounds: u32) {
    let mut running = Running::start(client, plan);
    running.wait().await;
    let report = running.report();
    let total = report.total();
    let share = |figure: f64| figure / f64::from(rounds);
    figures.per_second += share(report.per_second(&total));
    figures.p50_ms += share(total.quantile(0.5).as_secs_f64() * 1e3);
    figures.p99_ms += share(total.quantile(0.99).as_secs_f64() * 1e3);
    figures.failed += total.fail + total.unknown;
}

fn print(found: &[Figures]) -> ExitCode {
    let mut promises = Promises::default();
    let two = |figure: f64| (figure * 100.0).round() / 100.0;
    for (phase, figures) in Phase::ALL.into_iter().zip(found) {
        let Figures { per_second, p50_ms, p99_ms, failed } = figures;
        let shown =
            format!("{per_second:.0}/s p50 {p50_ms:.2} ms p99 {p99_ms:.2} ms {failed} failed");
        promises.figure(phase.name(), shown);
    }
    let of = |phase: Phase| found[phase as usize];
    let puts = of(Phase::EventualPut).per_second / of(Phase::LinearizablePut).per_second;
    promises.at_least("eventual puts / linearizable puts", two(puts), 1.0, "");
    let gets = of(Phase::EventualGet).per_second / of(Phase::NullGet).per_second;
    promises.at_least("eventual gets / gets of the null server", two(gets), 0.65, "");
    let alone = of(Phase::EventualPutAlone).p50_ms / of(Phase::LinearizablePutAlone).p50_ms;
    promises.at_most("p50 of eventual / linearizable puts, 1 in flight", two(alone), 0.6, "");
    let failed: u64 = found.iter().map(|figures| figures.failed).sum();
    promises.at_most("operations that failed", failed, 0, "");
    promises.verdict()
}

/// The process of the server that does nothing; it ends when this is dropped.
struct Null {
    process: Child,
    address: String,
}

impl Null {
    fn start(cluster: &Cluster) -> Result<Self, Failed> {
        let mut process = Command::new(std::env::current_exe()?)
            .arg("--null")
            .arg(cluster.config(0))
            .stdout(Stdio::piped())
            .spawn()?;
        let out = process.stdout.take().ok_or("a pipe was asked for")?;
        let mut null = Self { process, address: String::new() };
        BufReader::new(out).read_line(&mut null.address)?;
        null.address = null.address.trim().to_owned();
        if null.address.is_empty() { Err("the null server has ended".into()) } else { Ok(null) }
    }
}

impl Drop for Null {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

async fn serve_nothing(config: &std::path::Path) -> Result<(), Failed> {
    let config = kvstore::config::Config::load(config)?;
    let material = Material::load(&config.tls, &config.node.name)?;
    let anywhere = "127.0.0.1:0".parse()?;
    let acceptor =
        Acceptor::bind(anywhere, material.client_listener(), AcceptorOptions::default())?;
    println!("{}", acceptor.local_addr());
    std::io::stdout().flush()?;
    let value = vec![b'x'; VALUE_BYTES].into();
    let service = KvServer::new(Nothing { value });
    tonic::transport::Server::builder()
        .add_service(service)
        .serve_with_incoming(acceptor.into_stream())
        .await?;
    Ok(())
}

/// Answers reads with one value.
struct Nothing {
    value: bytes::Bytes,
}

fn only_reads<T>() -> Result<Response<T>, Status> {
    Err(Status::unimplemented("this server only answers reads"))
}

#[tonic::async_trait]
impl Kv for Nothing {
    async fn hello(
        &self,
        _: Request<v1::HelloRequest>,
    ) -> Result<Response<v1::HelloReply>, Status> {
        Ok(Response::new(v1::HelloReply::default()))
    }

    async fn get(
        &self,
        request: Request<v1::GetRequest>,
    ) -> Result<Response<v1::GetReply>, Status> {
        let key = request.into_inner().key;
        let (value, value_size) = (self.value.clone(), VALUE_BYTES as u64);
        let item = v1::Item { key, value, value_size, ..v1::Item::default() };
        let proof = v1::Proof { level: v1::Level::Linearizable as i32, ..v1::Proof::default() };
        Ok(Response::new(v1::GetReply {
            item: Some(item),
            proof: Some(proof),
            ..v1::GetReply::default()
        }))
    }

    async fn range(
        &self,
        _: Request<v1::RangeRequest>,
    ) -> Result<Response<v1::RangeReply>, Status> {
        only_reads()
    }

    async fn put(&self, _: Request<v1::PutRequest>) -> Result<Response<v1::PutReply>, Status> {
        only_reads()
    }

    async fn delete(
        &self,
        _: Request<v1::DeleteRequest>,
    ) -> Result<Response<v1::DeleteReply>, Status> {
        only_reads()
    }

    async fn txn(&self, _: Request<v1::TxnRequest>) -> Result<Response<v1::TxnReply>, Status> {
        only_reads()
    }

    async fn history(
        &self,
        _: Request<v1::HistoryRequest>,
    ) -> Result<Response<v1::HistoryReply>, Status> {
        only_reads()
    }
}
