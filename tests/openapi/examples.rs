//! The examples of the document are what the server answers. Where no single request leads to one, the state that it
//! needs is made here; the few that are left stand in the server's source word for word.

use std::path::Path;

use nix::sys::signal::Signal;
use rinha::limits::{BODY_MAX, HEADER_FIELDS_MAX, HEADER_SECTION_MAX, REQUEST_LINE_MAX};
use serde_json::Value;
use uuid::Uuid;

use crate::cluster::Cluster;
use crate::document::{Document, Documented, Example};
use crate::server::{Connection, Response, Server};

/// Who is there before the server starts: the examples look him up.
pub(crate) const JOSÉ: &str = "
    INSERT INTO pessoas (id, apelido, nome, nascimento, stack) VALUES
    ('01a20bd2-9a91-735a-92f8-1d35bae5e669', 'josé', 'José Roberto', '2000-10-01', ARRAY['C#', 'Node'])";

/// Examples whose request cannot be written down in the document: whose they are, their name, the bytes.
fn raw() -> Vec<(&'static str, &'static str, String)> {
    let head = "GET /healthz HTTP/1.1\r\n";
    vec![
        ("Malformed", "no Host", format!("{head}\r\n")),
        ("Version", "HTTP/3", "GET /healthz HTTP/3.0\r\n".to_owned()),
        ("TooLong", "a long body", format!("{head}Host: a\r\nContent-Length: {}\r\n\r\n", BODY_MAX + 1)),
        ("LineTooLong", "a long line", format!("GET /{}", "a".repeat(REQUEST_LINE_MAX))),
        ("HeadTooLong", "a long section", format!("{head}X: {}", "x".repeat(HEADER_SECTION_MAX))),
        (
            "HeadTooLong",
            "many fields",
            format!("{head}Host: a\r\n{}\r\n", "X: a\r\n".repeat(HEADER_FIELDS_MAX)),
        ),
        // The rest never comes.
        ("TooSlow", "a trickle", head.to_owned()),
    ]
}

/// What is asked while the database is away: whose example, its name, the request.
const AWAY: &[(&str, &str, (&str, &str, &str))] = &[
    (
        "createPessoa",
        "the database is away",
        ("POST", "/pessoas", r#"{"apelido":"away","nome":"Ana","nascimento":"2000-02-29"}"#),
    ),
    ("Unavailable", "the database is away", ("GET", "/pessoas/00000000-0000-0000-0000-00000000000f", "")),
];

/// Examples of crowds and full disks, whose details are looked up in the source instead.
const IN_SOURCE: &[(&str, &str)] = &[
    ("createPessoa", "too many creates"),
    ("createPessoa", "a database that takes none"),
    ("Unavailable", "too many reads"),
    ("Unavailable", "no pessoa"),
    ("NoRoom", "too many connections"),
    ("NoRoom", "a long request"),
    ("NoRoom", "many answers"),
];

/// Goes through all examples. Ends the server and its database.
pub(crate) fn are_what_the_server_answers(document: &Document, server: Server, mut cluster: Cluster) {
    let responses = document.responses();
    let all = || {
        responses.iter().flat_map(|response| response.examples.iter().map(move |example| (response, example)))
    };
    let mut left: Vec<(&str, &str)> =
        all().map(|(response, example)| (&*response.of, &*example.name)).collect();
    let mut find = |of: &str, name: &str| {
        let position = left.iter().position(|left| *left == (of, name));
        left.swap_remove(
            position.unwrap_or_else(|| panic!("{of}, {name}: not in the document, or met already")),
        );
        all().find(|(response, example)| response.of == of && example.name == name).expect("it is there")
    };

    // All of these at once: one takes as long as a request may.
    let mut sent: Vec<(Connection, &str, &str)> = Vec::new();
    for (of, name, bytes) in raw() {
        let mut connection = server.connect();
        connection.send(bytes);
        sent.push((connection, of, name));
    }
    for (response, example) in all().filter(|(_, example)| !example.request.is_null()) {
        find(&response.of, &example.name);
        check(response, example, &ask(&server, response, example));
    }
    for (of, name) in IN_SOURCE {
        let (_, example) = find(of, name);
        let detail = example.value["detail"].as_str().unwrap();
        assert!(
            stands_below(Path::new("src"), &format!("\"{detail}\"")),
            "{detail:?} does not stand in the source"
        );
    }
    cluster.embedded.stop().unwrap();
    for (of, name, (method, target, body)) in AWAY {
        let (response, example) = find(of, name);
        check(response, example, &server.ask(method, target, body));
    }
    for (mut connection, of, name) in sent {
        let (response, example) = find(of, name);
        check(response, example, &connection.receive());
    }
    let (response, example) = find("getHealth", "draining");
    check(response, example, &while_it_drains(&server));
    assert!(left.is_empty(), "nobody looked at {left:?}");
}

/// Sends the request of an example.
fn ask(server: &Server, response: &Documented, example: &Example) -> Response {
    let member = |name: &str, otherwise: &str| example.request[name].as_str().unwrap_or(otherwise).to_owned();
    let method = member("method", &response.method);
    server.ask(&method, &member("target", &response.path), &member("body", ""))
}

/// What `/healthz` says after SIGTERM. Each of these connections may still ask once when the drain has begun.
fn while_it_drains(server: &Server) -> Response {
    let mut connections: Vec<Connection> = (0..8).map(|_| server.connect()).collect();
    for connection in &mut connections {
        assert_eq!(connection.ask("GET", "/healthz", "").status, 200);
    }
    server.signal(Signal::SIGTERM);
    for mut connection in connections {
        while let Ok(response) = connection.try_ask("GET", "/healthz", "") {
            if response.status == 503 {
                return response;
            }
        }
    }
    panic!("expected /healthz to say that it drains")
}

fn check(documented: &Documented, example: &Example, response: &Response) {
    let place = format!("{} {}, {}: {response:?}", documented.of, documented.status, example.name);
    println!("{place}");
    assert_eq!(response.status.to_string(), documented.status, "{place}");
    let media = response.header("Content-Type").unwrap().split(';').next();
    assert_eq!(media, Some(&*example.media), "{place}");
    for name in &documented.headers {
        assert!(response.header(name).is_some(), "expected {name}: {place}");
    }
    if documented.of == "getHealth" {
        let (said, found) = (shape(&example.value), shape(&response.json()));
        assert_eq!(said, found, "{place}");
        assert_eq!(example.value["status"], response.json()["status"]);
        return;
    }
    let mut found = match &*example.media {
        "text/plain" => Value::from(response.text()),
        _ => response.json(),
    };
    if response.status == 201 {
        let id = response.id();
        assert_eq!(found["id"], *id, "{place}");
        assert_eq!(Uuid::try_parse(&id).unwrap().get_version_num(), 7, "{place}");
        found["id"] = example.value["id"].clone();
    }
    assert_eq!(found, example.value, "{place}");
}

/// A document with its values replaced by their types. Null stands for any: an age is not known at first.
fn shape(value: &Value) -> Value {
    match value {
        Value::Object(members) => members.iter().map(|(name, value)| (name.clone(), shape(value))).collect(),
        Value::Array(items) => items.iter().take(1).map(shape).collect(),
        Value::String(_) => "string".into(),
        Value::Bool(_) => "boolean".into(),
        Value::Number(_) | Value::Null => "number".into(),
    }
}

fn stands_below(directory: &Path, text: &str) -> bool {
    std::fs::read_dir(directory).unwrap().flatten().any(|entry| {
        let path = entry.path();
        match path.is_dir() {
            true => stands_below(&path, text),
            false => std::fs::read_to_string(&path).is_ok_and(|source| source.contains(text)),
        }
    })
}
