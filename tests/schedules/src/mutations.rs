//! Faults that are put into the ring, or into what it stands on, one at a time: each must be found in some schedule.
//! build.rs compiles a copy of the three files for each of them.

#![allow(dead_code, unreachable_pub, reason = "the build script and the test each read a part of it")]

/// A file that is changed.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum File {
    Ring,
    Queue,
    Waker,
}

/// What a fault does.
pub enum Verdict {
    /// The scenario in which it is found, and what loom says of it.
    Found { scenario: &'static str, said: &'static str },
    /// Nothing: no scenario finds it.
    Harmless,
}

/// One fault: what the text of a file has exactly once, and what stands there instead.
pub struct Mutation {
    pub name: &'static str,
    pub verdict: Verdict,
    pub file: File,
    pub from: &'static str,
    pub to: &'static str,
}

const fn ring(name: &'static str, verdict: Verdict, from: &'static str, to: &'static str) -> Mutation {
    Mutation { name, verdict, file: File::Ring, from, to }
}

const fn queue(name: &'static str, verdict: Verdict, from: &'static str, to: &'static str) -> Mutation {
    Mutation { name, verdict, file: File::Queue, from, to }
}

const fn waker(name: &'static str, verdict: Verdict, from: &'static str, to: &'static str) -> Mutation {
    Mutation { name, verdict, file: File::Waker, from, to }
}

const fn found(scenario: &'static str, said: &'static str) -> Verdict {
    Verdict::Found { scenario, said }
}

const LOST_WAKE: &str = "deadlock";
const LOST_ITEM: &str = "left: None";
const RACE: &str = "Causality violation";
const LEAK: &str = "Arc leaked";

const SENDERS_FENCE: &str = "fence(Ordering::SeqCst);\n        let queued";
const RECEIVERS_FENCE: &str = "register(cx.waker());\n        fence(Ordering::SeqCst);";
const FALL_ASLEEP: &str = "self.sleeper.wanted.store(items, Ordering::Relaxed);
        self.sleeper.waker.register(cx.waker());
        fence(Ordering::SeqCst);";

/// All of them.
pub const MUTATIONS: &[Mutation] = &[
    ring("no_fence_of_the_sender", found("an_item", LOST_WAKE), SENDERS_FENCE, "let queued"),
    ring(
        "weak_fence_of_the_sender",
        found("an_item", LOST_WAKE),
        SENDERS_FENCE,
        "fence(Ordering::AcqRel);\n        let queued",
    ),
    ring("no_fence_of_the_receiver", found("an_item", LOST_WAKE), RECEIVERS_FENCE, "register(cx.waker());"),
    ring(
        "weak_fence_of_the_receiver",
        found("an_item", LOST_WAKE),
        RECEIVERS_FENCE,
        "register(cx.waker());\n        fence(Ordering::AcqRel);",
    ),
    ring(
        "fence_before_the_number",
        found("an_item", LOST_WAKE),
        FALL_ASLEEP,
        "fence(Ordering::SeqCst);
        self.sleeper.wanted.store(items, Ordering::Relaxed);
        self.sleeper.waker.register(cx.waker());",
    ),
    ring(
        "number_after_the_fence",
        found("an_item", LOST_WAKE),
        FALL_ASLEEP,
        "self.sleeper.waker.register(cx.waker());
        fence(Ordering::SeqCst);
        self.sleeper.wanted.store(items, Ordering::Relaxed);",
    ),
    // A wake that found no waker left the waker's place by a release, and the registration enters it by an acquire: the
    // look after it sees what was pushed.
    ring(
        "waker_after_the_fence",
        Verdict::Harmless,
        FALL_ASLEEP,
        "self.sleeper.wanted.store(items, Ordering::Relaxed);
        fence(Ordering::SeqCst);
        self.sleeper.waker.register(cx.waker());",
    ),
    ring(
        "no_number",
        found("an_item", LOST_WAKE),
        "self.sleeper.wanted.store(items, Ordering::Relaxed);",
        "",
    ),
    ring("no_waker", found("an_item", LOST_WAKE), "self.sleeper.waker.register(cx.waker());", ""),
    ring(
        "pop_looks_once",
        found("an_item", LOST_WAKE),
        "match self.ring.pop() {
            Ok(item) => Poll::Ready(Some(item)),
            Err(_) if",
        "match Err::<T, ()>(()) {
            Ok(item) => Poll::Ready(Some(item)),
            Err(_) if",
    ),
    ring(
        "holds_looks_once",
        found("holds_a_batch", LOST_WAKE),
        "if asleep.0.queued() >= items { Poll::Ready(()) } else { Poll::Pending }",
        "Poll::Pending",
    ),
    ring(
        "wakes_for_one_more",
        found("an_item", LOST_WAKE),
        "if queued >= self.receiver",
        "if queued > self.receiver",
    ),
    ring(
        "wakes_for_the_very_number",
        found("a_batch_with_one_wake", LOST_WAKE),
        "if queued >= self.receiver",
        "if queued == self.receiver",
    ),
    ring("number_read_before_the_fence", found("an_item", LOST_WAKE), SENDERS_FENCE, NUMBER_FIRST),
    ring("no_last_wake", found("sender_leaves", LOST_WAKE), "self.0.waker.wake();", ""),
    ring(
        "last_wake_before_the_end",
        found("sender_leaves", LOST_WAKE),
        "ring: Producer<T>,
    /// Dropped after `ring`, so that the receiver, which this drop wakes, finds the ring abandoned.
    receiver: LastWake,",
        "receiver: LastWake,
    ring: Producer<T>,",
    ),
    ring(
        "end_before_the_last_item",
        found("sender_leaves", LOST_ITEM),
        "Poll::Ready(self.ring.pop().ok())",
        "Poll::Ready(None)",
    ),
    ring(
        "push_tells_no_flusher",
        found("two_shared_senders", LOST_WAKE),
        "flusher.wake_by_ref();",
        "let _ = flusher;",
    ),
    ring(
        "flush_wakes_nobody",
        found("two_shared_senders", LOST_WAKE),
        "&& let Some(sender) = self.sender.borrow().as_ref()\n            {\n                sender.wake();",
        "&& let Some(_sender) = self.sender.borrow().as_ref()\n            {",
    ),
    ring(
        "flush_forgets_its_task",
        found("two_shared_senders", LOST_WAKE),
        "*flusher = Some(cx.waker().clone());",
        "",
    ),
    queue(
        "item_not_released",
        found("an_item", RACE),
        "buffer.tail.store(tail, Ordering::Release);",
        "buffer.tail.store(tail, Ordering::Relaxed);",
    ),
    queue(
        "item_not_acquired",
        found("an_item", RACE),
        "let tail = self.buffer.0.tail.load(Ordering::Acquire);
            self",
        "let tail = self.buffer.0.tail.load(Ordering::Relaxed);
            self",
    ),
    queue(
        "counted_item_not_acquired",
        found("holds_a_batch", RACE),
        "let tail = self.buffer.0.tail.load(Ordering::Acquire);
        self",
        "let tail = self.buffer.0.tail.load(Ordering::Relaxed);
        self",
    ),
    queue(
        "place_not_released",
        found("holds_again", RACE),
        "buffer.head.store(head, Ordering::Release);
        self.cached_head.set(head);
        Ok(value)",
        "buffer.head.store(head, Ordering::Relaxed);
        self.cached_head.set(head);
        Ok(value)",
    ),
    queue(
        "place_not_acquired",
        found("holds_again", RACE),
        "let head = buffer.head.load(Ordering::Acquire);
            self",
        "let head = buffer.head.load(Ordering::Relaxed);
            self",
    ),
    queue(
        "end_not_released",
        found("sender_leaves", LOST_ITEM),
        "fetch_or(IS_ABANDONED, Ordering::Release)",
        "fetch_or(IS_ABANDONED, Ordering::Relaxed)",
    ),
    queue(
        "end_not_acquired",
        found("receiver_leaves", LEAK),
        "self.0.flags.load(Ordering::Acquire);",
        "self.0.flags.load(Ordering::Relaxed);",
    ),
    queue(
        "abandonment_not_acquired",
        found("sender_leaves", LOST_ITEM),
        "self.buffer.0.flags.load(Ordering::Acquire) &",
        "self.buffer.0.flags.load(Ordering::Relaxed) &",
    ),
    waker(
        "waker_not_released",
        found("an_item", RACE),
        "compare_exchange(REGISTERING, WAITING, AcqRel, Acquire)",
        "compare_exchange(REGISTERING, WAITING, Acquire, Acquire)",
    ),
    waker(
        "waker_not_acquired",
        found("an_item", RACE),
        "fetch_or(WAKING, AcqRel)",
        "fetch_or(WAKING, Release)",
    ),
    waker(
        "taken_waker_not_released",
        found("an_item", RACE),
        "swap(WAITING, Release)",
        "swap(WAITING, loom::sync::atomic::Ordering::Relaxed)",
    ),
    waker(
        "taken_waker_not_acquired",
        found("an_item", RACE),
        "compare_exchange(WAITING, REGISTERING, Acquire, Acquire)",
        "compare_exchange(WAITING, REGISTERING, loom::sync::atomic::Ordering::Relaxed, Acquire)",
    ),
    waker(
        "wake_during_registration_forgotten",
        found("items_with_a_wake_each", LOST_WAKE),
        "waker.expect(\"it was put there\").wake();",
        "drop(waker);",
    ),
    waker(
        "registration_during_a_wake_forgotten",
        found("items_with_a_wake_each", LOST_WAKE),
        "waker.wake_by_ref();",
        "",
    ),
];

/// What the receiver wants is read before the fence.
const NUMBER_FIRST: &str = "let wanted = self.receiver.0.wanted.load(Ordering::Relaxed);
        fence(Ordering::SeqCst);
        if wanted == AWAKE {
            return;
        }
        let queued";
