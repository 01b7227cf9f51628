//! Which kernel interface drives a core: io_uring with the best flags the kernel takes, else epoll. It knows
//! nothing of what runs on it.

use std::fmt::Write as _;
use std::io;

use monoio::time::TimeDriver;
use monoio::{IoUringDriver, LegacyDriver, Runtime, RuntimeBuilder};

use crate::limits::{RING_COMPLETIONS_MAX, RING_ENTRIES, RING_ENTRIES_MIN};

/// Entries of the ring that only tries whether rings work.
const RING_PROBE_ENTRIES: u32 = 2;

/// What the operator asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Wanted {
    /// io_uring where it works, else epoll.
    Auto,
    /// io_uring, or no start.
    #[value(name = "io_uring")]
    IoUring,
    /// epoll.
    Epoll,
}

/// What drives the sockets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DriverKind {
    /// io_uring.
    IoUring,
    /// epoll.
    Epoll,
}

impl DriverKind {
    /// `io_uring` or `epoll`.
    pub fn name(self) -> &'static str {
        match self {
            DriverKind::IoUring => "io_uring",
            DriverKind::Epoll => "epoll",
        }
    }
}

/// What was chosen, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chosen {
    /// What drives the sockets.
    pub kind: DriverKind,
    /// Why this one, and how it is set up.
    pub reason: String,
    /// A ring with fewer entries than it should have, because no more memory could be locked.
    pub small: bool,
}

/// A runtime for the current thread.
pub enum Driver {
    /// On io_uring.
    IoUring(Runtime<TimeDriver<IoUringDriver>>),
    /// On epoll.
    Epoll(Runtime<TimeDriver<LegacyDriver>>),
}

impl Driver {
    /// Builds the runtime of the current thread.
    ///
    /// # Errors
    ///
    /// One line with the cause and its remedy: io_uring was demanded and refused, or epoll failed too.
    pub fn build(wanted: Wanted, connections: usize) -> io::Result<(Driver, Chosen)> {
        if wanted == Wanted::Epoll {
            return epoll("asked for".to_owned());
        }
        match uring(completion_entries(connections)) {
            Ok((runtime, reason, small)) => {
                Ok((Driver::IoUring(runtime), Chosen { kind: DriverKind::IoUring, reason, small }))
            }
            Err(error) if wanted == Wanted::IoUring => {
                Err(io::Error::new(error.kind(), format!("--driver io_uring: {}", explain(&error))))
            }
            Err(error) => epoll(explain(&error)),
        }
    }

    /// Runs `main` to its end.
    pub fn block_on<F: Future>(&mut self, main: F) -> F::Output {
        match self {
            Driver::IoUring(runtime) => runtime.block_on(main),
            Driver::Epoll(runtime) => runtime.block_on(main),
        }
    }

    /// Whether this driver's sockets must be non-blocking. On io_uring they must be blocking: on a non-blocking socket
    /// an operation that is not ready completes with `EAGAIN` instead of waiting.
    pub fn needs_nonblocking(&self) -> bool {
        matches!(self, Driver::Epoll(_))
    }
}

/// Set-up flags of a ring, in the order they are tried. `COOP_TASKRUN` (Linux 5.19) spares the core an interrupt for
/// each completion. `SINGLE_ISSUER` (6.0) lets the kernel skip locks. `DEFER_TASKRUN` is left out: monoio submits without asking for events, so that completions would starve.
#[derive(Clone, Copy)]
enum Flags {
    CoopSingle,
    Coop,
    None,
}

impl Flags {
    const LADDER: [Flags; 3] = [Flags::CoopSingle, Flags::Coop, Flags::None];

    fn name(self) -> &'static str {
        match self {
            Flags::CoopSingle => "COOP_TASKRUN|SINGLE_ISSUER",
            Flags::Coop => "COOP_TASKRUN",
            Flags::None => "no flags",
        }
    }

    fn ring(self) -> io_uring::Builder {
        let mut ring = io_uring::IoUring::builder();
        match self {
            Flags::CoopSingle => ring.setup_coop_taskrun().setup_single_issuer(),
            Flags::Coop => ring.setup_coop_taskrun(),
            Flags::None => &mut ring,
        };
        ring
    }
}

fn epoll(reason: String) -> io::Result<(Driver, Chosen)> {
    let runtime = RuntimeBuilder::<LegacyDriver>::new().enable_timer().build()?;
    Ok((Driver::Epoll(runtime), Chosen { kind: DriverKind::Epoll, reason, small: false }))
}

/// Builds a runtime on io_uring. It asks for fewer flags when the kernel does not know them (`EINVAL`), and for fewer
/// entries when so much memory may not be locked (`ENOMEM`). Any other refusal is final.
fn uring(mut completions: u32) -> io::Result<(Runtime<TimeDriver<IoUringDriver>>, String, bool)> {
    try_a_ring()?;
    let mut flags = Flags::LADDER.into_iter().peekable();
    let (mut entries, mut small) = (RING_ENTRIES, false);
    let mut steps = String::new();
    loop {
        let rung = *flags.peek().expect("the ladder's last rung returns");
        let mut ring = rung.ring();
        ring.setup_cqsize(completions);
        let built = RuntimeBuilder::<IoUringDriver>::new()
            .with_entries(entries)
            .uring_builder(ring)
            .enable_timer()
            .build();
        match built {
            Ok(runtime) => {
                let ring = format!("{}, {entries} entries, {completions} completions", rung.name());
                return Ok((runtime, ring + &steps, small));
            }
            Err(error) => match error.raw_os_error() {
                Some(nix::libc::EINVAL) if !matches!(rung, Flags::None) => {
                    let _ = write!(steps, "; the kernel does not know {}", rung.name());
                    flags.next();
                }
                // Twice the entries is the kernel's own choice: what does not fit goes its slow way.
                Some(nix::libc::ENOMEM) if completions > 2 * entries => {
                    let _ = write!(steps, "; no memory could be locked for {completions} completions");
                    (completions, small) = (2 * entries, true);
                }
                Some(nix::libc::ENOMEM) if entries > RING_ENTRIES_MIN => {
                    let _ = write!(steps, "; no memory could be locked for {entries} entries");
                    entries /= 2;
                    (completions, small) = (2 * entries, true);
                }
                _ => return Err(error),
            },
        }
    }
}

/// Entries of the completion queue: a read of every connection may complete in one turn of the core.
fn completion_entries(connections: usize) -> u32 {
    let wanted = u32::try_from(connections.next_power_of_two()).unwrap_or(u32::MAX);
    wanted.clamp(2 * RING_ENTRIES, RING_COMPLETIONS_MAX)
}

/// Enters a small ring once, with nothing to do. A seccomp profile may allow `io_uring_setup` and forbid
/// `io_uring_enter`; monoio would then repeat `io_uring_enter` at full speed and serve nothing.
fn try_a_ring() -> io::Result<()> {
    io_uring::IoUring::new(RING_PROBE_ENTRIES)?.submit_and_wait(0).map(drop)
}

/// The likely cause of a refused ring, and what to do.
fn explain(error: &io::Error) -> String {
    let cause = match error.raw_os_error() {
        Some(nix::libc::EPERM) => {
            "io_uring is forbidden here: a container's seccomp profile or kernel.io_uring_disabled=2 \
             (allow io_uring_setup, io_uring_enter and io_uring_register, or set the sysctl to 0)"
        }
        Some(nix::libc::ENOSYS) => {
            "io_uring is missing: a kernel before 5.1 or without CONFIG_IO_URING, or a seccomp profile that hides it"
        }
        Some(nix::libc::ENOMEM) => "no memory could be locked for a ring (raise `ulimit -l`)",
        Some(nix::libc::EMFILE | nix::libc::ENFILE) => "no file descriptor is left (raise `ulimit -n`)",
        _ => "io_uring could not be set up",
    };
    format!("{cause} [{error}]")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn epoll_is_taken_when_asked_for() {
        let (mut driver, chosen) = Driver::build(Wanted::Epoll, 1).unwrap();
        assert_eq!((chosen.kind, chosen.reason.as_str()), (DriverKind::Epoll, "asked for"));
        assert!(driver.needs_nonblocking());
        assert_eq!(driver.block_on(async { 7 }), 7);
    }

    #[test]
    fn a_completion_of_every_connection_fits() {
        for (connections, expected) in
            [(1, 2 * RING_ENTRIES), (5_000, 8_192), (16_384, 16_384), (1 << 20, RING_COMPLETIONS_MAX)]
        {
            assert_eq!(completion_entries(connections), expected, "{connections}");
        }
    }

    #[test]
    fn a_refusal_names_its_cause() {
        for (errno, expected) in [
            (nix::libc::EPERM, "seccomp"),
            (nix::libc::ENOSYS, "before 5.1"),
            (nix::libc::ENOMEM, "ulimit -l"),
            (nix::libc::EMFILE, "ulimit -n"),
        ] {
            let text = explain(&io::Error::from_raw_os_error(errno));
            assert!(text.contains(expected), "{text}");
        }
    }
}
