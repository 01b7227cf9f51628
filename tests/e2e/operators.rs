//! What operators see of the composition: only if they ask for it, and no client does.

use serde_json::Value;

use crate::composition::{Containers, METRICS_PORT};
use crate::load::wait_until;
use crate::server::{Address, Connection};

fn address() -> Address {
    Address::Tcp(([127, 0, 0, 1], METRICS_PORT).into())
}

/// `--profile live` beside containers that run: they stay what they are, and nobody but this machine reaches the port.
pub(crate) fn check(containers: &Containers) {
    assert!(Connection::try_open(&address()).is_err(), "nobody asked for a port for operators");
    let before = containers.inspect("haproxy", "{{.Id}} {{.State.StartedAt}}");
    containers.compose(&["--profile", "live", "up", "--detach", "--no-deps", "--no-recreate", "operators"]);
    look();
    assert_eq!(containers.inspect("haproxy", "{{.Id}} {{.State.StartedAt}}"), before);
    let operators = containers.container("operators");
    let published = containers.engine(&["port", &operators]);
    assert_eq!(published.trim(), format!("9100/tcp -> 127.0.0.1:{METRICS_PORT}"));
    containers.engine(&["rm", "--force", &operators]);
}

/// The live page of both instances, and the metrics of both and of the balancer.
pub(crate) fn look() {
    wait_until("an event with both instances", || {
        first_event().is_some_and(|event| {
            let instances = event["instances"].as_array().expect("a list");
            let serves = |instance: &Value| {
                let snapshot = instance["snapshot"].as_str().unwrap_or("{}");
                let snapshot: Value = serde_json::from_str(snapshot).expect("a snapshot");
                snapshot["stage"] == "serving"
            };
            instances.len() == 2 && instances.iter().all(serves)
        })
    });
    let ask = |path: &str| Connection::open(&address()).ask("GET", path, "");
    assert!(ask("/live").text().contains("<title>rinha, live</title>"));
    for instance in ["api1", "api2"] {
        let metrics = ask(&format!("/{instance}/metrics"));
        assert!(metrics.text().contains("rinha_stage{stage=\"serving\"} 1\n"), "{}", metrics.text());
    }
    // Of HTTP/1.0 it ends with the connection.
    let mut exporter = Connection::open(&address());
    exporter.send("GET /metrics HTTP/1.0\r\n\r\n");
    while exporter.read_once().is_ok() {}
    let said = String::from_utf8_lossy(exporter.unread()).into_owned();
    assert!(said.contains("haproxy_backend_http_responses_total"), "{said}");
    assert_eq!(ask("/pessoas").status, 404);
}

/// None while the page is away.
fn first_event() -> Option<Value> {
    let mut watcher = Connection::try_open(&address()).ok()?;
    watcher.try_send("GET /live/events HTTP/1.1\r\nHost: a\r\n\r\n").ok()?;
    loop {
        watcher.read_once().ok()?;
        let text = String::from_utf8_lossy(watcher.unread()).into_owned();
        let event = text.split_once("data: ").and_then(|(_, data)| data.split_once("\n\n"));
        if let Some((event, _)) = event {
            return Some(serde_json::from_str(event).expect("an event is one line of JSON"));
        }
    }
}
