//! Finding a port: the first free one of a range, at an address that may be used.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;

use tokio::net::{TcpListener, TcpSocket};

use super::error::StartError;

/// Connections that may wait to be accepted, as far as the system allows it (`somaxconn`): with the
/// usual 128, thousands that come at once wait a second each for their next try.
const BACKLOG: u32 = 4096;

/// Listens at the first free port.
pub(super) fn first_free(
    service: &str,
    ip: IpAddr,
    ports: RangeInclusive<u16>,
) -> Result<TcpListener, StartError> {
    let mut last = None;
    for port in ports.clone() {
        match listen(SocketAddr::new(ip, port)) {
            Ok(listener) => return Ok(listener),
            Err(error) if is_taken(&error) => last = Some(error),
            Err(source) => {
                return Err(StartError::Listen {
                    service: service.to_owned(),
                    ip,
                    source,
                });
            }
        }
    }
    Err(StartError::NoPort {
        service: service.to_owned(),
        ip,
        ports,
        source: last,
    })
}

fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = match address {
        SocketAddr::V4(_) => TcpSocket::new_v4(),
        SocketAddr::V6(_) => TcpSocket::new_v6(),
    }?;
    // Connections of an earlier process that are not forgotten yet do not hold the port.
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

/// A port below 1024 is as good as taken for whoever may not use it.
fn is_taken(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::AddrInUse | io::ErrorKind::PermissionDenied
    )
}

/// Refuses addresses that other machines reach, unless that was allowed.
pub(super) fn check(service: &str, ip: IpAddr, allow_insecure: bool) -> Result<(), StartError> {
    if ip.is_loopback() || allow_insecure {
        return Ok(());
    }
    Err(StartError::Insecure {
        service: service.to_owned(),
        ip,
    })
}

/// The system's name for this machine.
pub(super) fn host_name() -> std::sync::Arc<str> {
    rustix::system::uname().nodename().to_string_lossy().into()
}
