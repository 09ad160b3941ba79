//! The embedded registry behaves like etcd: every case below runs on it, on etcd 3.4 and on
//! etcd 3.5.
//!
//! This prints the table, one line per case with its result on each of the three:
//!
//! ```sh
//! cargo test -p skynet --test it registry_conformance -- --nocapture
//! ```
//!
//! `SKYNET_CASE=word` runs only the cases whose names hold the word.
//!
//! A case gets an empty registry to itself, but not a new one, since starting etcd for every case
//! would take minutes on a small machine: keys and leases of the cases before it are gone, the
//! revision is not. So revisions are counted from `base`: the first write of a case makes `base + 2`,
//! as in a new registry it makes 2. Where 3.4 and 3.5 differ, a case asserts each one's behavior by
//! name, and the embedded one follows 3.5.

mod cluster;
mod kv;
mod lease;
mod limits;
mod maintenance;
mod range;
mod server;
mod txn;
mod watch;
mod watch_ids;

use std::{
    collections::VecDeque,
    fmt::Write,
    pin::Pin,
    sync::{Arc, Mutex},
    time::Duration,
};

use etcd_client::{Client, Error, WatchResponse, WatchStream};
use skynet::testing::TestRegistry;
use tonic::Code;

use self::server::{Kind, Server};

/// How long an answer may take on a busy machine.
const PATIENCE: Duration = Duration::from_mins(1);

/// How long a case may take on a busy machine.
const CASE_PATIENCE: Duration = Duration::from_mins(2);

/// How many registries of a kind work at the same time.
const WORKERS: usize = 2;

/// What a case gets: a registry of its own, without keys and leases.
struct Conformance {
    client: Client,
    /// What the case counts revisions from.
    base: i64,
    kind: Kind,
    url: String,
}

impl Conformance {
    /// A registry of the same kind that nothing was ever written to, for cases that must begin at
    /// revision 1 or that leave traces.
    async fn new_registry(&self) -> (TestRegistry, Client) {
        let registry = self.kind.start().await.expect("one of the kind runs");
        let client = Client::connect([registry.url()], None).await.unwrap();
        (registry, client)
    }
}

type Case = (
    &'static str,
    fn(Conformance) -> Pin<Box<dyn Future<Output = ()> + Send>>,
);

/// Makes the list of a module's cases.
macro_rules! conformance {
    ($($name:ident),+ $(,)?) => {
        pub(super) const CASES: &[super::Case] = &[
            $((stringify!($name), |conformance| Box::pin($name(conformance))),)+
        ];
    };
}
use conformance;

const AREAS: [(&str, &[Case]); 9] = [
    ("kv", kv::CASES),
    ("range", range::CASES),
    ("txn", txn::CASES),
    ("limits", limits::CASES),
    ("watch", watch::CASES),
    ("watch ids", watch_ids::CASES),
    ("lease", lease::CASES),
    ("maintenance", maintenance::CASES),
    ("cluster", cluster::CASES),
];

/// The results of one kind of server, in the order of the cases.
struct Column {
    title: String,
    /// `None` where there is no such server.
    results: Option<Vec<Result<(), String>>>,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn every_case_holds_on_three_servers() {
    let wanted = std::env::var("SKYNET_CASE").unwrap_or_default();
    let cases: Vec<(&str, Case)> = AREAS
        .into_iter()
        .flat_map(|(area, cases)| cases.iter().map(move |case| (area, *case)))
        .filter(|(_, (name, _))| name.contains(&wanted))
        .collect();
    let columns = futures_util::future::join_all(
        [Kind::Embedded, Kind::Etcd34, Kind::Etcd35].map(|kind| column(kind, &cases)),
    )
    .await;
    let table = table(&cases, &columns);
    show(&table);
    assert!(!table.contains("FAILED"), "{table}");
}

#[expect(clippy::print_stdout, reason = "the table is what the run is for")]
fn show(table: &str) {
    println!("{table}");
}

/// Runs all cases on servers of one kind.
async fn column(kind: Kind, cases: &[(&str, Case)]) -> Column {
    let queue: VecDeque<(usize, Case)> = cases.iter().map(|(_, case)| *case).enumerate().collect();
    let queue = Arc::new(Mutex::new(queue));
    let workers = (0..WORKERS).map(|_| tokio::spawn(work(kind, Arc::clone(&queue))));
    let mut title = kind.to_string();
    let mut results = Vec::new();
    for done in futures_util::future::join_all(workers).await {
        // Without etcd the harness says so, or fails where it is required.
        let Some((version, done)) = done.unwrap() else {
            let results = None;
            return Column { title, results };
        };
        title = format!("{kind} ({version})");
        results.extend(done);
    }
    results.sort_by_key(|(idx, _)| *idx);
    let results = Some(results.into_iter().map(|(_, result)| result).collect());
    Column { title, results }
}

type Done = Vec<(usize, Result<(), String>)>;

/// Runs cases on one server until none is left.
async fn work(kind: Kind, queue: Arc<Mutex<VecDeque<(usize, Case)>>>) -> Option<(String, Done)> {
    let next = || queue.lock().unwrap().pop_front();
    let mut server = Server::start(kind).await?;
    let mut done = Vec::new();
    while let Some((idx, (_, case))) = next() {
        let conformance = server.empty().await;
        // A case that panics ends alone.
        let run = tokio::spawn(case(conformance));
        let result = match tokio::time::timeout(CASE_PATIENCE, run).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(failed)) => Err(match failed.into_panic().downcast::<String>() {
                Ok(words) => *words,
                Err(other) => (*other.downcast::<&str>().unwrap_or_default()).to_owned(),
            }),
            Err(_late) => Err("it takes too long".to_owned()),
        };
        if result.is_err() {
            // It may have broken the server for the cases after it.
            server = Server::start(kind).await?;
        }
        done.push((idx, result));
    }
    Some((server.version().to_owned(), done))
}

fn table(cases: &[(&str, Case)], columns: &[Column]) -> String {
    let mut table = String::from("\narea | case");
    for column in columns {
        write!(table, " | {}", column.title).unwrap();
    }
    let mut failures = String::new();
    for (idx, (area, (name, _))) in cases.iter().enumerate() {
        write!(table, "\n{area} | {}", name.replace('_', " ")).unwrap();
        for column in columns {
            let shown = match column.results.as_ref().map(|results| &results[idx]) {
                None => "not run",
                Some(Ok(())) => "ok",
                Some(Err(words)) => {
                    write!(failures, "\n{name} on {}: {words}\n", column.title).unwrap();
                    "FAILED"
                }
            };
            write!(table, " | {shown}").unwrap();
        }
    }
    table + "\n" + &failures
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

/// The code and the words of a refusal.
#[track_caller]
fn refusal<T: std::fmt::Debug>(result: Result<T, Error>) -> (Code, String) {
    match result {
        Err(Error::GRpcStatus(status)) => (status.code(), status.message().to_owned()),
        other => panic!("expected a refusal, got {other:?}"),
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
