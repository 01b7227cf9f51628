//! What whoever waits for a long test is told: which turn of how many, and how long the rest may take, on standard error.
//! Standard output has the results, as [`tell`](crate::tell) writes them past that line.

use std::time::{Duration, Instant};

use progress::{Text, Wait, duration, left};

/// As `println!`, past the line of those who wait.
#[macro_export]
macro_rules! tell {
    ($($argument:tt)*) => { progress::show(&format!("{}\n", format_args!($($argument)*))) };
}

/// So many turns, one after another.
pub(crate) struct Turns {
    who: &'static str,
    all: u64,
    begun: u64,
    since: Instant,
}

impl Turns {
    pub(crate) fn new(who: &'static str, all: usize) -> Self {
        Self { who, all: all as u64, begun: 0, since: Instant::now() }
    }

    /// The next turn.
    pub(crate) fn turn<T>(&mut self, name: &str, run: impl FnOnce() -> T) -> T {
        self.begun += 1;
        let (begun, all, before) = (self.begun, self.all, self.since.elapsed());
        let name = name.to_owned();
        let _wait = Wait::new(self.who, move |spent| text(begun, all, &name, before, spent));
        run()
    }

    /// Whether there were as many as was said.
    pub(crate) fn are_over(&self) -> bool {
        self.begun == self.all
    }
}

/// `before` is what the turns before this one took.
fn text(begun: u64, all: u64, name: &str, before: Duration, spent: Duration) -> Text {
    let left = left(begun - 1, all, before).map(|left| left.saturating_sub(spent));
    Text::new(format!("turn {begun} of {all}: {name}"))
        .and(duration(spent))
        .and_if(left.map(|left| format!("about {} left", duration(left))))
}
