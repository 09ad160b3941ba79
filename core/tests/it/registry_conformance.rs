//! The embedded registry behaves like etcd: every test below runs against it, etcd 3.4 and etcd 3.5.

mod kv;
mod lease;
mod txn;
mod watch;

use std::{future::Future, time::Duration};

use etcd_client::{Client, Error, WatchResponse, WatchStream};
use skynet::testing::TestRegistry;
use tonic::Code;

/// How long an answer may take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(20);

/// What a test gets: a registry of its own.
struct Conformance {
    client: Client,
    /// Ends with the test.
    _registry: TestRegistry,
}

impl Conformance {
    async fn new(registry: TestRegistry) -> Self {
        let client = Client::connect([registry.url()], None).await.unwrap();
        Self {
            client,
            _registry: registry,
        }
    }
}

async fn on_embedded<F: Future<Output = ()>>(test: impl FnOnce(Conformance) -> F) {
    let registry = TestRegistry::embedded().await.unwrap();
    test(Conformance::new(registry).await).await;
}

// Without etcd the harness says so, or fails where it is required.

async fn on_etcd_3_4<F: Future<Output = ()>>(test: impl FnOnce(Conformance) -> F) {
    if let Some(registry) = TestRegistry::etcd().await.unwrap() {
        test(Conformance::new(registry).await).await;
    }
}

async fn on_etcd_3_5<F: Future<Output = ()>>(test: impl FnOnce(Conformance) -> F) {
    if let Some(registry) = TestRegistry::etcd_3_5().await.unwrap() {
        test(Conformance::new(registry).await).await;
    }
}

/// Asserts that a call was refused with this code and message.
#[track_caller]
fn assert_refused<T: std::fmt::Debug>(result: Result<T, Error>, code: Code, message: &str) {
    match result {
        Err(Error::GRpcStatus(status)) => {
            assert_eq!((status.code(), status.message()), (code, message));
        }
        other => panic!("expected `{message}`, got {other:?}"),
    }
}

/// The next answer of a watch, which must come.
async fn next(stream: &mut WatchStream) -> WatchResponse {
    tokio::time::timeout(PATIENCE, stream.message())
        .await
        .expect("the watch is silent")
        .unwrap()
        .expect("the watch has ended")
}

/// Makes three tests of each function: against the embedded registry, etcd 3.4 and etcd 3.5.
macro_rules! conformance {
    ($($name:ident),+ $(,)?) => {
        mod embedded {
            $(#[tokio::test]
            async fn $name() {
                crate::registry_conformance::on_embedded(super::$name).await;
            })+
        }

        mod etcd_3_4 {
            $(#[tokio::test]
            async fn $name() {
                crate::registry_conformance::on_etcd_3_4(super::$name).await;
            })+
        }

        mod etcd_3_5 {
            $(#[tokio::test]
            async fn $name() {
                crate::registry_conformance::on_etcd_3_5(super::$name).await;
            })+
        }
    };
}
use conformance;
