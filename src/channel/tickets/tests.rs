use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, Wake, Waker};

use futures_util::FutureExt;

use super::{Awaited, Ticket, Tickets};

#[test]
fn an_answer_reaches_who_waits_and_frees_the_ticket() {
    let tickets = Tickets::with_capacity(0);
    let (mut one, two) = (tickets.take('a'), tickets.take('b'));
    let (first, second) = (one.ticket(), two.ticket());
    assert_ne!(first, second);
    assert!((&mut one).now_or_never().is_none());
    assert_eq!(tickets.answer(first, 1), 'a');
    assert_eq!(one.now_or_never(), Some(1));
    // The freed ticket is taken again while the other one still waits.
    assert_eq!(tickets.take('c').ticket(), first);
    assert_eq!(tickets.answer(second, 2), 'b');
    assert_eq!(two.now_or_never(), Some(2));
}

#[test]
fn an_abandoned_ticket_is_taken_until_it_is_answered() {
    let tickets = Tickets::with_capacity(0);
    let abandoned = tickets.take(());
    let ticket = abandoned.ticket();
    drop(abandoned);
    assert_ne!(tickets.take(()).ticket(), ticket, "still under way");
    tickets.answer(ticket, "late");
    assert_eq!(tickets.take(()).ticket(), ticket);
}

/// One step of whoever asks or of whoever answers.
#[derive(Clone, Copy, Debug)]
enum Step {
    Ask,
    /// The question's future is polled.
    Poll(usize),
    /// The question's future is dropped.
    Drop(usize),
    /// The peer answers the question, which it does once.
    Answer(usize),
}

/// One question as it should be.
struct Question<'a> {
    awaited: Option<Pin<Box<Awaited<'a, usize, usize>>>>,
    ticket: Ticket,
    polls: usize,
    waits: bool,
    answered: bool,
    told: bool,
    bell: Arc<Bell>,
}

#[derive(Default)]
struct Bell(AtomicUsize);

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

/// Does `steps`, holds each against what should come of it, and returns the steps that may follow.
fn run(steps: &[Step]) -> Vec<Step> {
    let tickets = Tickets::with_capacity(0);
    let mut questions: Vec<Question<'_>> = Vec::new();
    for &step in steps {
        match step {
            Step::Ask => {
                let awaited = tickets.take(questions.len());
                let ticket = awaited.ticket();
                let taken = questions.iter().any(|other| !other.answered && other.ticket == ticket);
                assert!(!taken, "{steps:?}: a ticket under way is given out again");
                let awaited = Some(Box::pin(awaited));
                let bell = Arc::default();
                questions.push(Question {
                    awaited,
                    ticket,
                    polls: 0,
                    waits: false,
                    answered: false,
                    told: false,
                    bell,
                });
            }
            Step::Poll(number) => {
                let question = &mut questions[number];
                let waker = Waker::from(Arc::clone(&question.bell));
                let polled =
                    question.awaited.as_mut().unwrap().as_mut().poll(&mut Context::from_waker(&waker));
                question.polls += 1;
                question.waits = polled.is_pending();
                question.told = polled.is_ready();
                let expected = if question.answered { Poll::Ready(number) } else { Poll::Pending };
                assert_eq!(polled, expected, "{steps:?}: its own answer, once it is there");
            }
            Step::Drop(number) => drop(questions[number].awaited.take()),
            Step::Answer(number) => {
                let question = &mut questions[number];
                assert_eq!(tickets.answer(question.ticket, number), number, "{steps:?}: of which question");
                question.answered = true;
                let rung = question.bell.0.load(Ordering::Relaxed);
                let waits = question.waits && question.awaited.is_some();
                assert!(rung >= usize::from(waits) && rung <= 1, "{steps:?}: who waits is woken, once");
            }
        }
        let held = questions.iter().filter(|question| !question.answered || question.awaited.is_some());
        assert_eq!(tickets.taken(), held.count(), "{steps:?}: who holds a ticket");
    }
    let mut next: Vec<Step> = Vec::new();
    if questions.len() < 3 {
        next.push(Step::Ask);
    }
    for (number, question) in questions.iter().enumerate() {
        if question.awaited.is_some() {
            next.push(Step::Drop(number));
            if !question.told && question.polls < 2 {
                next.push(Step::Poll(number));
            }
        }
        if !question.answered {
            next.push(Step::Answer(number));
        }
    }
    next
}

/// Asks, answers, polls and drops of up to three questions in every order, up to nine of them.
#[test]
fn in_every_order_each_question_gets_its_own_answer_and_its_ticket_is_freed_once() {
    fn explore(steps: &mut Vec<Step>, left: usize) -> usize {
        let next = run(steps);
        let mut orders = 1;
        for step in next.into_iter().take_while(|_| left > 0) {
            steps.push(step);
            orders += explore(steps, left - 1);
            steps.pop();
        }
        orders
    }
    let orders = explore(&mut Vec::new(), if cfg!(miri) { 4 } else { 9 });
    assert!(cfg!(miri) || orders > 100_000, "{orders} orders");
    println!("{orders} orders");
}
