//! A service: `cargo run -p skynet --example service`, with `sky registry` running.

use serde::{Deserialize, Serialize};
use skynet::registry::{Registry, RegistryConfig};
use skynet::service::{Context, Service, ServiceConfig, ServiceError};

#[derive(Serialize, Deserialize)]
struct Text {
    data: String,
}

async fn upcase(_: Context, input: Text) -> Result<Text, ServiceError> {
    if input.data.is_empty() {
        return Err(ServiceError::new("there is nothing to raise"));
    }
    Ok(Text {
        data: input.data.to_uppercase(),
    })
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let registry = Registry::new(&RegistryConfig::from_env())?;
    let service = Service::builder("Upcase")
        .version("1")
        .configure(&ServiceConfig::from_env_and_args()?)
        .method("Upcase", upcase)
        .start(&registry)
        .await?;
    service.until_stopped().await; // SIGTERM: finish what runs, leave the registry, close
    Ok(())
}
