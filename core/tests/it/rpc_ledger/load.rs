//! Steady load of every kind of call, and what each caller was told.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use skynet::client::{CallError, CallOptions, ServiceClient};
use skynet::rpc::Outcome;
use tokio::task::JoinHandle;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::instance_process::{Entry, Noted};
use crate::rpc_support::PATIENCE;

/// Shorter than the faults, so that calls meet their ends.
pub(crate) const DEADLINE: Duration = Duration::from_millis(900);

/// How one call is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Plain,
    /// It takes long enough to be under way when something happens.
    Slow,
    Idempotent,
    Hedged,
    /// Its method fails.
    Failing,
    /// Its method panics.
    Panicking,
}

impl Kind {
    fn of(number: u64) -> Self {
        match number % 40 {
            0..20 => Self::Plain,
            20..27 => Self::Slow,
            27..32 => Self::Idempotent,
            32..36 => Self::Hedged,
            36..39 => Self::Failing,
            _ => Self::Panicking,
        }
    }

    pub(crate) fn may_run_twice(self) -> bool {
        matches!(self, Self::Idempotent | Self::Hedged)
    }

    fn method(self) -> &'static str {
        match self {
            Self::Failing => "Fail",
            Self::Panicking => "Panic",
            _ => "Note",
        }
    }

    fn entry(self) -> Entry {
        let takes_ms = match self {
            Self::Slow | Self::Hedged => 150,
            _ => 0,
        };
        Entry { takes_ms }
    }
}

/// What became of a call as its caller was told.
#[derive(Debug, Clone)]
pub(crate) struct Told {
    pub(crate) kind: Kind,
    /// `None` when it succeeded.
    pub(crate) failed: Option<(Outcome, String)>,
    pub(crate) took: Duration,
}

/// All of it.
pub(crate) struct AllTold {
    pub(crate) calls: HashMap<String, Told>,
    /// Attempts after the first, and second requests beside one that took long.
    pub(crate) further_attempts: i64,
    pub(crate) took: Duration,
}

/// Calls that go on until they are stopped.
pub(crate) struct Load {
    client: ServiceClient,
    told: Arc<Mutex<HashMap<String, Told>>>,
    stop: CancellationToken,
    caller: JoinHandle<Option<()>>,
    calls: TaskTracker,
    began: Instant,
}

impl Load {
    pub(crate) fn start(client: ServiceClient, per_second: u32) -> Self {
        let told = Arc::default();
        let stop = CancellationToken::new();
        let calls = TaskTracker::new();
        let calling = call_on(client.clone(), per_second, Arc::clone(&told), calls.clone());
        Self {
            client,
            told,
            caller: tokio::spawn(stop.clone().run_until_cancelled_owned(calling)),
            stop,
            calls,
            began: Instant::now(),
        }
    }

    /// Waits until so many calls are over.
    pub(crate) async fn until_answered(&self, count: usize) {
        while self.told.lock().unwrap().len() < count {
            assert!(self.began.elapsed() < PATIENCE, "nobody answers");
            sleep(Duration::from_millis(5)).await;
        }
    }

    /// Stops calling, and waits for the end of every call.
    pub(crate) async fn stop(self) -> AllTold {
        self.stop.cancel();
        self.caller.await.unwrap();
        self.calls.close();
        self.calls.wait().await;
        let metrics = self.client.metrics();
        AllTold {
            calls: std::mem::take(&mut *self.told.lock().unwrap()),
            further_attempts: metrics.retries + metrics.hedges,
            took: self.began.elapsed(),
        }
    }
}

async fn call_on(
    client: ServiceClient,
    per_second: u32,
    told: Arc<Mutex<HashMap<String, Told>>>,
    calls: TaskTracker,
) {
    let mut ticks = interval(Duration::from_secs(1) / per_second);
    // On a machine that cannot keep up, calls are left out instead of piled up.
    ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
    for number in 0_u64.. {
        ticks.tick().await;
        let (client, told) = (client.clone(), Arc::clone(&told));
        calls.spawn(async move {
            let kind = Kind::of(number);
            let request_id = format!("{kind:?}-{number}");
            let began = Instant::now();
            let called = call(&client, kind, &request_id).await;
            let failed = called.err().map(|error| {
                let text = skynet::hint::chain(&error);
                (error.outcome(), text)
            });
            let took = began.elapsed();
            let one = Told { kind, failed, took };
            told.lock().unwrap().insert(request_id, one);
        });
    }
}

async fn call(client: &ServiceClient, kind: Kind, request_id: &str) -> Result<Noted, CallError> {
    let options = CallOptions {
        deadline: DEADLINE,
        idempotent: kind.may_run_twice(),
        hedge: (kind == Kind::Hedged).then_some(Duration::from_millis(50)),
        request_id: Some(request_id.to_owned()),
        ..CallOptions::default()
    };
    client
        .call_with(kind.method(), &kind.entry(), options)
        .await
}
