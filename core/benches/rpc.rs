//! Calls per second beside bare TCP, tonic and tarpc, and what a call and a connection cost.
//!
//! # How to run
//!
//! `cargo bench -p skynet --bench rpc` prints the tables in about four minutes, after it has built
//! tarpc's side, a package of its own (see `rpc/tarpc`);
//! `cargo bench -p skynet --bench rpc -- soak` makes 50,000 calls/s for ten minutes and fails when
//! memory grows. Shorter or longer: `SKYNET_BENCH_SECONDS` (0.3) is the length of a round,
//! `SKYNET_BENCH_ROUNDS` (15) their number, `SKYNET_BENCH_SOAK_SECONDS` (600) the soak's length.
//! `SKYNET_BENCH_ONLY=skynet` measures one peer alone, for a profiler.
//!
//! # What is measured
//!
//! A method that returns the string that it is given, 64 bytes or 4 KiB. Shapes are connections x
//! calls in flight on each. Peers:
//!
//! - `tcp`: bytes there and back, no messages; so every call in flight has its own connection, also
//!   where the shape says one.
//! - `tonic` 0.14 with prost, `tarpc` with bincode: as their documentation shows them, tarpc with a
//!   task for each request and its deadline of 10 s.
//! - `skynet`: a [`Connection`](skynet::rpc::Connection) as the other two have one, BSON, a random
//!   request id and a deadline of 10 s on every call; limits, statistics and spans as shipped.
//! - `client`: the same through a [`ServiceClient`](skynet::client::ServiceClient) and a registry:
//!   with the choice among instances, health and retry budget. It opens one connection, whatever
//!   the shape.
//!
//! Server and caller of every peer are processes of their own. All of them have tokio's
//! multi-threaded runtime with a worker for each core, and `TCP_NODELAY`; connections are new in
//! every round. The caller's figures include making the string and checking the answer, for all
//! alike.
//!
//! # What the tables mean
//!
//! Rounds alternate between the peers, so that a busy machine disturbs all alike. Every ratio is
//! taken within a round, and the median of the rounds is shown; the first round warms up and does
//! not count. Absolute figures are medians too; they say little on a machine that others use, which
//! the load in the first line tells.
//!
//! Costs are of each process as a whole, divided by the calls: the processor's time as the kernel
//! tells it, and in rounds of their own heap allocations and copied bytes as our allocator, `memcpy`
//! and `memmove` count them (see `cost`). The caller's include the string that is sent.
//! The last table holds our figures against what the project aims at. One call at a time, nothing
//! can be faster than bare TCP: where that itself is below the aim, its ratio is shown.
#![allow(clippy::print_stdout, reason = "a bench prints its table")]

use std::process::ExitCode;
use std::time::Duration;

#[path = "rpc/child.rs"]
mod child;
#[path = "rpc/cost.rs"]
mod cost;
#[path = "rpc/load.rs"]
mod load;
#[path = "rpc/memory.rs"]
mod memory;
#[path = "rpc/peers.rs"]
mod peers;
#[path = "rpc/process.rs"]
mod process;
#[path = "rpc/table.rs"]
mod table;
#[path = "rpc/tonic_peer.rs"]
mod tonic_peer;

use load::Load;
use peers::Peer;
use process::Pair;
use table::Section;

#[global_allocator]
static ALLOCATOR: cost::Counting = cost::Counting;

fn variable<T: std::str::FromStr>(name: &str, otherwise: T) -> T {
    std::env::var(name)
        .ok()
        .and_then(|value| value.parse().ok())
        .unwrap_or(otherwise)
}

/// Connections, calls in flight on each.
const SHAPES: [(usize, usize); 3] = [(1, 1), (1, 64), (8, 8)];

/// The shape whose costs are counted.
const COST_SHAPE: (usize, usize) = (1, 64);

/// The sizes of the string, in bytes.
const SIZES: [usize; 2] = [64, 4096];

fn main() -> anyhow::Result<ExitCode> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let runtime = tokio::runtime::Runtime::new()?;
    if let [part, name, rest @ ..] = arguments.as_slice()
        && let Some(peer) = Peer::named(name)
    {
        runtime.block_on(be_part(part, peer, rest))?;
        return Ok(ExitCode::SUCCESS);
    }
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    println!("{cores} cores, load {}", load_average());
    let has = |word: &str| arguments.iter().any(|argument| argument == word);
    if has("soak") {
        let length = Duration::from_secs(variable("SKYNET_BENCH_SOAK_SECONDS", 600));
        let is_flat = runtime.block_on(memory::soak(length))?;
        return Ok(ExitCode::from(u8::from(!is_flat)));
    }
    // As a test it only shows that it runs.
    let (round, rounds) = if has("--test") { (0.02, 1) } else { (0.3, 15) };
    let round = Duration::from_secs_f64(variable("SKYNET_BENCH_SECONDS", round));
    let rounds = variable("SKYNET_BENCH_ROUNDS", rounds).max(1_usize);
    // tarpc is built for this; a test of the bench does without.
    let only = std::env::var("SKYNET_BENCH_ONLY").ok();
    let is_wanted = |peer: Peer| match &only {
        Some(only) => only == peer.name(),
        None => !has("--test") || peer != Peer::Tarpc,
    };
    let peers = Peer::ALL
        .into_iter()
        .filter(|peer| is_wanted(*peer))
        .collect();
    print_all(peers, round, rounds)?;
    if only.is_none() {
        table::print_idle(runtime.block_on(memory::idle())?);
    }
    println!("load {}", load_average());
    Ok(ExitCode::SUCCESS)
}

fn load_average() -> String {
    let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    load.trim().to_owned()
}

/// Is a server or a caller, in a process of its own.
async fn be_part(part: &str, peer: Peer, rest: &[String]) -> anyhow::Result<()> {
    match (part, rest) {
        ("serve", []) => {
            let (place, _kept) = peers::serve(peer).await?;
            child::serve(&place).await
        }
        ("call", [place]) => child::call(|shape| peers::callers(peer, place, shape)).await,
        _ => anyhow::bail!("`{part}` is no part of the bench"),
    }
}

fn print_all(peers: Vec<Peer>, round: Duration, rounds: usize) -> anyhow::Result<()> {
    let mut pairs = Vec::new();
    for peer in peers {
        pairs.push(Pair::start(peer)?);
    }
    table::print_heading();
    let mut sections = Vec::new();
    for bytes in SIZES {
        for shape in SHAPES {
            let load = Load {
                shape,
                bytes,
                round,
            };
            let section = measure(&mut pairs, load, rounds)?;
            section.print();
            sections.push(section);
        }
    }
    println!();
    table::print_costs_heading();
    for bytes in SIZES {
        for pair in &mut pairs {
            let load = Load {
                shape: COST_SHAPE,
                bytes,
                round,
            };
            table::print_costs(load, pair.peer, pair.costs(load)?);
        }
    }
    println!();
    table::print_targets(&sections);
    Ok(())
}

/// Every peer's rounds, one of each in turn.
fn measure(pairs: &mut [Pair], load: Load, rounds: usize) -> anyhow::Result<Section> {
    let mut peers: Vec<_> = pairs.iter().map(|pair| (pair.peer, Vec::new())).collect();
    for round in 0..=rounds {
        for (pair, (_, results)) in pairs.iter_mut().zip(&mut peers) {
            let measured = pair.speed(load)?;
            // The first round warms up.
            if round > 0 {
                results.push(measured);
            }
        }
    }
    Ok(Section { load, peers })
}
