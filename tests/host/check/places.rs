//! The addresses to listen on.

use std::collections::BTreeSet;
use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;
use std::path::Path;

use super::{Said, command};
use crate::cluster::{is_root_or_skip, temporary_directory};
use crate::processes::Child;

/// Without a database, which is not what is asked here.
fn ask(arguments: &[&str]) -> Said {
    Said::by(command(&[&["--database-url=host=/nowhere user=a", "--cores=2"], arguments].concat()))
}

fn names(directory: &Path) -> BTreeSet<String> {
    let files = fs::read_dir(directory).expect("a directory").flatten();
    files.map(|file| file.file_name().to_str().expect("UTF-8").to_owned()).collect()
}

#[test]
fn what_is_free_is_free_afterwards() {
    let directory = temporary_directory();
    let unix = |name: &str| format!("unix:{}", directory.path().join(name).display());
    // A server that crashed leaves its socket and its lock.
    drop(UnixListener::bind(directory.path().join("stale.sock")).expect("a socket"));
    fs::write(directory.path().join("stale.sock.lock"), "").expect("a lock");
    let before = names(directory.path());
    let port = Child::free_port();
    let tcp = format!("127.0.0.1:{port}");
    let said = ask(&[
        "--listen",
        &tcp,
        "--listen",
        &unix("a.sock"),
        "--listen",
        &unix("c{core}.sock"),
        "--listen",
        &unix("stale.sock"),
        "--admin",
        &unix("admin.sock"),
    ]);
    let listens = said.all("listen");
    assert!(listens.iter().all(|(verdict, _)| verdict == "ok"), "{listens:#?}");
    let texts: Vec<&str> = listens.iter().map(|(_, text)| text.as_str()).collect();
    let stale = format!("{}: a socket that nobody listens on would be replaced", unix("stale.sock"));
    assert_eq!(texts, [&tcp, &unix("a.sock"), &unix("c0.sock"), &unix("c1.sock"), &stale]);
    said.expect("admin", "ok", &[&unix("admin.sock")]);
    assert_eq!(names(directory.path()), before);
    drop(TcpListener::bind(&tcp).expect("a free port"));
    ask(&["--listen", &tcp]).expect("admin", "ok", &["no --admin"]);
}

#[test]
fn what_is_taken_or_forbidden() {
    let directory = temporary_directory();
    let port = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let tcp = port.local_addr().expect("an address").to_string();
    let unix = |name: &str| format!("unix:{}", directory.path().join(name).display());
    let _socket = UnixListener::bind(directory.path().join("taken.sock")).expect("a free path");
    fs::write(directory.path().join("file"), "precious").expect("a file");
    for (address, words) in [
        (tcp.as_str(), &["another server listens there"][..]),
        (&unix("taken.sock"), &["another server listens there"]),
        (&unix("file"), &["a file that is no socket is there"]),
        (&unix("missing/s.sock"), &["its directory does not exist"]),
        ("192.0.2.1:9", &["cannot listen"]),
    ] {
        for name in ["listen", "admin"] {
            let flag = format!("--{name}");
            let other = if name == "admin" { "--listen=127.0.0.1:0" } else { "--admin=127.0.0.1:0" };
            let said = ask(&[&flag, address, other]);
            said.expect(name, "error", &[&[address], words].concat());
        }
    }
    assert_eq!(fs::read(directory.path().join("file")).expect("the file"), b"precious");
    // Given twice: each of them alone would be free.
    let free = format!("127.0.0.1:{}", Child::free_port());
    for twice in [free.as_str(), &unix("twice.sock")] {
        let said = ask(&["--listen", twice, "--listen", twice]);
        let verdicts: Vec<String> = said.all("listen").into_iter().map(|(verdict, _)| verdict).collect();
        assert_eq!(verdicts, ["ok", "error"], "{twice}");
        let said = ask(&["--listen", twice, "--admin", twice]);
        said.expect("admin", "error", &["give another --admin"]);
    }
    drop(port);
}

#[test]
fn in_a_directory_of_somebody_else() {
    if !is_root_or_skip("becoming somebody else") {
        return;
    }
    let directory = temporary_directory();
    let program = directory.path().join("rinha");
    let original = command(&[]).get_program().to_owned();
    fs::copy(original, &program).expect("a copy that everybody may run");
    let socket = format!("unix:{}", directory.path().join("a.sock").display());
    let mut other = std::process::Command::new("setpriv");
    other.args(["--reuid=65534", "--regid=65534", "--clear-groups"]).arg(&program);
    other.args(["check", "--format=json", "--database-url=host=/nowhere user=a", "--listen", &socket]);
    other.args(["--listen", "0.0.0.0:81"]);
    let said = Said::by(other);
    let listens = said.all("listen");
    assert!(listens[0].0 == "error" && listens[0].1.contains("Permission denied"), "{listens:#?}");
    let privileged: u16 = fs::read_to_string("/proc/sys/net/ipv4/ip_unprivileged_port_start")
        .ok()
        .and_then(|port| port.trim().parse().ok())
        .unwrap_or(1024);
    assert_eq!(listens[1].0 == "error", privileged > 81, "{listens:#?}");
    let mode = fs::metadata(directory.path()).expect("a directory").permissions().mode();
    assert_eq!(mode & 0o777, 0o755);
}
