//! Where things stand in the registry: the keys below the prefix, written and read.
//!
//! Invariants: every segment is percent-encoded, so that a name with a slash stays one segment;
//! what [`Key::path`] writes, [`Key::parse`] reads again. Pure.

use std::sync::Arc;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};

use crate::instance::{Identity, InstanceId};

/// The prefix that is used unless another is given.
pub const DEFAULT_PREFIX: &str = "/skynet/v1";

/// What stays readable in a segment; all else is percent-encoded.
const SEGMENT: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'_')
    .remove(b'.')
    .remove(b'~')
    .remove(b':');

/// A key of the registry, without its prefix.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Key {
    /// `instances/{service}/{version}/{region}/{host}/{uuid}`.
    Instance(Identity),
    /// `addr/{host}/{port}`: the claim on an address.
    Address {
        /// The host's name.
        host: Arc<str>,
        /// The port on it.
        port: u16,
    },
    /// `hosts/{host}`.
    Host(Arc<str>),
    /// `status/{host}/{uuid}`: a child that is not registered.
    Child {
        /// The host's name.
        host: Arc<str>,
        /// The child's id.
        id: InstanceId,
    },
}

impl Key {
    /// The whole key, below `prefix`.
    pub fn path(&self, prefix: &str) -> String {
        match self {
            Self::Instance(identity) => format!(
                "{prefix}/instances/{}/{}/{}/{}/{}",
                encode(&identity.service),
                encode(&identity.version),
                encode(&identity.region),
                encode(&identity.host),
                identity.id
            ),
            Self::Address { host, port } => format!("{prefix}/addr/{}/{port}", encode(host)),
            Self::Host(host) => format!("{prefix}/hosts/{}", encode(host)),
            Self::Child { host, id } => format!("{prefix}/status/{}/{id}", encode(host)),
        }
    }

    /// Reads a whole key; `None` for one that is not below `prefix` or not of a known shape.
    pub fn parse(prefix: &str, path: &[u8]) -> Option<Self> {
        let path = std::str::from_utf8(path).ok()?;
        let rest = path.strip_prefix(prefix)?.strip_prefix('/')?;
        let segments: Vec<&str> = rest.split('/').collect();
        match *segments.as_slice() {
            ["instances", service, version, region, host, id] => Some(Self::Instance(Identity {
                service: decode(service)?,
                version: decode(version)?,
                region: decode(region)?,
                host: decode(host)?,
                id: id.parse().ok()?,
            })),
            ["addr", host, port] => Some(Self::Address {
                host: decode(host)?,
                port: port.parse().ok()?,
            }),
            ["hosts", host] => Some(Self::Host(decode(host)?)),
            ["status", host, id] => Some(Self::Child {
                host: decode(host)?,
                id: id.parse().ok()?,
            }),
            _ => None,
        }
    }
}

fn encode(segment: &str) -> String {
    // An empty segment would make two slashes meet, and "%" alone never arises from encoding.
    if segment.is_empty() {
        return "%".to_owned();
    }
    utf8_percent_encode(segment, SEGMENT).to_string()
}

fn decode(segment: &str) -> Option<Arc<str>> {
    if segment == "%" {
        return Some(Arc::from(""));
    }
    percent_decode_str(segment)
        .decode_utf8()
        .ok()
        .map(Arc::from)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn instance_keys_read_back(
            service in ".{0,12}", version in ".{0,8}", region in ".{0,8}", host in ".{0,12}",
            id in any::<u128>(),
        ) {
            let key = Key::Instance(Identity {
                service: service.into(),
                version: version.into(),
                region: region.into(),
                host: host.into(),
                id: InstanceId::from_u128(id),
            });
            let path = key.path("/a/b");
            prop_assert_eq!(Key::parse("/a/b", path.as_bytes()), Some(key));
        }
    }

    #[test]
    fn foreign_keys_are_no_keys() {
        for path in [
            "/a/b",
            "/a/b/",
            "/a/bc/cluster",
            "/a/b/hosts",
            "/a/b/addr/h/99999",
            "/x",
        ] {
            assert_eq!(Key::parse("/a/b", path.as_bytes()), None, "{path}");
        }
        assert_eq!(Key::parse("/a/b", b"/a/b/\xff"), None);
    }
}
