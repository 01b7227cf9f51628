//! What is between a server and Postgres: a proxy on a unix socket that can delay, cut, stop or swallow what passes. It knows
//! nothing of the protocol.

use std::io::{Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

/// The name of Postgres' socket in its directory.
const SOCKET: &str = ".s.PGSQL.5432";
/// How often a waiting direction looks at what the proxy is told to do.
const LOOK_PERIOD: Duration = Duration::from_millis(10);
/// What one read takes at most.
const READ_MAX: usize = 64 * 1024;
/// A peer that reads nothing for so long is given up.
const WRITE_TIME_MAX: Duration = Duration::from_secs(20);

/// What the proxy does with what comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    /// Hands it on.
    Pass,
    /// Hands it on after this long, in each direction.
    Delay(Duration),
    /// Closes every connection, and each new one.
    Cut,
    /// Keeps connections, takes new ones, and hands nothing on: both ends believe in the other.
    HalfOpen,
    /// Hands on what the server asks, and throws away what Postgres answers.
    LoseReplies,
}

struct Shared {
    target: PathBuf,
    mode: Mutex<Mode>,
    over: AtomicBool,
}

impl Shared {
    fn mode(&self) -> Mode {
        if self.over.load(Ordering::Relaxed) {
            return Mode::Cut;
        }
        *self.mode.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A proxy at work; its connections end when it is dropped.
pub(crate) struct Proxy {
    directory: PathBuf,
    shared: Arc<Shared>,
}

impl Proxy {
    /// Listens in `directory` for those who want the Postgres whose socket is in `target`.
    pub(crate) fn start(directory: &Path, target: &Path) -> Proxy {
        std::fs::create_dir_all(directory).expect("a directory for the proxy");
        let listener = UnixListener::bind(directory.join(SOCKET)).expect("the proxy's socket");
        listener.set_nonblocking(true).expect("a socket that does not block");
        let shared = Arc::new(Shared {
            target: target.join(SOCKET),
            mode: Mutex::new(Mode::Pass),
            over: AtomicBool::new(false),
        });
        let accepting = Arc::clone(&shared);
        thread::spawn(move || accept(&listener, &accepting));
        Proxy { directory: directory.to_owned(), shared }
    }

    /// Where a server finds it.
    pub(crate) fn directory(&self) -> &Path {
        &self.directory
    }

    /// From now on does this.
    pub(crate) fn set(&self, mode: Mode) {
        *self.shared.mode.lock().unwrap_or_else(PoisonError::into_inner) = mode;
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.shared.over.store(true, Ordering::Relaxed);
    }
}

fn accept(listener: &UnixListener, shared: &Arc<Shared>) {
    while !shared.over.load(Ordering::Relaxed) {
        let Ok((client, _)) = listener.accept() else {
            thread::sleep(LOOK_PERIOD);
            continue;
        };
        if shared.mode() == Mode::Cut {
            continue;
        }
        // Where there is no Postgres the server hears that at once, as it would without a proxy.
        let Ok(postgres) = UnixStream::connect(&shared.target) else { continue };
        let link =
            Arc::new(Link { shared: Arc::clone(shared), client, postgres, over: AtomicBool::new(false) });
        let back = Arc::clone(&link);
        thread::spawn(move || link.carry(true));
        thread::spawn(move || back.carry(false));
    }
}

/// One connection of a server, and its connection to Postgres.
struct Link {
    shared: Arc<Shared>,
    client: UnixStream,
    postgres: UnixStream,
    over: AtomicBool,
}

impl Link {
    /// Carries one direction until either end closes or the proxy is told to.
    fn carry(&self, up: bool) {
        let (mut from, mut to) =
            if up { (&self.client, &self.postgres) } else { (&self.postgres, &self.client) };
        let set = from.set_nonblocking(false).and_then(|()| from.set_read_timeout(Some(LOOK_PERIOD)));
        let set = set.and_then(|()| to.set_write_timeout(Some(WRITE_TIME_MAX)));
        let mut bytes = vec![0; READ_MAX];
        // Whether a reply is missing: what comes behind it would not be understood.
        let mut torn = false;
        while set.is_ok() && !self.over.load(Ordering::Relaxed) {
            let mode = self.shared.mode();
            if mode == Mode::Cut || torn && mode != Mode::LoseReplies {
                break;
            }
            if mode == Mode::HalfOpen {
                thread::sleep(LOOK_PERIOD);
                continue;
            }
            let read = match from.read(&mut bytes) {
                Ok(0) => break,
                Ok(read) => read,
                Err(error) if is_timeout(&error) => continue,
                Err(_) => break,
            };
            // What the proxy was told while it waited for these bytes.
            match self.shared.mode() {
                Mode::LoseReplies if !up => {
                    torn = true;
                    continue;
                }
                Mode::Delay(time) => thread::sleep(time),
                Mode::HalfOpen => {
                    while self.shared.mode() == Mode::HalfOpen && !self.over.load(Ordering::Relaxed) {
                        thread::sleep(LOOK_PERIOD);
                    }
                }
                Mode::Cut => break,
                Mode::Pass | Mode::LoseReplies => {}
            }
            if to.write_all(&bytes[..read]).is_err() {
                break;
            }
        }
        self.over.store(true, Ordering::Relaxed);
        for stream in [&self.client, &self.postgres] {
            // It may be closed already.
            let _ = stream.shutdown(std::net::Shutdown::Both);
        }
    }
}

fn is_timeout(error: &std::io::Error) -> bool {
    matches!(
        error.kind(),
        std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut | std::io::ErrorKind::Interrupted
    )
}
