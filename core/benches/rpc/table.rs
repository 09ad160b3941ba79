//! The tables: speed in ratios of the same round, costs of a call, and what was aimed at.

use crate::load::{Load, Measured};
use crate::memory;
use crate::peers::Peer;
use crate::process::PerCall;

/// All that was measured of one shape and size: every peer's rounds, in the same order.
pub(crate) struct Section {
    pub(crate) load: Load,
    pub(crate) peers: Vec<(Peer, Vec<Measured>)>,
}

/// What a figure of ours should be of a peer's.
struct Target {
    bytes: usize,
    shape: (usize, usize),
    peer: Peer,
    least: f64,
}

const fn target(bytes: usize, shape: (usize, usize), peer: Peer, least: f64) -> Target {
    Target {
        bytes,
        shape,
        peer,
        least,
    }
}

/// Calls per second, as ratios.
const TARGETS: [Target; 10] = [
    target(64, (1, 1), Peer::Tcp, 0.75),
    target(64, (1, 1), Peer::Tonic, 5.0),
    target(64, (1, 64), Peer::Tonic, 6.0),
    target(64, (1, 64), Peer::Tarpc, 1.0),
    target(64, (8, 8), Peer::Tonic, 5.0),
    target(64, (8, 8), Peer::Tarpc, 1.2),
    target(4096, (1, 1), Peer::Tcp, 0.6),
    target(4096, (1, 64), Peer::Tonic, 3.5),
    target(4096, (1, 64), Peer::Tarpc, 1.0),
    target(4096, (8, 8), Peer::Tonic, 3.0),
];

/// The shape whose slowest calls are compared with tarpc's.
const TAIL_SHAPE: (usize, usize) = (1, 64);

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

impl Section {
    fn rounds(&self, wanted: Peer) -> &[Measured] {
        self.peers
            .iter()
            .find(|(peer, _)| *peer == wanted)
            .map_or(&[], |(_, rounds)| rounds)
    }

    fn median(&self, peer: Peer, figure: impl Fn(&Measured) -> f64) -> f64 {
        median(self.rounds(peer).iter().map(figure).collect())
    }

    /// The median of what `one`'s figure was of `other`'s in each round.
    fn ratio(&self, one: Peer, other: Peer, figure: impl Fn(&Measured) -> f64) -> f64 {
        let pairs = self.rounds(one).iter().zip(self.rounds(other));
        median(
            pairs
                .map(|(one, other)| figure(one) / figure(other))
                .collect(),
        )
    }

    pub(crate) fn print(&self) {
        let (connections, in_flight) = self.load.shape;
        for (peer, _) in &self.peers {
            let of = |other| self.ratio(*peer, other, |it| it.per_second);
            println!(
                "{:>6} {:>5} {:<7} {:>9.0} {:>8.0} {:>8.0} {:>7.2} {:>7.2} {:>7.2}",
                self.load.bytes,
                format!("{connections}x{in_flight}"),
                peer.name(),
                self.median(*peer, |it| it.per_second),
                self.median(*peer, |it| it.p50_us),
                self.median(*peer, |it| it.p99_us),
                of(Peer::Tcp),
                of(Peer::Tonic),
                of(Peer::Tarpc),
            );
        }
    }
}

pub(crate) fn print_heading() {
    println!(
        "{:>6} {:>5} {:<7} {:>9} {:>8} {:>8} {:>7} {:>7} {:>7}",
        "bytes", "shape", "peer", "calls/s", "p50 us", "p99 us", "/ tcp", "/ tonic", "/ tarpc"
    );
}

/// The caller's process and the server's.
pub(crate) fn print_costs(load: Load, peer: Peer, sides: [PerCall; 2]) {
    for (side, cost) in ["caller", "server"].into_iter().zip(sides) {
        println!(
            "{:>6} {:<7} {:<7} {:>8.2} {:>12.1} {:>12.0}",
            load.bytes,
            peer.name(),
            side,
            cost.cpu_us,
            cost.allocations,
            cost.copied,
        );
    }
}

pub(crate) fn print_costs_heading() {
    println!(
        "{:>6} {:<7} {:<7} {:>8} {:>12} {:>12}",
        "bytes", "peer", "per call", "cpu us", "allocations", "bytes copied"
    );
}

fn verdict(is_met: bool) -> &'static str {
    if is_met { "met" } else { "MISSED" }
}

/// What was aimed at, and what came of it.
pub(crate) fn print_targets(sections: &[Section]) {
    for section in sections {
        let load = section.load;
        let (connections, in_flight) = load.shape;
        let what = format!("{:>4} B {connections}x{in_flight}", load.bytes);
        for target in &TARGETS {
            if (target.bytes, target.shape) != (load.bytes, load.shape) {
                continue;
            }
            let ratio = section.ratio(Peer::Skynet, target.peer, |it| it.per_second);
            // One of the two was not measured.
            if ratio.is_nan() {
                continue;
            }
            let least = target.least;
            let bound = section.ratio(Peer::Tcp, target.peer, |it| it.per_second);
            let why = if load.shape == (1, 1) && bound < least {
                format!(" (bare TCP itself: {bound:.2})")
            } else {
                String::new()
            };
            println!(
                "{what}: calls/s {ratio:.2} x {}, at least {least:.2}: {}{why}",
                target.peer.name(),
                verdict(ratio >= least)
            );
        }
        let ratio = section.ratio(Peer::Skynet, Peer::Tarpc, |it| it.p99_us);
        if load.shape == TAIL_SHAPE && !ratio.is_nan() {
            println!(
                "{what}: p99 {ratio:.2} x tarpc, at most 1.00: {}",
                verdict(ratio <= 1.0)
            );
        }
    }
}

pub(crate) fn print_idle((before, after): (f64, f64)) {
    let (connections, limit) = (memory::IDLE, memory::IDLE_LIMIT_MIB);
    println!(
        "{connections} idle connections: the service holds {after:.1} MiB, {before:.1} MiB without \
         them; less than {limit:.0} MiB: {}",
        verdict(after < limit)
    );
}
