//! The processes of the demo: whatever they leave behind becomes ours, and is reaped.
//!
//! Invariant: nothing else in this process waits for children, because whoever waits for one takes
//! its end away from all others.

use std::io;
use std::process::Command;
use std::time::Duration;

use rustix::process::{Pid, Signal, WaitOptions, kill_process, wait};
use skynet::instance::ProcessId;
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::{Instant, sleep_until};

/// How often the ends of children are looked for though no signal came.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// Makes this process the parent of all that its descendants leave behind.
pub(super) fn adopt_orphans() -> io::Result<()> {
    rustix::process::set_child_subreaper(Some(rustix::process::getpid()))?;
    Ok(())
}

/// Starts a process that is not waited for; [`reap`] does that.
pub(super) fn start(mut command: Command) -> io::Result<u32> {
    Ok(command.spawn()?.id())
}

/// Reaps whatever has ended.
pub(super) fn reap() {
    while let Ok(Some(_ended)) = wait(WaitOptions::NOHANG) {}
}

/// Reaps for ever, so that no zombie stays while the demo runs.
#[expect(clippy::infinite_loop, reason = "the demo aborts it when it leaves")]
pub(super) async fn reap_always() {
    let mut ended = match signal(SignalKind::child()) {
        Ok(ended) => ended,
        Err(error) => {
            tracing::warn!(%error, "no signal tells of ended children, they are looked for");
            loop {
                tokio::time::sleep(LOOK_EVERY).await;
                reap();
            }
        }
    };
    loop {
        ended.recv().await;
        reap();
    }
}

/// Sends a signal; a process that is gone is as good.
pub(super) fn send(pid: u32, signal: Signal) {
    let pid = i32::try_from(pid).ok().and_then(Pid::from_raw);
    if let Some(pid) = pid {
        // The only error that matters is that nobody is there, which is what is wanted.
        let _gone = kill_process(pid, signal);
    }
}

/// Whether this process has such a child, and it runs.
pub(super) fn is_child(pid: u32) -> bool {
    reap();
    children().contains(&pid)
}

/// Waits until this process has no child any more but those; `false` when the time is over first.
pub(super) async fn all_ended(but: &[u32], until: Instant) -> bool {
    wait_until(until, || children().iter().all(|pid| but.contains(pid))).await
}

/// Waits until these have ended; `false` when the time is over first.
pub(super) async fn have_ended(pids: &[u32], until: Instant) -> bool {
    wait_until(until, || {
        let left = children();
        !pids.iter().any(|pid| left.contains(pid))
    })
    .await
}

/// Kills every child but those, and whatever they leave behind, generation by generation.
pub(super) async fn kill_all(but: &[u32], until: Instant) {
    loop {
        for pid in children().into_iter().filter(|pid| !but.contains(pid)) {
            send(pid, Signal::KILL);
        }
        let soon = (Instant::now() + LOOK_EVERY).min(until);
        if all_ended(but, soon).await || Instant::now() >= until {
            return;
        }
    }
}

async fn wait_until(until: Instant, holds: impl Fn() -> bool) -> bool {
    loop {
        reap();
        if holds() {
            return true;
        }
        if Instant::now() >= until {
            return false;
        }
        sleep_until((Instant::now() + LOOK_EVERY).min(until)).await;
    }
}

fn children() -> Vec<u32> {
    ProcessId::children_of(std::process::id()).unwrap_or_default()
}
