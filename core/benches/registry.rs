//! What the registry costs, each figure beside its budget: `cargo bench -p skynet --bench registry`.
//!
//! On a real etcd with its usual fsync, where one is installed, and on the embedded registry, each a
//! process of its own; the beside column is a plain loop of etcd-client that does the same calls
//! without our machinery, in the same run. The run fails when a budget is not kept.
//! `SKYNET_BENCH_ONLY` names the stages to run: `quiet,register,listen,relist,return`;
//! `SKYNET_BENCH_REGISTRATIONS` (5000) is how many register at once.
#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a bench prints its table"
)]

use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context as _;

#[path = "registry/line.rs"]
mod line;
#[path = "registry/listening.rs"]
mod listening;
#[path = "registry/memory.rs"]
mod memory;
#[path = "registry/quiet.rs"]
mod quiet;
#[path = "registry/registering.rs"]
mod registering;
#[path = "registry/relisting.rs"]
mod relisting;
#[path = "registry/returning.rs"]
mod returning;
#[path = "registry/rows.rs"]
mod rows;
#[path = "registry/server.rs"]
mod server;
#[path = "registry/table.rs"]
mod table;

use server::{Kind, Server};
use table::Table;

#[global_allocator]
static COUNTING: memory::Counting = memory::Counting;

/// How much of everything.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sizes {
    /// How long a quiet cluster is watched.
    pub(crate) quiet: Duration,
    /// Instances of the quiet cluster.
    pub(crate) cluster: u32,
    /// Instances that are registered at once.
    pub(crate) registrations: u32,
    /// Processes that share these registrations, where they share leases.
    pub(crate) processes: u32,
    /// Watchers, each as of a process of its own.
    pub(crate) watchers: u32,
    /// Changes that are timed on their way to the listeners.
    pub(crate) changes: u32,
    /// Instances that are listed again.
    pub(crate) rows: u32,
}

const WHOLE: Sizes = Sizes {
    quiet: Duration::from_mins(1),
    cluster: 40,
    registrations: 5_000,
    processes: 50,
    watchers: 200,
    changes: 200,
    rows: 100_000,
};

/// As a test the bench only shows that it runs.
const TINY: Sizes = Sizes {
    quiet: Duration::from_secs(1),
    cluster: 4,
    registrations: 20,
    processes: 4,
    watchers: 5,
    changes: 5,
    rows: 2_000,
};

fn main() -> anyhow::Result<ExitCode> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let runtime = tokio::runtime::Runtime::new()?;
    if let [serve, address, folder] = arguments.as_slice()
        && serve == "serve"
    {
        runtime.block_on(server::serve(address.parse()?, folder.into()))?;
        return Ok(ExitCode::SUCCESS);
    }
    let is_test = arguments.iter().any(|argument| argument == "--test");
    let mut sizes = if is_test { TINY } else { WHOLE };
    let registrations = std::env::var("SKYNET_BENCH_REGISTRATIONS").ok();
    if let Some(registrations) = registrations.and_then(|number| number.parse().ok()) {
        sizes.registrations = registrations;
    }
    returning::count_listings();
    let mut table = Table::new();
    runtime.block_on(run(sizes, &mut table))?;
    // A machine that is busy with a whole test run keeps no budgets.
    Ok(if table.is_held() || is_test {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

async fn run(sizes: Sizes, table: &mut Table) -> anyhow::Result<()> {
    let only = std::env::var("SKYNET_BENCH_ONLY").unwrap_or_default();
    let wanted = |stage: &str| only.is_empty() || only.split(',').any(|one| one == stage);
    for kind in Kind::ALL {
        // Every stage has a registry of its own, so that none sees what another has left.
        let start = async || Server::start(kind).await.context("no registry");
        let Some(first) = start().await? else {
            continue;
        };
        drop(first);
        let again = async || start().await?.context("the registry is gone");
        if wanted("relist") {
            relisting::measure(&again().await?, sizes, table).await?;
        }
        if wanted("register") {
            for processes in [sizes.processes, sizes.registrations] {
                registering::measure(&again().await?, sizes, processes, table).await?;
            }
        }
        if wanted("listen") {
            listening::measure(&again().await?, sizes, table).await?;
        }
        if wanted("return") {
            returning::measure(&mut again().await?, sizes, table).await?;
        }
        if wanted("quiet") {
            quiet::measure(&again().await?, sizes, table).await?;
        }
    }
    Ok(())
}
