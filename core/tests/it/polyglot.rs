//! Peers in another language, written from the description of the wire alone: a Python client calls
//! a service of ours, and a Python service answers a client of ours.
//!
//! Where there is no Python with `bson`, the tests say so past the capture of test output and run
//! nothing; `SKYNET_REQUIRE_POLYGLOT=1` makes that a failure.

use std::io::{BufRead, BufReader, Write};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use skynet::rpc::{
    CallFailure, Code, ConnectError, ConnectOptions, Connection, Expected, Reply, Request,
    RequestInfo, typed,
};
use skynet::service::{Context, Service, ServiceError};
use tokio::sync::{Notify, mpsc};
use tokio::time::Instant;

use crate::rpc_support::{Millis, PATIENCE, Text};

/// The interpreter, when there is one that can read BSON.
fn python() -> Option<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let named = std::env::var_os("SKYNET_POLYGLOT_PYTHON").map(PathBuf::from);
    let python = named.unwrap_or_else(|| root.join("target/polyglot/bin/python"));
    let mut import = Command::new(&python);
    import.args(["-c", "import bson, bson.int64"]);
    let reads = import.stderr(Stdio::null()).status();
    if reads.is_ok_and(|status| status.success()) {
        return Some(python);
    }
    let required = std::env::var("SKYNET_REQUIRE_POLYGLOT").is_ok_and(|value| value == "1");
    let remedy = "core/examples/polyglot/README.md says how to install it";
    assert!(!required, "no Python with `bson`: {remedy}");
    // A closed stderr means that nobody wants to hear it.
    let _ = writeln!(
        std::io::stderr(),
        "!!! there is no Python with `bson`: the tests of peers in another language did NOT run \
         ({remedy}; SKYNET_REQUIRE_POLYGLOT=1 makes this a failure) !!!"
    );
    None
}

fn script(python: &Path, name: &str) -> Command {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/polyglot");
    let mut command = Command::new(python);
    // Nothing is written beside the sources.
    command.arg("-B").arg(folder.join(name));
    command
}

/// A result that was filled in half way.
#[derive(Serialize, Deserialize)]
struct Partial {
    partial: String,
}

/// What `service.py` was told of a request.
#[derive(Deserialize)]
struct Info {
    requestid: String,
    deadlinems: i64,
}

/// The service that `client.py` expects, and what tells that it was asked to drain.
async fn service() -> (Service, mpsc::Receiver<()>, Arc<AtomicUsize>) {
    let (drain, drained) = mpsc::channel(1);
    let released = Arc::new(Notify::new());
    let release = Arc::clone(&released);
    let begun = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&begun);
    let left = move |context: Context, _: Text| {
        counted.fetch_add(1, Ordering::SeqCst);
        let left = context.deadline().map(|at| at - Instant::now());
        let ms = left.map_or(-1, |left| i64::try_from(left.as_millis()).unwrap());
        async move { Ok::<_, ServiceError>(Millis { ms }) }
    };
    let service = Service::builder("Polyglot")
        .version("7")
        .ports(0..=0)
        .drain(Duration::from_millis(100), PATIENCE)
        .method("Upcase", |_: Context, input: Text| async move {
            let data = input.data.to_uppercase();
            Ok::<_, ServiceError>(Text { data })
        })
        .method("Fail", |_: Context, _: Text| async move {
            let partial = "yes".to_owned();
            let failed = ServiceError::new("it failed half way");
            Err::<Text, _>(failed.with_output(&Partial { partial })?)
        })
        .method("Wait", move |_: Context, input: Text| {
            let released = Arc::clone(&released);
            async move {
                released.notified().await;
                Ok::<_, ServiceError>(input)
            }
        })
        .method("Release", move |_: Context, input: Text| {
            release.notify_one();
            async move { Ok::<_, ServiceError>(input) }
        })
        .method("Left", left)
        .method("Who", |context: Context, _: Text| async move {
            let data = format!("{} {}", context.request_id(), context.origin());
            Ok::<_, ServiceError>(Text { data })
        })
        .method("Drain", move |_: Context, input: Text| {
            let _asked_before = drain.try_send(());
            async move { Ok::<_, ServiceError>(input) }
        })
        .serve();
    (service.await.unwrap(), drained, begun)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_in_python_calls_a_service() {
    let Some(python) = python() else { return };
    let (service, mut drained, begun) = service().await;
    let address = service.address();
    let client = tokio::task::spawn_blocking(move || {
        let mut client = script(&python, "client.py");
        client.args([address.ip().to_string(), address.port().to_string()]);
        client.output().unwrap()
    });
    let draining = async {
        // Closed without a word: the client has said why.
        if drained.recv().await.is_some() {
            service.stop().await;
        }
    };
    let output = tokio::select! {
        output = client => output.unwrap(),
        () = async { draining.await; std::future::pending().await } => unreachable!("it waits"),
    };
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "the client failed:\n{said}");
    // What had expired was not begun.
    assert_eq!(begun.load(Ordering::SeqCst), 2);
}

/// `service.py` in a process; killed at the end, whatever happens.
struct PythonService {
    address: SocketAddr,
    child: Child,
}

impl PythonService {
    fn start(python: &Path, arguments: &[&str]) -> Self {
        let mut command = script(python, "service.py");
        command.args(arguments).stdin(Stdio::piped());
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        let mut output = BufReader::new(child.stdout.take().unwrap());
        output.read_line(&mut line).unwrap();
        let port = line.strip_prefix("port ").unwrap().trim().parse().unwrap();
        Self {
            address: SocketAddr::from(([127, 0, 0, 1], port)),
            child,
        }
    }
}

impl Drop for PythonService {
    fn drop(&mut self) {
        // Both fail only if it is gone already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

async fn call<I: Serialize>(
    connection: &Connection,
    method: &str,
    input: &I,
) -> Result<Reply, CallFailure> {
    let request = Request {
        service: "Polyglot",
        method,
        info: RequestInfo {
            request_id: "the-id",
            deadline: Some(Instant::now() + PATIENCE),
            ..RequestInfo::default()
        },
        input: &typed::encode(input).unwrap(),
    };
    connection.call(request).await
}

fn text(data: &str) -> Text {
    Text {
        data: data.to_owned(),
    }
}

fn read<O: serde::de::DeserializeOwned>(reply: &Reply) -> O {
    typed::decode(&reply.output).unwrap()
}

/// What holds of a service in Python, in whatever style.
async fn is_a_service(connection: &Connection) {
    let reply = call(connection, "Upcase", &text("häuser")).await.unwrap();
    assert_eq!(read::<Text>(&reply), text("HÄUSER"));

    let reply = call(connection, "Fail", &text("")).await.unwrap();
    let error = reply.service_error.as_deref();
    assert_eq!(error, Some("it failed half way"));
    assert_eq!(read::<Partial>(&reply).partial, "yes");

    // Answers come in the order of completion, and only the unknown method's call fails.
    let waiting = text("first");
    let (first, others) = tokio::join!(call(connection, "Wait", &waiting), async {
        let unknown = call(connection, "Nope", &text("")).await;
        let second = call(connection, "Upcase", &text("x")).await;
        call(connection, "Release", &text("")).await.unwrap();
        (unknown, second)
    });
    assert_eq!(read::<Text>(&first.unwrap()), text("first"));
    assert_eq!(read::<Text>(&others.1.unwrap()), text("X"));
    let CallFailure::Rejected { message, .. } = others.0.unwrap_err() else {
        panic!("an unknown method is known");
    };
    assert_eq!(message, "No such method \"Nope\"");

    let info: Info = read(&call(connection, "Info", &text("")).await.unwrap());
    assert_eq!(info.requestid, "the-id");
    let most = i64::try_from(PATIENCE.as_millis()).unwrap();
    assert!((1..=most).contains(&info.deadlinems), "{}", info.deadlinems);
}

fn expecting(service: &str, id: u128) -> ConnectOptions {
    ConnectOptions {
        expect: Some(Expected {
            service: Some(service.into()),
            id: Some(uuid::Uuid::from_u128(id)),
        }),
        timeout: PATIENCE,
        ..ConnectOptions::default()
    }
}

#[tokio::test]
async fn a_client_calls_a_service_in_python() {
    const ID: u128 = 0xaaaa_aaaa_bbbb_4ccc_8ddd_eeee_eeee_eeee;
    let Some(python) = python() else { return };
    let peer = PythonService::start(&python, &[]);
    let options = expecting("Polyglot", ID);
    let connection = Connection::open(peer.address, &options).await.unwrap();
    let handshake = connection.handshake();
    let said = (&*handshake.name, &*handshake.version, &*handshake.uuid);
    let id = uuid::Uuid::from_u128(ID).to_string();
    assert_eq!(said, ("Polyglot", "7", &*id));
    is_a_service(&connection).await;
    let failure = call(&connection, "Nope", &text("")).await.unwrap_err();
    let code = matches!(
        &failure,
        CallFailure::Rejected {
            code: Some(Code::NoMethod),
            ..
        }
    );
    assert!(code, "{failure}");
    for other in [expecting("Other", ID), expecting("Polyglot", 1)] {
        let opened = Connection::open(peer.address, &other).await;
        assert!(matches!(opened, Err(ConnectError::Mismatch { .. })));
    }
}

#[tokio::test]
async fn a_client_calls_a_service_of_the_old_style_in_python() {
    let Some(python) = python() else { return };
    let peer = PythonService::start(&python, &["--old-style"]);
    // It says neither what it is called nor which instance it is, and is believed.
    let options = expecting("Polyglot", 1);
    let connection = Connection::open(peer.address, &options).await.unwrap();
    assert_eq!(connection.handshake().name, "");
    is_a_service(&connection).await;
    let failure = call(&connection, "Nope", &text("")).await.unwrap_err();
    let code = matches!(&failure, CallFailure::Rejected { code: None, .. });
    assert!(code, "{failure}");
}
