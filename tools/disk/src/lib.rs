//! How long the disk takes to make a write durable, sampled beside whatever else happens.
//!
//! A database that acknowledges only what is on the disk is never faster than the disk. Who measures its latency
//! measures the disk's with it, in the same filesystem and over the same time, and can tell whose tail it is. It knows
//! nothing of databases.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;

/// What is written at a time: a page of Postgres' log.
pub const WRITE_BYTES: usize = 8 * 1024;
/// Times a second. Enough for a p99 of a quarter of a minute, and a tenth of what the contest itself asks of the disk.
pub const RATE: f64 = 50.0;
/// After so many writes the file is written from its start again, as Postgres uses the segments of its log again.
const WRITES_IN_FILE: u64 = 1024;
/// Finest steps and longest time of the histogram, in microseconds.
const MICROS: (u64, u64) = (1, 60_000_000);

/// A thread that writes to the disk and waits for it, until [`Probe::end`] or a drop.
pub struct Probe {
    path: PathBuf,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<io::Result<Histogram<u64>>>>,
}

impl Probe {
    /// Begins in a file of this name, which is made, and removed in the end.
    ///
    /// # Errors
    ///
    /// The file cannot be made or written.
    pub fn begin(path: &Path) -> io::Result<Probe> {
        let file = File::options().write(true).create(true).truncate(true).open(path)?;
        let mut probe = Probe { path: path.to_owned(), stop: Arc::new(AtomicBool::new(false)), thread: None };
        // Its blocks and its length are there before the first sample, so that a sample is a write and nothing else.
        let written = (0..WRITES_IN_FILE).try_for_each(|number| write(&file, number));
        written.and_then(|()| file.sync_all())?;
        let stop = Arc::clone(&probe.stop);
        let work = move || sample(&file, &stop);
        probe.thread = Some(thread::Builder::new().name("disk".to_owned()).spawn(work)?);
        Ok(probe)
    }

    /// Ends it; how long each write took, in microseconds.
    ///
    /// # Errors
    ///
    /// The disk refused a write.
    pub fn end(mut self) -> io::Result<Histogram<u64>> {
        self.stop.store(true, Ordering::Relaxed);
        let thread = self.thread.take().expect("it runs until its end");
        thread.join().unwrap_or_else(|_| Err(io::Error::other("the probe of the disk panicked")))
    }
}

impl Drop for Probe {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
        let _ = fs::remove_file(&self.path);
    }
}

/// A write is due at fixed times. It counts from when it was due if the one before took longer than until then, so that a
/// stall is charged to all that fell into it; else from when this thread was there, which a busy CPU may delay.
fn sample(file: &File, stop: &AtomicBool) -> io::Result<Histogram<u64>> {
    let mut times = Histogram::new_with_bounds(MICROS.0, MICROS.1, 3).expect("bounds of a histogram");
    let start = Instant::now();
    for number in 0_u64.. {
        let due = start + Duration::from_secs_f64(number as f64 / RATE);
        let wait = due.saturating_duration_since(Instant::now());
        thread::sleep(wait);
        let began = if wait.is_zero() { due } else { Instant::now() };
        if stop.load(Ordering::Relaxed) {
            break;
        }
        write(file, number)?;
        file.sync_data()?;
        times.saturating_record(u64::try_from(began.elapsed().as_micros()).unwrap_or(u64::MAX));
    }
    Ok(times)
}

/// The write of this number, in its place of the file.
fn write(file: &File, number: u64) -> io::Result<()> {
    let mut page = [0; WRITE_BYTES];
    // Never the same as before, so that no layer may leave the write out: 251 and the number of places have no divisor in
    // common.
    page.fill(u8::try_from(number % 251).expect("below 251"));
    file.write_all_at(&page, number % WRITES_IN_FILE * WRITE_BYTES as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_come_at_their_rate_and_the_file_goes() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("probe");
        let probe = Probe::begin(&path).unwrap();
        assert!(path.exists());
        thread::sleep(Duration::from_millis(500));
        let times = probe.end().unwrap();
        // A busy machine may be late, and catches up; it is never early.
        assert!((1..=27).contains(&times.len()), "{} samples", times.len());
        assert!(times.min() >= 1);
        assert!(!path.exists());
    }

    #[test]
    fn a_directory_that_is_not_there_is_said() {
        let missing = tempfile::tempdir().unwrap().path().join("none").join("probe");
        assert_eq!(Probe::begin(&missing).err().unwrap().kind(), io::ErrorKind::NotFound);
    }
}
