//! A sequence of faults and of ordinary events: data, made from a seed, so that it can be printed,
//! repeated and made shorter.

use std::fmt;
use std::time::Duration;

use skynet::instance::State;
use skynet::registry::embedded::{Leases, Path};

/// Programs that hold entries, readers, and endpoints of one run.
pub(crate) const PROCESSES: usize = 5;
pub(crate) const READERS: usize = 3;

#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Plan {
    pub(crate) seed: u64,
    pub(crate) n_endpoints: usize,
    pub(crate) steps: Vec<Step>,
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Step {
    /// Since the start.
    pub(crate) at: Duration,
    pub(crate) action: Action,
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Action {
    /// A program starts, with a few entries.
    Join(usize),
    /// It says that it leaves, and ends.
    Leave(usize),
    /// It ends without a word.
    Die(usize),
    SetState(usize, State),
    /// An operator's wish for the first instance of a program.
    Wish(usize, bool),
    /// Something goes wrong for a while; for those that happen in a moment the time says nothing.
    Fault(Fault, Duration),
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Fault {
    Freeze(Leases),
    Silence(Option<usize>),
    Slow(Duration),
    Refuse,
    Duplicate(usize),
    Reorder(usize),
    Endpoint(usize, Path),
    AllEndpoints(Path),
    ProcessNetwork(usize, Path),
    ReaderNetwork(usize, Path),
    Cut,
    CompactAndCut,
    Revoke(usize),
    RevokeSecretly(usize),
    LoseData,
    ChangeClusterId,
    GoBack(i64),
    LoseDataAndChangeClusterId,
}

impl Fault {
    /// Its kind, for counting.
    pub(crate) fn name(&self) -> String {
        let words = format!("{self:?}");
        words.split('(').next().unwrap_or_default().to_owned()
    }

    /// Whether it breaks the registry's history.
    pub(crate) fn breaks_history(&self) -> bool {
        matches!(
            self,
            Self::LoseData
                | Self::ChangeClusterId
                | Self::GoBack(_)
                | Self::LoseDataAndChangeClusterId
        )
    }
}

impl fmt::Display for Plan {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            formatter,
            "seed {}, {} endpoints",
            self.seed, self.n_endpoints
        )?;
        for step in &self.steps {
            write!(formatter, "  {:>7.2} s  ", step.at.as_secs_f64())?;
            match &step.action {
                Action::Fault(fault, time) => {
                    writeln!(formatter, "{fault:?} for {:.2} s", time.as_secs_f64())?;
                }
                other => writeln!(formatter, "{other:?}")?,
            }
        }
        Ok(())
    }
}

impl Plan {
    pub(crate) fn random(seed: u64) -> Self {
        let mut random = fastrand::Rng::with_seed(seed);
        let n_endpoints = if random.bool() { 3 } else { 1 };
        let mut steps: Vec<Step> = (0..PROCESSES)
            .map(|process| Step {
                at: Duration::from_millis(random.u64(0..3000)),
                action: Action::Join(process),
            })
            .collect();
        let mut at = Duration::from_secs(8);
        for _ in 0..random.usize(5..25) {
            steps.push(Step {
                at,
                action: action(&mut random, n_endpoints),
            });
            // Often at once, so that things coincide; sometimes with time to settle.
            let pause = match random.u8(0..10) {
                0..4 => random.u64(0..1500),
                4..8 => random.u64(1500..10_000),
                _ => random.u64(10_000..40_000),
            };
            at += Duration::from_millis(pause);
        }
        steps.sort_by_key(|step| step.at);
        Self {
            seed,
            n_endpoints,
            steps,
        }
    }
}

fn action(random: &mut fastrand::Rng, n_endpoints: usize) -> Action {
    let process = random.usize(0..PROCESSES);
    match random.u8(0..20) {
        0..2 => Action::Join(process),
        2 => Action::Leave(process),
        3..5 => Action::Die(process),
        5..7 => {
            let states = [State::Ready, State::Pressured, State::Draining];
            Action::SetState(process, states[random.usize(0..states.len())])
        }
        7..9 => Action::Wish(process, random.bool()),
        _ => {
            let longest = if random.bool() { 8_000 } else { 50_000 };
            let time = Duration::from_millis(random.u64(200..longest));
            Action::Fault(fault(random, n_endpoints), time)
        }
    }
}

fn fault(random: &mut fastrand::Rng, n_endpoints: usize) -> Fault {
    let paths = [Path::Refused, Path::Stalled, Path::Lost];
    let path = paths[random.usize(0..paths.len())];
    let endpoint = random.usize(0..n_endpoints);
    match random.u8(0..22) {
        0 => Fault::Freeze(Leases::Stand),
        1 => Fault::Freeze(Leases::Expire),
        2 => Fault::Silence(None),
        3 => Fault::Silence(Some(endpoint)),
        4 => Fault::Slow(Duration::from_millis(random.u64(50..6000))),
        5 => Fault::Refuse,
        6 => Fault::Duplicate(random.usize(1..30)),
        7 => Fault::Reorder(random.usize(1..30)),
        8..10 => Fault::Endpoint(endpoint, path),
        10 => Fault::AllEndpoints(path),
        11..13 => Fault::ProcessNetwork(random.usize(0..PROCESSES), path),
        13..15 => Fault::ReaderNetwork(random.usize(0..READERS), path),
        15 => Fault::Cut,
        16 => Fault::CompactAndCut,
        17 => Fault::Revoke(random.usize(0..PROCESSES)),
        18 => Fault::RevokeSecretly(random.usize(0..PROCESSES)),
        19 => Fault::GoBack(random.i64(1..20)),
        20 => Fault::LoseData,
        _ => {
            if random.bool() {
                Fault::ChangeClusterId
            } else {
                Fault::LoseDataAndChangeClusterId
            }
        }
    }
}
