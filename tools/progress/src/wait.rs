//! What somebody waits for: a thread of its own says how far it is, until the wait is dropped.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crate::screen::screen;
use crate::text::{Text, duration, left};

/// Between two looks at how far it is.
const LIVE_PERIOD: Duration = Duration::from_millis(500);
/// Seconds between two plain lines, where `PROGRESS_SECONDS` does not say otherwise; and where something is counted.
const PLAIN_SECONDS: u64 = 15;
const COUNT_SECONDS: u64 = 5;
/// The end of a file within which its last line is looked for.
const LAST_LINE_BYTES: u64 = 1024;

/// How many are done; clones count together.
#[derive(Clone, Debug, Default)]
pub struct Count(Arc<AtomicU64>);

impl Count {
    /// So many more are done.
    pub fn add(&self, more: u64) {
        self.0.fetch_add(more, Ordering::Relaxed);
    }

    /// How many are done.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Something that takes its time. The newest wait has the line; one within another one has it for as long as it lasts.
#[derive(Debug)]
#[must_use = "a wait ends when it is dropped"]
pub struct Wait {
    who: &'static str,
    number: u64,
    stop: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
    /// Written in the end, so that a terminal keeps what a live line has said.
    last: Option<(String, Instant)>,
    followed: Followed,
}

type Followed = Arc<Mutex<Option<File>>>;

impl Wait {
    /// Says again and again what `text` says, from soon on; it is given the time since the beginning. It is asked on a
    /// thread of its own, and its line goes without a trace.
    pub fn new(who: &'static str, text: impl FnMut(Duration) -> Text + Send + 'static) -> Self {
        Self::every(PLAIN_SECONDS, who, text)
    }

    fn every(
        seconds: u64,
        who: &'static str,
        mut text: impl FnMut(Duration) -> Text + Send + 'static,
    ) -> Self {
        let (stop, stopped) = mpsc::channel();
        let (number, live) = {
            let mut screen = screen();
            (screen.open(), screen.live)
        };
        let period = if live { LIVE_PERIOD } else { plain_period(seconds) };
        let began = Instant::now();
        let thread = thread::spawn(move || {
            while stopped.recv_timeout(period) == Err(RecvTimeoutError::Timeout) {
                // Made before the screen is held: it may read files.
                let text = text(began.elapsed());
                let mut screen = screen();
                if screen.is_top(number) {
                    match live {
                        true => screen.tell(who, &text),
                        false => screen.line(&format!("{who}: {text}")),
                    }
                }
            }
        });
        Self {
            who,
            number,
            stop: Some(stop),
            thread: Some(thread),
            last: None,
            followed: Followed::default(),
        }
    }

    /// A step of some work, which this line names, and for how long already. It stays on a terminal as one line, with
    /// the time it took; elsewhere it is said at once.
    pub fn step(who: &'static str, what: impl Into<String>) -> Self {
        let what = what.into();
        if screen().live {
            screen().tell(who, &Text::new(&*what));
        } else {
            crate::say(who, &what);
        }
        let (named, followed) = (what.clone(), Followed::default());
        let said = Arc::clone(&followed);
        let mut wait = Self::new(who, move |spent| {
            let line = last_line(&said).unwrap_or_default();
            Text::new(&*named).and(duration(spent)).note(&line)
        });
        wait.last = Some((what, Instant::now()));
        wait.followed = followed;
        wait
    }

    /// So many of something, counted by `done`: how many, how many a second, and how long the rest may take.
    pub fn count(who: &'static str, what: impl Into<String>, all: u64, done: &Count) -> Self {
        let (what, done) = (what.into(), done.clone());
        Self::every(COUNT_SECONDS, who, move |spent| counted(&what, done.get(), all, spent))
    }

    /// From now on the last line of this file, which some program writes, is part of the step's line.
    pub fn follow(&self, file: File) {
        *self.followed.lock().unwrap_or_else(PoisonError::into_inner) = Some(file);
    }
}

impl Drop for Wait {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            // A panic of the thread that only tells must not become another one here.
            let _ = thread.join();
        }
        let mut screen = screen();
        screen.close(self.number);
        if let (Some((what, began)), true) = (&self.last, screen.live) {
            let (who, took) = (self.who, duration(began.elapsed()));
            screen.line(&format!("{who}: {what} ({took})"));
        }
    }
}

fn plain_period(usual: u64) -> Duration {
    let said = std::env::var("PROGRESS_SECONDS").ok().and_then(|seconds| seconds.parse().ok());
    Duration::from_secs(said.filter(|seconds| *seconds > 0).unwrap_or(usual))
}

fn counted(what: &str, done: u64, all: u64, spent: Duration) -> Text {
    let rate = done as f64 / spent.as_secs_f64().max(0.001);
    Text::new(format!("{what} {done} of {all}"))
        .and(format!("{rate:.0}/s"))
        .and_if(left(done, all, spent).map(|left| format!("about {} left", duration(left))))
        .share(done as f64 / all.max(1) as f64)
}

/// The last line that is not empty.
fn last_line(followed: &Followed) -> Option<String> {
    let followed = followed.lock().unwrap_or_else(PoisonError::into_inner);
    let file = followed.as_ref()?;
    let end = file.metadata().ok()?.len();
    let mut bytes = vec![0; usize::try_from(end.min(LAST_LINE_BYTES)).ok()?];
    // Its writer shares the offset, which this must not move.
    file.read_exact_at(&mut bytes, end - end.min(LAST_LINE_BYTES)).ok()?;
    let text = String::from_utf8_lossy(&bytes);
    let line = text.split(['\n', '\r']).map(str::trim).rfind(|line| !line.is_empty())?;
    Some(line.to_owned())
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[test]
    fn what_is_counted_says_how_long_it_takes() {
        let text = counted("rows", 250, 1000, Duration::from_secs(5)).to_string();
        assert_eq!(text, "rows 250 of 1000, 50/s, about 15 s left");
        assert_eq!(counted("rows", 0, 1000, Duration::ZERO).to_string(), "rows 0 of 1000, 0/s");
    }

    #[test]
    fn the_last_line_of_a_file_is_found() {
        let path = std::env::temp_dir().join(format!("progress-{}", std::process::id()));
        let mut file = File::options().create(true).read(true).append(true).open(&path).expect("a file");
        std::fs::remove_file(&path).expect("its name");
        let followed: Followed = Arc::new(Mutex::new(Some(file.try_clone().expect("the same file"))));
        assert_eq!(last_line(&followed), None);
        file.write_all(b"first\n  second \n\n").expect("lines");
        assert_eq!(last_line(&followed).as_deref(), Some("second"));
        file.write_all(&[b'x'; 5000]).expect("a long line");
        assert_eq!(last_line(&followed).map(|line| line.len()), Some(1024));
    }
}
