//! The terminal's input, read by one task.
//!
//! Invariants: the stream of events is polled by its own task only (a poll that is not meant to wait
//! would take the wake-up from the one that does); the queue is bounded, and when it is full the
//! terminal keeps what was typed; the task has ended when [`Input::close`] returns.

use std::io;

use crossterm::event::{Event, EventStream};
use futures_util::StreamExt;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

/// How many events wait for the loop.
const QUEUE: usize = 256;

/// What is typed, and the size of the terminal.
pub(super) struct Input {
    events: mpsc::Receiver<io::Result<Event>>,
    reader: JoinHandle<()>,
}

impl Input {
    /// Begins to read. Call it on a tokio runtime, when the terminal is in raw mode.
    pub(super) fn open() -> Self {
        let (sender, events) = mpsc::channel(QUEUE);
        let reader = tokio::spawn(async move {
            let mut stream = EventStream::new();
            while let Some(event) = stream.next().await {
                let failed = event.is_err();
                if sender.send(event).await.is_err() || failed {
                    return;
                }
            }
        });
        Self { events, reader }
    }

    /// The next event; `None` when the terminal is gone.
    ///
    /// # Cancel safety
    /// No event is lost when the future is dropped.
    pub(super) async fn next(&mut self) -> Option<Event> {
        self.events.recv().await?.ok()
    }

    /// An event that is there already.
    pub(super) fn ready(&mut self) -> Option<Event> {
        self.events.try_recv().ok()?.ok()
    }

    /// Stops reading, so that somebody else may read the terminal.
    pub(super) async fn close(mut self) {
        self.reader.abort();
        // It was broken off: there is nothing to learn from it.
        let _ended = (&mut self.reader).await;
    }
}

impl Drop for Input {
    fn drop(&mut self) {
        self.reader.abort();
    }
}
