//! How to write services and clients, a page for each kind of program. Its code is compiled with the
//! tests, and what needs no cluster of its own runs on the embedded registry.
//!
//! | page | for whom |
//! | --- | --- |
//! | [`service`] | who offers methods |
//! | [`client`] | who calls them |
//! | [`composite`] | who does both at once |
//! | [`listening`] | who wants to know who is there |
//! | [`testing`] | who tests any of these |
//! | [`old_peers`] | who has programs of 2012 |

/// [following a cluster]: crate::guide::listening
#[doc = include_str!("../../docs/service.md")]
pub mod service {}

/// [following a cluster]: crate::guide::listening
#[doc = include_str!("../../docs/client.md")]
pub mod client {}

#[doc = include_str!("../../docs/composite.md")]
pub mod composite {}

#[doc = include_str!("../../docs/listening.md")]
pub mod listening {}

#[doc = include_str!("../../docs/testing.md")]
pub mod testing {}

#[doc = include_str!("../../docs/old-peers.md")]
pub mod old_peers {}
