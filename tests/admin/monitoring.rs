//! `deploy/monitoring` and the balancer's second frontend.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::cluster::{Cluster, temporary_directory};
use crate::load::{Pessoa, wait_until};
use crate::processes::Child;
use crate::server::{Address, Connection, Server};

/// The names of this project's metrics in a text, without a histogram's parts.
fn names(text: &str) -> BTreeSet<&str> {
    let words = text.split(|sign: char| !sign.is_ascii_alphanumeric() && sign != '_');
    let ours = words.filter(|word| {
        ["rinha_", "http_server_", "db_client_operation", "db_client_connection_pending", "process_"]
            .iter()
            .any(|start| word.starts_with(start))
    });
    ours.map(|word| ["_bucket", "_sum", "_count"].iter().fold(word, |word, part| word.trim_end_matches(part)))
        .collect()
}

/// A metric that is renamed must not go on in a rule that never fires, or in an empty panel.
#[test]
fn rules_and_dashboard_ask_for_what_there_is() {
    let documented = std::fs::read_to_string("docs/operating.md").expect("the page");
    let documented = names(&documented);
    for file in ["rules.yml", "rules.test.yml", "grafana/dashboards/rinha.json"] {
        let text = std::fs::read_to_string(format!("deploy/monitoring/{file}")).expect("a file");
        let asked = names(&text);
        assert!(asked.len() > 5, "{file}");
        let unknown: Vec<_> = asked.difference(&documented).collect();
        assert!(unknown.is_empty(), "{file}: {unknown:?}");
    }
    let dashboard = std::fs::read("deploy/monitoring/grafana/dashboards/rinha.json").expect("a file");
    let dashboard: serde_json::Value = serde_json::from_slice(&dashboard).expect("JSON");
    let panels = dashboard["panels"].as_array().expect("panels");
    assert!(panels.iter().all(|panel| panel["targets"][0]["expr"].is_string()));
}

#[test]
fn promtool_takes_the_rules_and_their_tests() {
    let Some(promtool) = Child::find("promtool") else {
        assert!(std::env::var_os("CI").is_none(), "CI has promtool");
        return println!("skipped: promtool is not here (apt-get install prometheus)");
    };
    for arguments in [
        ["check", "rules", "rules.yml"],
        ["test", "rules", "rules.test.yml"],
        ["check", "config", "prometheus.yml"],
    ] {
        let mut command = Command::new(&promtool);
        let output = command.args(arguments).current_dir("deploy/monitoring").output().expect("promtool");
        let said =
            String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{arguments:?}: {said}");
    }
}

/// HAProxy as it is shipped, before the servers whose sockets are in `sockets`.
pub(crate) fn balancer(program: &Path, sockets: &Path, public: u16, metrics: u16) -> Child {
    let mut command = Command::new(program);
    command.args(["-db", "-f", "haproxy.cfg"]);
    command.env("SOCKETS", sockets).env("API_CORES", "1").env("ADDRESS", "127.0.0.1");
    command.env("PORT", public.to_string()).env("METRICS", format!("127.0.0.1:{metrics}"));
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    Child::start(command)
}

/// Operators reach the instances' metrics and the balancer's own on the second frontend; clients reach none of it.
#[test]
fn the_balancer_leads_operators_and_no_client() {
    let Some(haproxy) = Child::find("haproxy") else {
        assert!(std::env::var_os("CI").is_none(), "CI has HAProxy");
        return println!("skipped: haproxy is not here");
    };
    let cluster = Cluster::start();
    let directory = temporary_directory();
    let place = directory.path().display();
    let listen = format!("unix:{place}/api1-{{core}}.sock");
    let admin = format!("unix:{place}/api1-admin.sock");
    let server = Server::on(&cluster.config(), &["--cores=1", "--listen", &listen, "--admin", &admin]);
    assert_eq!(Pessoa::named("Ana").post_to(&server).status, 201);
    let (public, metrics) = (Child::free_port(), Child::free_port());
    let _balancer = balancer(&haproxy, directory.path(), public, metrics);
    let ask = |port: u16, path: &str| {
        Connection::try_open(&Address::Tcp(([127, 0, 0, 1], port).into()))?.try_ask("GET", path, "")
    };
    wait_until("a balancer that serves", || {
        ask(public, "/contagem-pessoas").is_ok_and(|answer| answer.status == 200)
    });
    let own = ask(metrics, "/api1/metrics").expect("an answer");
    assert_eq!(own.status, 200);
    assert!(own.text().contains("rinha_pessoas{core=\"0\"} 1\n"), "{}", own.text());
    let page = ask(metrics, "/live").expect("an answer");
    assert!(page.text().contains("<title>rinha, live</title>"), "{}", page.text());
    assert_eq!(ask(metrics, "/live/now").expect("an answer").json()["pessoas"], 1);
    // The other instance is not there.
    assert_eq!(ask(metrics, "/api2/metrics").expect("an answer").status, 503);
    for path in ["/", "/pessoas", "/contagem-pessoas", "/api1/readyz", "/api1/metrics/x", "/readyz"] {
        assert_eq!(ask(metrics, path).expect("an answer").status, 404, "{path}");
    }
    for path in
        ["/metrics", "/api1/metrics", "/readyz", "/live", "/live/now", "/live/events", "/api1-admin.sock"]
    {
        assert_eq!(ask(public, path).expect("an answer").status, 404, "{path}");
    }
    let mut exporter = Connection::open(&Address::Tcp(([127, 0, 0, 1], metrics).into()));
    exporter.send("GET /metrics HTTP/1.0\r\n\r\n");
    let mut said = String::new();
    wait_until("the balancer's own metrics", || {
        let read = exporter.read_once();
        said = String::from_utf8_lossy(exporter.unread()).into_owned();
        said.contains("haproxy_backend_http_responses_total") || read.is_err()
    });
    assert!(said.contains("haproxy_backend_http_responses_total"), "{said}");
}
