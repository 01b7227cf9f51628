//! Live and ready, from the first moment to the last.

use std::time::Duration;

use nix::sys::signal::Signal;
use nix::unistd::Pid;
use rinha::limits::UNIX_PATH_MAX;
use serde_json::{Value, json};

use crate::cluster::{Cluster, query};
use crate::load::{Pessoa, wait_until};
use crate::processes::{Child, Frozen, Home};
use crate::server::{Address, Connection, Server, binary, database_url, request};
use crate::{Exposition, Watched, admin_of, unix_socket};

/// The contract's bound on an end.
const END_TIME_MAX: Duration = Duration::from_secs(10);

fn ready(admin: &Address) -> (u16, String) {
    let answer = Connection::open(admin).ask("GET", "/readyz", "");
    (answer.status, answer.text().trim().to_owned())
}

/// Not before the database is there and the table read; a process that waits for them is live.
#[test]
fn ready_once_the_table_is_read() {
    let port = Child::free_port();
    let mut command = binary();
    command.args(["--log-format=json", "--listen=127.0.0.1:0", "--admin=127.0.0.1:0", "--cores=2"]);
    command.args(["--database-url", &format!("host=127.0.0.1 port={port} user=rinha dbname=postgres")]);
    let server = Server::spawn(command);
    let admin = admin_of(&server);
    assert_eq!(ready(&admin), (503, "loading".to_owned()));
    assert_eq!(Connection::open(&admin).ask("GET", "/healthz", "").status, 200);
    let metrics = Connection::open(&admin).ask("GET", "/metrics", "");
    assert!(metrics.text().contains("rinha_stage{stage=\"loading\"} 1\n"), "{}", metrics.text());
    drop(server);

    let cluster = Cluster::start();
    let mut command = binary();
    command.args(["--log-format=json", "--listen=127.0.0.1:0", "--admin=127.0.0.1:0", "--cores=2"]);
    command.args(["--database-url", &database_url(&cluster.config())]);
    let mut server = Server::spawn(command);
    let admin = admin_of(&server);
    wait_until("a server that is ready", || ready(&admin) == (200, "serving".to_owned()));
    server.wait_until_serving();
    assert_eq!(server.ask("GET", "/healthz", "").status, 200);
}

/// From the signal on; what was received before is still answered.
#[test]
fn not_ready_from_the_signal_on() {
    let cluster = Cluster::start();
    let mut watched = Watched::start(&cluster, &["--cores=2"]);
    assert_eq!(ready(&watched.admin), (200, "serving".to_owned()));
    // The drain waits for this client.
    let mut client = watched.server.connect();
    assert!(client.is_alive());
    watched.server.signal(Signal::SIGTERM);
    wait_until("a server that is not ready", || ready(&watched.admin) == (503, "draining".to_owned()));
    let answer = Pessoa::named("última").post(&mut client).expect("an answer in the drain");
    assert_eq!(answer.status, 201, "{}", answer.text());
    assert_eq!(watched.server.wait(END_TIME_MAX).code(), Some(0));
    assert_eq!(query(&cluster.config(), "select count(*) from pessoas"), ["1"]);
}

/// A core that has left in a drain is none that does not answer, however long its database takes to stop.
#[test]
fn a_core_that_has_left_is_not_missed() {
    let home = Home::new();
    let mut server =
        Server::start(&["--cores=2", "--data-dir", &home.data_dir_text(), "--admin=127.0.0.1:0"]);
    let admin = admin_of(&server);
    assert_eq!(ready(&admin), (200, "serving".to_owned()));
    let postmaster = Frozen::freeze(vec![home.postmaster().expect("a Postgres that runs")]);
    server.signal(Signal::SIGTERM);
    // Nobody answers for such a core, so each question takes its whole time: both are put at once.
    wait_until("cores that have left", || {
        let mut asked = ["/metrics", "/live/now"].map(|target| {
            let mut connection = Connection::open(&admin);
            connection.send(request("GET", target, ""));
            connection
        });
        let [metrics, now] = asked.each_mut().map(Connection::receive);
        let (metrics, now) = (Exposition::read(metrics.text()), now.json());
        assert_eq!((metrics.sum("rinha_cores_silent", &[]), &now["silent"]), (0.0, &json!([])));
        let has_left = !metrics.has("rinha_pessoas", &[]);
        assert!(!has_left || metrics.sum("rinha_stage", &["stage=\"draining\""]) == 1.0);
        has_left
    });
    drop(postmaster);
    assert_eq!(server.wait(END_TIME_MAX).code(), Some(0));
}

/// A core that stands still, here because a debugger holds it, is named; the others' counts are there, and no sum falls.
#[test]
fn a_core_that_stands_still_is_named() {
    let cluster = Cluster::start();
    let watched = Watched::start(&cluster, &["--cores=2"]);
    for number in 0..20 {
        assert_eq!(Pessoa::named(&format!("a{number}")).post_to(&watched.server).status, 201);
    }
    let created = ["http_route=\"/pessoas\"", "http_response_status_code=\"201\""];
    let count = "http_server_request_duration_seconds_count";
    assert_eq!(watched.metrics().sum(count, &created), 20.0);
    assert_eq!(watched.ask("/healthz").status, 200);

    let tasks = std::fs::read_dir(format!("/proc/{}/task", watched.server.pid())).expect("its threads");
    let core = tasks.flatten().find(|task| {
        std::fs::read_to_string(task.path().join("comm")).is_ok_and(|name| name.trim() == "core-1")
    });
    // One of them is the core's.
    let mut clients = [watched.server.connect(), watched.server.connect()];
    assert!(clients.iter_mut().all(Connection::is_alive));
    let sums = |now: &Value| {
        let members =
            ["/pessoas", "/connections/used", "/connections/limit", "/ledger/limit", "/cache/bytes"];
        members.map(|member| now.pointer(member).and_then(Value::as_u64).expect("a number"))
    };
    let mut before = Value::Null;
    wait_until("the other clients' ends", || {
        before = watched.ask("/live/now").json();
        before["connections"]["used"] == clients.len()
    });
    assert_eq!((&before["pessoas"], &before["silent"]), (&json!(20), &json!([])));
    let core = core.expect("a thread core-1").file_name();
    let core = Pid::from_raw(core.to_str().expect("a number").parse().expect("a number"));
    if let Err(errno) = nix::sys::ptrace::attach(core) {
        return println!("skipped: ptrace: {errno}");
    }
    nix::sys::wait::waitpid(core, Some(nix::sys::wait::WaitPidFlag::__WALL)).expect("a stopped thread");
    let (health, metrics) = (watched.ask("/healthz"), watched.metrics());
    let (now, ready) = (watched.ask("/live/now").json(), ready(&watched.admin));
    // Before anything is asserted: a process with a thread that is held cannot be ended.
    nix::sys::ptrace::detach(core, None).expect("a thread that goes on");
    assert_eq!((health.status, health.text()), (503, "cores that do not answer: 1\n"));
    assert_eq!(metrics.sum("rinha_cores_silent", &[]), 1.0);
    assert!(metrics.has("rinha_pessoas", &["core=\"0\""]) && !metrics.has("rinha_pessoas", &["core=\"1\""]));
    assert_eq!(metrics.sum(count, &created), 20.0, "a sum that falls looks like a restart");
    assert_eq!((&now["silent"], sums(&now)), (&json!([1]), sums(&before)));
    // Ready is about the stage alone.
    assert_eq!(ready.0, 200);
    wait_until("a live server", || watched.ask("/healthz").status == 200);
    assert_eq!(watched.metrics().sum("rinha_cores_silent", &[]), 0.0);
}

#[test]
fn on_a_unix_socket_that_goes_with_the_server() {
    let cluster = Cluster::start();
    let (_directory, listen) = unix_socket();
    let mut server = Server::on(&cluster.config(), &["--admin", &listen]);
    let admin = admin_of(&server);
    let Address::Unix(path) = &admin else { panic!("expected a path") };
    assert_eq!(ready(&admin), (200, "serving".to_owned()));
    assert!(!server.start["listen"].as_str().expect("a text").contains("admin"));
    server.signal(Signal::SIGTERM);
    assert_eq!(server.wait(END_TIME_MAX).code(), Some(0));
    assert!(!path.exists());
}

/// A server with a private Postgres has its socket beside the data, without being told; it is one server's at a time.
#[test]
fn beside_the_data_of_a_private_postgres() {
    let home = Home::new();
    let start = |arguments: &[&str]| {
        Server::start(&[&["--cores=1", "--data-dir", &home.data_dir_text()], arguments].concat())
    };
    let socket = home.data_dir().join("admin.sock");
    let admin = Address::Unix(socket.clone());
    let mut server = start(&[]);
    assert_eq!(ready(&admin), (200, "serving".to_owned()));
    let page = Connection::open(&admin).ask("GET", "/live", "");
    assert!(page.text().contains("<title>rinha, live</title>"));

    // The data are what the second one is refused for: another --admin would not help it.
    let said = refused(&["--listen=127.0.0.1:0", "--data-dir", &home.data_dir_text()], 1);
    assert!(said.contains("another rinha server") && !said.contains("--admin"), "{said}");
    assert_eq!(ready(&admin), (200, "serving".to_owned()));

    // What a killed server leaves there is replaced; a stop leaves nothing.
    server.kill();
    assert!(socket.exists());
    let mut server = start(&[]);
    assert_eq!(ready(&admin), (200, "serving".to_owned()));
    server.signal(Signal::SIGTERM);
    assert_eq!(server.wait(END_TIME_MAX).code(), Some(0));
    assert!(!socket.exists());

    let mut server = start(&["--admin=127.0.0.1:0"]);
    assert_eq!(ready(&admin_of(&server)), (200, "serving".to_owned()));
    assert!(!socket.exists());
    server.signal(Signal::SIGTERM);
    assert_eq!(server.wait(END_TIME_MAX).code(), Some(0));

    std::fs::write(&socket, "precious").expect("a file");
    let said = refused(&["--listen=127.0.0.1:0", "--data-dir", &home.data_dir_text()], 1);
    assert!(said.contains("admin.sock") && said.contains("give another --admin"), "{said}");
    assert_eq!(std::fs::read(&socket).expect("the file"), b"precious");

    let long = home.path().join("x".repeat(UNIX_PATH_MAX));
    let said = refused(&["--listen=127.0.0.1:0", "--data-dir", long.to_str().expect("UTF-8")], 2);
    assert!(said.contains("admin.sock") && said.contains("give an --admin"), "{said}");

    // Somebody else's database has no directory of this server's.
    let cluster = Cluster::start();
    let server = Server::on(&cluster.config(), &["--cores=1"]);
    assert!(server.events().iter().all(|event| event["message"] != "operators are answered"));
}

/// What a server says that does not start with these arguments: one line.
fn refused(arguments: &[&str], code: i32) -> String {
    let mut command = binary();
    let output = command.args(arguments).stderr(std::process::Stdio::piped()).output().expect("a process");
    let said = String::from_utf8(output.stderr).expect("UTF-8");
    assert_eq!(output.status.code(), Some(code), "{said}");
    assert_eq!(said.lines().count(), 1, "{said}");
    said
}
