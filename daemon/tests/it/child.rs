//! The service that the tests deploy: this test binary, run again as a test that serves.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use skynet::registry::{Registry, RegistryConfig};
use skynet::service::{Context, Service, ServiceConfig, ServiceError};

/// The name of the service.
pub(crate) const SERVICE: &str = "Fixture";

/// The variable that makes the test below serve.
const SERVES: &str = "SKYNET_FIXTURE_SERVES";

#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Text {
    pub(crate) data: String,
}

/// A `[[service]]` of a daemon's file that serves `count` times.
pub(crate) fn described(count: u32) -> String {
    let path = std::env::current_exe().unwrap();
    format!(
        "[[service]]\npath = '{}'\nargs = ['--exact', 'child::serves', '--nocapture']\n\
         env = {{ {SERVES} = 1 }}\ncount = {count}\n",
        path.display()
    )
}

/// The same as the program and the arguments of a request to deploy.
pub(crate) fn deployable() -> (String, String) {
    let program = std::env::current_exe().unwrap();
    let args = format!(
        "{SERVES}=1 {} --exact child::serves --nocapture",
        program.display()
    );
    ("env".to_owned(), args)
}

#[test]
fn serves() {
    if std::env::var_os(SERVES).is_none() {
        return;
    }
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let registry = Registry::new(&RegistryConfig::from_env()).unwrap();
        let config = ServiceConfig::from_env_and_args().unwrap();
        let service = Service::builder(SERVICE)
            .version("7")
            .drain(Duration::ZERO, Duration::from_secs(5))
            .configure(&config)
            .method("Echo", |_: Context, input: Text| async move {
                Ok::<_, ServiceError>(input)
            })
            .start(&registry)
            .await
            .unwrap();
        service.until_stopped().await;
    });
}
