//! Silent connections: an honest client beside them hardly notices.

use std::time::{Duration, Instant};

use client::{CallOptions, Client};
use jepsen::cluster::Cluster;
use tokio::net::TcpStream;

use crate::fleet::probe;
use crate::programs::{self, READY_MAX};

/// Silent connections to each port.
const SILENT: usize = 1_000;
/// Operations of the honest client in each phase.
const OPERATIONS: u32 = 500;
/// Below this a doubled p99 is the scheduler's doing on a busy machine, not the server's.
const NOISE: Duration = Duration::from_millis(20);

/// Rounds of measurement. What the server does to honest clients shows in every round, what other
/// tests on the same two cores do does not: one good round is enough.
const ROUNDS: usize = 5;

#[tokio::test(flavor = "multi_thread")]
async fn t01_a_thousand_silent_connections_on_each_port_slow_nobody_down() {
    let mut cluster = programs::cluster().await;
    let client = cluster.client(vec![cluster.endpoint(0)], READY_MAX).unwrap();
    work(&client, 100).await;
    let mut measured = Vec::new();
    let fine = |(before, during): &(Duration, Duration)| *during <= (2 * *before).max(NOISE);
    while measured.len() < ROUNDS && !measured.iter().any(fine) {
        let before = work(&client, OPERATIONS).await;
        let silent = flood(&cluster).await;
        let during = work(&client, OPERATIONS).await;
        println!("p99 {before:?} before, {during:?} beside {} silent connections", silent.len());
        measured.push((before, during));
        // New honest clients get in as well, on each port that answers anybody.
        let (status, answer) = probe(&cluster.admin_address(0), "/livez").await.unwrap();
        assert_eq!(status, 200, "{answer}");
        let newcomer = cluster.client(vec![cluster.endpoint(0)], READY_MAX).unwrap();
        work(&newcomer, 10).await;
    }
    assert!(measured.iter().any(fine), "p99 before and beside the flood: {measured:?}");
    cluster.check_alive().unwrap();
}

/// So many connections to each port of the first node, none of which ever says anything.
async fn flood(cluster: &Cluster) -> Vec<TcpStream> {
    let config = std::fs::read_to_string(cluster.config(0)).unwrap();
    let config: toml::Table = config.parse().unwrap();
    let mut silent = Vec::new();
    for port in ["client", "peer", "admin"] {
        let address = config["listen"][port].as_str().unwrap();
        for _ in 0..SILENT {
            silent.push(TcpStream::connect(address).await.unwrap());
        }
    }
    silent
}

/// The 99th percentile of so many operations, one after the other.
async fn work(client: &Client, operations: u32) -> Duration {
    let options = CallOptions::default();
    let mut times = Vec::new();
    for number in 0..operations {
        let begin = Instant::now();
        if number % 2 == 0 {
            client.put_value("honest", "1", &options).await.unwrap();
        } else {
            client.get_value("honest", &options).await.unwrap();
        }
        times.push(begin.elapsed());
    }
    times.sort_unstable();
    times[times.len() * 99 / 100 - usize::from(times.len() < 100)]
}
