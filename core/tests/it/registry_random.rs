//! The registry's client through random sequences of faults, held against a model of the truth.
//!
//! Each run takes other seeds. A failure prints its seed and the shortest sequence that still fails.
//! `SKYNET_RANDOM_SEED=n` runs one sequence again; `SKYNET_RANDOM_FAULTS=10m cargo test --release -p skynet --test it
//! random_faults -- --ignored --nocapture` runs new ones for ten minutes and prints figures.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::time::Instant;

use self::plan::{Action, Plan};
use self::world::{Violation, World};

mod model;
mod plan;
mod world;

/// How long CI looks for violations; each sequence that was begun is run to its end.
const IN_CI: Duration = Duration::from_secs(8);

/// Runs a plan on paused time, with the chances that its seed gives.
fn run(plan: &Plan) -> Result<(), Violation> {
    fastrand::seed(plan.seed);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .start_paused(true)
        .build()
        .unwrap();
    runtime.block_on(World::run(plan))
}

/// Leaves out what is not needed for the violation, step by step.
fn shortened(plan: &Plan, violation: Violation) -> (Plan, Violation) {
    let mut shortest = (plan.clone(), violation);
    let mut idx = 0;
    while idx < shortest.0.steps.len() {
        let mut shorter = shortest.0.clone();
        shorter.steps.remove(idx);
        match run(&shorter) {
            Err(violation) => shortest = (shorter, violation),
            Ok(()) => idx += 1,
        }
    }
    shortest
}

fn describe(plan: &Plan, violation: Violation) -> String {
    let first = format!("{:.2} s: {}", violation.at.as_secs_f64(), violation.what);
    let (plan, violation) = shortened(plan, violation);
    format!(
        "{first}\nrun it again with SKYNET_RANDOM_SEED={}; the shortest sequence that fails:\n{plan}  \
         {:>7.2} s  {}",
        plan.seed,
        violation.at.as_secs_f64(),
        violation.what
    )
}

fn run_seed(seed: u64) -> Result<Plan, String> {
    let plan = Plan::random(seed);
    match catch_unwind(AssertUnwindSafe(|| run(&plan))) {
        Ok(Ok(())) => Ok(plan),
        Ok(Err(violation)) => Err(describe(&plan, violation)),
        // What it said stands above.
        Err(_panic) => Err(format!(
            "a panic; run it again with SKYNET_RANDOM_SEED={seed}:\n{plan}"
        )),
    }
}

#[test]
fn random_sequences_of_faults_break_no_invariant() {
    if let Ok(seed) = std::env::var("SKYNET_RANDOM_SEED") {
        let seed = seed.parse().expect("SKYNET_RANDOM_SEED is a number");
        run_seed(seed).unwrap_or_else(|violation| panic!("{violation}"));
        return;
    }
    let began = Instant::now();
    for seed in fastrand::u64(..1 << 40).. {
        run_seed(seed).unwrap_or_else(|violation| panic!("{violation}"));
        if began.elapsed() >= IN_CI {
            break;
        }
    }
}

#[derive(Default)]
struct Figures {
    sequences: usize,
    simulated: Duration,
    actions: BTreeMap<String, usize>,
    violations: Vec<String>,
}

impl Figures {
    fn add(&mut self, plan: &Plan) {
        self.sequences += 1;
        self.simulated += plan.steps.last().map_or(Duration::ZERO, |step| step.at);
        for step in &plan.steps {
            let name = match &step.action {
                Action::Fault(fault, _) => fault.name(),
                other => {
                    let words = format!("{other:?}");
                    words.split('(').next().unwrap_or_default().to_owned()
                }
            };
            *self.actions.entry(name).or_default() += 1;
        }
    }
}

/// Runs one sequence, and says at once if it fails.
#[expect(clippy::print_stdout, reason = "figures for people")]
fn try_seed(seed: u64, figures: &Mutex<Figures>) {
    let outcome = run_seed(seed);
    let mut figures = figures.lock().unwrap();
    figures.add(&Plan::random(seed));
    if let Err(violation) = outcome {
        println!("VIOLATION, seed {seed}: {violation}");
        figures.violations.push(violation);
    }
}

#[test]
#[ignore = "as long as SKYNET_RANDOM_FAULTS says, like 10m; see the head of this file"]
fn random_faults() {
    let time = std::env::var("SKYNET_RANDOM_FAULTS").unwrap_or_else(|_| "1m".to_owned());
    let time = humantime::parse_duration(&time).expect("SKYNET_RANDOM_FAULTS is a time");
    let first = std::env::var("SKYNET_RANDOM_SEED")
        .map_or_else(|_| fastrand::u64(..1 << 40), |seed| seed.parse().unwrap());
    println!("seeds from {first} for {time:?}");
    let began = Instant::now();
    let figures = Mutex::new(Figures::default());
    let next = AtomicU64::new(first);
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(|| {
                while began.elapsed() < time {
                    try_seed(next.fetch_add(1, Ordering::Relaxed), &figures);
                }
            });
        }
    });
    let figures = figures.into_inner().unwrap();
    println!(
        "{} sequences, {} of simulated time, {:?}: {} violations",
        figures.sequences,
        humantime::format_duration(Duration::from_secs(figures.simulated.as_secs())),
        figures.actions,
        figures.violations.len()
    );
    assert!(figures.violations.is_empty());
}
