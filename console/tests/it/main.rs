//! Integration tests of `sky`: the built program, on real processes.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a failed set-up fails the test"
)]

mod demo;
mod oneshot;
mod quorum;
mod shell_pty;
mod support;
mod tui_pty;
