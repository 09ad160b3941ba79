//! Where things stand in the registry: the keys below the prefix, written and read.
//!
//! Invariants: every segment is percent-encoded, so that a name with a slash stays one segment;
//! what [`Key::path`] writes, [`Key::parse`] reads again. Pure.

use std::borrow::Cow;
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

/// The segment of an empty name: two slashes must not meet, and this never arises from encoding.
const NO_NAME: &str = "%";

/// A key of the registry, without its prefix.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Key {
    /// `cluster`: which registry this is.
    Cluster,
    /// `instances/{service}/{version}/{region}/{host}/{uuid}`.
    Instance(Identity),
    /// `addr/{host}/{port}`: the claim on an address.
    Address {
        /// The host's name.
        host: Arc<str>,
        /// The port on it.
        port: u16,
    },
    /// `ids/{uuid}`: the claim on an instance's id, which is one for all hosts.
    Id(InstanceId),
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
            Self::Cluster => format!("{prefix}/cluster"),
            Self::Instance(identity) => format!(
                "{prefix}/instances/{}/{}/{}/{}/{}",
                encode(&identity.service),
                encode(&identity.version),
                encode(&identity.region),
                encode(&identity.host),
                identity.id
            ),
            Self::Address { host, port } => format!("{prefix}/addr/{}/{port}", encode(host)),
            Self::Id(id) => format!("{prefix}/ids/{id}"),
            Self::Host(host) => format!("{prefix}/hosts/{}", encode(host)),
            Self::Child { host, id } => format!("{prefix}/status/{}/{id}", encode(host)),
        }
    }

    /// Reads a whole key; `None` for one that is not below `prefix` or not of a known shape.
    pub fn parse(prefix: &str, path: &[u8]) -> Option<Self> {
        if path.strip_prefix(prefix.as_bytes()) == Some(b"/cluster") {
            return Some(Self::Cluster);
        }
        RawKey::split(prefix, path)?.decode(|name| Arc::from(name))
    }
}

/// A key in its segments, which are still encoded: all that can be told without copying them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum RawKey<'a> {
    Instance {
        service: &'a str,
        version: &'a str,
        region: &'a str,
        host: &'a str,
        id: InstanceId,
    },
    Address {
        host: &'a str,
        port: u16,
    },
    Id(InstanceId),
    Host(&'a str),
    Child {
        host: &'a str,
        id: InstanceId,
    },
}

impl<'a> RawKey<'a> {
    /// Splits a whole key; `None` for one that is not below `prefix` or not of a known shape.
    pub(super) fn split(prefix: &str, path: &'a [u8]) -> Option<Self> {
        let path = std::str::from_utf8(path).ok()?;
        let rest = path.strip_prefix(prefix)?.strip_prefix('/')?;
        let (folder, rest) = rest.split_once('/')?;
        let mut segments = rest.split('/');
        let mut next = || segments.next();
        let key = match folder {
            "instances" => Self::Instance {
                service: next()?,
                version: next()?,
                region: next()?,
                host: next()?,
                id: next()?.parse().ok()?,
            },
            "addr" => Self::Address {
                host: next()?,
                port: next()?.parse().ok()?,
            },
            "ids" => Self::Id(next()?.parse().ok()?),
            "hosts" => Self::Host(next()?),
            "status" => Self::Child {
                host: next()?,
                id: next()?.parse().ok()?,
            },
            _ => return None,
        };
        next().is_none().then_some(key)
    }

    /// The key with its names decoded; `share` makes them what they are kept as.
    pub(super) fn decode(self, mut share: impl FnMut(&str) -> Arc<str>) -> Option<Key> {
        let mut name = |segment| decode(segment).map(|name| share(&name));
        Some(match self {
            Self::Instance {
                service,
                version,
                region,
                host,
                id,
            } => Key::Instance(Identity {
                service: name(service)?,
                version: name(version)?,
                region: name(region)?,
                host: name(host)?,
                id,
            }),
            Self::Address { host, port } => Key::Address {
                host: name(host)?,
                port,
            },
            Self::Id(id) => Key::Id(id),
            Self::Host(host) => Key::Host(name(host)?),
            Self::Child { host, id } => Key::Child {
                host: name(host)?,
                id,
            },
        })
    }

    /// Whether this is the key that an instance of this identity has.
    pub(super) fn is_instance(self, identity: &Identity) -> bool {
        matches!(self, Self::Instance { service, version, region, host, id }
            if id == identity.id
                && is_name(host, &identity.host)
                && is_name(service, &identity.service)
                && is_name(version, &identity.version)
                && is_name(region, &identity.region))
    }

    /// Whether this is the key of a daemon's word on a child of this identity.
    pub(super) fn is_child(self, identity: &Identity) -> bool {
        matches!(self, Self::Child { host, id }
            if id == identity.id && is_name(host, &identity.host))
    }
}

fn encode(segment: &str) -> String {
    if segment.is_empty() {
        return NO_NAME.to_owned();
    }
    utf8_percent_encode(segment, SEGMENT).to_string()
}

/// The name that a segment stands for.
pub(super) fn decode(segment: &str) -> Option<Cow<'_, str>> {
    if segment == NO_NAME {
        return Some(Cow::Borrowed(""));
    }
    percent_decode_str(segment).decode_utf8().ok()
}

/// Whether `segment` is `name`, encoded.
fn is_name(segment: &str, name: &str) -> bool {
    if segment == NO_NAME {
        return name.is_empty();
    }
    percent_decode_str(segment).eq(name.bytes())
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
            prop_assert_eq!(Key::parse("/a/b", path.as_bytes()), Some(key.clone()));
            let Key::Instance(identity) = &key else { unreachable!() };
            let raw = RawKey::split("/a/b", path.as_bytes()).unwrap();
            prop_assert!(raw.is_instance(identity));
            let other = Identity { host: format!("{}x", identity.host).into(), ..identity.clone() };
            prop_assert!(!raw.is_instance(&other));
        }
    }

    #[test]
    fn the_cluster_has_one_key() {
        let path = Key::Cluster.path("/a/b");
        assert_eq!(path, "/a/b/cluster");
        assert_eq!(Key::parse("/a/b", path.as_bytes()), Some(Key::Cluster));
    }

    #[test]
    fn foreign_keys_are_no_keys() {
        for path in [
            "/a/b",
            "/a/b/",
            "/a/bc/cluster",
            "/a/b/hosts",
            "/a/b/addr/h/99999",
            "/a/b/hosts/h/more",
            "/x",
        ] {
            assert_eq!(Key::parse("/a/b", path.as_bytes()), None, "{path}");
        }
        assert_eq!(Key::parse("/a/b", b"/a/b/\xff"), None);
    }
}
