//! The hidden command by which the demo's daemons run the example services: this program again.

use std::time::Duration;

use clap::Args;
use skynet::demo;
use skynet::registry::{Registry, RegistryConfig};
use skynet::service::ServiceConfig;

/// Options of the hidden command.
#[derive(Debug, Clone, Args)]
pub struct ExampleArgs {
    /// Which example: `TestService`, `Fibonacci` or `Sleeper`.
    pub service: String,
    /// The version that it registers as.
    #[arg(long = "version", default_value = "1")]
    pub service_version: String,
}

/// Runs the service until it is told to stop.
///
/// # Errors
/// When there is no such example, or it cannot start.
pub async fn run(args: ExampleArgs) -> anyhow::Result<()> {
    let registry = Registry::new(&RegistryConfig::from_env())?;
    let builder = demo::builder(&args.service, &registry)?
        .configure(ServiceConfig::from_env()?)
        .version(&args.service_version)
        .drain(Duration::from_secs(1), Duration::from_secs(1));
    let service = builder.start(&registry).await?;
    service.until_stopped().await;
    Ok(())
}
