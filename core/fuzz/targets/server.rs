//! A server's state, driven by a client that does whatever it likes: segments of requests and of
//! garbage, pauses, half-closing, not reading, a drain in between.
//!
//! What must hold: nothing panics; a connection never has more calls than it may have; each request
//! is answered at most once, and exactly once where the client reads to the end and nothing drains
//! (a client that was silent for long may be told that its connection is going);
//! nothing is left of a connection that has ended. Time is virtual, the socket a pipe in memory.
#![no_main]

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use libfuzzer_sys::fuzz_target;
use skynet::instance::InstanceId;
use skynet::rpc::frame::FrameBuffer;
use skynet::rpc::handler::{Answer, Begun, Dispatch, Incoming, Refusal, RunningCall};
use skynet::rpc::message::{
    ClientHandshake, DRAIN_NOTICE, RequestBody, RequestHeader, RequestInfo, ResponseBody,
    ResponseHeader, ServiceHandshake,
};
use skynet::rpc::server::{Identification, Server};
use skynet::rpc::{Code, Limits};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, ReadHalf, WriteHalf};
use tokio::runtime::Runtime;
use tokio::time::{Sleep, sleep, timeout};

const LIMITS: Limits = Limits {
    frame: 2048,
    per_connection: 4,
    per_service: 6,
    connections: 4,
    unsent: 1024,
    handshake: Duration::from_secs(10),
    partial_frame: Duration::from_secs(30),
    idle: Duration::from_secs(60),
    grace: Duration::from_secs(30),
};

/// Longer than every time-out of the server together.
const PATIENCE: Duration = Duration::from_secs(3600);

/// How many calls run.
static RUNNING: AtomicUsize = AtomicUsize::new(0);

/// Methods that answer at once, later, with an error, or not at all before the client is gone.
struct Methods;

struct Call {
    wait: Option<Pin<Box<Sleep>>>,
    output: Vec<u8>,
    fails: bool,
}

impl Drop for Call {
    fn drop(&mut self) {
        RUNNING.fetch_sub(1, Ordering::SeqCst);
    }
}

impl RunningCall for Call {
    fn poll_answer(
        mut self: Pin<&mut Self>,
        task: &mut Context<'_>,
        reply: &mut Answer<'_>,
    ) -> Poll<()> {
        if let Some(wait) = &mut self.wait {
            std::task::ready!(wait.as_mut().poll(task));
        }
        let error = if self.fails { "it failed" } else { "" };
        reply.service_error(error, Some(&self.output));
        Poll::Ready(())
    }

    fn request_id(&self) -> &str {
        "id"
    }

    fn method(&self) -> &str {
        "method"
    }

    fn was_slow(&self) {}
}

impl Dispatch for Methods {
    fn begin(&self, incoming: Incoming<'_>) -> Result<Begun, Refusal> {
        let running = RUNNING.load(Ordering::SeqCst);
        assert!(running < LIMITS.per_connection, "{running} calls run");
        let output = incoming.document()?.to_vec();
        let [kind, wait] = *incoming.method else {
            return Err(Refusal::new(Code::NoMethod, "No such method"));
        };
        RUNNING.fetch_add(1, Ordering::SeqCst);
        let wait = Duration::from_millis(u64::from(wait) * 20);
        let call = Box::pin(Call {
            wait: (kind % 2 == 1).then(|| Box::pin(sleep(wait))),
            output,
            fails: kind % 4 > 1,
        });
        Ok(if kind % 8 > 3 {
            Begun::Task(call)
        } else {
            Begun::Inline(call)
        })
    }
}

/// What the client does, one byte after the other of the input.
struct Script<'a>(std::slice::Iter<'a, u8>);

impl Script<'_> {
    fn byte(&mut self) -> u8 {
        self.0.next().copied().unwrap_or_default()
    }

    fn is_over(&self) -> bool {
        self.0.len() == 0
    }

    fn request(&mut self, client_id: &str) -> Vec<u8> {
        let (seq, kind, wait, what) = (self.byte(), self.byte(), self.byte(), self.byte());
        let mut bytes = Vec::new();
        let service_method: &[u8] = match what % 8 {
            0 => b"Skynet.Ping",
            1 => b"Other.Forward",
            2 => b"",
            _ => b"Fuzzed.Forward",
        };
        RequestHeader {
            service_method,
            seq: i64::from(seq),
        }
        .write(&mut bytes);
        let input: &[u8] = match what {
            200.. => &[5, 0, 0],
            _ => &[5, 0, 0, 0, 0],
        };
        RequestBody {
            client_id: if what == 9 { b"" } else { client_id.as_bytes() },
            method: &[kind, wait],
            info: (what % 3 > 0).then(|| RequestInfo {
                deadline_ms: (what % 3 == 2).then_some(i64::from(wait)),
                ..RequestInfo::default()
            }),
            input: Some(input),
        }
        .write(&mut bytes);
        bytes
    }
}

/// Everything that the client sends, as its own words; `true` when it closes its side in the end.
async fn speak(
    script: &mut Script<'_>,
    client_id: &str,
    server: &Server,
    writing: &mut WriteHalf<DuplexStream>,
    sent: &mut Vec<u8>,
) -> bool {
    let mut drained = false;
    while !script.is_over() {
        let op = script.byte();
        let bytes = match op % 8 {
            0..=3 => script.request(client_id),
            4 => {
                let count = usize::from(script.byte() % 32);
                (0..count).map(|_| script.byte()).collect()
            }
            5 => {
                sleep(Duration::from_millis(u64::from(script.byte()) * 200)).await;
                continue;
            }
            6 if op > 200 => {
                server.announce_drain();
                drained = true;
                continue;
            }
            7 if op > 240 => {
                server.refuse_new();
                drained = true;
                continue;
            }
            _ => {
                tokio::task::yield_now().await;
                continue;
            }
        };
        // Segments of any length.
        let step = usize::from(op / 8) * 4 + 1;
        for segment in bytes.chunks(step) {
            match timeout(PATIENCE, writing.write_all(segment)).await {
                Ok(Ok(())) => sent.extend_from_slice(segment),
                // Nobody takes it any more, or only a part of it.
                _ => return drained,
            }
        }
    }
    drained
}

/// Reads answers until the server closes; how many there were to each number, and whether the
/// server said that it, or only this idle connection, was going.
async fn listen(reading: &mut ReadHalf<DuplexStream>) -> (BTreeMap<i64, usize>, bool) {
    let mut frames = FrameBuffer::new(usize::MAX);
    let mut answers = BTreeMap::new();
    let mut header: Option<(i64, bool)> = None;
    let mut told = false;
    loop {
        while let Some(document) = frames.take().expect("the server's documents do not read") {
            match header.take() {
                None => {
                    let read = ResponseHeader::read(&document).expect("a header does not read");
                    let notice = read.service_method == DRAIN_NOTICE.as_bytes();
                    header = Some((read.seq, notice));
                }
                Some((seq, notice)) => {
                    ResponseBody::read(&document).expect("a body does not read");
                    if notice {
                        told = true;
                    } else {
                        *answers.entry(seq).or_default() += 1;
                    }
                }
            }
        }
        let mut bytes = [0; 512];
        let count = timeout(PATIENCE, reading.read(&mut bytes)).await;
        let count = count.expect("the server neither answers nor closes");
        match count {
            Ok(count) if count > 0 => {
                frames.room().extend_from_slice(&bytes[..count]);
            }
            _ => return (answers, told),
        }
    }
}

/// How often each number was asked for, as far as the stream reads.
fn asked(sent: &[u8]) -> BTreeMap<i64, usize> {
    let mut asked = BTreeMap::new();
    let mut frames = FrameBuffer::new(LIMITS.frame);
    frames.room().extend_from_slice(sent);
    while let Ok(Some(header)) = frames.take() {
        let Ok(Some(_body)) = frames.take() else {
            break;
        };
        let Ok(header) = RequestHeader::read(&header) else {
            break;
        };
        *asked.entry(header.seq).or_default() += 1;
    }
    asked
}

async fn converse(data: &[u8]) {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0")
        .await
        .expect("no port");
    let who = Identification {
        service: "Fuzzed".into(),
        version: "1".into(),
        id: InstanceId::from_u128(1),
    };
    let server = Server::start(listener, who, LIMITS, Arc::new(Methods)).expect("no server");
    let mut script = Script(data.iter());
    let flags = script.byte();
    let (theirs, ours) = tokio::io::duplex(64 + usize::from(flags >> 4) * 100);
    server.adopt(theirs, SocketAddr::from(([127, 0, 0, 1], 1)));
    let (mut reading, mut writing) = tokio::io::split(ours);
    let mut greeting = [0; 4];
    reading
        .read_exact(&mut greeting)
        .await
        .expect("no handshake");
    let mut handshake = greeting.to_vec();
    handshake.resize(u32::from_le_bytes(greeting) as usize, 0);
    reading
        .read_exact(&mut handshake[4..])
        .await
        .expect("half a handshake");
    let handshake = ServiceHandshake::read(&handshake).expect("the handshake does not read");
    let mut hello = Vec::new();
    ClientHandshake {
        notices: flags & 1 == 1,
        ..ClientHandshake::default()
    }
    .write(&mut hello);
    let reads_at_once = flags & 2 == 0;
    let mut sent = Vec::new();
    let _taken = writing.write_all(&hello).await;
    let speaking = async {
        let id = &handshake.client_id;
        let drained = speak(&mut script, id, &server, &mut writing, &mut sent).await;
        let _closed = writing.shutdown().await;
        drained
    };
    let (drained, (answers, told)) = if reads_at_once {
        tokio::join!(speaking, listen(&mut reading))
    } else {
        // A client that does not read until it has said everything.
        (speaking.await, listen(&mut reading).await)
    };
    let asked = asked(&sent);
    for (seq, answered) in &answers {
        let asked = asked.get(seq).copied().unwrap_or_default();
        assert!(
            *answered <= asked,
            "{seq} was asked {asked} times, answered {answered} times"
        );
    }
    if reads_at_once && !drained && !told {
        assert_eq!(answers, asked, "some were not answered");
    }
    drop((reading, writing));
    server.refuse_new();
    timeout(PATIENCE, server.ended())
        .await
        .expect("a connection does not end");
    assert_eq!((server.connections(), server.in_flight()), (0, 0));
    assert_eq!(RUNNING.load(Ordering::SeqCst), 0, "calls are left");
}

thread_local! {
    static RUNTIME: RefCell<Runtime> = RefCell::new(
        tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .start_paused(true)
            .build()
            .expect("no runtime"),
    );
}

fuzz_target!(|data: &[u8]| {
    if data.len() > 2000 {
        return;
    }
    RUNTIME.with_borrow(|runtime| runtime.block_on(converse(data)));
});
