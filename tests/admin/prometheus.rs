//! `deploy/monitoring` as it is shipped, in a real Prometheus, beside two instances and the balancer.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use serde_json::Value;

use crate::cluster::{Cluster, temporary_directory};
use crate::load::{Pessoa, wait_until};
use crate::monitoring::balancer;
use crate::processes::Child;
use crate::server::Server;

/// What a rate is of: several scrapes.
const RANGE: &str = "4s";
/// Nothing of what was asked was refused, so these have nothing to show.
const EMPTY: &[&str] = &["Refusals by reason"];

/// Every target is up, every rule is evaluated without an error and none fires, and every panel has something to show.
#[test]
fn every_target_rule_and_panel_works() {
    let (Some(program), Some(haproxy)) = (Child::find("prometheus"), Child::find("haproxy")) else {
        assert!(std::env::var_os("CI").is_none(), "CI has Prometheus and HAProxy");
        return println!("skipped: prometheus or haproxy is not here (apt-get install prometheus haproxy)");
    };
    let cluster = Cluster::start();
    let directory = temporary_directory();
    let place = directory.path().display();
    let instance = |name: &str, other: &str| {
        let listen = format!("unix:{place}/{name}-{{core}}.sock");
        let (admin, peer) =
            (format!("unix:{place}/{name}-admin.sock"), format!("unix:{place}/{other}-admin.sock"));
        Server::on(
            &cluster.config(),
            &["--cores=1", "--listen", &listen, "--admin", &admin, "--admin-peers", &peer],
        )
    };
    let servers = [instance("api1", "api2"), instance("api2", "api1")];
    let (public, metrics, port) = (Child::free_port(), Child::free_port(), Child::free_port());
    let _balancer = balancer(&haproxy, directory.path(), public, metrics);
    configure(directory.path(), metrics);
    let mut command = Command::new(program);
    command.arg(format!("--config.file={place}/prometheus.yml"));
    command.arg(format!("--storage.tsdb.path={place}/tsdb"));
    command.arg(format!("--web.listen-address=127.0.0.1:{port}"));
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let _prometheus = Child::start(command);

    let targets = || ask(port, "targets", &[])["activeTargets"].as_array().cloned().unwrap_or_default();
    wait_until("three targets that are up", || {
        let targets = targets();
        targets.len() == 3 && targets.iter().all(|target| target["health"] == "up")
    });
    let labels = |target: &Value| (text(&target["labels"]["job"]), text(&target["labels"]["instance"]));
    let mut names: Vec<_> = targets().iter().map(labels).collect();
    names.sort();
    let own = format!("127.0.0.1:{metrics}");
    assert_eq!(
        names,
        [("haproxy", own.as_str()), ("rinha", "api1"), ("rinha", "api2")]
            .map(|(job, name)| (job.to_owned(), name.to_owned()))
    );

    let panels = panels();
    assert!(panels.len() >= 20, "{panels:?}");
    let mut number = 0;
    for (title, expression) in &panels {
        // Each of the two instances does everything that a panel shows, on and on.
        wait_until(&format!("something to show: {title}: {expression}"), || {
            for server in &servers {
                number += 1;
                let pessoa = Pessoa::named(&format!("ana{number}"));
                assert_eq!(pessoa.post_to(server).status, 201);
                assert_eq!(server.ask("GET", "/contagem-pessoas", "").status, 200);
                assert_eq!(server.ask("GET", &format!("/pessoas?t=ana{number}"), "").status, 200);
            }
            std::thread::sleep(Duration::from_millis(50));
            let answer = query(port, expression);
            let result =
                answer["result"].as_array().unwrap_or_else(|| panic!("{title}: {expression}: {answer}"));
            let shown = |sample: &Value| sample["value"][1].as_str().is_some_and(|value| value != "NaN");
            EMPTY.contains(&title.as_str()) || result.iter().any(shown)
        });
    }

    // The rules were looked at several times meanwhile.
    let groups = ask(port, "rules", &[])["groups"].as_array().cloned().expect("groups");
    let rules: Vec<&Value> =
        groups.iter().flat_map(|group| group["rules"].as_array().expect("rules")).collect();
    assert!(rules.len() >= 10, "{rules:?}");
    for rule in rules {
        assert_eq!(
            (text(&rule["health"]).as_str(), text(&rule["state"]).as_str()),
            ("ok", "inactive"),
            "{rule}"
        );
    }
}

/// The shipped files, with this machine's address of the second frontend and with less time between two scrapes.
fn configure(directory: &Path, metrics: u16) {
    let shipped = std::fs::read_to_string("deploy/monitoring/prometheus.yml").expect("a file");
    let own = shipped
        .replace("operators:9100", &format!("127.0.0.1:{metrics}"))
        .replace("_interval: 5s", "_interval: 500ms");
    assert_eq!(own.matches(&format!("127.0.0.1:{metrics}")).count(), 3, "{own}");
    assert_eq!(own.matches("500ms").count(), 2, "{own}");
    std::fs::write(directory.join("prometheus.yml"), own).expect("a file");
    std::fs::copy("deploy/monitoring/rules.yml", directory.join("rules.yml")).expect("a file");
}

/// The title and the expression of each curve, as Grafana asks for all instances.
fn panels() -> Vec<(String, String)> {
    let dashboard = std::fs::read("deploy/monitoring/grafana/dashboards/rinha.json").expect("a file");
    let dashboard: Value = serde_json::from_slice(&dashboard).expect("JSON");
    let curves = |panel: &Value| -> Vec<(String, String)> {
        let targets = panel["targets"].as_array().cloned().unwrap_or_default();
        targets
            .iter()
            .map(|target| {
                let expression =
                    text(&target["expr"]).replace("$instance", ".*").replace("$__rate_interval", RANGE);
                assert!(!expression.contains('$'), "a variable that this test does not know: {expression}");
                (text(&panel["title"]), expression)
            })
            .collect()
    };
    dashboard["panels"].as_array().expect("panels").iter().flat_map(curves).collect()
}

fn query(port: u16, expression: &str) -> Value {
    ask(port, "query", &["--data-urlencode", &format!("query={expression}")])
}

/// The data of Prometheus' answer; null while it does not answer.
fn ask(port: u16, path: &str, more: &[&str]) -> Value {
    let mut curl = Command::new("curl");
    curl.args(["--silent", "--get", "--max-time", "5"]).args(more);
    let output = curl.arg(format!("http://127.0.0.1:{port}/api/v1/{path}")).output().expect("curl");
    let answer: Value = serde_json::from_slice(&output.stdout).unwrap_or_default();
    assert_ne!(answer["status"], "error", "{path} {more:?}: {answer}");
    answer["data"].clone()
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_else(|| panic!("expected a text, got {value}")).to_owned()
}
