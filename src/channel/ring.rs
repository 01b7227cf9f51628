//! A bounded queue from one thread to one other, with a wake. It knows nothing of what travels in it.
//!
//! Pushing never blocks and never allocates; waking is a separate step, so that a batch costs one wake, and a
//! receiver that is busy, or that waits for more items than are queued, costs none. The receiver sleeps on whatever
//! runtime polls it: a monoio core and a tokio database thread are both just a [`Waker`] here.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering, fence};
use std::task::{Context, Poll, Waker};

use futures_util::task::AtomicWaker;
use rtrb::{Consumer, Producer, RingBuffer};

/// The end that pushes.
pub struct Sender<T> {
    ring: Producer<T>,
    /// Dropped after `ring`, so that the receiver, which this drop wakes, finds the ring abandoned.
    receiver: LastWake,
}

/// How the receiver sleeps.
struct Sleeper {
    waker: AtomicWaker,
    /// How many items the receiver sleeps for. [`Receiver::holds`] sets this back to [`AWAKE`] when it is done.
    /// [`Receiver::pop`] leaves it at 1: the sender may then wake a busy receiver once for nothing.
    wanted: AtomicUsize,
}

/// The value of [`Sleeper::wanted`] while the receiver's task is busy: it will look by itself, so nobody wakes it.
const AWAKE: usize = usize::MAX;

/// Wakes the receiver when the sender is dropped, whatever it sleeps for.
struct LastWake(Arc<Sleeper>);

impl Drop for LastWake {
    fn drop(&mut self) {
        self.0.waker.wake();
    }
}

/// A sender that the tasks of one core share: what they push in one turn of the core costs one wake.
pub struct SharedSender<T> {
    /// `None` once closed.
    sender: RefCell<Option<Sender<T>>>,
    /// Something was pushed since the last wake.
    unflushed: Cell<bool>,
    flusher: RefCell<Option<Waker>>,
}

/// The end that pops.
pub struct Receiver<T> {
    ring: Consumer<T>,
    sleeper: Arc<Sleeper>,
}

/// A queue of at most `capacity` items.
pub fn channel<T>(capacity: usize) -> (Sender<T>, Receiver<T>) {
    let (producer, consumer) = RingBuffer::new(capacity);
    let sleeper = Arc::new(Sleeper { waker: AtomicWaker::new(), wanted: AtomicUsize::new(AWAKE) });
    (
        Sender { ring: producer, receiver: LastWake(Arc::clone(&sleeper)) },
        Receiver { ring: consumer, sleeper },
    )
}

impl<T> Sender<T> {
    /// Queues `item` without waking the receiver; gives it back when the queue is full.
    pub fn push(&mut self, item: T) -> Result<(), T> {
        self.ring.push(item).map_err(|rtrb::PushError::Full(item)| item)
    }

    /// Wakes the receiver if as many items are queued as it sleeps for. Otherwise this costs a fence and no syscall,
    /// except that a receiver that is busy after [`Receiver::pop`] may be woken once for nothing.
    pub fn wake(&self) {
        // Either this sees what the receiver wants, or the receiver's last look before its sleep sees what was pushed.
        fence(Ordering::SeqCst);
        let queued = self.ring.buffer().capacity() - self.ring.slots();
        if queued >= self.receiver.0.wanted.load(Ordering::Relaxed) {
            self.receiver.0.waker.wake();
        }
    }
}

impl<T> SharedSender<T> {
    /// Shares `sender`. Nobody is woken unless [`flush`](Self::flush) runs as a task of the same core.
    pub fn new(sender: Sender<T>) -> SharedSender<T> {
        SharedSender {
            sender: RefCell::new(Some(sender)),
            unflushed: Cell::new(false),
            flusher: RefCell::new(None),
        }
    }

    /// Queues `item`; gives it back when the queue is full or closed.
    pub fn push(&self, item: T) -> Result<(), T> {
        match self.sender.borrow_mut().as_mut() {
            Some(sender) => sender.push(item)?,
            None => return Err(item),
        }
        if !self.unflushed.replace(true)
            && let Some(flusher) = self.flusher.borrow().as_ref()
        {
            flusher.wake_by_ref();
        }
        Ok(())
    }

    /// Runs for ever: wakes the receiver once for all that was pushed in one turn of the core. The first push wakes
    /// this task, and the runtime queues it behind every task that is ready by then.
    pub async fn flush(&self) {
        poll_fn(|cx| {
            if self.unflushed.replace(false)
                && let Some(sender) = self.sender.borrow().as_ref()
            {
                sender.wake();
            }
            let mut flusher = self.flusher.borrow_mut();
            if !flusher.as_ref().is_some_and(|waker| waker.will_wake(cx.waker())) {
                *flusher = Some(cx.waker().clone());
            }
            Poll::<()>::Pending
        })
        .await;
    }

    /// Tells the receiver that nothing more will come.
    pub fn close(&self) {
        self.sender.borrow_mut().take();
    }
}

impl<T> Receiver<T> {
    /// The next item, if one is there.
    pub fn try_pop(&mut self) -> Option<T> {
        self.ring.pop().ok()
    }

    /// The next item, if one is there and `which` accepts it.
    pub fn pop_if(&mut self, which: impl FnOnce(&T) -> bool) -> Option<T> {
        if which(self.ring.peek().ok()?) { self.ring.pop().ok() } else { None }
    }

    /// How many items are there.
    pub fn queued(&self) -> usize {
        self.ring.slots()
    }

    /// The next item; `None` when the sender is gone and the queue empty.
    pub fn poll_pop(&mut self, cx: &mut Context<'_>) -> Poll<Option<T>> {
        if let Ok(item) = self.ring.pop() {
            return Poll::Ready(Some(item));
        }
        self.fall_asleep(1, cx);
        // Look again: a push between the first look and the registration found no one to wake.
        match self.ring.pop() {
            Ok(item) => Poll::Ready(Some(item)),
            Err(_) if self.ring.is_abandoned() => Poll::Ready(self.ring.pop().ok()),
            Err(_) => Poll::Pending,
        }
    }

    /// As [`poll_pop`](Self::poll_pop), to be awaited.
    pub async fn pop(&mut self) -> Option<T> {
        poll_fn(|cx| self.poll_pop(cx)).await
    }

    /// Returns once `items` items are queued; never, if the sender is gone and fewer are. When this future ends or is
    /// dropped, the receiver counts as awake: the sender does not wake it until it waits again.
    pub async fn holds(&mut self, items: usize) {
        let asleep = Asleep(self);
        poll_fn(|cx| {
            if asleep.0.queued() >= items {
                return Poll::Ready(());
            }
            asleep.0.fall_asleep(items, cx);
            if asleep.0.queued() >= items { Poll::Ready(()) } else { Poll::Pending }
        })
        .await;
    }

    /// From now on the sender wakes the task of `cx` when `items` items are queued. The caller must look once more
    /// before it sleeps: a sender that read the old number, or found no waker, passed its fence before this one, so
    /// that the look sees what it pushed. The order here is number, waker, fence, look; the sender's is push, fence,
    /// number, waker.
    fn fall_asleep(&self, items: usize, cx: &Context<'_>) {
        self.sleeper.wanted.store(items, Ordering::Relaxed);
        self.sleeper.waker.register(cx.waker());
        fence(Ordering::SeqCst);
    }
}

/// A receiver that may be asleep; dropping this marks it as awake.
struct Asleep<'a, T>(&'a Receiver<T>);

impl<T> Drop for Asleep<'_, T> {
    fn drop(&mut self) {
        self.0.sleeper.wanted.store(AWAKE, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use std::future::Future;
    use std::pin::pin;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::task::{Context, Wake, Waker};
    use std::time::Duration;

    use super::channel;

    /// Counts how often it is woken.
    #[derive(Default)]
    struct Bell(AtomicUsize);

    impl Wake for Bell {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    #[test]
    fn only_a_sleeper_that_has_what_it_wants_is_woken() {
        let (mut sender, mut receiver) = channel(8);
        let bell = Arc::new(Bell::default());
        let waker = Waker::from(Arc::clone(&bell));
        let mut cx = Context::from_waker(&waker);
        let mut send = |item| {
            sender.push(item).unwrap();
            sender.wake();
            bell.0.load(Ordering::Relaxed)
        };
        assert!(receiver.poll_pop(&mut cx).is_pending());
        assert_eq!(send(1), 1, "it slept for any item");
        assert_eq!(receiver.try_pop(), Some(1));
        {
            let mut two = pin!(receiver.holds(2));
            assert!(two.as_mut().poll(&mut cx).is_pending());
            assert_eq!(send(2), 1, "one is not two");
            assert_eq!(send(3), 2);
            assert!(two.as_mut().poll(&mut cx).is_ready());
        }
        {
            let mut many = pin!(receiver.holds(4));
            assert!(many.as_mut().poll(&mut cx).is_pending());
        }
        assert_eq!((send(4), send(5)), (2, 2), "it gave up waiting");
        assert_eq!(receiver.queued(), 4);
        assert_eq!(receiver.pop_if(|&item| item != 2), None);
        assert_eq!(receiver.pop_if(|&item| item == 2), Some(2));
        while receiver.try_pop().is_some() {}
        assert!(receiver.poll_pop(&mut cx).is_pending());
        assert_eq!(send(6), 3, "it slept for any item again");
    }

    /// The sender pushes exactly what is wanted and waits until it was received, so that no later push makes up for a
    /// lost wake.
    #[test]
    fn a_sleeper_for_many_misses_no_wake() {
        // Miri is a thousand times slower.
        const ROUNDS: usize = if cfg!(miri) { 50 } else { 100_000 };
        let wanted = |round: usize| 1 + round % 7;
        let (mut sender, mut receiver) = channel(8);
        let received = Arc::new(AtomicUsize::new(0));
        let seen = Arc::clone(&received);
        let producer = std::thread::spawn(move || {
            for round in 0..ROUNDS {
                while seen.load(Ordering::Acquire) < round {
                    std::thread::yield_now();
                }
                (0..wanted(round)).for_each(|item| sender.push(item).unwrap());
                sender.wake();
            }
            // Dropping the sender wakes the receiver as well, which would hide a lost wake.
            while seen.load(Ordering::Acquire) < ROUNDS {
                std::thread::yield_now();
            }
        });
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        runtime.block_on(async {
            for round in 0..ROUNDS {
                tokio::select! {
                    // The timer is polled first and fails the test: `holds` would then find the items without a wake.
                    biased;
                    () = tokio::time::sleep(Duration::from_secs(10)) => panic!("no wake in round {round}"),
                    () = receiver.holds(wanted(round)) => {}
                }
                while receiver.try_pop().is_some() {}
                received.store(round + 1, Ordering::Release);
            }
        });
        producer.join().unwrap();
    }

    #[test]
    fn full_gives_the_item_back() {
        let (mut sender, mut receiver) = channel(2);
        assert_eq!([sender.push(1), sender.push(2), sender.push(3)], [Ok(()), Ok(()), Err(3)]);
        assert_eq!([receiver.try_pop(), receiver.try_pop(), receiver.try_pop()], [Some(1), Some(2), None]);
    }

    #[test]
    fn crosses_threads_in_order_and_ends_when_the_sender_is_gone() {
        const ITEMS: u32 = if cfg!(miri) { 200 } else { 100_000 };
        let (mut sender, mut receiver) = channel(64);
        let producer = std::thread::spawn(move || {
            for item in 0..ITEMS {
                let mut item = item;
                while let Err(back) = sender.push(item) {
                    item = back;
                    sender.wake();
                    std::thread::yield_now();
                }
                // The sender wakes only now and then: its drop at the end must deliver what is left.
                if item % 7 == 0 {
                    sender.wake();
                }
            }
        });
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let received = runtime.block_on(async {
            let mut next = 0;
            while let Some(item) = receiver.pop().await {
                assert_eq!(item, next);
                next += 1;
            }
            next
        });
        producer.join().unwrap();
        assert_eq!(received, ITEMS);
    }
}
