//! What a call costs a process beside time: heap allocations, and bytes that are copied.
//!
//! The allocator and the two copying routines of the C library are replaced by ones that count and
//! then hand on to the system's. So the figures are of everything in the process: the peer's
//! library, its dependencies, the runtime and the caller's own string, not only of what somebody
//! thought of. Not counted are copies of a length that the compiler knows and does with registers,
//! and what the kernel copies. Counting is off while speed is measured; then all that is left of it
//! is a flag that is read.

use std::alloc::{GlobalAlloc, Layout, System};
use std::ffi::c_void;
use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

static COUNTING: AtomicBool = AtomicBool::new(false);
static ALLOCATIONS: AtomicU64 = AtomicU64::new(0);
static COPIED: AtomicU64 = AtomicU64::new(0);

/// What was counted.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Cost {
    pub(crate) allocations: u64,
    pub(crate) copied: u64,
}

impl fmt::Display for Cost {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} {}", self.allocations, self.copied)
    }
}

/// Counts from zero.
pub(crate) fn begin() {
    ALLOCATIONS.store(0, Ordering::Relaxed);
    COPIED.store(0, Ordering::Relaxed);
    COUNTING.store(true, Ordering::Relaxed);
}

/// Stops counting; what came together since [`begin`].
pub(crate) fn end() -> Cost {
    COUNTING.store(false, Ordering::Relaxed);
    Cost {
        allocations: ALLOCATIONS.load(Ordering::Relaxed),
        copied: COPIED.load(Ordering::Relaxed),
    }
}

#[inline]
fn count(counter: &AtomicU64, number: u64) {
    if COUNTING.load(Ordering::Relaxed) {
        counter.fetch_add(number, Ordering::Relaxed);
    }
}

/// The system's allocator, which counts.
pub(crate) struct Counting;

#[expect(
    unsafe_code,
    reason = "an allocator is unsafe; this one hands everything to the system's"
)]
// SAFETY: every call goes to the system's allocator with the arguments that came.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(&ALLOCATIONS, 1);
        // SAFETY: the caller keeps the system allocator's terms.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count(&ALLOCATIONS, 1);
        // SAFETY: as above.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: as above.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count(&ALLOCATIONS, 1);
        // It may be moved; whether it is, the system does not tell.
        count(&COPIED, layout.size().min(size) as u64);
        // SAFETY: as above.
        unsafe { System.realloc(pointer, layout, size) }
    }
}

#[expect(
    unsafe_code,
    reason = "the C library's routines, which these two count and hand on to"
)]
mod copies {
    use std::hint::black_box;

    use super::{COPIED, c_void, count};

    type Copy = unsafe extern "C" fn(*mut c_void, *const c_void, usize) -> *mut c_void;
    type Move = unsafe extern "C" fn(*const c_void, *mut c_void, usize);

    // The compiler knows both routines, and would make calls of the two below of them again: they
    // are called through pointers that it cannot see through.
    unsafe extern "C" {
        fn mempcpy(to: *mut c_void, from: *const c_void, length: usize) -> *mut c_void;
        fn bcopy(from: *const c_void, to: *mut c_void, length: usize);
    }

    // SAFETY: what the name promises: `mempcpy` copies like `memcpy`, and differs in what it returns.
    #[unsafe(no_mangle)]
    unsafe extern "C" fn memcpy(
        to: *mut c_void,
        from: *const c_void,
        length: usize,
    ) -> *mut c_void {
        count(&COPIED, length as u64);
        // SAFETY: the caller keeps the terms of `memcpy`, which are those of `mempcpy`.
        unsafe { black_box::<Copy>(mempcpy)(to, from, length) };
        to
    }

    // SAFETY: what the name promises: `bcopy` takes ranges that overlap, as `memmove` does.
    #[unsafe(no_mangle)]
    unsafe extern "C" fn memmove(
        to: *mut c_void,
        from: *const c_void,
        length: usize,
    ) -> *mut c_void {
        count(&COPIED, length as u64);
        // SAFETY: the caller keeps the terms of `memmove`, which are those of `bcopy`.
        unsafe { black_box::<Move>(bcopy)(from, to, length) };
        to
    }
}
