//! A watch stream that is asked for signs of life, and found out when it has none.
//!
//! Invariant: whatever becomes of the connection, [`Stream::next`] ends within the time of
//! [`Liveness`]. What the messages mean is the business of who follows them.

use etcd_client::{WatchResponse, WatchStream};
use tokio::time::{Instant, sleep_until};

use super::liveness::Liveness;

/// A watch stream, on which connection it stands, and when it was heard.
pub(super) struct Stream {
    messages: WatchStream,
    /// For [`super::etcd::Etcd::leave`].
    pub(super) connection: usize,
    pub(super) liveness: Liveness,
}

impl Stream {
    /// A stream that was opened just now, as [`super::etcd::Etcd::open`] tells it.
    pub(super) fn new((messages, connection): (WatchStream, usize)) -> Self {
        Self {
            messages,
            connection,
            liveness: Liveness::new(Instant::now()),
        }
    }

    /// The next message; `None` when the stream is broken or says nothing though it was asked.
    ///
    /// # Cancel safety
    /// Dropping the future loses no message.
    pub(super) async fn next(&mut self) -> Option<WatchResponse> {
        loop {
            tokio::select! {
                // Whoever was stopped finds all of it due at once, and must read first what waited.
                biased;
                message = self.messages.message() => {
                    self.liveness.heard(Instant::now());
                    return message.ok().flatten();
                }
                () = sleep_until(self.liveness.ask_at()) => {
                    if !self.ask().await {
                        return None;
                    }
                }
                () = sleep_until(self.liveness.give_up_at()) => return None,
            }
        }
    }

    /// Asks for a sign of life; `false` when the stream is broken.
    pub(super) async fn ask(&mut self) -> bool {
        self.liveness.asked(Instant::now());
        self.messages.request_progress().await.is_ok()
    }
}
