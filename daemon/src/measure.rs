//! What the host and its processes use, read from `/proc`.
//!
//! Invariants: a share of the processor is that of a stretch of at least half a second; until two
//! samples of a process exist it is unknown. Reads block for microseconds each.

use std::collections::HashMap;
use std::time::Duration;

use procfs::{Current, CurrentSI};
use skynet::instance::ProcessId;
use skynet::stats::HostStats;
use tokio::time::Instant;

/// The shortest stretch over which a share of the processor says something.
const SHORTEST: Duration = Duration::from_millis(500);

/// What a process uses.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct ProcessUse {
    /// Share of one core, in percent.
    pub cpu_pct: Option<f64>,
    /// Resident memory in bytes.
    pub rss_bytes: Option<i64>,
}

/// Remembers the samples from which shares follow.
#[derive(Debug, Default)]
pub struct Meter {
    processes: HashMap<ProcessId, Sample>,
    host: Option<Sample>,
}

/// Time of the processor used until a moment, and the share since the sample before.
#[derive(Debug, Clone, Copy)]
struct Sample {
    at: Instant,
    used: f64,
    share: Option<f64>,
}

impl Sample {
    /// The next sample; the same one when too little time has passed.
    fn next(before: Option<Self>, used: f64, at: Instant) -> Self {
        let Some(before) = before else {
            return Self {
                at,
                used,
                share: None,
            };
        };
        let passed = at.saturating_duration_since(before.at);
        if passed < SHORTEST {
            return before;
        }
        let share = (used - before.used).max(0.0) / passed.as_secs_f64() * 100.0;
        Self {
            at,
            used,
            share: Some(share),
        }
    }
}

impl Meter {
    /// What a process uses; `None` when it is gone.
    pub fn process(&mut self, id: &ProcessId, now: Instant) -> Option<ProcessUse> {
        let pid = i32::try_from(id.pid).ok()?;
        let stat = procfs::process::Process::new(pid).ok()?.stat().ok()?;
        if stat.starttime != id.process_start {
            self.processes.remove(id);
            return None;
        }
        let used = seconds(stat.utime.saturating_add(stat.stime));
        let before = self.processes.get(id).copied();
        let sample = Sample::next(before, used, now);
        self.processes.insert(id.clone(), sample);
        Some(ProcessUse {
            cpu_pct: sample.share,
            rss_bytes: i64::try_from(stat.rss.saturating_mul(procfs::page_size())).ok(),
        })
    }

    /// Forgets the processes that are not among these.
    pub fn keep(&mut self, alive: impl Fn(&ProcessId) -> bool) {
        self.processes.retain(|id, _| alive(id));
    }

    /// What the host uses; unknown figures are 0.
    pub fn host(&mut self, now: Instant) -> HostStats {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        if let Ok(kernel) = procfs::KernelStats::current() {
            let total = kernel.total;
            let busy = total.user + total.nice + total.system;
            let aside = [total.irq, total.softirq, total.steal];
            let busy = busy + aside.into_iter().flatten().sum::<u64>();
            self.host = Some(Sample::next(self.host, seconds(busy), now));
        }
        let share = self.host.and_then(|sample| sample.share).unwrap_or(0.0);
        let used = procfs::Meminfo::current().ok().and_then(|memory| {
            let free = memory.mem_available.unwrap_or(memory.mem_free);
            i64::try_from(memory.mem_total.saturating_sub(free)).ok()
        });
        let load = procfs::LoadAverage::current().map_or(0.0, |load| f64::from(load.one));
        HostStats {
            cpu_pct: (share / f64::from(u32::try_from(cores).unwrap_or(1))).min(100.0),
            mem_bytes: used.unwrap_or(0),
            load,
        }
    }
}

#[expect(
    clippy::cast_precision_loss,
    reason = "ticks of a processor stay far below 2^52"
)]
fn seconds(ticks: u64) -> f64 {
    ticks as f64 / procfs::ticks_per_second() as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_share_needs_two_samples_half_a_second_apart() {
        let start = Instant::now();
        let first = Sample::next(None, 10.0, start);
        assert_eq!(first.share, None);
        let soon = Sample::next(Some(first), 10.1, start + Duration::from_millis(100));
        assert_eq!((soon.at, soon.share), (start, None));
        let later = Sample::next(Some(soon), 11.0, start + Duration::from_secs(2));
        assert_eq!(later.share, Some(50.0));
        let again = Sample::next(Some(later), 11.0, start + Duration::from_secs(2));
        assert_eq!(again.share, Some(50.0));
    }

    #[tokio::test]
    async fn the_own_process_uses_memory_and_a_stranger_is_none() {
        let mut meter = Meter::default();
        let own = ProcessId::own().unwrap();
        let used = meter.process(&own, Instant::now()).unwrap();
        assert!(used.rss_bytes.unwrap() > 100_000);
        assert_eq!(used.cpu_pct, None);
        let stranger = ProcessId {
            process_start: own.process_start + 1,
            ..own
        };
        assert_eq!(meter.process(&stranger, Instant::now()), None);
        let host = meter.host(Instant::now());
        assert!(host.mem_bytes > 0);
        meter.keep(|_| false);
        assert!(meter.processes.is_empty());
    }
}
