//! What a child of this process must not inherit: any descriptor beyond the standard three. Knows nothing of Postgres.
//!
//! std opens everything close-on-exec. A connection that was accepted through io_uring is not close-on-exec: monoio
//! 0.2.4 asks for it without `SOCK_CLOEXEC`, and there is no moment at which this process could set the flag before a
//! fork may happen. So a Postgres that is started again under load would hold the server's client connections open.
//! When that server is then killed, its clients would wait for answers that cannot come, instead of seeing their
//! connections end.

#![allow(unsafe_code, reason = "std has no safe way to act between fork and exec")]

use std::io;
use std::os::unix::process::CommandExt;
use std::process::Command;

use nix::libc;

/// Marks every descriptor from 3 on as close-on-exec in the child. They stay open until the exec, because std reports a
/// failed exec through one of them.
pub(super) fn only_standard_streams(command: &mut Command) {
    let mark = || {
        // SAFETY: `close_range` takes numbers, not pointers, and with CLOSE_RANGE_CLOEXEC it closes nothing that some
        // owner in this process still uses. Its failure is ignored: before Linux 5.11 the flag is not known, and
        // a Postgres with descriptors too many is better than none.
        unsafe { libc::syscall(libc::SYS_close_range, 3, libc::c_uint::MAX, libc::CLOSE_RANGE_CLOEXEC) };
        io::Result::Ok(())
    };
    // SAFETY: between fork and exec the closure makes one system call: it allocates nothing, takes no lock, and touches
    // no memory of other threads, as `pre_exec` demands.
    unsafe { command.pre_exec(mark) };
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Stdio;

    #[test]
    fn a_child_holds_three_descriptors() {
        // Not close-on-exec, like a connection from a ring.
        let leaky = nix::unistd::dup(io::stderr()).unwrap();
        let held = |close: bool| {
            let mut command = Command::new("ls");
            command.arg("/proc/self/fd").stdin(Stdio::null()).stderr(Stdio::null());
            if close {
                only_standard_streams(&mut command);
            }
            String::from_utf8(command.output().unwrap().stdout).unwrap()
        };
        let number = std::os::fd::AsRawFd::as_raw_fd(&leaky).to_string();
        assert!(held(false).lines().any(|fd| fd == number));
        // The fourth is that of the directory that ls reads.
        assert_eq!(held(true), "0\n1\n2\n3\n");
    }

    #[test]
    fn a_failed_exec_is_still_told() {
        let mut command = Command::new("/nowhere/at/all");
        only_standard_streams(&mut command);
        assert_eq!(command.spawn().unwrap_err().kind(), io::ErrorKind::NotFound);
    }
}
