//! Why a service does not start.

use std::net::IpAddr;
use std::ops::RangeInclusive;

use crate::hint::Hint;

/// Why a service does not start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// Others could reach it, and nothing is encrypted or authenticated.
    #[error("`{service}` may not listen at {ip}, where other machines reach it")]
    Insecure {
        /// The service.
        service: String,
        /// The address.
        ip: IpAddr,
    },
    /// Every port is taken.
    #[error("`{service}` finds no free port at {ip} among {} to {}", ports.start(), ports.end())]
    NoPort {
        /// The service.
        service: String,
        /// The address.
        ip: IpAddr,
        /// What was tried.
        ports: RangeInclusive<u16>,
        /// What the system said of the last one; `None` when there was none to try.
        #[source]
        source: Option<std::io::Error>,
    },
    /// The system does not let it listen there.
    #[error("`{service}` cannot listen at {ip}")]
    Listen {
        /// The service.
        service: String,
        /// The address.
        ip: IpAddr,
        /// What the system says.
        #[source]
        source: std::io::Error,
    },
    /// The process cannot find out which one it is.
    #[error("cannot read the own process's start from `/proc`")]
    Process(#[source] std::io::Error),
}

impl Hint for StartError {
    fn hint(&self) -> Option<String> {
        Some(match self {
            Self::Insecure { .. } => {
                "allow it with `allow_insecure` only in a network that you trust".to_owned()
            }
            Self::NoPort { .. } => {
                "give it a wider range with SKYNET_MIN_PORT and SKYNET_MAX_PORT".to_owned()
            }
            Self::Listen { ip, .. } => format!("is {ip} an address of this machine?"),
            Self::Process(_) => "Skynet needs Linux with `/proc` mounted".to_owned(),
        })
    }
}
