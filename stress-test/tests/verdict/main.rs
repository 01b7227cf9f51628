//! The verdict can fail: each lie of a stub is found out by the binary, and an honest stub passes.

mod stub;

use std::fmt::Write as _;
use std::fs;
use std::io::{Read, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use stress_test::feeders;
use stub::Lie;

/// Enough that each lie, one in ten, is told several times, and that apelidos repeat.
const CREATES: usize = 400;

fn ask(address: SocketAddr, head: &str, body: &str) -> String {
    let mut stream = TcpStream::connect(address).expect("a connection");
    write!(stream, "{head} HTTP/1.1\r\nHost: x\r\nContent-Length: {}\r\n\r\n{body}", body.len())
        .expect("sent");
    stream.shutdown(std::net::Shutdown::Write).expect("the end");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an answer");
    answer
}

fn now() -> u128 {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("a clock after 1970").as_millis()
}

/// A run's directory as the simulation leaves it, without the minutes of Gatling: only creates are sent.
fn load(address: SocketAddr, run: &Path) {
    feeders::Plan { payloads: 300, terms: 1, seed: 5 }.write(&run.join("feeders")).expect("feeders");
    let payloads = fs::read_to_string(run.join("feeders/pessoas-payloads.tsv")).expect("payloads");
    let payloads: Vec<&str> = payloads.lines().skip(1).collect();
    let (mut requests, mut acknowledged) = (String::new(), String::new());
    for create in 0..CREATES {
        let payload = create % payloads.len();
        let answer = ask(address, "POST /pessoas", payloads[payload]);
        let status = answer.split(' ').nth(1).expect("a status");
        let ok = ["201", "400", "422"].contains(&status);
        writeln!(requests, "create\t{}\t1\t{status}\t{ok}", now()).expect("a line");
        if let Some(id) = answer.split("Location: /pessoas/").nth(1).and_then(|rest| rest.lines().next()) {
            writeln!(acknowledged, "{}\t{id}\t{payload}", now()).expect("a line");
        }
    }
    let count = ask(address, "GET /contagem-pessoas", "");
    let count = count.split("\r\n\r\n").nth(1).expect("a count");
    let records = run.join("records");
    fs::create_dir(&records).expect("a directory");
    fs::write(records.join("requests.tsv"), requests).expect("a file");
    fs::write(records.join("acknowledged.tsv"), acknowledged).expect("a file");
    fs::write(records.join("count.tsv"), format!("{}\t200\t{count}\n", now())).expect("a file");
}

fn printed(output: &Output) -> String {
    String::from_utf8_lossy(&[&*output.stdout, &*output.stderr].concat()).into_owned()
}

/// The checks with the names in `failing` must fail, and no others.
fn check(lie: Lie, failing: &[&str]) {
    let address = stub::start(lie);
    let run = tempfile::tempdir().expect("a directory");
    load(address, run.path());
    let output = Command::new(env!("CARGO_BIN_EXE_stress-test"))
        .args(["check", "--topology", "unknown", "--base", &format!("http://{address}")])
        .arg(run.path())
        .output()
        .expect("an end");
    let text = printed(&output);
    assert_eq!(output.status.code(), Some(i32::from(!failing.is_empty())), "{lie:?}: {text}");
    let failed: Vec<&str> = text.lines().filter(|line| line.starts_with("FAILED   ")).collect();
    assert_eq!(failed.len(), failing.len(), "{lie:?}: {text}");
    for name in failing {
        assert!(failed.iter().any(|line| line.contains(name)), "{lie:?}, {name}: {text}");
    }
}

const COUNT: &str = "/contagem-pessoas = 201s";
const READ_BACK: &str = "read back";
const TWICE: &str = "acknowledged twice";

#[test]
fn an_honest_server_passes() {
    check(Lie::None, &[]);
}

#[test]
fn lost_rows_are_found_out() {
    check(Lie::Loses, &[COUNT, READ_BACK]);
}

#[test]
fn lost_rows_are_found_out_although_they_are_counted() {
    check(Lie::LosesAndCounts, &[READ_BACK]);
}

#[test]
fn an_apelido_acknowledged_twice_is_found_out() {
    check(Lie::Repeats, &[TWICE]);
}

#[test]
fn another_content_is_found_out() {
    check(Lie::Changes, &[READ_BACK]);
}

#[test]
fn rows_that_were_refused_are_found_out() {
    check(Lie::StoresRefused, &[COUNT]);
}

#[test]
fn failures_are_found_out() {
    check(Lie::Fails, &["KO = 0"]);
}

#[test]
fn a_target_that_is_away_fails() {
    let address = stub::start(Lie::None);
    let run = tempfile::tempdir().expect("a directory");
    load(address, run.path());
    let nobody =
        std::net::TcpListener::bind("127.0.0.1:0").and_then(|free| free.local_addr()).expect("a port");
    let output = Command::new(env!("CARGO_BIN_EXE_stress-test"))
        .args(["check", "--topology", "unknown", "--base", &format!("http://{nobody}")])
        .arg(run.path())
        .output()
        .expect("an end");
    assert_eq!(output.status.code(), Some(1), "{}", printed(&output));
}

/// The whole way, by Gatling, whose GET after a 201 must find out a server that changes what it was given.
#[test]
fn gatling_finds_out_another_content_and_lost_rows() {
    if Command::new("mvn").arg("--version").output().is_err() {
        println!("skipped: Gatling needs Maven (make stress-deps)");
        return;
    }
    for (lie, failing) in [(Lie::Changes, ["KO = 0", READ_BACK]), (Lie::Loses, [COUNT, READ_BACK])] {
        let address = stub::start(lie);
        let results = tempfile::tempdir().expect("a directory");
        let output = Command::new(env!("CARGO_BIN_EXE_stress-test"))
            .current_dir("..")
            .args(["run", "--seconds", "4", "--load", "0.5", "--payloads", "1000", "--topology", "unknown"])
            .args(["--base", &format!("http://{address}"), "--results"])
            .arg(results.path())
            .env("STRESS_LEFT", results.path().join("left.json"))
            .output()
            .expect("an end");
        let text = printed(&output);
        assert_eq!(output.status.code(), Some(1), "{lie:?}: {text}");
        let failed: Vec<&str> = text.lines().filter(|line| line.starts_with("FAILED   ")).collect();
        for name in failing {
            assert!(failed.iter().any(|line| line.contains(name)), "{lie:?}, {name}: {text}");
        }
    }
}

/// Nobody is left to load when the stress test is killed.
#[test]
fn a_kill_in_the_middle_of_the_load_ends_gatling() {
    if Command::new("mvn").arg("--version").output().is_err() {
        println!("skipped: Gatling needs Maven (make stress-deps)");
        return;
    }
    const DEADLINE: Duration = Duration::from_secs(120);
    let address = stub::start(Lie::None);
    let results = tempfile::tempdir().expect("a directory");
    let mut run = Command::new(env!("CARGO_BIN_EXE_stress-test"))
        .current_dir("..")
        .args(["run", "--seconds", "900", "--payloads", "1000", "--topology", "unknown"])
        .args(["--base", &format!("http://{address}"), "--results"])
        .arg(results.path())
        .env("STRESS_LEFT", results.path().join("left.json"))
        .stderr(Stdio::null())
        .spawn()
        .expect("a start");
    // Maven and Gatling have it in their command lines.
    let name = results.path().to_string_lossy().into_owned();
    let until = |is_so: &dyn Fn() -> bool| {
        let began = Instant::now();
        while !is_so() && began.elapsed() < DEADLINE {
            thread::sleep(Duration::from_millis(50));
        }
        is_so()
    };
    let loads = until(&|| {
        let runs = fs::read_dir(results.path()).expect("a directory").flatten();
        runs.map(|run| run.path().join("records/requests.tsv")).any(|records| records.exists())
    });
    let loading = processes_with(&name).len();
    run.kill().and_then(|()| run.wait()).expect("its end");
    let ended = until(&|| processes_with(&name).is_empty());
    for left in processes_with(&name) {
        let _ = nix::sys::signal::kill(left, nix::sys::signal::Signal::SIGKILL);
    }
    assert!(loads && loading >= 2, "expected Maven and Gatling at work");
    assert!(ended, "expected the end of Maven and Gatling within {DEADLINE:?}");
}

/// The processes that have this text in their command line.
fn processes_with(text: &str) -> Vec<nix::unistd::Pid> {
    let entries = fs::read_dir("/proc").expect("/proc").flatten();
    let has = |entry: &fs::DirEntry| {
        fs::read(entry.path().join("cmdline")).is_ok_and(|line| String::from_utf8_lossy(&line).contains(text))
    };
    let pids = entries.filter(has).filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    pids.map(nix::unistd::Pid::from_raw).collect()
}
