//! Calls per second beside bare TCP and tonic, in one run: `cargo bench -p skynet --bench rpc`.
//!
//! Server and client are separate processes: this program runs itself again for each server. Every
//! shape is measured in rounds that alternate between the peers, and the median round counts, so
//! that a busy machine disturbs all of them alike. Deadlines, statistics and limits are on, as
//! shipped. `SKYNET_BENCH_SECONDS` (0.7) is the length of a round, `SKYNET_BENCH_ROUNDS` (5) their
//! number.
#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a bench prints its table"
)]

use std::io::BufRead as _;
use std::net::SocketAddr;
use std::process::{Child, Command, ExitCode, Stdio};
use std::time::Duration;

use anyhow::Context as _;

#[path = "rpc/peers.rs"]
mod peers;
#[path = "rpc/tonic_peer.rs"]
mod tonic_peer;

use peers::{Load, Measured, Peer};

/// A server of its own process; it ends when its input does.
struct Server {
    child: Child,
    address: SocketAddr,
}

impl Server {
    fn start(peer: Peer) -> anyhow::Result<Self> {
        let mut child = Command::new(std::env::current_exe()?)
            .args(["serve", peer.name()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let output = child.stdout.take().context("the server has no output")?;
        let mut line = String::new();
        std::io::BufReader::new(output).read_line(&mut line)?;
        let address = line.trim().parse().context("the server named no address")?;
        Ok(Self { child, address })
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.child.stdin.take());
        let _ended = self.child.wait();
    }
}

fn variable<T: std::str::FromStr>(name: &str, otherwise: T) -> T {
    std::env::var(name)
        .ok()
        .and_then(|value| value.parse().ok())
        .unwrap_or(otherwise)
}

/// The shapes: connections, calls in flight on each.
const SHAPES: [(usize, usize); 3] = [(1, 1), (1, 64), (8, 8)];

/// The sizes of the string, in bytes.
const SIZES: [usize; 2] = [64, 4096];

fn main() -> anyhow::Result<ExitCode> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let runtime = tokio::runtime::Runtime::new()?;
    if let [serve, name] = arguments.as_slice()
        && serve == "serve"
    {
        let peer = Peer::named(name).context("no such peer")?;
        runtime.block_on(peers::serve(peer))?;
        return Ok(ExitCode::SUCCESS);
    }
    // As a test it only shows that it runs.
    let is_test = arguments.iter().any(|argument| argument == "--test");
    let (round, rounds) = if is_test { (0.02, 1) } else { (0.7, 5) };
    let round = Duration::from_secs_f64(variable("SKYNET_BENCH_SECONDS", round));
    let rounds = variable("SKYNET_BENCH_ROUNDS", rounds).max(1_usize);
    let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    println!("{cores} cores, load {}", load.trim());
    println!(
        "{:>7} {:>5} {:<8} {:>10} {:>8} {:>8} {:>8} {:>8}",
        "bytes", "shape", "peer", "calls/s", "p50 us", "p99 us", "/ tcp", "/ tonic"
    );
    for bytes in SIZES {
        for (connections, in_flight) in SHAPES {
            let load = Load {
                connections,
                in_flight,
                bytes,
                round,
            };
            let table = runtime.block_on(measure(load, rounds))?;
            print(load, &table);
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// The median round of every peer.
async fn measure(load: Load, rounds: usize) -> anyhow::Result<Vec<(Peer, Measured)>> {
    let servers = Peer::ALL.map(|peer| (peer, Server::start(peer)));
    let mut all: Vec<(Peer, Vec<Measured>)> = Vec::new();
    for round in 0..=rounds {
        for (peer, server) in &servers {
            let server = server
                .as_ref()
                .map_err(|error| anyhow::anyhow!("{error:#}"))?;
            let measured = peers::run(*peer, server.address, load).await?;
            match all.iter_mut().find(|(known, _)| known == peer) {
                // The first round warms up.
                None => all.push((*peer, Vec::new())),
                Some((_, results)) if round > 0 => results.push(measured),
                Some(_) => {}
            }
        }
    }
    Ok(all
        .into_iter()
        .filter_map(|(peer, mut results)| {
            results.sort_by(|one, other| one.per_second.total_cmp(&other.per_second));
            results.get(results.len() / 2).map(|median| (peer, *median))
        })
        .collect())
}

fn print(load: Load, table: &[(Peer, Measured)]) {
    let of = |wanted: Peer| {
        table
            .iter()
            .find(|(peer, _)| *peer == wanted)
            .map(|(_, measured)| measured.per_second)
    };
    let ratio = |measured: &Measured, base: Option<f64>| {
        base.map_or_else(String::new, |base| {
            format!("{:.2}", measured.per_second / base)
        })
    };
    for (peer, measured) in table {
        println!(
            "{:>7} {:>5} {:<8} {:>10.0} {:>8.0} {:>8.0} {:>8} {:>8}",
            load.bytes,
            format!("{}x{}", load.connections, load.in_flight),
            peer.name(),
            measured.per_second,
            measured.p50_us,
            measured.p99_us,
            ratio(measured, of(Peer::Tcp)),
            ratio(measured, of(Peer::Tonic)),
        );
    }
}
