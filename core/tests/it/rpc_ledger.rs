//! Clients that tell the truth under faults: five instances in processes of their own, a proxy before
//! each, steady load, and a ledger of what was executed.
//!
//! Every two seconds an instance is killed (`kill -9`) and started again; between that others are
//! frozen, their connections are reset, cut and stalled, their answers are held while requests pass,
//! and once all are cut off. At the end the ledgers of all processes are compared with what each caller was told: nothing
//! is executed twice unless it may be; what failed has the outcome that its error says; and there
//! were no more attempts than a fifth above what was asked for, and ten a second.
//!
//! Every run of the tests does it for a few seconds. For a minute, one command runs it and prints the
//! figures:
//!
//! ```text
//! cargo test -p skynet --test it rpc_ledger -- --ignored --nocapture
//! ```

use std::time::Duration;

use faults::{Cluster, Fault};
use load::Load;

mod faults;
mod judge;
mod load;

/// Faults one after the other; they last, so that some meet others.
const SCRIPT: [(Fault, usize); 11] = [
    (Fault::Kill, 0),
    (Fault::Freeze, 1),
    (Fault::Reset, 2),
    (Fault::Kill, 3),
    (Fault::Stall, 4),
    (Fault::HoldAnswers, 0),
    (Fault::Kill, 2),
    (Fault::Cut, 1),
    (Fault::Freeze, 3),
    (Fault::HoldAnswers, 2),
    (Fault::CutAll, 0),
];

/// An instance is killed every two seconds, so each three faults take as long.
const EVERY: Duration = Duration::from_millis(600);

/// How many turns a fault lasts.
const LAST: usize = 2;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_outcome_is_true_under_faults() {
    run(SCRIPT.len(), 200).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "takes a minute; the file's head has the command"]
async fn every_outcome_is_true_under_faults_for_a_minute() {
    run(SCRIPT.len() * 8, 500).await;
}

async fn run(n_faults: usize, per_second: u32) {
    let mut cluster = Cluster::start().await;
    let load = Load::start(cluster.client(), per_second);
    load.until_answered(50).await;
    let faults: Vec<_> = SCRIPT.iter().cycle().take(n_faults).collect();
    for (turn, (fault, instance)) in faults.iter().enumerate() {
        if let Some((_, over)) = turn.checked_sub(LAST).and_then(|turn| faults.get(turn)) {
            cluster.heal(*over);
        }
        cluster.inflict(*fault, *instance).await;
        tokio::time::sleep(EVERY).await;
    }
    cluster.heal_all();
    let told = load.stop().await;
    let executed = cluster.end().await;
    judge::judge(&told, &executed);
}
