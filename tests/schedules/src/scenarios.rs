//! What two threads do with a ring, as the server has them do it. Each scenario is run once in every schedule that the
//! memory model allows; a receiver that sleeps for ever is a deadlock, which loom reports.
//!
//! A sender is kept until the receiver has all: its drop wakes the receiver as well, and would hide a lost wake.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};

use loom::future::block_on;
use loom::thread;

use super::ring::{Receiver, Sender, SharedSender, channel};
use crate::Scenario;

pub const ALL: &[Scenario] = &[
    ("an_item", an_item, None),
    ("items_with_a_wake_each", items_with_a_wake_each, Some(3)),
    ("a_batch_with_one_wake", a_batch_with_one_wake, None),
    ("holds_a_batch", holds_a_batch, None),
    ("holds_fewer_than_come", holds_fewer_than_come, Some(3)),
    ("holds_again", holds_again, Some(3)),
    ("waits_for_company_first", waits_for_company_first, None),
    ("waits_for_company_to_the_end", waits_for_company_to_the_end, Some(3)),
    ("question_and_answer", question_and_answer, Some(4)),
    ("polled_by_another_task", polled_by_another_task, Some(3)),
    ("two_senders", two_senders, Some(3)),
    ("two_shared_senders", two_shared_senders, Some(3)),
    ("shared_by_tasks", shared_by_tasks, Some(3)),
    ("full", full, Some(3)),
    ("sender_leaves", sender_leaves, None),
    ("shared_sender_is_closed", shared_sender_is_closed, None),
    ("receiver_leaves", receiver_leaves, None),
    ("receiver_leaves_a_sleep", receiver_leaves_a_sleep, None),
];

fn send<T>(sender: &mut Sender<T>, item: T) {
    assert!(sender.push(item).is_ok(), "there is room");
}

/// Takes `items` that must be there.
fn take(receiver: &mut Receiver<u32>, items: std::ops::Range<u32>) {
    for item in items {
        assert_eq!(receiver.try_pop(), Some(item), "it holds what it waited for, in order");
    }
}

fn an_item() {
    let (mut sender, mut receiver) = channel(2);
    let peer = thread::spawn(move || {
        send(&mut sender, 0);
        sender.wake();
        sender
    });
    assert_eq!(block_on(receiver.pop()), Some(0));
    drop(peer.join());
}

fn items_with_a_wake_each() {
    let (mut sender, mut receiver) = channel(2);
    let peer = thread::spawn(move || {
        for item in 0..2 {
            send(&mut sender, item);
            sender.wake();
        }
        sender
    });
    assert_eq!(block_on(receiver.pop()), Some(0));
    assert_eq!(block_on(receiver.pop()), Some(1));
    drop(peer.join());
}

fn a_batch_with_one_wake() {
    let (mut sender, mut receiver) = channel(2);
    let peer = thread::spawn(move || {
        send(&mut sender, 0);
        send(&mut sender, 1);
        sender.wake();
        sender
    });
    assert_eq!(block_on(receiver.pop()), Some(0));
    assert_eq!(block_on(receiver.pop()), Some(1));
    drop(peer.join());
}

/// As the jobs of a Postgres thread, which come by single wakes.
fn holds_a_batch() {
    let (mut sender, mut receiver) = channel(2);
    let peer = thread::spawn(move || {
        for item in 0..2 {
            send(&mut sender, item);
            sender.wake();
        }
        sender
    });
    block_on(receiver.holds(2));
    take(&mut receiver, 0..2);
    drop(peer.join());
}

fn holds_fewer_than_come() {
    let (mut sender, mut receiver) = channel(4);
    let peer = thread::spawn(move || {
        (0..3).for_each(|item| send(&mut sender, item));
        sender.wake();
        sender
    });
    block_on(receiver.holds(2));
    take(&mut receiver, 0..2);
    assert_eq!(block_on(receiver.pop()), Some(2));
    drop(peer.join());
}

/// The committer's task: one batch after the other; the second sleep is for more than the first was.
fn holds_again() {
    let (mut sender, mut receiver) = channel(2);
    let peer = thread::spawn(move || {
        for item in 0..3 {
            while sender.push(item).is_err() {
                thread::yield_now();
            }
            sender.wake();
        }
        sender
    });
    block_on(receiver.holds(1));
    take(&mut receiver, 0..1);
    block_on(receiver.holds(2));
    take(&mut receiver, 1..3);
    drop(peer.join());
}

/// The committer's pause: it waits for many, gives up by its timer, and then waits for any.
fn waits_for_company_first() {
    let (mut sender, mut receiver) = channel(2);
    let peer = thread::spawn(move || {
        send(&mut sender, 0);
        sender.wake();
        sender
    });
    {
        let mut company = pin!(receiver.holds(2));
        assert!(company.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
    }
    block_on(receiver.holds(1));
    take(&mut receiver, 0..1);
    drop(peer.join());
}

/// The same pause, ended by the rows that come.
fn waits_for_company_to_the_end() {
    let (mut sender, mut receiver) = channel(2);
    let peer = thread::spawn(move || {
        send(&mut sender, 0);
        sender.wake();
        send(&mut sender, 1);
        sender.wake();
        sender
    });
    block_on(receiver.holds(1));
    block_on(receiver.holds(2));
    take(&mut receiver, 0..2);
    drop(peer.join());
}

/// A core and its Postgres thread: two rings, and each sleeps while the other works.
fn question_and_answer() {
    let (mut jobs, mut inbox) = channel(2);
    let (mut outbox, mut reports) = channel(2);
    let database = thread::spawn(move || {
        block_on(inbox.holds(1));
        let job: u32 = inbox.try_pop().expect("it holds one");
        send(&mut outbox, job + 1);
        outbox.wake();
        (inbox, outbox)
    });
    send(&mut jobs, 1);
    jobs.wake();
    assert_eq!(block_on(reports.pop()), Some(2));
    drop(database.join());
}

/// Another branch of a select was first; the ring is waited for again later, with another waker.
fn polled_by_another_task() {
    let (mut sender, mut receiver) = channel(2);
    let peer = thread::spawn(move || {
        for item in 0..2 {
            send(&mut sender, item);
            sender.wake();
        }
        sender
    });
    let mut next = 0;
    if let Poll::Ready(item) = receiver.poll_pop(&mut Context::from_waker(Waker::noop())) {
        assert_eq!(item, Some(next));
        next += 1;
    }
    while next < 2 {
        assert_eq!(block_on(receiver.pop()), Some(next));
        next += 1;
    }
    drop(peer.join());
}

/// The next item of either ring.
async fn of_either(receivers: &mut [Receiver<u32>; 2]) -> u32 {
    poll_fn(|cx| {
        for receiver in receivers.iter_mut() {
            if let Poll::Ready(Some(item)) = receiver.poll_pop(cx) {
                return Poll::Ready(item);
            }
        }
        Poll::Pending
    })
    .await
}

/// The feed, which hears of the commits of several Postgres threads.
fn two_senders() {
    let ((mut first, one), (mut second, two)) = (channel(1), channel(1));
    let peers = [
        thread::spawn(move || {
            send(&mut first, 1);
            first.wake();
            first
        }),
        thread::spawn(move || {
            send(&mut second, 2);
            second.wake();
            second
        }),
    ];
    let mut receivers = [one, two];
    let sum = block_on(of_either(&mut receivers)) + block_on(of_either(&mut receivers));
    assert_eq!(sum, 3);
    peers.into_iter().for_each(|peer| drop(peer.join()));
}

/// Two cores ask a third one, each in a turn of its own.
fn two_shared_senders() {
    let ((first, one), (second, two)) = (channel(1), channel(1));
    let turn = |sender: Sender<u32>, item: u32| {
        move || {
            let shared = SharedSender::new(sender);
            on_a_core(&shared, |_| assert!(shared.push(item).is_ok()));
            shared
        }
    };
    let peers = [thread::spawn(turn(first, 1)), thread::spawn(turn(second, 2))];
    let mut receivers = [one, two];
    let sum = block_on(of_either(&mut receivers)) + block_on(of_either(&mut receivers));
    assert_eq!(sum, 3);
    peers.into_iter().for_each(|peer| drop(peer.join()));
}

struct Flag(AtomicBool);

impl Wake for Flag {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Runs `tasks` on a core that has begun to flush; they may end a turn. The core's runtime polls the task that flushes at the
/// end of each turn in which it was woken.
fn on_a_core(shared: &SharedSender<u32>, tasks: impl FnOnce(&mut dyn FnMut())) {
    let woken = Arc::new(Flag(AtomicBool::new(true)));
    let waker = Waker::from(Arc::clone(&woken));
    let mut flush = pin!(shared.flush());
    let mut end_turn = || {
        while woken.0.swap(false, Ordering::Relaxed) {
            assert!(flush.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
        }
    };
    end_turn();
    tasks(&mut end_turn);
    end_turn();
}

/// Two tasks of a core push in one turn, and one in the next.
fn shared_by_tasks() {
    let (sender, mut receiver) = channel(4);
    let peer = thread::spawn(move || {
        let shared = SharedSender::new(sender);
        on_a_core(&shared, |end_turn| {
            assert!(shared.push(0).is_ok() && shared.push(1).is_ok());
            end_turn();
            assert!(shared.push(2).is_ok());
        });
        shared
    });
    for item in 0..3 {
        assert_eq!(block_on(receiver.pop()), Some(item));
    }
    drop(peer.join());
}

/// The feed, when a core's ring is full: it wakes the core, and tries again.
fn full() {
    let (mut sender, mut receiver) = channel(1);
    let peer = thread::spawn(move || {
        for item in 0..2 {
            while sender.push(item).is_err() {
                sender.wake();
                thread::yield_now();
            }
        }
        sender.wake();
        sender
    });
    assert_eq!(block_on(receiver.pop()), Some(0));
    assert_eq!(block_on(receiver.pop()), Some(1));
    drop(peer.join());
}

/// The drop of the sender delivers what was pushed without a wake, and ends the receiver.
fn sender_leaves() {
    let (mut sender, mut receiver) = channel(2);
    let peer = thread::spawn(move || send(&mut sender, 0));
    assert_eq!(block_on(receiver.pop()), Some(0));
    assert_eq!(block_on(receiver.pop()), None);
    drop(peer.join());
}

/// The same, for a core that leaves: its last item was not flushed.
fn shared_sender_is_closed() {
    let (sender, mut receiver) = channel(2);
    let peer = thread::spawn(move || {
        let shared = SharedSender::new(sender);
        on_a_core(&shared, |_| {
            assert!(shared.push(0).is_ok());
            shared.close();
            assert_eq!(shared.push(1), Err(1), "it is closed");
        });
        shared
    });
    assert_eq!(block_on(receiver.pop()), Some(0));
    assert_eq!(block_on(receiver.pop()), None);
    drop(peer.join());
}

/// A receiver that ends, as after a panic: what is queued is dropped, once. loom tells of what is not.
fn receiver_leaves() {
    let (mut sender, mut receiver) = channel(2);
    let item = loom::sync::Arc::new(());
    let items = [loom::sync::Arc::clone(&item), item];
    let peer = thread::spawn(move || {
        for item in items {
            send(&mut sender, item);
            sender.wake();
        }
    });
    drop(receiver.try_pop());
    drop(receiver);
    drop(peer.join());
}

/// The same while the sender may be waking it.
fn receiver_leaves_a_sleep() {
    let (mut sender, mut receiver) = channel::<u32>(1);
    let peer = thread::spawn(move || {
        send(&mut sender, 0);
        sender.wake();
    });
    let _ = receiver.poll_pop(&mut Context::from_waker(Waker::noop()));
    drop(receiver);
    drop(peer.join());
}
