//! The options of our TCP sockets, and which errors of `accept` concern one connection only.

use std::io;
use std::time::Duration;

use rustix::net::sockopt;
use tokio::net::TcpStream;

/// How long a connection is silent before the kernel probes it, and how often it then does.
const PROBE_AFTER: Duration = Duration::from_secs(15);
const PROBE_EVERY: Duration = Duration::from_secs(5);

/// How many probes may stay without an answer.
const PROBES: u32 = 3;

/// Sends at once, and finds out when the peer vanished without a word.
///
/// A socket without these options works, so what the system refuses is only logged.
pub(super) fn prepare(stream: &TcpStream) {
    let set = || -> io::Result<()> {
        stream.set_nodelay(true)?;
        sockopt::set_socket_keepalive(stream, true)?;
        sockopt::set_tcp_keepidle(stream, PROBE_AFTER)?;
        sockopt::set_tcp_keepintvl(stream, PROBE_EVERY)?;
        sockopt::set_tcp_keepcnt(stream, PROBES)?;
        Ok(())
    };
    if let Err(error) = set() {
        tracing::debug!(
            error = &error as &dyn std::error::Error,
            "cannot set a socket's options"
        );
    }
}

/// How long what was sent may stay without an acknowledgment of the peer's system.
const UNACKNOWLEDGED_MS: u32 = 10_000;

/// Ends the connection when its peer's system takes nothing for ten seconds: it has vanished, and
/// the kernel's own patience is up to half an hour. For those who ask, and not for those who answer:
/// a client that stands still for a while finds its answers when it goes on.
pub(super) fn limit_unacknowledged(stream: &TcpStream) {
    if let Err(error) = sockopt::set_tcp_user_timeout(stream, UNACKNOWLEDGED_MS) {
        tracing::debug!(
            error = &error as &dyn std::error::Error,
            "cannot limit how long a peer may stay silent"
        );
    }
}

/// Whether an error of `accept` says something of a single connection, so that the next one may be
/// accepted at once.
pub(super) fn concerns_one_connection(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::ConnectionRefused
            | io::ErrorKind::Interrupted
    )
}

/// Whether the process, or the system, has no more file descriptors.
pub(super) fn is_out_of_files(error: &io::Error) -> bool {
    use rustix::io::Errno;

    let code = error.raw_os_error().map(Errno::from_raw_os_error);
    matches!(code, Some(Errno::MFILE | Errno::NFILE))
}
