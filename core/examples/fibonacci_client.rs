//! Asks a service that calls itself through the cluster:
//!
//!     cargo run -p skynet --example fibonacci_client -- 5 10
//!     cargo run -p skynet --example fibonacci_client -- --load --rate 20 --for 10s 6
//!
//! with `sky registry` and `cargo run -p skynet --example demo -- Fibonacci` running.

use clap::Parser;
use skynet::client::Client;
use skynet::demo::fibonacci::{Index, NAME, Number};
use skynet::query::{Field, Query};
use skynet::registry::{Registry, RegistryConfig};

#[path = "support/load.rs"]
mod load;

#[derive(Parser)]
struct Flags {
    #[command(flatten)]
    load: load::Load,
    /// Which numbers of the sequence, from 0 to 20
    #[arg(default_value = "10")]
    indices: Vec<i64>,
}

#[tokio::main]
#[expect(clippy::print_stdout, reason = "this is what the example is for")]
async fn main() -> anyhow::Result<()> {
    let flags = Flags::parse();
    let registry = Registry::new(&RegistryConfig::from_env())?;
    let fibonacci = Client::connect(&registry).service(Query::exact(Field::Service, &[NAME]));
    let indices = flags.indices;
    if flags.load.wanted {
        let input = move |number: usize| Index {
            index: indices[number % indices.len()],
        };
        return load::run::<_, Number>(&fibonacci, "Index", &flags.load, input).await;
    }
    for index in indices {
        let options = flags.load.options();
        let number: Number = fibonacci
            .call_with("Index", &Index { index }, options)
            .await
            .map_err(|error| load::advised(&error))?;
        println!("{} is {}", number.index, number.value);
    }
    Ok(())
}
