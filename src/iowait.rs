//! A core that waits for its clients is idle, not waiting for a disk: what it asks of the kernel says so. It knows one
//! system call, and nothing of who makes it.
//!
//! A thread that waits in `io_uring_enter` with requests pending counts as *iowait*, in `top` and in
//! `/proc/pressure/io`, though all it waits for are sockets; and such a CPU is held ready for a disk that will answer soon,
//! which costs more than a rest (perf/results/2026-11-29-rates.md). Linux 6.15 takes a flag against that
//! (`IORING_ENTER_NO_IOWAIT`). The runtime and the crate below it know no such flag, and offer no place to set one. So the
//! linker puts this function in the place of libc's `syscall`, in this binary alone (`--wrap=syscall` in `build/main.rs`).

#![allow(unsafe_code, reason = "a system call between the crate that makes it and libc")]

use std::sync::atomic::{AtomicBool, Ordering};

use nix::errno::Errno;
use nix::libc::{SYS_io_uring_enter, c_long};

/// Wait for completions (`linux/io_uring.h`).
const GETEVENTS: c_long = 1 << 0;
/// Do not count the wait as iowait (`linux/io_uring.h`).
const NO_IOWAIT: c_long = 1 << 7;

/// A kernel before 6.15 was met.
static UNKNOWN: AtomicBool = AtomicBool::new(false);

unsafe extern "C" {
    /// libc's `syscall`.
    fn __real_syscall(
        number: c_long,
        a: c_long,
        b: c_long,
        c: c_long,
        d: c_long,
        e: c_long,
        f: c_long,
    ) -> c_long;
}

/// libc's `syscall`, but for that flag of a wait.
///
/// # Safety
///
/// That of the system call. Callers pass up to six words after the number, as libc's variadic function takes them: integers
/// and pointers, which both calling conventions (x86_64, aarch64) put where this one looks for them. What a caller did not
/// pass is whatever a register or the stack holds, and goes where libc's own code would send it: to a kernel that does not
/// look at it. No optimiser sees both sides, as the linker joins them; linker-plugin LTO, where it would, must stay off.
#[unsafe(no_mangle)]
unsafe extern "C" fn __wrap_syscall(
    number: c_long,
    a: c_long,
    b: c_long,
    c: c_long,
    d: c_long,
    e: c_long,
    f: c_long,
) -> c_long {
    if number == SYS_io_uring_enter && d & GETEVENTS != 0 && !UNKNOWN.load(Ordering::Relaxed) {
        // SAFETY: the caller's own call, and a flag that changes what is counted, not what is done.
        let result = unsafe { __real_syscall(number, a, b, c, d | NO_IOWAIT, e, f) };
        // A kernel that does not know the flag says so before it does anything.
        if result != -1 || Errno::last() != Errno::EINVAL {
            return result;
        }
        UNKNOWN.store(true, Ordering::Relaxed);
    }
    // SAFETY: the caller's own call.
    unsafe { __real_syscall(number, a, b, c, d, e, f) }
}
