//! The watch of the own key, which is opened again and again while its owner goes on with other things.
//!
//! Invariants: waiting for it never keeps the owner from writing or looking; a failed opening waits
//! longer each time, until a message came. What the messages mean is the owner's business.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use etcd_client::{WatchOptions, WatchResponse};
use tokio::time::sleep;

use super::super::error::Error;
use super::super::etcd::Etcd;
use super::super::stream::Stream;
use crate::backoff::Backoff;

type Opening = Pin<Box<dyn Future<Output = Result<Stream, Error>> + Send>>;

/// A watch of one key.
pub(super) struct OwnWatch {
    etcd: Arc<Etcd>,
    key: String,
    backoff: Backoff,
    state: State,
}

enum State {
    Opening(Opening),
    Open(Box<Stream>),
}

/// What became of the watch.
pub(super) enum Heard {
    /// It stands.
    Opened,
    /// The registry told something.
    Message(WatchResponse),
    /// It is broken; [`OwnWatch::open_again`] opens another.
    Broken,
    /// The registry ended it, as for a compaction; [`OwnWatch::open_again`] opens another.
    Cancelled,
}

impl OwnWatch {
    /// Begins to open it, for what comes from the revision `from` on.
    pub(super) fn of(etcd: Arc<Etcd>, key: String, from: i64) -> Self {
        let opening = open(Arc::clone(&etcd), key.clone(), from, Duration::ZERO);
        Self {
            etcd,
            key,
            backoff: Backoff::new(Duration::from_millis(100), Duration::from_secs(5)),
            state: State::Opening(opening),
        }
    }

    /// What comes next. After `Broken` and `Cancelled` it must be opened again.
    ///
    /// # Cancel safety
    /// Dropping the future loses nothing; an opening goes on with the next one.
    pub(super) async fn next(&mut self, from: i64) -> Heard {
        loop {
            match &mut self.state {
                State::Opening(opening) => match opening.await {
                    Ok(stream) => {
                        self.state = State::Open(Box::new(stream));
                        return Heard::Opened;
                    }
                    Err(error) => {
                        tracing::debug!(%error, "the own entry is not watched");
                        self.open_again(from);
                    }
                },
                State::Open(stream) => {
                    let Some(response) = stream.next().await else {
                        self.etcd.leave(stream.connection);
                        return Heard::Broken;
                    };
                    if response.canceled() {
                        let words = response.cancel_reason();
                        self.etcd.cancelled(stream.connection, words);
                        return Heard::Cancelled;
                    }
                    if !response.events().is_empty() {
                        self.backoff.reset();
                    }
                    return Heard::Message(response);
                }
            }
        }
    }

    /// Opens another one, for what comes from the revision `from` on.
    pub(super) fn open_again(&mut self, from: i64) {
        let wait = self.backoff.next_wait();
        let opening = open(Arc::clone(&self.etcd), self.key.clone(), from, wait);
        self.state = State::Opening(opening);
    }
}

fn open(etcd: Arc<Etcd>, key: String, from: i64, wait: Duration) -> Opening {
    Box::pin(async move {
        sleep(wait).await;
        etcd.open("watch the own entry", |mut client| {
            let options = WatchOptions::new().with_start_revision(from);
            let key = key.as_str();
            async move { client.watch(key, Some(options)).await }
        })
        .await
        .map(Stream::new)
    })
}
