//! The queue of the ring under loom: rtrb 0.4.1 with its orderings and its caches as they are, and with loom's atomics and
//! cells, which tell of a slot that is read while it is written. What the ring does not use is left out.

#![allow(unsafe_code, reason = "a queue of cells that two threads share")]

use std::cell::Cell;
use std::mem::MaybeUninit;
use std::sync::Arc;

use loom::cell::UnsafeCell;
use loom::sync::atomic::{AtomicUsize, Ordering};

const IS_ABANDONED: usize = 0b1000_0000;

pub struct RingBuffer<T> {
    head: AtomicUsize,
    tail: AtomicUsize,
    flags: AtomicUsize,
    slots: Vec<UnsafeCell<MaybeUninit<T>>>,
}

/// One of the two owners. loom changes threads only at its own operations, so the count of the `Arc` follows the flag.
struct Owner<T>(Arc<RingBuffer<T>>);

pub struct Producer<T> {
    buffer: Owner<T>,
    cached_head: Cell<usize>,
    cached_tail: Cell<usize>,
}

pub struct Consumer<T> {
    buffer: Owner<T>,
    cached_head: Cell<usize>,
    cached_tail: Cell<usize>,
}

pub enum PushError<T> {
    Full(T),
}

pub struct Empty;

// SAFETY: a slot is used by the one side that the positions give it to, which is what loom's cells check.
unsafe impl<T: Send> Send for Owner<T> {}

impl<T> RingBuffer<T> {
    pub fn new(capacity: usize) -> (Producer<T>, Consumer<T>) {
        let buffer = Arc::new(RingBuffer {
            head: AtomicUsize::new(0),
            tail: AtomicUsize::new(0),
            flags: AtomicUsize::new(0),
            slots: (0..capacity).map(|_| UnsafeCell::new(MaybeUninit::uninit())).collect(),
        });
        let owner = || Owner(Arc::clone(&buffer));
        let zero = || Cell::new(0);
        (
            Producer { buffer: owner(), cached_head: zero(), cached_tail: zero() },
            Consumer { buffer: owner(), cached_head: zero(), cached_tail: zero() },
        )
    }

    pub fn capacity(&self) -> usize {
        self.slots.len()
    }

    fn slot(&self, position: usize) -> &UnsafeCell<MaybeUninit<T>> {
        &self.slots[position % self.capacity()]
    }

    fn after(&self, position: usize) -> usize {
        (position + 1) % (2 * self.capacity())
    }

    fn distance(&self, from: usize, to: usize) -> usize {
        if from <= to { to - from } else { 2 * self.capacity() - from + to }
    }
}

impl<T> Drop for RingBuffer<T> {
    fn drop(&mut self) {
        let mut head = self.head.load(Ordering::Relaxed);
        let tail = self.tail.load(Ordering::Relaxed);
        while head != tail {
            // SAFETY: the slots between head and tail are initialised, and both sides are gone.
            self.slot(head).with_mut(|slot| unsafe { (*slot).assume_init_drop() });
            head = self.after(head);
        }
    }
}

impl<T> Drop for Owner<T> {
    fn drop(&mut self) {
        if self.0.flags.fetch_or(IS_ABANDONED, Ordering::Release) & IS_ABANDONED != 0 {
            self.0.flags.load(Ordering::Acquire);
        }
    }
}

impl<T> Producer<T> {
    pub fn push(&mut self, value: T) -> Result<(), PushError<T>> {
        let buffer = &self.buffer.0;
        let tail = self.cached_tail.get();
        if buffer.distance(self.cached_head.get(), tail) == buffer.capacity() {
            let head = buffer.head.load(Ordering::Acquire);
            self.cached_head.set(head);
            if buffer.distance(head, tail) == buffer.capacity() {
                return Err(PushError::Full(value));
            }
        }
        // SAFETY: the slot at the tail is empty and this side's.
        buffer.slot(tail).with_mut(|slot| unsafe { (*slot).write(value) });
        let tail = buffer.after(tail);
        buffer.tail.store(tail, Ordering::Release);
        self.cached_tail.set(tail);
        Ok(())
    }

    pub fn slots(&self) -> usize {
        let buffer = &self.buffer.0;
        let head = buffer.head.load(Ordering::Acquire);
        self.cached_head.set(head);
        buffer.capacity() - buffer.distance(head, self.cached_tail.get())
    }

    pub fn buffer(&self) -> &RingBuffer<T> {
        &self.buffer.0
    }
}

impl<T> Consumer<T> {
    pub fn pop(&mut self) -> Result<T, Empty> {
        let head = self.next_head().ok_or(Empty)?;
        let buffer = &self.buffer.0;
        // SAFETY: the slot at the head is initialised and this side's.
        let value = buffer.slot(head).with(|slot| unsafe { (*slot).assume_init_read() });
        let head = buffer.after(head);
        buffer.head.store(head, Ordering::Release);
        self.cached_head.set(head);
        Ok(value)
    }

    pub fn peek(&self) -> Result<&T, Empty> {
        let head = self.next_head().ok_or(Empty)?;
        // SAFETY: the slot at the head is initialised and stays this side's until it is popped.
        Ok(self.buffer.0.slot(head).with(|slot| unsafe { (*slot).assume_init_ref() }))
    }

    pub fn slots(&self) -> usize {
        let tail = self.buffer.0.tail.load(Ordering::Acquire);
        self.cached_tail.set(tail);
        self.buffer.0.distance(self.cached_head.get(), tail)
    }

    pub fn is_abandoned(&self) -> bool {
        self.buffer.0.flags.load(Ordering::Acquire) & IS_ABANDONED != 0
    }

    fn next_head(&self) -> Option<usize> {
        let head = self.cached_head.get();
        if head == self.cached_tail.get() {
            let tail = self.buffer.0.tail.load(Ordering::Acquire);
            self.cached_tail.set(tail);
            if head == tail {
                return None;
            }
        }
        Some(head)
    }
}

impl<T> Drop for Consumer<T> {
    fn drop(&mut self) {
        self.buffer.0.head.store(self.cached_head.get(), Ordering::Release);
    }
}
