//! Where log lines go: into a bounded queue, from which a thread of its own writes them to stderr. So a reader that is gone
//! or stands still, or a full disk, stops nobody who logs. A line that finds no room, or cannot be written, is counted;
//! the count is logged when there is room again.

use std::io::{self, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::thread;
use std::time::Duration;

use tracing::Dispatch;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::util::SubscriberInitExt;

use crate::config::{LogFilter, LogFormat};
use crate::limits::{LOG_FLUSH_TIME_MAX, LOG_LINE_BYTES_MAX, LOG_LINES_MAX};

/// Pause before a line goes again to a stderr that is non-blocking and full.
const FULL_PAUSE: Duration = Duration::from_millis(10);

/// What the writing thread is sent.
enum Message {
    Line(Vec<u8>),
    /// All lines before it are written: this end is dropped then.
    Flush {
        _written: SyncSender<()>,
    },
}

/// The queue of the lines.
#[derive(Clone)]
pub struct Log {
    queue: SyncSender<Message>,
    /// Lines that were not written.
    lost: Arc<AtomicU64>,
}

/// Sends every log line of the process to stderr.
///
/// # Errors
///
/// One line: the writing thread cannot start.
pub fn start(filter: &LogFilter, format: LogFormat) -> Result<Log, String> {
    let (log, lines) = Log::new(LOG_LINES_MAX);
    let lost = Arc::clone(&log.lost);
    // The report of lost lines has a queue of its own: it would be lost itself in one that is full.
    let (report_log, reports) = Log::new(1);
    let report_dispatch = dispatch(filter, format, report_log);
    let report = move |lost| {
        tracing::dispatcher::with_default(&report_dispatch, || {
            tracing::warn!(lost, "log lines were lost: stderr did not take them");
        });
        match reports.try_recv() {
            Ok(Message::Line(line)) => line,
            // The filter holds it back.
            Ok(Message::Flush { .. }) | Err(_) => Vec::new(),
        }
    };
    thread::Builder::new()
        .name("log".to_owned())
        .spawn(move || write_all(&lines, &lost, report, io::stderr()))
        .map_err(|error| format!("cannot start a thread: {error}"))?;
    dispatch(filter, format, log.clone()).init();
    // The hook of the standard library writes to stderr itself, and waits for it.
    std::panic::set_hook(Box::new(|panic| tracing::error!("{panic}")));
    Ok(log)
}

/// What makes lines of events.
fn dispatch<W>(filter: &LogFilter, format: LogFormat, writer: W) -> Dispatch
where
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    let filter = EnvFilter::new(&filter.0);
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(writer).with_target(false);
    match format {
        LogFormat::Text => builder.with_ansi(io::IsTerminal::is_terminal(&io::stderr())).into(),
        LogFormat::Json => builder.json().flatten_event(true).into(),
    }
}

impl Log {
    fn new(lines_max: usize) -> (Log, Receiver<Message>) {
        let (queue, lines) = sync_channel(lines_max);
        (Log { queue, lost: Arc::default() }, lines)
    }

    /// How many lines were lost since the start; anybody may read it.
    pub fn lost(&self) -> Arc<AtomicU64> {
        Arc::clone(&self.lost)
    }

    /// Waits a moment until the lines up to now are written.
    pub fn flush(&self) {
        let (written, all) = sync_channel(0);
        let began = std::time::Instant::now();
        let mut flush = Message::Flush { _written: written };
        while began.elapsed() < LOG_FLUSH_TIME_MAX {
            match self.queue.try_send(flush) {
                Ok(()) => {
                    // It ends by the drop of the other end.
                    let _ended = all.recv_timeout(LOG_FLUSH_TIME_MAX.saturating_sub(began.elapsed()));
                    return;
                }
                Err(TrySendError::Full(back)) => flush = back,
                Err(TrySendError::Disconnected(_)) => return,
            }
            thread::sleep(FULL_PAUSE);
        }
    }
}

/// One line in the making; it is queued when it is dropped.
pub struct Line<'a> {
    log: &'a Log,
    text: Vec<u8>,
}

impl<'a> MakeWriter<'a> for Log {
    type Writer = Line<'a>;

    fn make_writer(&'a self) -> Line<'a> {
        Line { log: self, text: Vec::new() }
    }
}

impl Write for Line<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        // What is beyond the bound is cut off, but for the line end.
        let room = LOG_LINE_BYTES_MAX.saturating_sub(self.text.len());
        self.text.extend_from_slice(&bytes[..bytes.len().min(room)]);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for Line<'_> {
    fn drop(&mut self) {
        let mut text = std::mem::take(&mut self.text);
        if text.is_empty() {
            return;
        }
        if text.last() != Some(&b'\n') {
            text.push(b'\n');
        }
        if self.log.queue.try_send(Message::Line(text)).is_err() {
            self.log.lost.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// Writes what is queued, for as long as somebody may log. `report` makes the line that says how many were lost.
fn write_all(
    lines: &Receiver<Message>,
    lost: &AtomicU64,
    mut report: impl FnMut(u64) -> Vec<u8>,
    mut out: impl Write,
) {
    let mut said = 0;
    while let Ok(message) = lines.recv() {
        // A flush ends by the drop of its end.
        let Message::Line(line) = message else { continue };
        if write_line(&mut out, &line).is_err() {
            lost.fetch_add(1, Ordering::Relaxed);
            continue;
        }
        let count = lost.load(Ordering::Relaxed);
        if count > said && write_line(&mut out, &report(count - said)).is_ok() {
            said = count;
        }
    }
}

/// As `write_all` of the standard library, and waits where a non-blocking stderr has no room.
fn write_line(out: &mut impl Write, mut line: &[u8]) -> io::Result<()> {
    while !line.is_empty() {
        match out.write(line) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(written) => line = &line[written..],
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => thread::sleep(FULL_PAUSE),
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Takes at most three bytes at a time, and now and then none.
    #[derive(Default)]
    struct Reluctant {
        text: Vec<u8>,
        calls: usize,
    }

    impl Write for Reluctant {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.calls += 1;
            match self.calls % 3 {
                0 => Err(io::ErrorKind::WouldBlock.into()),
                1 => Err(io::ErrorKind::Interrupted.into()),
                _ => {
                    let taken = bytes.len().min(3);
                    self.text.extend_from_slice(&bytes[..taken]);
                    Ok(taken)
                }
            }
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_line_is_written_whole_by_parts() {
        let mut out = Reluctant::default();
        write_line(&mut out, b"one line\n").unwrap();
        assert_eq!(out.text, b"one line\n");
    }

    #[test]
    fn who_logs_does_not_wait_and_lines_are_cut() {
        let (log, lines) = Log::new(2);
        for _ in 0..3 {
            let mut line = log.make_writer();
            line.write_all(&vec![b'x'; LOG_LINE_BYTES_MAX + 1]).unwrap();
        }
        let queued: Vec<Message> = lines.try_iter().collect();
        assert_eq!(queued.len(), 2, "the third found no room");
        assert_eq!(log.lost.load(Ordering::Relaxed), 1);
        for message in queued {
            let Message::Line(line) = message else { panic!("a line was queued") };
            assert_eq!((line.len(), line.last()), (LOG_LINE_BYTES_MAX + 1, Some(&b'\n')));
        }
    }

    /// Fails as often as it says, then takes everything.
    struct Failing<'a> {
        times: usize,
        text: &'a mut Vec<u8>,
    }

    impl Write for Failing<'_> {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            if self.times > 0 {
                self.times -= 1;
                return Err(io::ErrorKind::StorageFull.into());
            }
            self.text.extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn lost_lines_are_counted_and_said_once() {
        let written = |times| {
            let (log, lines) = Log::new(4);
            // Two find no room.
            for number in 1..=6 {
                write!(log.make_writer(), "{number}").unwrap();
            }
            let lost = Arc::clone(&log.lost);
            drop(log);
            let mut text = Vec::new();
            let report = |count| format!("{count} lost\n").into_bytes();
            write_all(&lines, &lost, report, Failing { times, text: &mut text });
            (String::from_utf8(text).unwrap(), lost.load(Ordering::Relaxed))
        };
        assert_eq!(written(0), ("1\n2 lost\n2\n3\n4\n".to_owned(), 2));
        // And two fail.
        assert_eq!(written(2), ("3\n4 lost\n4\n".to_owned(), 4));
        // Nobody can be told yet.
        assert_eq!(written(4), (String::new(), 6));
    }
}
