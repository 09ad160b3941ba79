//! Programs without tokio: plain threads, and what happens where nothing may block.

use std::time::Duration;

use skynet::blocking::{Client, Error, Service};
use skynet::client::Place;
use skynet::hint::{Hint, Retry};
use skynet::registry::RegistryConfig;
use skynet::service::{Builder, Context, ServiceError};
use skynet::testing::TestRegistry;

use crate::rpc_support::Text;

/// A registry on a runtime of its own, as if it were another process.
fn with_registry(test: impl FnOnce(&RegistryConfig)) {
    let elsewhere = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .unwrap();
    let server = elsewhere.block_on(TestRegistry::embedded()).unwrap();
    test(&RegistryConfig::at(&server.url()));
    let _in_its_runtime = elsewhere.enter();
    drop(server);
}

fn text(data: &str) -> Text {
    Text {
        data: data.to_owned(),
    }
}

fn upcase() -> Builder {
    skynet::service::Service::builder("Blocking")
        .ports(0..=0)
        .drain(Duration::from_millis(50), Duration::from_secs(10))
        .blocking_method("Upcase", |_: Context, input: Text| {
            if input.data.is_empty() {
                return Err(ServiceError::new("there is nothing to raise"));
            }
            Ok(text(&input.data.to_uppercase()))
        })
        .blocking_method("Panic", |_: Context, input: Text| {
            assert!(input.data.is_empty(), "a panic on purpose");
            Ok::<_, ServiceError>(input)
        })
}

#[test]
fn plain_threads_serve_and_call() {
    with_registry(|config| {
        let service = Service::start(upcase(), config).unwrap();
        let client = Client::connect_from(config, Place::default()).unwrap();
        let blocking = client.service("service=Blocking".parse().unwrap());
        let answer: Text = blocking.call("Upcase", &text("a")).unwrap();
        assert_eq!(answer.data, "A");
        let begun = blocking.start::<_, Text>("Upcase", text("b"));
        assert_eq!(begun.wait().unwrap().data, "B");
        let words = ["x", "y", "z"].map(text);
        let answers = blocking.calls::<_, Text>("Upcase", words, 2);
        let raised: Vec<String> = answers.map(|answer| answer.unwrap().data).collect();
        assert_eq!(raised, ["X", "Y", "Z"]);
        let ten = || {
            for _ in 0..10 {
                let _raised: Text = blocking.call("Upcase", &text("t")).unwrap();
            }
        };
        std::thread::scope(|scope| {
            let threads = [(); 4].map(|()| scope.spawn(ten));
            for thread in threads {
                thread.join().unwrap();
            }
        });
        let failed = blocking.call::<_, Text>("Upcase", &text("")).unwrap_err();
        assert!(matches!(failed, Error::Call(_)) && failed.retry() == Retry::Never);
        assert!(failed.to_string().contains("there is nothing to raise"));
        let panicked = blocking.call::<_, Text>("Panic", &text("now")).unwrap_err();
        assert!(panicked.to_string().contains("panicked"), "{panicked}");
        assert_eq!(blocking.metrics().succeeded, 45);
        assert_eq!(client.metrics().services.len(), 1);
        let methods = service.metrics().service.methods;
        assert_eq!((methods[1].calls, methods[1].failed), (46, 1));
        service.stop().unwrap();
        service.until_stopped().unwrap();
    });
}

#[test]
fn inside_async_it_is_an_error_and_not_a_panic() {
    with_registry(|config| {
        let service = Service::start(upcase(), config).unwrap();
        let client = Client::connect_from(config, Place::default()).unwrap();
        let blocking = client.service("service=Blocking".parse().unwrap());
        let runtime = tokio::runtime::Runtime::new().unwrap();
        runtime.block_on(async {
            let refused = [
                Client::connect(config).unwrap_err(),
                Service::start(upcase(), config).unwrap_err(),
                blocking.call::<_, Text>("Upcase", &text("a")).unwrap_err(),
                blocking
                    .start::<_, Text>("Upcase", text("b"))
                    .wait()
                    .unwrap_err(),
                service.stop().unwrap_err(),
            ];
            for error in refused {
                assert!(matches!(error, Error::InsideAsync), "{error:?}");
                assert!(error.hint().unwrap().contains("await"));
            }
            let mut answers = blocking.calls::<_, Text>("Upcase", [text("c")], 1);
            assert!(matches!(answers.next(), Some(Err(Error::InsideAsync))));
            assert!(answers.next().is_none(), "one error is enough");
            // Dropping the last handle here is no panic either.
            drop((client, blocking, answers));
        });
        service.stop().unwrap();
    });
}
