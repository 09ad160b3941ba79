//! A TCP proxy before one address, which lets traffic through, holds it or cuts it, also by who sends
//! it.
//!
//! It stands before services, and before the peer ports of etcd. The peers of etcd share one address
//! per node, so one listener sees the traffic of all others. Who has opened a connection stands in
//! its first request: etcd's peers write their member id there (the header `X-Server-From`). Invariants: the proxy runs on a thread of its own, so a busy test
//! costs no election; dropping it ends its thread and its connections; what is held is delivered
//! later, as TCP does after a cable is plugged in again. It knows nothing of etcd but that header.

use std::{io, net::SocketAddr, os::fd::AsFd, sync::Arc, thread::JoinHandle, time::Duration};

use rustix::net::sockopt;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{
        TcpListener, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::watch,
    task::JoinSet,
    time::sleep,
};
use tokio_util::sync::CancellationToken;

/// What a peer of etcd writes before its own member id, in hexadecimal digits.
const FROM: &[u8] = b"X-Server-From: ";
/// How long the id behind it is, at most.
const ID_DIGITS: usize = 16;
/// How much is read at once.
const CHUNK: usize = 64 * 1024;
/// Before the next attempt to accept, when the process has no more file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// What happens to the traffic between two peers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Traffic {
    /// It passes.
    Forward,
    /// It is held in both directions and nothing is said, as when a cable is pulled.
    Stall,
    /// What is asked passes, and what is answered is held, as when a route works one way only.
    HoldAnswers,
    /// Connections are cut, and so is every new one.
    Cut,
    /// The same with a reset, so that what was on its way is lost.
    Reset,
}

impl Traffic {
    fn passes(self, way: Way) -> bool {
        match self {
            Self::Forward => true,
            Self::HoldAnswers => way == Way::There,
            Self::Stall | Self::Cut | Self::Reset => false,
        }
    }

    fn ends(self) -> bool {
        matches!(self, Self::Cut | Self::Reset)
    }
}

/// Which way traffic goes, seen from who has opened the connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    There,
    Back,
}

/// What happens to whose traffic.
#[derive(Debug, Clone)]
struct Rules {
    /// What holds for those who are not named, and for who has not said who it is.
    others: Traffic,
    /// Rules for single members, by id.
    named: Vec<(u64, Traffic)>,
}

impl Rules {
    fn of(&self, from: Option<u64>) -> Traffic {
        self.named
            .iter()
            .find(|(member, _)| Some(*member) == from)
            .map_or(self.others, |(_, traffic)| *traffic)
    }
}

/// A proxy before one address.
#[derive(Debug)]
pub struct Proxy {
    address: SocketAddr,
    rules: watch::Sender<Rules>,
    over: CancellationToken,
    thread: Option<JoinHandle<()>>,
}

impl Proxy {
    /// Listens at `address` and forwards to `target`, which need not be there yet.
    ///
    /// # Errors
    ///
    /// When nothing can listen at `address`, or the system has no thread left.
    pub fn start(address: SocketAddr, target: SocketAddr) -> io::Result<Self> {
        let listener = std::net::TcpListener::bind(address)?;
        listener.set_nonblocking(true)?;
        let (rules, seen) = watch::channel(Rules {
            others: Traffic::Forward,
            named: Vec::new(),
        });
        let over = CancellationToken::new();
        let ended = over.clone();
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let thread = std::thread::Builder::new()
            .name("peer-proxy".to_owned())
            .spawn(move || {
                runtime.block_on(async move {
                    if let Ok(listener) = TcpListener::from_std(listener) {
                        ended
                            .run_until_cancelled(accept(listener, target, seen))
                            .await;
                    }
                });
            })?;
        Ok(Self {
            address,
            rules,
            over,
            thread: Some(thread),
        })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Says what happens to everybody's traffic, and forgets what was said of single members.
    pub fn set(&self, traffic: Traffic) {
        self.rules.send_replace(Rules {
            others: traffic,
            named: Vec::new(),
        });
    }

    /// Says what happens to what this member opens.
    pub(super) fn set_from(&self, member: u64, traffic: Traffic) {
        self.rules.send_modify(|rules| {
            rules.named.retain(|(named, _)| *named != member);
            rules.named.push((member, traffic));
        });
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.over.cancel();
        if let Some(thread) = self.thread.take() {
            // A panic there has been printed already, and this may run during another one.
            let _ = thread.join();
        }
    }
}

/// Never returns; it ends with the proxy, and all connections with it.
async fn accept(listener: TcpListener, target: SocketAddr, rules: watch::Receiver<Rules>) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((client, _)) => {
                    connections.spawn(carry(client, target, rules.clone()));
                }
                Err(_) => sleep(ACCEPT_PAUSE).await,
            },
            Some(_) = connections.join_next() => {}
        }
    }
}

/// Carries one connection to its end. What goes wrong with it is for its two ends to see.
async fn carry(client: TcpStream, target: SocketAddr, rules: watch::Receiver<Rules>) {
    let who = Arc::new(watch::Sender::new(None));
    let gate = |way| Gate {
        rules: rules.clone(),
        who: who.subscribe(),
        way,
    };
    let mut cut = gate(Way::There);
    let (there, back) = (gate(Way::There), gate(Way::Back));
    let socket = client.as_fd().try_clone_to_owned();
    let carried = async {
        let server = TcpStream::connect(target).await?;
        client.set_nodelay(true)?;
        server.set_nodelay(true)?;
        let (client_reads, client_writes) = client.into_split();
        let (server_reads, server_writes) = server.into_split();
        // Either end that hangs up ends both: etcd's peers never close one half only.
        tokio::select! {
            ended = copy(client_reads, server_writes, there, Some(Sniffer::new(Arc::clone(&who)))) => ended,
            ended = copy(server_reads, client_writes, back, None) => ended,
        }
    };
    tokio::select! {
        _ended = carried => {}
        () = cut.until(Traffic::ends) => {
            if cut.now() == Traffic::Reset && let Ok(socket) = socket {
                // Closed in this way it says nothing in good order; a failure leaves it a cut.
                let _ = sockopt::set_socket_linger(&socket, Some(Duration::ZERO));
            }
        }
    }
}

/// Knows what happens to one connection's traffic.
struct Gate {
    rules: watch::Receiver<Rules>,
    who: watch::Receiver<Option<u64>>,
    way: Way,
}

impl Gate {
    /// Waits until what happens is as wanted; for ever, if the proxy ends before.
    async fn until(&mut self, wanted: impl Fn(Traffic) -> bool) {
        while !wanted(self.now()) {
            self.changed().await;
        }
    }

    /// Waits until traffic passes.
    async fn open(&mut self) {
        while !self.now().passes(self.way) {
            self.changed().await;
        }
    }

    fn now(&mut self) -> Traffic {
        let who = *self.who.borrow_and_update();
        self.rules.borrow_and_update().of(who)
    }

    async fn changed(&mut self) {
        let changed = tokio::select! {
            changed = self.rules.changed() => changed,
            changed = self.who.changed() => changed,
        };
        if changed.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

async fn copy(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    mut gate: Gate,
    mut sniffer: Option<Sniffer>,
) -> io::Result<()> {
    let mut chunk = vec![0; CHUNK];
    loop {
        gate.open().await;
        let length = from.read(&mut chunk).await?;
        if length == 0 {
            return Ok(());
        }
        let Some(read) = chunk.get(..length) else {
            return Ok(());
        };
        if let Some(sniffing) = &mut sniffer
            && sniffing.sniff(read)
        {
            sniffer = None;
        }
        // It may be held only from here on: because of a new rule, or because its sender is known now.
        gate.open().await;
        to.write_all(read).await?;
    }
}

/// Looks for the name of who has opened a connection.
struct Sniffer {
    who: Arc<watch::Sender<Option<u64>>>,
    /// The end of what was read before, which may hold the beginning of the header.
    rest: Vec<u8>,
}

impl Sniffer {
    fn new(who: Arc<watch::Sender<Option<u64>>>) -> Self {
        Self {
            who,
            rest: Vec::new(),
        }
    }

    /// `true` when the name is known.
    fn sniff(&mut self, read: &[u8]) -> bool {
        self.rest.extend_from_slice(read);
        let found = sender_in(&self.rest);
        if found.is_some() {
            self.who.send_replace(found);
        } else {
            let keep = FROM.len() + ID_DIGITS;
            let done = self.rest.len().saturating_sub(keep);
            self.rest.drain(..done);
        }
        found.is_some()
    }
}

/// The member id of the first request that tells one.
fn sender_in(bytes: &[u8]) -> Option<u64> {
    let start = bytes
        .windows(FROM.len())
        .position(|window| window.eq_ignore_ascii_case(FROM))?
        + FROM.len();
    let digits = bytes.get(start..)?;
    let end = digits.iter().position(|byte| *byte == b'\r')?;
    let digits = std::str::from_utf8(digits.get(..end)?).ok()?;
    u64::from_str_radix(digits, 16).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::free_address;

    #[test]
    fn the_sender_is_found_in_pieces_too() {
        let request =
            b"GET /raft/stream/message/1 HTTP/1.1\r\nX-Server-From: 8e9e05c52164694d\r\n\r\n";
        assert_eq!(sender_in(request), Some(0x8e9e_05c5_2164_694d));
        assert_eq!(sender_in(b"GET /version HTTP/1.1\r\n\r\n"), None);
        for split in 0..request.len() {
            let who = Arc::new(watch::Sender::new(None));
            let mut sniffer = Sniffer::new(Arc::clone(&who));
            let (first, second) = request.split_at(split);
            let known = sniffer.sniff(first) || sniffer.sniff(second);
            assert!(known, "split at {split}");
            assert_eq!(*who.borrow(), Some(0x8e9e_05c5_2164_694d));
        }
    }

    /// A server that sends everything back, a proxy before it, and a way to connect to that.
    async fn echo_behind_a_proxy() -> Proxy {
        let server = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let target = server.local_addr().unwrap();
        tokio::spawn(async move {
            while let Ok((mut connection, _)) = server.accept().await {
                tokio::spawn(async move {
                    let (mut reads, mut writes) = connection.split();
                    let _ended = tokio::io::copy(&mut reads, &mut writes).await;
                });
            }
        });
        Proxy::start(free_address().unwrap(), target).unwrap()
    }

    async fn say(connection: &mut TcpStream, text: &str) -> io::Result<String> {
        connection.write_all(text.as_bytes()).await?;
        let mut answer = vec![0; text.len()];
        connection.read_exact(&mut answer).await?;
        Ok(String::from_utf8_lossy(&answer).into_owned())
    }

    #[tokio::test]
    async fn only_the_member_that_is_meant_is_cut_and_what_is_held_arrives() {
        let proxy = echo_behind_a_proxy().await;
        let mut one = TcpStream::connect(proxy.address()).await.unwrap();
        let mut two = TcpStream::connect(proxy.address()).await.unwrap();
        say(&mut one, "X-Server-From: 1\r\n").await.unwrap();
        say(&mut two, "X-Server-From: 2\r\n").await.unwrap();
        proxy.set_from(1, Traffic::Cut);
        assert!(say(&mut one, "cut").await.is_err());
        assert_eq!(say(&mut two, "passes").await.unwrap(), "passes");
        let mut again = TcpStream::connect(proxy.address()).await.unwrap();
        assert!(say(&mut again, "X-Server-From: 1\r\n").await.is_err());

        proxy.set(Traffic::Stall);
        two.write_all(b"held").await.unwrap();
        let mut answer = [0; 4];
        let held = tokio::time::timeout(Duration::from_millis(50), two.read_exact(&mut answer));
        assert!(held.await.is_err(), "it was not held");
        proxy.set(Traffic::Forward);
        two.read_exact(&mut answer).await.unwrap();
        assert_eq!(&answer, b"held");
        assert!(say(&mut two, "passes").await.is_ok());
    }

    #[tokio::test]
    async fn it_ends_with_its_connections() {
        let proxy = echo_behind_a_proxy().await;
        let address = proxy.address();
        let mut connection = TcpStream::connect(address).await.unwrap();
        say(&mut connection, "hello").await.unwrap();
        drop(proxy);
        assert!(say(&mut connection, "hello").await.is_err());
        assert!(TcpStream::connect(address).await.is_err());
    }
}
