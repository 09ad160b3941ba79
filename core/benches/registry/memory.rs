//! What a step takes in memory at its peak: the bytes that are allocated, and what is resident.

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering};

static LIVE: AtomicUsize = AtomicUsize::new(0);
static PEAK: AtomicUsize = AtomicUsize::new(0);

/// The system's allocator, which counts.
pub(crate) struct Counting;

fn count(bytes: usize) {
    let live = LIVE.fetch_add(bytes, Ordering::Relaxed) + bytes;
    PEAK.fetch_max(live, Ordering::Relaxed);
}

#[expect(
    unsafe_code,
    reason = "an allocator is unsafe; this one hands everything to the system's"
)]
// SAFETY: every call goes to the system's allocator with the arguments that came.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size());
        // SAFETY: the caller keeps the system allocator's terms.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        LIVE.fetch_sub(layout.size(), Ordering::Relaxed);
        // SAFETY: as above.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // Old and new may both be there for a moment.
        count(size);
        LIVE.fetch_sub(layout.size(), Ordering::Relaxed);
        // SAFETY: as above.
        unsafe { System.realloc(pointer, layout, size) }
    }
}

/// What stood before a step.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Before {
    live: usize,
    resident_kib: usize,
}

/// MiB above what stood before.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Extra {
    pub(crate) allocated: f64,
    pub(crate) resident: f64,
}

impl Before {
    /// Notes what stands now and forgets earlier peaks.
    pub(crate) fn now() -> Self {
        let live = LIVE.load(Ordering::Relaxed);
        PEAK.store(live, Ordering::Relaxed);
        // Resets the peak of the resident memory; without it the figure is only too high.
        let _unsupported = std::fs::write("/proc/self/clear_refs", "5");
        Self {
            live,
            resident_kib: status("VmRSS:"),
        }
    }

    /// What the peak since was above it.
    pub(crate) fn extra(self) -> Extra {
        let peak = PEAK.load(Ordering::Relaxed);
        Extra {
            allocated: mib(peak.saturating_sub(self.live)),
            resident: mib(status("VmHWM:").saturating_sub(self.resident_kib) * 1024),
        }
    }
}

/// A line of the process's status, in KiB.
fn status(name: &str) -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    status
        .lines()
        .find_map(|line| line.strip_prefix(name))
        .and_then(|rest| rest.split_whitespace().next()?.parse().ok())
        .unwrap_or_default()
}

#[expect(
    clippy::cast_precision_loss,
    reason = "sizes of a process's memory are far below 2^52"
)]
fn mib(bytes: usize) -> f64 {
    bytes as f64 / (1024.0 * 1024.0)
}
