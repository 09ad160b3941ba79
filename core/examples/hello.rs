//! The smallest client: `cargo run -p skynet --example hello -- hello`, with the service running.

use serde::{Deserialize, Serialize};
use skynet::client::Client;
use skynet::registry::{Registry, RegistryConfig};

#[derive(Serialize, Deserialize)]
struct Text {
    data: String,
}

#[tokio::main]
#[expect(clippy::print_stdout, reason = "this is what the example is for")]
async fn main() -> anyhow::Result<()> {
    let registry = Registry::new(&RegistryConfig::from_env())?;
    let client = Client::connect(&registry);
    // Waits for an instance, calls the nearest that is least busy, tries another if it dies.
    let upcase = client.service("service=Upcase version>=1".parse()?);
    for data in std::env::args().skip(1) {
        let answer: Text = upcase.call("Upcase", &Text { data }).await?;
        println!("{}", answer.data);
    }
    Ok(())
}
