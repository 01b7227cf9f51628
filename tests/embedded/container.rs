//! The server in namespaces of its own, where this test may make them.

use std::process::{Command, Stdio};
use std::{fs, io};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::cluster::temporary_directory;
use crate::{Killed, wait_until};

/// In namespaces of its own, where this test may make them: the server as the init of a container, and with a small
/// `/dev/shm`.
#[test]
fn as_in_a_container() {
    if !nix::unistd::geteuid().is_root() {
        return println!("skipped: only root can make namespaces here");
    }
    let directory = temporary_directory();
    let serve = |prefix: &[&str], name: &str| {
        let mut command = Command::new("unshare");
        command.args(prefix).arg(env!("CARGO_BIN_EXE_rinha"));
        let socket = format!("unix:{}/{name}.sock", directory.path().display());
        command.args(["--listen", &socket, "--cores=1", "--data-dir"]).arg(directory.path().join(name));
        Killed(command.stdin(Stdio::null()).stderr(Stdio::piped()).spawn().expect("unshare"))
    };

    let mut child = serve(&["--pid", "--fork", "--mount-proc", "--kill-child"], "init");
    let socket = directory.path().join("init.sock");
    wait_until("the server", || std::os::unix::net::UnixStream::connect(&socket).is_ok());
    let children = |parent: i32| -> Vec<(i32, char)> {
        let pids = fs::read_dir("/proc").expect("/proc").flatten();
        let pids = pids.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
        pids.filter_map(|pid| {
            let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
            let fields: Vec<&str> = stat.rsplit_once(") ")?.1.split(' ').collect();
            (fields[1].parse() == Ok(parent)).then(|| (pid, fields[0].chars().next().unwrap_or('?')))
        })
        .collect()
    };
    let server = children(i32::try_from(child.0.id()).unwrap())[0].0;
    let postmaster = children(server)[0].0;
    kill(Pid::from_raw(postmaster), Signal::SIGKILL).unwrap();
    wait_until("another postmaster and no zombie", || {
        let children = children(server);
        children.len() == 1 && children[0].0 != postmaster && children[0].1 != 'Z'
    });
    kill(Pid::from_raw(server), Signal::SIGTERM).unwrap();
    assert_eq!(child.0.wait().unwrap().code(), Some(0));

    let mount = "mount -t tmpfs -o size=64k tmpfs /dev/shm && exec \"$0\" \"$@\"";
    let mut child = serve(&["--mount", "sh", "-c", mount], "shm");
    let mut log = String::new();
    io::Read::read_to_string(child.0.stderr.as_mut().unwrap(), &mut log).unwrap();
    assert_eq!(child.0.wait().unwrap().code(), Some(1));
    assert!(log.contains("/dev/shm is too small"), "{log}");
}
