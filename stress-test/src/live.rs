//! How far a load is, from what Gatling writes while it goes on: the records of our simulation, or, of another one, the
//! summary that Gatling itself prints every five seconds. Nothing is told that is not written there.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use ::progress::{Text, Wait, duration};

use crate::progress::{say, watch};
use crate::records::{Percentiles, Request};

/// The percentile is that of the answers of so many last milliseconds.
const WINDOW_MS: u64 = 5_000;
/// And of no more than so many of them.
const WINDOW_REQUESTS_MAX: usize = 100_000;
/// The end of Gatling's output, in which its last summary is.
const SUMMARY_BYTES: u64 = 16 << 10;

/// Tells how far a load is until it is finished or dropped.
#[derive(Debug)]
pub struct Live {
    seen: Arc<Mutex<Seen>>,
    wait: Wait,
}

impl Live {
    /// Watches what is written in this run's directory by a load of so many seconds.
    pub fn watch(run: &Path, seconds: f64) -> Self {
        let seen = Arc::new(Mutex::new(Seen::new(run, seconds)));
        let watched = Arc::clone(&seen);
        let wait = watch(move |spent| {
            let mut seen = watched.lock().unwrap_or_else(PoisonError::into_inner);
            seen.read();
            seen.text(now(), spent)
        });
        Self { seen, wait }
    }

    /// Says what came of all of it, which stays.
    pub fn finish(self) {
        drop(self.wait);
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        seen.read();
        if let Some(line) = seen.sum() {
            say(&line);
        }
    }
}

/// What is known of a load.
#[derive(Debug, Default)]
struct Seen {
    run: PathBuf,
    /// How long users arrive.
    seconds: f64,
    /// Bytes of the records that were read, and the beginning of a line that was not yet whole.
    offset: u64,
    rest: Vec<u8>,
    /// When the first request began, in milliseconds since 1970.
    began: Option<u64>,
    requests: u64,
    ko: u64,
    created: u64,
    /// The newest requests, in the order of their ends.
    window: VecDeque<Request>,
}

/// What Gatling says of a load by itself.
#[derive(Debug, PartialEq, Eq)]
struct Summary {
    seconds: u64,
    requests: u64,
    ko: u64,
}

impl Seen {
    fn new(run: &Path, seconds: f64) -> Self {
        Self { run: run.to_owned(), seconds, ..Self::default() }
    }

    /// Reads what was recorded since the last time. What cannot be read is not told: that is for the verdict to find.
    fn read(&mut self) {
        let Ok(mut file) = File::open(self.run.join("records/requests.tsv")) else { return };
        let mut bytes = std::mem::take(&mut self.rest);
        let known = bytes.len();
        let _ = file.seek(SeekFrom::Start(self.offset)).and_then(|_| file.read_to_end(&mut bytes));
        self.offset += (bytes.len() - known) as u64;
        let whole = bytes.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
        for request in String::from_utf8_lossy(&bytes[..whole]).lines().filter_map(Request::parse) {
            self.take(request);
        }
        self.rest = bytes.split_off(whole);
    }

    fn take(&mut self, request: Request) {
        self.began = Some(self.began.unwrap_or(u64::MAX).min(request.began));
        self.requests += 1;
        self.ko += u64::from(!request.ok);
        self.created += u64::from(request.kind == "create" && request.status == 201);
        if self.window.len() == WINDOW_REQUESTS_MAX {
            self.window.pop_front();
        }
        self.window.push_back(request);
    }

    /// `now` is in milliseconds since 1970; the load has been waited for so long.
    fn text(&mut self, now: u64, spent: Duration) -> Text {
        let Some(began) = self.began else {
            return match self.summary() {
                Some(Summary { seconds, requests, ko }) => {
                    self.at(seconds as f64).and(format!("{requests} requests")).and(format!("KO {ko}"))
                }
                None => Text::new("Gatling starts").and(duration(spent)),
            };
        };
        let text = self.at(now.saturating_sub(began) as f64 / 1000.0);
        let text = text.and(format!("{} requests", self.requests)).and(format!("KO {}", self.ko));
        if self.is_counted() {
            return text.and(format!("{} 201s", self.created));
        }
        self.window.retain(|request| request.ended() + WINDOW_MS > now);
        let newest = Percentiles::of(self.window.iter());
        let p99 = (newest.count > 0).then(|| format!("p99 {} ms", newest.p99));
        text.and_if(p99)
            .and(format!("{} 201s", self.created))
            .and(format!("{}/s", newest.count as u64 * 1000 / WINDOW_MS))
    }

    /// How far it is at this second.
    fn at(&self, second: f64) -> Text {
        let all = self.seconds;
        if self.is_counted() {
            Text::new("Gatling writes its report")
        } else if second < all {
            Text::new(format!("Gatling: {second:.0} of {all:.0} s")).share(second / all)
        } else {
            // No more users arrive; the last answers are awaited.
            Text::new(format!("Gatling: {second:.0} of {all:.0} s: draining"))
        }
    }

    /// Whether the simulation did its last deed, which is to count.
    fn is_counted(&self) -> bool {
        self.run.join("records/count.tsv").exists()
    }

    fn sum(&self) -> Option<String> {
        match (self.began, self.summary()) {
            (Some(_), _) => {
                Some(format!("Gatling: {} requests, KO {}, {} 201s", self.requests, self.ko, self.created))
            }
            (None, Some(Summary { requests, ko, .. })) => {
                Some(format!("Gatling: {requests} requests, KO {ko}"))
            }
            // Its error says more.
            (None, None) => None,
        }
    }

    /// What Gatling printed last.
    fn summary(&self) -> Option<Summary> {
        let mut file = File::open(self.run.join("gatling.log")).ok()?;
        let end = file.metadata().ok()?.len();
        file.seek(SeekFrom::Start(end.saturating_sub(SUMMARY_BYTES))).ok()?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes).ok()?;
        summary(&String::from_utf8_lossy(&bytes))
    }
}

/// The last whole summary in what Gatling printed: `5s elapsed`, and then `> Global | total | OK | KO` with the counts.
fn summary(printed: &str) -> Option<Summary> {
    printed.rmatch_indices("s elapsed").find_map(|(at, _)| {
        let seconds = printed[..at].split_whitespace().next_back()?.parse().ok()?;
        let global = printed[at..].split_inclusive('\n').find(|line| line.starts_with("> Global"))?;
        // Gatling may be in the middle of writing it.
        let global = global.strip_suffix('\n')?;
        let mut counts = global.split('|').skip(1).map(|count| count.trim().replace(',', ""));
        let requests = counts.next()?.parse().ok()?;
        let ko = counts.nth(1)?.parse().ok()?;
        Some(Summary { seconds, requests, ko })
    })
}

fn now() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(now.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use tempfile::TempDir;

    use super::*;

    /// Since 1970; the first request begins here.
    const BEGAN: u64 = 1_700_000_000_000;

    fn run() -> (TempDir, Seen) {
        let run = tempfile::tempdir().expect("a directory");
        fs::create_dir(run.path().join("records")).expect("a directory");
        let seen = Seen::new(run.path(), 20.0);
        (run, seen)
    }

    fn told(seen: &mut Seen, millis: u64) -> String {
        seen.read();
        seen.text(BEGAN + millis, Duration::from_secs(7)).to_string()
    }

    #[test]
    fn the_records_are_read_while_they_are_written() {
        let (run, mut seen) = run();
        let records = run.path().join("records/requests.tsv");
        assert_eq!(told(&mut seen, 0), "Gatling starts, 7 s");
        let first = format!("create\t{BEGAN}\t30\t201\ttrue\n");
        // Flushed in the middle of a line.
        let second = format!("get\t{}\t9\t500\tfalse\n", BEGAN + 100);
        fs::write(&records, [&*first, &second[..8]].concat()).expect("a file");
        assert_eq!(told(&mut seen, 1_400), "Gatling: 1 of 20 s, 1 requests, KO 0, p99 30 ms, 1 201s, 0/s");
        fs::write(&records, [&*first, &second].concat()).expect("a file");
        assert_eq!(told(&mut seen, 1_400), "Gatling: 1 of 20 s, 2 requests, KO 1, p99 30 ms, 1 201s, 0/s");
        // Nothing within the last five seconds.
        assert_eq!(told(&mut seen, 8_000), "Gatling: 8 of 20 s, 2 requests, KO 1, 1 201s, 0/s");
        assert_eq!(told(&mut seen, 21_000), "Gatling: 21 of 20 s: draining, 2 requests, KO 1, 1 201s, 0/s");
        fs::write(run.path().join("records/count.tsv"), "1\t200\t1\n").expect("a file");
        assert_eq!(told(&mut seen, 23_000), "Gatling writes its report, 2 requests, KO 1, 1 201s");
        assert_eq!(seen.sum().as_deref(), Some("Gatling: 2 requests, KO 1, 1 201s"));
    }

    #[test]
    fn the_percentile_is_of_the_newest_answers() {
        let (run, mut seen) = run();
        let line = |at: u64, millis: u64| format!("search\t{}\t{millis}\t200\ttrue\n", BEGAN + at);
        let slow: String = (0..100).map(|at| line(at, 900)).collect();
        let quick: String = (0..100).map(|at| line(5_000 + 10 * at, 2)).collect();
        fs::write(run.path().join("records/requests.tsv"), slow + &quick).expect("a file");
        let expected = "Gatling: 6 of 20 s, 200 requests, KO 0, p99 2 ms, 0 201s, 20/s";
        assert_eq!(told(&mut seen, 6_100), expected);
    }

    /// As Gatling 3.13.5 prints it every five seconds.
    const PRINTED: &str = "\
========================================================================================================================
2026-11-28 23:28:47 GMT                                                                               5s elapsed
---- Requests -----------------------------------------------------------------------|---Total---|-----OK----|----KO----
> Global                                                                             |       304 |       304 |         0
> create                                                                             |       133 |       133 |         0

---- valid search ------------------------------------------------------------------------------------------------------
[####|                                                                                                           ] 4.09%
          waiting:       867 / active:         1  / done:        37
========================================================================================================================
2026-11-28 23:28:58 GMT                                                                              15s elapsed
---- Requests -----------------------------------------------------------------------|---Total---|-----OK----|----KO----
> Global                                                                             |     1,214 |     1,210 |         4
";

    #[test]
    fn a_simulation_without_records_is_told_by_gatling() {
        let (run, mut seen) = run();
        let write = |text: &str| fs::write(run.path().join("gatling.log"), text).expect("a file");
        write("Simulation RinhaBackendSimulation started...\n");
        assert_eq!(told(&mut seen, 0), "Gatling starts, 7 s");
        write(PRINTED);
        assert_eq!(told(&mut seen, 0), "Gatling: 15 of 20 s, 1214 requests, KO 4");
        assert_eq!(seen.sum().as_deref(), Some("Gatling: 1214 requests, KO 4"));
        // Cut while it is written: then the one before counts.
        for cut in [PRINTED.rfind("> Global").expect("the last summary"), PRINTED.len() - 5] {
            write(&PRINTED[..cut]);
            assert_eq!(told(&mut seen, 0), "Gatling: 5 of 20 s, 304 requests, KO 0", "{cut}");
        }
    }
}
