//! The place of the ring's waker under loom: `AtomicWaker` of futures-core 0.3.34 with its orderings as they are, and with
//! loom's atomics and cell. loom has one of its own, but behind a lock, which would hide a missing fence.

#![allow(unsafe_code, reason = "a cell that two threads share")]

use std::task::Waker;

use loom::cell::UnsafeCell;
use loom::sync::atomic::AtomicUsize;
use loom::sync::atomic::Ordering::{AcqRel, Acquire, Release};

pub struct AtomicWaker {
    state: AtomicUsize,
    waker: UnsafeCell<Option<Waker>>,
}

const WAITING: usize = 0;
const REGISTERING: usize = 0b01;
const WAKING: usize = 0b10;

// SAFETY: the state says whose the cell is, which is what loom's cell checks.
unsafe impl Sync for AtomicWaker {}

impl AtomicWaker {
    pub fn new() -> AtomicWaker {
        AtomicWaker { state: AtomicUsize::new(WAITING), waker: UnsafeCell::new(None) }
    }

    pub fn register(&self, waker: &Waker) {
        match self.state.compare_exchange(WAITING, REGISTERING, Acquire, Acquire).unwrap_or_else(|x| x) {
            WAITING => {
                self.waker.with_mut(|cell| {
                    // SAFETY: who sets REGISTERING owns the cell.
                    let cell = unsafe { &mut *cell };
                    match cell {
                        Some(old) if old.will_wake(waker) => {}
                        _ => *cell = Some(waker.clone()),
                    }
                });
                if self.state.compare_exchange(REGISTERING, WAITING, AcqRel, Acquire).is_err() {
                    // SAFETY: as above; who wakes meanwhile leaves the cell alone.
                    let waker = self.waker.with_mut(|cell| unsafe { (*cell).take() });
                    self.state.swap(WAITING, AcqRel);
                    waker.expect("it was put there").wake();
                }
            }
            WAKING => {
                waker.wake_by_ref();
                // The task looks again and again until the other thread is done; loom must let that one run.
                loom::hint::spin_loop();
            }
            _ => panic!("only one side registers"),
        }
    }

    pub fn wake(&self) {
        if let Some(waker) = self.take() {
            waker.wake();
        }
    }

    fn take(&self) -> Option<Waker> {
        if self.state.fetch_or(WAKING, AcqRel) != WAITING {
            return None;
        }
        // SAFETY: who sets WAKING on WAITING owns the cell.
        let waker = self.waker.with_mut(|cell| unsafe { (*cell).take() });
        self.state.swap(WAITING, Release);
        waker
    }
}
