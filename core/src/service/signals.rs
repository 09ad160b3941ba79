//! The signals that end a service.
//!
//! Invariant: a signal that the system does not let us hear is said once, and never comes. Does not
//! know what a signal begins.

use tokio::signal::unix::{Signal, SignalKind, signal};

/// SIGTERM and SIGINT, as far as the system lets us hear them.
pub(super) struct Signals {
    heard: [Option<Signal>; 2],
}

impl Signals {
    pub(super) fn listen() -> Self {
        let listen = |kind| {
            signal(kind)
                .inspect_err(|error| {
                    let error = error as &dyn std::error::Error;
                    tracing::warn!(error, "cannot listen to a signal");
                })
                .ok()
        };
        Self {
            heard: [
                listen(SignalKind::terminate()),
                listen(SignalKind::interrupt()),
            ],
        }
    }

    pub(super) async fn next(&mut self) {
        let [terminate, interrupt] = &mut self.heard;
        tokio::select! {
            () = heard(terminate) => {}
            () = heard(interrupt) => {}
        }
    }
}

async fn heard(signal: &mut Option<Signal>) {
    if let Some(signal) = signal
        && signal.recv().await.is_some()
    {
        return;
    }
    std::future::pending::<()>().await;
}
