//! A bounded queue from one thread to one other, with a wake. It knows nothing of what travels in it.
//!
//! Pushing never blocks and never allocates; waking is a separate step, so that a batch costs one wake. The
//! receiver sleeps on whatever runtime polls it: a monoio core and a tokio database thread are both just a
//! [`Waker`] here.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use futures_util::task::AtomicWaker;
use rtrb::{Consumer, Producer, RingBuffer};

/// The end that pushes.
pub struct Sender<T> {
    ring: Producer<T>,
    /// Dropped after `ring`: whoever is woken by it finds the ring abandoned.
    receiver: Wake,
}

/// Wakes the receiver, at last when it is dropped.
struct Wake(Arc<AtomicWaker>);

impl Drop for Wake {
    fn drop(&mut self) {
        self.0.wake();
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
    waker: Arc<AtomicWaker>,
}

/// A queue of at most `capacity` items.
pub fn channel<T>(capacity: usize) -> (Sender<T>, Receiver<T>) {
    let (producer, consumer) = RingBuffer::new(capacity);
    let waker = Arc::new(AtomicWaker::new());
    (Sender { ring: producer, receiver: Wake(Arc::clone(&waker)) }, Receiver { ring: consumer, waker })
}

impl<T> Sender<T> {
    /// Queues `item` without waking the receiver; gives it back when the queue is full.
    pub fn push(&mut self, item: T) -> Result<(), T> {
        self.ring.push(item).map_err(|rtrb::PushError::Full(item)| item)
    }

    /// Wakes the receiver if it sleeps. A receiver that is awake costs two atomic operations and no syscall.
    pub fn wake(&self) {
        self.receiver.0.wake();
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

    /// For ever: wakes the receiver once for all that was pushed while the core's other tasks ran. A local wake
    /// puts this task behind every task that is ready now.
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

    /// The next item; `None` when the sender is gone and the queue empty.
    pub fn poll_pop(&mut self, cx: &mut Context<'_>) -> Poll<Option<T>> {
        if let Ok(item) = self.ring.pop() {
            return Poll::Ready(Some(item));
        }
        self.waker.register(cx.waker());
        // Again: a push between the first look and the registration found no one to wake.
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
}

#[cfg(test)]
mod tests {
    use super::channel;

    #[test]
    fn full_gives_the_item_back() {
        let (mut sender, mut receiver) = channel(2);
        assert_eq!([sender.push(1), sender.push(2), sender.push(3)], [Ok(()), Ok(()), Err(3)]);
        assert_eq!([receiver.try_pop(), receiver.try_pop(), receiver.try_pop()], [Some(1), Some(2), None]);
    }

    #[test]
    fn crosses_threads_in_order_and_ends_when_the_sender_is_gone() {
        const ITEMS: u32 = 100_000;
        let (mut sender, mut receiver) = channel(64);
        let producer = std::thread::spawn(move || {
            for item in 0..ITEMS {
                let mut item = item;
                while let Err(back) = sender.push(item) {
                    item = back;
                    sender.wake();
                    std::thread::yield_now();
                }
                // Waking now and then only: the drop at the end must deliver what is left.
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
