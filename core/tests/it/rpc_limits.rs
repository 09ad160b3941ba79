//! Many connections, and fewer descriptors than connections: idle ones make room, calls go on.
//!
//! The services run in processes of their own, which are this very test binary: the limit of open
//! files belongs to a process, and a loopback connection takes two.

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::Duration;

use futures_util::StreamExt;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use skynet::daemon_api::Empty;
use skynet::rpc::admin::{AdminConnection, STATS};
use skynet::rpc::message::{DRAIN_NOTICE, RequestHeader, ResponseHeader};
use skynet::rpc::{ConnectOptions, Connection, Limits, Request, RequestInfo, typed};
use skynet::service::{Context, MethodOptions, OnHangUp, ServiceError};
use skynet::stats::InstanceStats;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::Instant;

use crate::rpc_support::{PATIENCE, Raw, Text, echo, eventually, request};

/// Tells the process how many files it may open; empty for as many as there may be.
const SERVE: &str = "SKYNET_TEST_FILES";

const EMPTY: [u8; 5] = [5, 0, 0, 0, 0];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn serves_if_it_is_told_to() {
    let Ok(files) = std::env::var(SERVE) else {
        return;
    };
    if let Ok(files) = files.parse() {
        let files = Some(files);
        let limit = Rlimit {
            current: files,
            maximum: files,
        };
        setrlimit(Resource::Nofile, limit).unwrap();
    }
    // Opening thousands takes a loaded machine longer than a handshake may take by default.
    let limits = Limits {
        handshake: Duration::from_mins(10),
        ..Limits::default()
    };
    let service = echo().limits(limits).serve().await.unwrap();
    let admin = service.admin_address().unwrap();
    println!("\nserving {} {admin}", service.address());
    let mut nothing = Vec::new();
    tokio::io::stdin().read_to_end(&mut nothing).await.unwrap();
}

/// A service's process; killed at the end, whatever happens.
struct Serving {
    address: SocketAddr,
    admin: SocketAddr,
    child: Child,
    /// The process may want to say more.
    _output: BufReader<ChildStdout>,
}

impl Serving {
    fn start(files: &str) -> Self {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "rpc_limits::serves_if_it_is_told_to"])
            .arg("--nocapture")
            .env(SERVE, files)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut output = BufReader::new(child.stdout.take().unwrap());
        let served = loop {
            let mut line = String::new();
            assert!(output.read_line(&mut line).unwrap() > 0, "it ended");
            if let Some(served) = line.strip_prefix("serving ") {
                break served.trim_end().to_owned();
            }
        };
        let (address, admin) = served.split_once(' ').unwrap();
        Self {
            address: address.parse().unwrap(),
            admin: admin.parse().unwrap(),
            child,
            _output: output,
        }
    }

    /// The processor time that it has used.
    fn worked(&self) -> Duration {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.child.id())).unwrap();
        // Behind the name, which is in parentheses, user and system time are the 12th and 13th.
        let fields = stat.rsplit(')').next().unwrap().split_whitespace();
        let ticks: u64 = fields
            .skip(11)
            .take(2)
            .map(|it| it.parse::<u64>().unwrap())
            .sum();
        // Linux tells a hundredth of a second per tick.
        Duration::from_millis(ticks * 10)
    }

    /// Its resident memory, in bytes.
    fn memory(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kib: u64 = line
            .unwrap()
            .trim()
            .trim_end_matches(" kB")
            .parse()
            .unwrap();
        kib * 1024
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        // Both fail only if it is gone already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Connections that say nothing, every other one not even a handshake; they are there once the
/// service counts them.
async fn silent_connections(serving: &Serving, wanted: usize) -> Vec<TcpStream> {
    // Many at once, or a busy machine changes processes for every single one.
    let opened = futures_util::stream::iter(0..wanted).map(|number| async move {
        let mut stream = TcpStream::connect(serving.address).await.unwrap();
        if number % 2 == 0 {
            stream.write_all(&EMPTY).await.unwrap();
        }
        // It is accepted, and not only in the system's queue, once the service has greeted it.
        let greeted = tokio::time::timeout(PATIENCE, stream.peek(&mut [0])).await;
        assert_eq!(greeted.expect("a connection is not greeted").unwrap(), 1);
        stream
    });
    let silent: Vec<_> = opened.buffer_unordered(512).collect().await;
    let mut admin = AdminConnection::open(serving.admin).await.unwrap();
    let deadline = Instant::now() + PATIENCE;
    loop {
        let stats: InstanceStats = admin.call(STATS, &Empty {}).await.unwrap();
        if usize::try_from(stats.clients).unwrap() >= wanted {
            return silent;
        }
        assert!(Instant::now() < deadline, "{} of {wanted}", stats.clients);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Raises this process's limit of open files, as services do at their start, and tells it.
fn files() -> usize {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: limit.maximum,
        maximum: limit.maximum,
    };
    setrlimit(Resource::Nofile, raised).unwrap();
    limit
        .maximum
        .map_or(usize::MAX, |most| usize::try_from(most).unwrap())
}

async fn upcase(connection: &Connection) {
    let input = typed::encode(&Text {
        data: "x".to_owned(),
    });
    let request = Request {
        service: "EchoService",
        method: "Upcase",
        info: RequestInfo::default(),
        input: &input.unwrap(),
    };
    let reply = tokio::time::timeout(PATIENCE, connection.call(request)).await;
    let reply = reply.expect("a call neither ends nor fails").unwrap();
    assert_eq!(typed::decode::<Text>(&reply.output).unwrap().data, "X");
}

/// A new connection and a call on it, as soon as the service has room.
async fn upcase_anew(address: SocketAddr) {
    let options = ConnectOptions {
        timeout: PATIENCE,
        ..ConnectOptions::default()
    };
    let deadline = Instant::now() + PATIENCE;
    loop {
        match Connection::open(address, &options).await {
            Ok(connection) => return upcase(&connection).await,
            Err(error) => assert!(Instant::now() < deadline, "never let in: {error}"),
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn an_idle_client_is_told_and_one_that_cannot_be_told_stays() {
    let limits = Limits {
        idle: Duration::from_millis(500),
        ..Limits::default()
    };
    let service = echo().limits(limits).serve().await.unwrap();
    let (mut old, handshake) = Raw::greeted(service.address()).await;
    let mut told = Raw::connect(service.address()).await;
    told.document().await.unwrap();
    told.send(b"\x0f\0\0\0\x08notices\0\x01\0").await;
    let (notice, _) = told.answer().await;
    let notice = ResponseHeader::read(&notice).unwrap();
    assert_eq!(notice.service_method, DRAIN_NOTICE.as_bytes());
    assert_eq!(told.document().await, None);
    old.send(&request(&handshake.client_id, 0, "Upcase", &EMPTY))
        .await;
    old.answer().await;
}

#[tokio::test]
async fn requests_that_waited_for_answers_to_be_sent_are_answered_before_the_end() {
    const REQUESTS: i64 = 40;
    let limits = Limits {
        unsent: 512,
        ..Limits::default()
    };
    let service = echo().limits(limits).serve().await.unwrap();
    let (mut raw, _) = Raw::greeted(service.address()).await;
    let mut pings = Vec::new();
    for seq in 0..REQUESTS {
        let service_method = b"Skynet.Ping";
        RequestHeader {
            service_method,
            seq,
        }
        .write(&mut pings);
        pings.extend_from_slice(&EMPTY);
    }
    // They come with one read, and the end right behind them.
    raw.send(&pings).await;
    raw.finish().await;
    for seq in 0..REQUESTS {
        let (answer, _) = raw.answer().await;
        assert_eq!(ResponseHeader::read(&answer).unwrap().seq, seq);
    }
    assert_eq!(raw.document().await, None);
}

#[tokio::test]
async fn whoever_works_is_not_sent_away() {
    let limits = Limits {
        connections: 8,
        ..Limits::default()
    };
    let service = echo().limits(limits).serve().await.unwrap();
    let address = service.address();
    let (mut working, handshake) = Raw::greeted(address).await;
    let long = typed::encode(&crate::rpc_support::Millis { ms: 3_600_000 }).unwrap();
    working
        .send(&request(&handshake.client_id, 0, "Sleep", &long))
        .await;
    eventually("the call runs", || service.stats().inflight == 1).await;
    let mut silent = Vec::new();
    for _ in 0..7 {
        silent.push(Raw::greeted(address).await);
    }
    upcase_anew(address).await;
    working
        .send(&request(&handshake.client_id, 1, "Upcase", &EMPTY))
        .await;
    let (answer, _) = working.answer().await;
    assert_eq!(ResponseHeader::read(&answer).unwrap().seq, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_descriptors_calls_go_on_and_idle_connections_make_room() {
    let serving = Serving::start("64");
    let options = ConnectOptions::default();
    let established = Connection::open(serving.address, &options).await.unwrap();
    upcase(&established).await;
    let calls = tokio::spawn(async move {
        loop {
            upcase(&established).await;
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    });
    // More than it can have; those that it cannot accept wait in the system's queue.
    let mut silent = Vec::new();
    for _ in 0..100 {
        silent.push(Raw::connect(serving.address).await);
    }
    let began = Instant::now();
    let worked = serving.worked();
    upcase_anew(serving.address).await;
    assert!(
        !calls.is_finished(),
        "a call on a standing connection failed"
    );
    calls.abort();
    // A loop that does not wait between its tries takes all the time that there is. Silent clients
    // of which none may be sent away yet are all that there is to do in the first second.
    let (worked, passed) = (serving.worked().saturating_sub(worked), began.elapsed());
    assert!(
        worked < passed.mul_f64(0.7).max(Duration::from_millis(200)),
        "{worked:?} in {passed:?}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn thousands_of_silent_connections_hold_up_nobody() {
    // What others in this process have open is theirs.
    let wanted = (files() / 2).min(10_000);
    let serving = Serving::start("");
    let options = ConnectOptions::default();
    let established = Connection::open(serving.address, &options).await.unwrap();
    let silent = silent_connections(&serving, wanted).await;
    upcase(&established).await;
    upcase_anew(serving.address).await;
    drop(silent);
}

/// The figure for a release build on a quiet machine:
/// `cargo test --release -p skynet --test it -- --ignored --nocapture ten_thousand`.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "measures; run it as its comment says"]
async fn a_call_beside_ten_thousand_silent_connections_takes_no_100_ms() {
    const SILENT: usize = 10_000;
    assert!(
        files() > SILENT + 200,
        "the limit of open files is {}",
        files()
    );
    let serving = Serving::start("");
    let options = ConnectOptions::default();
    let established = Connection::open(serving.address, &options).await.unwrap();
    let before = serving.memory();
    let silent = silent_connections(&serving, SILENT).await;
    let memory = serving.memory() - before;
    let (mut fresh, mut standing) = (Vec::new(), Vec::new());
    for _ in 0..200 {
        let began = Instant::now();
        upcase_anew(serving.address).await;
        fresh.push(began.elapsed());
        let began = Instant::now();
        upcase(&established).await;
        standing.push(began.elapsed());
    }
    fresh.sort_unstable();
    standing.sort_unstable();
    println!(
        "beside {} silent connections ({} bytes each): connecting and a call {:?} (median), {:?} \
         (worst of {}); a call on a standing connection {:?} and {:?}",
        silent.len(),
        memory / u64::try_from(SILENT).unwrap(),
        fresh[100],
        fresh[199],
        fresh.len(),
        standing[100],
        standing[199],
    );
    assert!(fresh[199].max(standing[199]) < Duration::from_millis(100));
}

/// A connection that has as many calls as it may lives on, and its end is noticed.
#[tokio::test]
async fn a_full_connection_answers_signs_of_life_and_notices_its_end() {
    let limits = Limits {
        per_connection: 1,
        ..Limits::default()
    };
    let options = MethodOptions {
        on_hang_up: OnHangUp::Cancel,
        ..MethodOptions::default()
    };
    let service = echo()
        .limits(limits)
        .method_with("Wait", options, |_: Context, _: Empty| async {
            std::future::pending::<()>().await;
            Ok::<_, ServiceError>(Empty {})
        })
        .serve()
        .await
        .unwrap();
    let (mut client, handshake) = Raw::greeted(service.address()).await;
    let id = &handshake.client_id;
    client.send(&request(id, 0, "Wait", &EMPTY)).await;
    eventually("the call runs", || service.stats().inflight == 1).await;
    client.send(&request(id, 1, "Wait", &EMPTY)).await;
    for seq in 2..5 {
        let mut ping = Vec::new();
        RequestHeader {
            service_method: b"Skynet.Ping",
            seq,
        }
        .write(&mut ping);
        ping.extend_from_slice(&EMPTY);
        client.send(&ping).await;
        let (header, _) = client.answer().await;
        assert_eq!(ResponseHeader::read(&header).unwrap().seq, seq);
    }
    assert_eq!(service.stats().inflight, 1, "the second waits");
    drop(client);
    eventually("nobody waits for them", || service.stats().inflight == 0).await;
}
