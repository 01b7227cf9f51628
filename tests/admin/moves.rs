//! Each metric moves when it should, and by as much.

use std::io::Write;
use std::process::{Command, Stdio};

use rinha::limits::{COMMIT_QUEUE_MAX, CONNECTION_BYTES};

use crate::cluster::{Cluster, temporary_directory};
use crate::exposition::Exposition;
use crate::load::{Pessoa, wait_until};
use crate::processes::{Child, Frozen};
use crate::server::{Address, Connection, Server, binary, database_url, request};
use crate::{Watched, admin_of, unix_socket};

const REQUESTS: &str = "http_server_request_duration_seconds_count";
const STATEMENTS: &str = "db_client_operation_duration_seconds_count";
/// An id that nobody has.
const NOBODY: &str = "/pessoas/018f4a52-0000-7000-8000-000000000000";

fn label(name: &str, value: &str) -> String {
    format!("{name}=\"{value}\"")
}

/// Waits until a metric is what it should be, which a gauge of another thread may take a moment for.
fn wait_for(watched: &Watched, name: &str, labels: &[&str], expected: f64) {
    let mut last = 0.0;
    let seen = std::panic::AssertUnwindSafe(|| {
        wait_until(name, || {
            last = watched.metrics().sum(name, labels);
            last == expected
        });
    });
    let seen = std::panic::catch_unwind(seen);
    assert!(seen.is_ok(), "{name} {labels:?}: expected {expected}, got {last}");
}

/// Has the server's connections for `role` ended by the database.
fn end_sessions(cluster: &Cluster, role: &str) {
    cluster.query(&format!(
        "select pg_terminate_backend(pid) from pg_stat_activity where application_name like 'rinha % {role}'"
    ));
}

#[test]
fn requests_by_method_route_and_status() {
    let cluster = Cluster::start();
    let watched = Watched::start(&cluster, &["--cores=2"]);
    let mut client = watched.server.connect();
    let created = Pessoa::named("Ana").post(&mut client).expect("an answer");
    let path = format!("/pessoas/{}", created.id());
    let again = Pessoa::named("Ana").body();
    let asked = [
        ("POST", "/pessoas/", again.as_str(), 422, "/pessoas"),
        ("POST", "/pessoas", "{", 400, "/pessoas"),
        ("GET", &path, "", 200, "/pessoas/{id}"),
        ("GET", &path, "", 200, "/pessoas/{id}"),
        ("HEAD", &path, "", 200, "/pessoas/{id}"),
        ("GET", NOBODY, "", 404, "/pessoas/{id}"),
        ("GET", "/pessoas?t=ana", "", 200, "/pessoas"),
        ("GET", "/contagem-pessoas", "", 200, "/contagem-pessoas"),
        ("GET", "/healthz", "", 200, "/healthz"),
        ("GET", "/nada", "", 404, ""),
        ("PUT", "/pessoas", "", 405, ""),
        ("BREW", "/pessoas", "", 501, ""),
    ];
    for (method, target, body, status, _) in asked {
        assert_eq!(client.ask(method, target, body).status, status, "{method} {target}");
    }
    // Its connection answers what is no request.
    client.send("nonsense\r\n\r\n");
    assert_eq!(client.receive().status, 400);
    let metrics = watched.metrics();
    let count = |method: &str, route: &str, status: u16| {
        let method = match method {
            "GET" | "HEAD" | "POST" => method,
            _ => "_OTHER",
        };
        let labels = [
            label("http_request_method", method),
            label("http_route", route),
            label("http_response_status_code", &status.to_string()),
        ];
        metrics.sum(REQUESTS, &labels.each_ref().map(String::as_str))
    };
    for (method, _, _, status, route) in asked {
        let times = asked.iter().filter(|(m, _, _, s, r)| (*m, *s, *r) == (method, status, route)).count();
        assert_eq!(count(method, route, status), times as f64, "{method} {route} {status}");
    }
    assert_eq!(count("POST", "/pessoas", 201), 1.0);
    assert_eq!(count("none", "", 400), 1.0);
    assert_eq!(metrics.sum(REQUESTS, &[]), 2.0 + asked.len() as f64);
    // A create waits for a disk: no answer in less than a microsecond, and none for more than a minute.
    let sum = metrics.sum("http_server_request_duration_seconds_sum", &["201"]);
    assert!((1e-6..60.0).contains(&sum), "{sum}");
}

#[test]
fn statements_batches_rows_and_hops() {
    let cluster = Cluster::start();
    let directory = temporary_directory();
    let listen = format!("unix:{}/core-{{core}}.sock", directory.path().display());
    let watched = Watched::start(&cluster, &["--cores=2", "--listen", &listen]);
    let cores: Vec<Address> = watched.server.addresses().split_off(1);
    let mut clients: Vec<Connection> = (0..40).map(|_| Connection::open(&cores[0])).collect();
    // At once, so that batches form; half of them belong to the other core, more or less.
    for (number, client) in clients.iter_mut().enumerate() {
        client.send(request("POST", "/pessoas", &Pessoa::named(&format!("a{number}")).body()));
    }
    let ids: Vec<String> = clients.iter_mut().map(|client| client.receive().id()).collect();
    clients.truncate(1);
    let client = &mut clients[0];
    assert_eq!(client.ask("GET", "/contagem-pessoas", "").text(), "40");
    assert_eq!(client.ask("GET", NOBODY, "").status, 404);
    for id in &ids {
        assert_eq!(client.ask("GET", &format!("/pessoas/{id}"), "").status, 200);
    }
    assert_eq!(client.ask("GET", "/pessoas?t=a1", "").status, 200);
    let metrics = watched.metrics();
    let statements = |operation: &str| metrics.sum(STATEMENTS, &[&label("db_operation_name", operation)]);
    assert_eq!((statements("count"), statements("fetch"), statements("search")), (1.0, 1.0, 0.0));
    assert!(statements("feed") >= 1.0);
    let batches = metrics.sum("rinha_commit_batch_rows_count", &[]);
    assert_eq!((metrics.sum("rinha_commit_batch_rows_sum", &[]), batches), (40.0, statements("insert")));
    assert!((2.0..=40.0).contains(&batches), "{batches}: both cores commit");
    assert_eq!(metrics.sum("rinha_pessoas", &[]), 40.0);
    let hops = |question: &str| {
        metrics.sum("rinha_mesh_questions_total", &["core=\"0\"", &label("question", question)])
    };
    assert_eq!((hops("create"), hops("search")), (metrics.sum("rinha_pessoas", &["core=\"1\""]), 1.0));
    // The lookup of nobody too, if nobody's home is there.
    assert!([hops("create"), hops("create") + 1.0].contains(&hops("fetch")), "{}", hops("fetch"));
    assert_eq!(metrics.sum("rinha_mesh_questions_total", &["core=\"1\""]), 0.0);
    for part in ["bodies", "texts", "index", "apelidos", "ids"] {
        assert!(metrics.sum("rinha_cache_bytes", &[&label("part", part)]) > 0.0, "{part}");
    }
    wait_for(&watched, "rinha_connections", &["core=\"0\""], 1.0);
    let held = watched.metrics().sum("rinha_ledger_bytes", &["core=\"0\"", "account=\"connections\""]);
    assert_eq!(held, CONNECTION_BYTES as f64);
}

/// Rows of others come by the feed; over its budget memory gives up first bodies and then searches.
#[test]
fn what_others_commit_and_what_memory_gives_up() {
    let cluster = Cluster::start();
    let watched = Watched::start(&cluster, &["--cores=1", "--cache-bytes=1MiB"]);
    let metrics = watched.metrics();
    assert_eq!(
        (metrics.sum("rinha_feed_loads_total", &[]), metrics.sum("rinha_feed_rows_total", &[])),
        (1.0, 0.0)
    );
    assert_eq!(metrics.sum("rinha_search_complete", &[]), 1.0);
    let insert = |from: usize, to: usize| {
        cluster.query(&format!(
            "insert into pessoas (id, apelido, nome, nascimento) \
             select gen_random_uuid(), 'm' || n, repeat('x', 90), '2000-01-01' from generate_series({from}, {to}) n"
        ));
    };
    insert(1, 50);
    wait_for(&watched, "rinha_pessoas", &[], 50.0);
    let metrics = watched.metrics();
    assert_eq!(metrics.sum("rinha_feed_rows_total", &[]), 50.0);
    let (age, lag) = (metrics.sum("rinha_feed_age_seconds", &[]), metrics.sum("rinha_feed_lag_seconds", &[]));
    assert!(age > 0.0 && lag > 0.0, "{age} {lag}");
    // More than a transaction may have to be read beside the others.
    insert(51, 20_000);
    wait_for(&watched, "rinha_search_complete", &[], 0.0);
    wait_for(&watched, "rinha_feed_rows_total", &[], 20_000.0);
    let metrics = watched.metrics();
    assert!(metrics.sum("rinha_bodies_dropped", &[]) > 0.0);
    let bytes = metrics.sum("rinha_cache_bytes", &[]);
    assert!(bytes <= metrics.sum("rinha_cache_budget_bytes", &[]), "{bytes}");
    assert_eq!(watched.server.ask("GET", "/pessoas?t=m1", "").status, 200);
    assert_eq!(watched.metrics().sum(STATEMENTS, &["db_operation_name=\"search\""]), 1.0);
}

#[test]
fn connections_that_are_lost_and_come_back() {
    let cluster = Cluster::start();
    let watched = Watched::start(&cluster, &["--cores=2"]);
    // A server serves once it is loaded; the cores' own connections may come a moment later.
    wait_for(&watched, "rinha_database_connected", &[], 2.0);
    let metrics = watched.metrics();
    assert_eq!(metrics.sum("rinha_database_timeline", &[]), 1.0);
    let system = cluster.query("select system_identifier from pg_control_system()").remove(0);
    assert!(metrics.has("rinha_database_info", &[&label("system_identifier", &system), "address="]));
    let lost = "rinha_database_connection_losses_total";
    assert_eq!(metrics.sum(lost, &[]), 0.0);
    for (role, expected) in [("commit", 2.0), ("read", 2.0), ("feed", 1.0)] {
        end_sessions(&cluster, role);
        wait_for(&watched, lost, &[&label("connection", role)], expected);
        wait_for(&watched, "rinha_database_connected", &[], 2.0);
    }
    assert_eq!(watched.metrics().sum("rinha_feed_loads_total", &[]), 1.0);
}

/// A database that stands still: who waits for it is seen, and then who waited in vain.
#[test]
fn who_waits_and_who_waited_in_vain() {
    let cluster = Cluster::start();
    let watched = Watched::start(&cluster, &["--cores=1"]);
    let pool = |name: &str| label("db_client_connection_pool_name", name);
    let waiting = "db_client_connection_pending_requests";
    let metrics = watched.metrics();
    assert_eq!(metrics.sum(waiting, &[]), 0.0);
    let limit = metrics.sum("rinha_db_pending_requests_limit", &[&pool("commit")]);
    assert_eq!(limit, COMMIT_QUEUE_MAX as f64);
    let frozen = Frozen::family_of(cluster.embedded.pid().expect("a postmaster"));
    let mut creates: Vec<Connection> = (0..3).map(|_| watched.server.connect()).collect();
    for (number, client) in creates.iter_mut().enumerate() {
        client.send(request("POST", "/pessoas", &Pessoa::named(&format!("a{number}")).body()));
    }
    let mut read = watched.server.connect();
    read.send(request("GET", NOBODY, ""));
    wait_for(&watched, waiting, &[&pool("commit")], 3.0);
    wait_for(&watched, waiting, &[&pool("read")], 1.0);
    assert!(watched.metrics().sum("rinha_ledger_bytes", &["account=\"waiting\""]) > 0.0);
    assert_eq!(read.receive().status, 503);
    assert!(creates.iter_mut().all(|client| client.receive().status == 503));
    let metrics = watched.metrics();
    let refused = |reason: &str| metrics.sum("rinha_refusals_total", &[&label("reason", reason)]);
    assert_eq!((refused("commit_timeout"), refused("read_timeout")), (3.0, 1.0));
    assert!(metrics.sum("rinha_feed_age_seconds", &[]) > 1.0, "memory is too old to answer searches");
    drop(frozen);
    wait_for(&watched, waiting, &[], 0.0);
}

/// A commit whose wait for a standby is cut short is no 201 yet, and an alarm.
#[test]
fn warnings_during_a_commit() {
    let cluster = Cluster::start();
    let watched = Watched::start(&cluster, &["--cores=1"]);
    let standby = |name: &str| {
        cluster.query(&format!("alter system set synchronous_standby_names = '{name}'"));
        cluster.query("select pg_reload_conf()");
        wait_until("the setting", || cluster.query("show synchronous_standby_names") == [name]);
    };
    standby("nobody");
    let mut client = watched.server.connect();
    client.send(request("POST", "/pessoas", &Pessoa::named("Ana").body()));
    let waiting = || {
        cluster.query(
            "select pid from pg_stat_activity where application_name like 'rinha % commit' and wait_event = 'SyncRep'",
        )
    };
    wait_until("a commit that waits", || waiting().len() == 1);
    assert_eq!(watched.metrics().sum("rinha_commit_warnings_total", &[]), 0.0);
    cluster.query(&format!("select pg_cancel_backend({})", waiting()[0]));
    wait_for(&watched, "rinha_commit_warnings_total", &[], 1.0);
    standby("");
    assert!([201, 503].contains(&client.receive().status));
}

#[test]
fn clients_for_whom_there_is_no_room() {
    let cluster = Cluster::start();
    let mut command = binary();
    command.args(["--log-format=json", "--listen=127.0.0.1:0", "--admin=127.0.0.1:0", "--cores=1"]);
    command.args(["--database-url", &database_url(&cluster.config())]);
    let mut limited = Command::new("sh");
    for (name, _) in command.get_envs() {
        limited.env_remove(name);
    }
    limited
        .args(["-c", "ulimit -n 160 && exec \"$0\" \"$@\""])
        .arg(command.get_program())
        .args(command.get_args());
    limited.stdin(Stdio::null()).stdout(Stdio::null());
    let mut server = Server::spawn(limited);
    server.wait_until_serving();
    let watched = Watched { admin: admin_of(&server), server };
    let most = watched.metrics().sum("rinha_connections_limit", &[]);
    let mut clients: Vec<Connection> = Vec::new();
    let refused = loop {
        let mut client = watched.server.connect();
        let answer = client.ask("GET", "/healthz", "");
        if answer.status != 200 {
            break answer;
        }
        clients.push(client);
    };
    assert_eq!((refused.status, clients.len() as f64), (503, most));
    let metrics = watched.metrics();
    assert_eq!(metrics.sum("rinha_refusals_total", &["reason=\"connections\""]), 1.0);
    assert_eq!(metrics.sum("rinha_connections", &[]), most);
    assert_eq!(metrics.sum("rinha_connections_accepted_total", &[]), most + 1.0);
}

#[test]
fn panics() {
    let cluster = Cluster::start();
    let mut command = binary();
    command.env("RINHA_TEST_PANIC", "bomba");
    command.args(["--log-format=json", "--listen=127.0.0.1:0", "--admin=127.0.0.1:0", "--cores=2"]);
    command.args(["--database-url", &database_url(&cluster.config())]);
    let mut server = Server::spawn(command);
    server.wait_until_serving();
    let watched = Watched { admin: admin_of(&server), server };
    assert_eq!(watched.metrics().sum("rinha_panics_total", &[]), 0.0);
    let mut client = watched.server.connect();
    assert!(client.try_ask("POST", "/pessoas", &Pessoa::named("bomba").body()).is_err());
    wait_for(&watched, "rinha_panics_total", &[], 1.0);
}

/// A stderr that nobody reads takes no more lines once its pipe and the queue are full.
#[test]
fn log_lines_that_are_lost() {
    let cluster = Cluster::start();
    let (_directory, listen) = unix_socket();
    let path = listen.strip_prefix("unix:").expect("a path").to_owned();
    let mut command = binary();
    let api = format!("{path}.api");
    command.args(["--listen", &format!("unix:{api}"), "--log=trace", "--admin", &listen, "--cores=1"]);
    command.args(["--database-url", &database_url(&cluster.config())]);
    command.stderr(Stdio::piped());
    let _server = Child::start(command);
    let admin = Address::Unix(path.into());
    let lost = || {
        let answer = Connection::try_open(&admin)?.try_ask("GET", "/metrics", "")?;
        Ok::<f64, std::io::Error>(Exposition::read(answer.text()).sum("rinha_log_lines_lost_total", &[]))
    };
    let api = Address::Unix(api.into());
    wait_until("lost lines", || {
        // Each count is a statement, which is traced.
        let counts = request("GET", "/contagem-pessoas", "").repeat(64);
        if let Ok(mut client) = Connection::try_open(&api) {
            client.send(counts);
            (0..64).for_each(|_| assert_eq!(client.receive().status, 200));
        }
        lost().is_ok_and(|lost| lost > 0.0)
    });
}

/// What a linter of Prometheus says: nothing.
#[test]
fn promtool_finds_nothing_wrong() {
    let Some(promtool) = Child::find("promtool") else {
        assert!(std::env::var_os("CI").is_none(), "CI has promtool");
        return println!("skipped: promtool is not here (apt-get install prometheus)");
    };
    let cluster = Cluster::start();
    let watched = Watched::start(&cluster, &["--cores=2"]);
    assert_eq!(Pessoa::named("Ana").post_to(&watched.server).status, 201);
    // The driver's reason has signs of its own, and so may a path.
    let answer = watched.ask("/metrics");
    let mut check = Command::new(promtool);
    check.args(["check", "metrics"]).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut check = check.spawn().expect("promtool");
    check.stdin.take().expect("a pipe").write_all(&answer.body).expect("promtool reads");
    let output = check.wait_with_output().expect("its end");
    let said = [output.stdout, output.stderr].concat();
    assert!(output.status.success() && said.is_empty(), "{}", String::from_utf8_lossy(&said));
}

/// `docs/operating.md` has a line for each metric, and for none that there is not.
#[test]
fn every_metric_is_documented() {
    let cluster = Cluster::start();
    let watched = Watched::start(&cluster, &["--cores=2"]);
    assert_eq!(Pessoa::named("Ana").post_to(&watched.server).status, 201);
    let metrics = watched.metrics();
    let mut names: Vec<&str> = metrics
        .names()
        .into_iter()
        .map(|name| ["_bucket", "_sum", "_count"].iter().fold(name, |name, part| name.trim_end_matches(part)))
        .collect();
    names.sort_unstable();
    names.dedup();
    let page = std::fs::read_to_string("docs/operating.md").expect("the page");
    let section = page.split("\n## ").find(|section| section.starts_with("Metrics")).expect("a section");
    let rows = section.lines().filter_map(|line| line.strip_prefix("| `"));
    let mut documented: Vec<&str> = rows.map(|row| row.split(['`', '{']).next().expect("a name")).collect();
    documented.sort_unstable();
    assert_eq!(documented, names);
}
