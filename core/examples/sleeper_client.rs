//! Waits for a service that takes its time:
//!
//!     cargo run -p skynet --example sleeper_client -- 1000 --deadline 500ms
//!     cargo run -p skynet --example sleeper_client -- --load --concurrency 500 --for 10s 100
//!
//! with `sky registry` and `cargo run -p skynet --example demo -- Sleeper` running.

use clap::Parser;
use skynet::client::Client;
use skynet::demo::sleeper::{NAME, Nap};
use skynet::query::{Field, Query};
use skynet::registry::{Registry, RegistryConfig};

#[path = "support/load.rs"]
mod load;

#[derive(Parser)]
struct Flags {
    #[command(flatten)]
    load: load::Load,
    /// How long, in milliseconds
    #[arg(default_value_t = 100)]
    ms: i64,
}

#[tokio::main]
#[expect(clippy::print_stdout, reason = "this is what the example is for")]
async fn main() -> anyhow::Result<()> {
    let flags = Flags::parse();
    let registry = Registry::new(&RegistryConfig::from_env())?;
    let sleeper = Client::connect(&registry).service(Query::exact(Field::Service, &[NAME]));
    let nap = Nap { ms: flags.ms };
    if flags.load.wanted {
        return load::run::<_, Nap>(&sleeper, "Sleep", &flags.load, move |_| nap).await;
    }
    let slept: Nap = sleeper
        .call_with("Sleep", &nap, flags.load.options())
        .await
        .map_err(|error| load::advised(&error))?;
    println!("slept for {} ms", slept.ms);
    Ok(())
}
