//! Runs one of the demo's services by hand: `cargo run -p skynet --example demo -- Fibonacci`, with
//! `sky registry` running.

use anyhow::Context as _;
use skynet::demo;
use skynet::registry::{Registry, RegistryConfig};
use skynet::service::ServiceConfig;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let name = std::env::args()
        .nth(1)
        .context("name a service, for example `Fibonacci`")?;
    let registry = Registry::new(&RegistryConfig::from_env())?;
    let config = ServiceConfig::from_env_and_args()?;
    let service = demo::builder(&name, &registry)?
        .configure(&config)
        .start(&registry)
        .await?;
    service.until_stopped().await;
    Ok(())
}
