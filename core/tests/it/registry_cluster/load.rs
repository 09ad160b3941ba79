//! Steady load through several clients, and the callers' half of the ledger.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use skynet::client::{CallOptions, ServiceClient};
use tokio::task::JoinHandle;
use tokio::time::{Instant, MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::instance_process::{Entry, Noted};

/// What became of the calls since the figures were last taken.
#[derive(Debug, Default, Clone)]
pub(crate) struct Figures {
    pub(crate) ok: u64,
    pub(crate) failed: Vec<String>,
    pub(crate) slowest: Duration,
}

#[derive(Default)]
struct Ledger {
    figures: Figures,
    /// Every request that was asked for, and whether it was answered; `None` while it is under way.
    asked: HashMap<String, Option<bool>>,
}

/// Calls that go on until they are stopped.
pub(crate) struct Load {
    ledger: Arc<Mutex<Ledger>>,
    stop: CancellationToken,
    caller: JoinHandle<()>,
    calls: TaskTracker,
}

impl Load {
    /// Calls so often a second, through each client in turn.
    pub(crate) fn start(clients: Vec<ServiceClient>, per_second: u32) -> Self {
        let ledger = Arc::new(Mutex::new(Ledger::default()));
        let stop = CancellationToken::new();
        let calls = TaskTracker::new();
        let calling = call_on(clients, per_second, Arc::clone(&ledger), calls.clone());
        let caller = tokio::spawn(stop.clone().run_until_cancelled_owned(calling));
        let caller = tokio::spawn(async move {
            // It ends only when it is stopped.
            let _stopped = caller.await;
        });
        Self {
            ledger,
            stop,
            caller,
            calls,
        }
    }

    /// What became of the calls since the last time.
    pub(crate) fn take_figures(&self) -> Figures {
        std::mem::take(&mut self.ledger.lock().unwrap().figures)
    }

    /// Stops calling, waits for every answer, and tells every request and whether it was answered.
    pub(crate) async fn stop(self) -> HashMap<String, Option<bool>> {
        self.stop.cancel();
        self.caller.await.unwrap();
        self.calls.close();
        self.calls.wait().await;
        std::mem::take(&mut self.ledger.lock().unwrap().asked)
    }
}

async fn call_on(
    clients: Vec<ServiceClient>,
    per_second: u32,
    ledger: Arc<Mutex<Ledger>>,
    calls: TaskTracker,
) {
    let mut ticks = interval(Duration::from_secs(1) / per_second);
    // On a machine that cannot keep up, calls are left out instead of piled up.
    ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
    let mut number: u64 = 0;
    for client in clients.iter().cycle() {
        ticks.tick().await;
        number += 1;
        let request_id = format!("call-{number}");
        ledger
            .lock()
            .unwrap()
            .asked
            .insert(request_id.clone(), None);
        let (client, ledger) = (client.clone(), Arc::clone(&ledger));
        calls.spawn(async move {
            let options = CallOptions {
                request_id: Some(request_id.clone()),
                ..CallOptions::default()
            };
            let began = Instant::now();
            let entry = Entry { takes_ms: 0 };
            let answer = client.call_with::<_, Noted>("Note", &entry, options).await;
            let mut ledger = ledger.lock().unwrap();
            ledger.asked.insert(request_id, Some(answer.is_ok()));
            let figures = &mut ledger.figures;
            figures.slowest = figures.slowest.max(began.elapsed());
            match answer {
                Ok(_noted) => figures.ok += 1,
                Err(error) => {
                    let source = std::error::Error::source(&error).map(ToString::to_string);
                    figures.failed.push(format!("{error}: {source:?}"));
                }
            }
        });
    }
}
