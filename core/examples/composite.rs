//! A service that calls another one: `cargo run -p skynet --example composite`, with `sky registry` and
//! the example `service` running. Ask it with `sky call Greeter Greet '{"data": "Ada"}'`.

use serde::{Deserialize, Serialize};
use skynet::client::{CallOptions, Client, ServiceClient};
use skynet::registry::{Registry, RegistryConfig};
use skynet::service::{Context, Service, ServiceConfig, ServiceError};

#[derive(Serialize, Deserialize)]
struct Text {
    data: String,
}

/// Request id, origin, trace and what is left of the time go on to the service behind.
async fn greet(upcase: ServiceClient, context: Context, name: Text) -> Result<Text, ServiceError> {
    let options = CallOptions {
        idempotent: true,
        ..CallOptions::on_behalf_of(&context)
    };
    let loud: Text = upcase
        .call_with("Upcase", &name, options)
        .await
        .map_err(ServiceError::new)?;
    Ok(Text {
        data: format!("Hello, {}!", loud.data),
    })
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let registry = Registry::new(&RegistryConfig::from_env())?;
    let upcase = Client::connect(&registry).service("service=Upcase".parse()?);
    let service = Service::builder("Greeter")
        .configure(&ServiceConfig::from_env_and_args()?)
        .method("Greet", move |context: Context, name: Text| {
            greet(upcase.clone(), context, name)
        })
        .start(&registry)
        .await?;
    service.until_stopped().await;
    Ok(())
}
