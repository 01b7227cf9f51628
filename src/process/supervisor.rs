//! What a supervisor such as systemd is told, by datagrams (sd_notify(3)): what the server waits for, that it serves, that
//! it stops; and, as long as every core answers, that it lives. Without `NOTIFY_SOCKET` nobody is told anything.
//!
//! The crates for this read the environment at each call, and wait for a supervisor that does not read: here the main
//! thread must not wait for anybody. What a full socket does not take is sent again by the thread that watches the cores.

use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use tracing::{debug, warn};

use crate::admin::Board;
use crate::limits::{NOTIFY_STATUS_BYTES_MAX, START_EXTENSION};

/// How often a start says how far it is.
const START_PERIOD: Duration = Duration::from_secs(1);
/// Signs of life are no more frequent, however impatient a supervisor is.
const WATCHDOG_PERIOD_MIN: Duration = Duration::from_millis(50);
/// How many signs of life there are in the time after which a server without any is killed.
const SIGNS_OF_LIFE: u32 = 3;

/// Whoever started the process and wants to know how it is; or nobody. Clones tell the same one.
#[derive(Clone)]
pub(super) struct Supervisor(Option<Arc<Told>>);

struct Told {
    socket: UnixDatagram,
    address: SocketAddr,
    /// After this time without a sign of life the process is killed.
    watchdog: Option<Duration>,
    state: Mutex<State>,
}

struct State {
    stage: Stage,
    /// What is to be sent again, because the socket did not take it.
    unsent: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Starting,
    Ready,
    Stopping,
}

impl Supervisor {
    /// The one that the environment names.
    pub(super) fn of_environment() -> Supervisor {
        let Some(name) = std::env::var_os("NOTIFY_SOCKET").filter(|name| !name.is_empty()) else {
            return Supervisor(None);
        };
        let variable = |name: &str| std::env::var(name).ok();
        let watchdog = watchdog(variable("WATCHDOG_USEC"), variable("WATCHDOG_PID"), std::process::id());
        let opened = address(name.as_bytes()).and_then(|address| {
            let socket = UnixDatagram::unbound()?;
            // A supervisor that does not read holds up nobody.
            socket.set_nonblocking(true)?;
            Ok((socket, address))
        });
        match opened {
            Ok((socket, address)) => {
                let state = Mutex::new(State { stage: Stage::Starting, unsent: None });
                Supervisor(Some(Arc::new(Told { socket, address, watchdog, state })))
            }
            Err(error) => {
                warn!(%error, socket = %name.display(), "NOTIFY_SOCKET cannot be used: nobody is told of the start");
                Supervisor(None)
            }
        }
    }

    /// What the start waits for.
    pub(super) fn waits_for(&self, what: &str) {
        self.tell(Stage::Starting, || status(what));
    }

    /// The server takes requests.
    pub(super) fn ready(&self, what: &str) {
        // Where a shell or a wrapper is between, the supervisor takes that one for the server.
        self.tell(Stage::Ready, || format!("READY=1\nMAINPID={}\n{}", std::process::id(), status(what)));
    }

    /// The server ends, for this reason.
    pub(super) fn stopping(&self, why: &str) {
        self.tell(Stage::Stopping, || format!("STOPPING=1\n{}", status(why)));
    }

    /// Says how far the start is, and later that the server lives: both only while no core owes an answer. From a thread
    /// of its own, which ends where there is nothing more to say.
    ///
    /// # Errors
    ///
    /// One line: the thread cannot start.
    pub(super) fn watch(&self, board: Arc<Board>) -> Result<(), String> {
        let Some(told) = self.0.clone() else { return Ok(()) };
        let cannot = |error: std::io::Error| format!("cannot start a thread: {error}");
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().map_err(cannot)?;
        let watch = move || {
            while let Some(period) = told.period() {
                let silent = runtime.block_on(board.silent());
                if silent.is_empty() {
                    told.lives(&board);
                } else {
                    debug!(cores = ?silent, "no sign of life: they do not answer");
                }
                thread::sleep(period);
            }
        };
        thread::Builder::new().name("supervisor".to_owned()).spawn(watch).map(drop).map_err(cannot)
    }

    fn tell(&self, stage: Stage, message: impl FnOnce() -> String) {
        let Some(told) = &self.0 else { return };
        let mut state = told.lock();
        // A stage is told once, and there is no way back.
        let news = match stage {
            Stage::Starting => state.stage == Stage::Starting,
            Stage::Ready => state.stage == Stage::Starting,
            Stage::Stopping => state.stage != Stage::Stopping,
        };
        if news {
            state.stage = stage;
            told.send(&mut state, message());
        }
    }
}

impl Told {
    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// When the next sign of life is due; `None`: nobody waits for any.
    fn period(&self) -> Option<Duration> {
        let state = self.lock();
        let of_watchdog = self.watchdog.map(|time| (time / SIGNS_OF_LIFE).max(WATCHDOG_PERIOD_MIN));
        match state.stage {
            // The first sign of life follows the start as soon as all others follow each other.
            Stage::Starting => Some(of_watchdog.map_or(START_PERIOD, |period| period.min(START_PERIOD))),
            Stage::Ready | Stage::Stopping if state.unsent.is_some() => Some(START_PERIOD),
            Stage::Ready | Stage::Stopping => of_watchdog,
        }
    }

    /// No core owes an answer: a start gets more time, and a server lives.
    fn lives(&self, board: &Board) {
        let mut state = self.lock();
        if let Some(unsent) = state.unsent.take() {
            self.send(&mut state, unsent);
        }
        match state.stage {
            Stage::Starting => {
                let loading = board.loading().map(|loading| format!("\n{}", status(&loading.to_string())));
                let extension = START_EXTENSION.as_micros();
                let message = format!("EXTEND_TIMEOUT_USEC={extension}{}", loading.unwrap_or_default());
                self.send_or_forget(&message);
            }
            // Until a supervisor has heard that the server is ready it expects no sign of life.
            Stage::Ready | Stage::Stopping if self.watchdog.is_some() => self.send_or_forget("WATCHDOG=1"),
            Stage::Ready | Stage::Stopping => {}
        }
    }

    fn send(&self, state: &mut State, message: String) {
        state.unsent = match self.socket.send_to_addr(message.as_bytes(), &self.address) {
            Ok(_) => None,
            Err(error) => {
                debug!(%error, message, "the supervisor was not told; trying again");
                Some(message)
            }
        };
    }

    /// The next one of this kind comes soon.
    fn send_or_forget(&self, message: &str) {
        if let Err(error) = self.socket.send_to_addr(message.as_bytes(), &self.address) {
            debug!(%error, message, "the supervisor was not told");
        }
    }
}

/// A path, or a name in the kernel's own space, which is written with an `@`.
fn address(name: &[u8]) -> std::io::Result<SocketAddr> {
    match name {
        [b'@', name @ ..] => SocketAddr::from_abstract_name(name),
        [b'/', ..] => SocketAddr::from_pathname(std::ffi::OsStr::from_bytes(name)),
        _ => {
            Err(std::io::Error::new(std::io::ErrorKind::Unsupported, "expected a path, or a name after an @"))
        }
    }
}

/// The time after which this process is killed; `None` when nobody watches it, or watches another one.
fn watchdog(microseconds: Option<String>, of: Option<String>, own: u32) -> Option<Duration> {
    let theirs = of.is_some_and(|pid| pid.parse() != Ok(own));
    let time = Duration::from_micros(microseconds?.parse().ok()?);
    (!theirs && !time.is_zero()).then_some(time)
}

/// What a supervisor shows of the server, in one line.
fn status(what: &str) -> String {
    let mut end = what.len().min(NOTIFY_STATUS_BYTES_MAX);
    while !what.is_char_boundary(end) {
        end -= 1;
    }
    format!("STATUS={}", what[..end].replace('\n', " "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_its_own_watchdog_counts() {
        let text = |text: &str| Some(text.to_owned());
        for (time, of, expected) in [
            (text("3000000"), text("7"), Some(3_000)),
            (text("3000000"), None, Some(3_000)),
            (text("3000000"), text("8"), None),
            (text("3000000"), text("me"), None),
            (text("0"), text("7"), None),
            (text("soon"), text("7"), None),
            (None, text("7"), None),
        ] {
            assert_eq!(
                watchdog(time.clone(), of.clone(), 7),
                expected.map(Duration::from_millis),
                "{time:?} {of:?}"
            );
        }
    }

    #[test]
    fn a_status_is_one_short_line() {
        assert_eq!(status("a\nb"), "STATUS=a b");
        let long = status(&"ã".repeat(NOTIFY_STATUS_BYTES_MAX));
        assert!(long.len() <= "STATUS=".len() + NOTIFY_STATUS_BYTES_MAX && long.ends_with('ã'));
    }

    #[test]
    fn addresses() {
        assert!(address(b"/run/notify").is_ok_and(|address| address.as_pathname().is_some()));
        assert!(address(b"@notify").is_ok_and(|address| address.as_abstract_name() == Some(b"notify")));
        for wrong in [&b"notify"[..], b"vsock:2:3", b""] {
            assert!(address(wrong).is_err(), "{wrong:?}");
        }
    }
}
