//! The example services, and that the README shows the examples that compile.

use std::path::Path;

use skynet::client::{CallError, Client, Place};
use skynet::demo::fibonacci::{Index, Number};
use skynet::demo::sleeper::Nap;
use skynet::demo::test_service::Text;
use skynet::registry::{Registry, RegistryConfig};
use skynet::testing::TestRegistry;

#[tokio::test]
async fn the_examples_answer_and_fibonacci_calls_itself() {
    let server = TestRegistry::embedded().await.unwrap();
    let registry = Registry::new(&RegistryConfig::at(&server.url())).unwrap();
    let mut running = Vec::new();
    for name in ["TestService", "Fibonacci", "Fibonacci", "Sleeper"] {
        let builder = skynet::demo::builder(name, &registry).unwrap();
        running.push(builder.start(&registry).await.unwrap());
    }
    let client = Client::connect_from(&registry, Place::default());
    let service = |query: &str| client.service(query.parse().unwrap());
    let text = Text {
        data: "straße".into(),
    };
    let raised: Text = service("service=TestService")
        .call("Upcase", &text)
        .await
        .unwrap();
    assert_eq!(raised.data, "STRASSE");
    let fibonacci = service("service=Fibonacci");
    let number: Number = fibonacci.call("Index", &Index { index: 10 }).await.unwrap();
    assert_eq!(
        number,
        Number {
            index: 10,
            value: 55
        }
    );
    let served: Vec<i64> = running[1..3]
        .iter()
        .map(|one| one.stats().requests)
        .collect();
    assert_eq!(
        served.iter().sum::<i64>(),
        177,
        "the calls of the whole tree"
    );
    assert!(
        served.iter().all(|calls| *calls > 0),
        "both were called: {served:?}"
    );
    let refused = fibonacci
        .call::<_, Number>("Index", &Index { index: 21 })
        .await;
    assert!(
        matches!(refused, Err(CallError::Service { .. })),
        "{refused:?}"
    );
    let nap: Nap = service("service=Sleeper")
        .call("Sleep", &Nap { ms: 1 })
        .await
        .unwrap();
    assert_eq!(nap.ms, 1);
    assert!(skynet::demo::builder("Nothing", &registry).is_err());
    for service in running {
        service.stopper().stop();
    }
}

#[test]
fn the_readme_shows_the_examples_that_compile() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let readme = std::fs::read_to_string(root.join("../README.md")).unwrap();
    for example in ["service", "hello"] {
        let source = std::fs::read_to_string(root.join(format!("examples/{example}.rs"))).unwrap();
        let code = source.split_once("\n\n").unwrap().1;
        assert!(
            readme.contains(code),
            "README.md does not show examples/{example}.rs as it is"
        );
    }
}
