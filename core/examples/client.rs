//! Raises letters, or finds out how many calls a second that can be:
//!
//!     cargo run -p skynet --example client -- hello world
//!     cargo run -p skynet --example client -- --load --rate 1000 --concurrency 64 --for 10s
//!
//! with `sky registry` and the example `service` running; `--query service=TestService` calls the
//! demo's.

use clap::Parser;
use serde::{Deserialize, Serialize};
use skynet::client::Client;
use skynet::query::Query;
use skynet::registry::{Registry, RegistryConfig};

#[path = "support/load.rs"]
mod load;

#[derive(Parser)]
struct Flags {
    /// Which instances to call
    #[arg(long, default_value = "service=Upcase")]
    query: Query,
    #[command(flatten)]
    load: load::Load,
    /// What to raise
    #[arg(default_value = "hello")]
    words: Vec<String>,
}

#[derive(Serialize, Deserialize)]
struct Text {
    data: String,
}

#[tokio::main]
#[expect(clippy::print_stdout, reason = "this is what the example is for")]
async fn main() -> anyhow::Result<()> {
    let flags = Flags::parse();
    let registry = Registry::new(&RegistryConfig::from_env())?;
    let upcase = Client::connect(&registry).service(flags.query);
    let words = flags.words;
    if flags.load.wanted {
        let input = move |number: usize| Text {
            data: words[number % words.len()].clone(),
        };
        return load::run::<_, Text>(&upcase, "Upcase", &flags.load, input).await;
    }
    let inputs: Vec<Text> = words.into_iter().map(|data| Text { data }).collect();
    let calls = upcase.calls("Upcase", inputs).with(flags.load.options());
    let mut answers = calls.in_order::<Text>();
    while let Some(answer) = answers.next().await {
        println!("{}", answer.map_err(|error| load::advised(&error))?.data);
    }
    Ok(())
}
