//! The documentation against the server: `openapi.yaml`, as the server itself gives it out, may say nothing of a path, a
//! method, a status, a limit or an answer that is not so, and must leave out none of them.

#![allow(clippy::unwrap_used, reason = "clippy knows test functions, not the helpers of a test file")]

#[path = "../support/cluster.rs"]
mod cluster;
#[path = "../support/server.rs"]
mod server;

mod document;
mod examples;

use std::collections::BTreeSet;

use cluster::Cluster;
use document::Document;
use rinha::http::Status;
use rinha::limits::*;
use serde_json::Value;
use server::{Server, request};

/// What no limit of the document may exceed, and what each is: the end of its path, the limit.
const BOUNDS: &[(&str, usize)] = &[
    ("/apelido/maxLength", APELIDO_CHARS_MAX),
    ("/nome/maxLength", NOME_CHARS_MAX),
    ("/stack/items/maxLength", STACK_ITEM_CHARS_MAX),
    // AAAA-MM-DD.
    ("/nascimento/maxLength", 10),
    ("/get/responses/200/content/application~1json/schema/maxItems", SEARCH_RESULTS_MAX),
    ("/Retry-After/schema/const", RETRY_AFTER_SECONDS as usize),
];

/// What the sentences of the document say in figures, and the limit behind each.
fn figures() -> Vec<String> {
    let kib = |bytes: usize| format!("{} KiB", bytes / 1024);
    let seconds = |time: std::time::Duration| format!("{} s", time.as_secs());
    vec![
        kib(BODY_MAX),
        kib(REQUEST_LINE_MAX),
        kib(HEADER_SECTION_MAX),
        format!("{HEADER_FIELDS_MAX} fields"),
        format!("{JSON_DEPTH_MAX} levels"),
        format!("{SEARCH_RESULTS_MAX} pessoas"),
        seconds(REQUEST_TIME_MAX),
        seconds(COMMIT_TIME_MAX),
        seconds(READ_TIME_MAX),
    ]
}

#[test]
fn it_says_what_the_server_does() {
    let cluster = Cluster::start();
    cluster.query(&format!("{}; {}", include_str!("../../schema.sql"), examples::JOSÉ));
    let server = Server::on(&cluster.config(), &["--cores", "1"]);
    let document = Document::read(&server);
    document.validate_version();
    limits(&document);
    statuses(&document);
    paths(&document);
    methods(&document, &server);
    page(&document, &server);
    examples::are_what_the_server_answers(&document, server, cluster);
}

/// Each bound of the schemas, and each figure of the sentences, is one of the server's.
fn limits(document: &Document) {
    let mut met = BTreeSet::new();
    document.visit(&mut |path, value| {
        let name = path.rsplit('/').next().unwrap();
        let limit = BOUNDS.iter().find(|(end, _)| path.ends_with(end));
        if let Some((end, limit)) = limit {
            met.insert(*end);
            assert_eq!(value.as_u64(), Some(*limit as u64), "{path}");
        }
        let bound = matches!(name, "maxLength" | "maxItems") && value.is_number();
        assert!(!bound || limit.is_some(), "{path}: expected a line in BOUNDS");
    });
    assert_eq!(met.len(), BOUNDS.len(), "each bound is in the document: {met:?}");

    let figures = figures();
    let mut met = BTreeSet::new();
    document.visit(&mut |path, value| {
        let Some(text) =
            value.as_str().filter(|_| path.ends_with("/description") || path.ends_with("/summary"))
        else {
            return;
        };
        let words: Vec<&str> = text.split_whitespace().collect();
        for pair in words.windows(2).filter(|pair| pair[0].bytes().all(|byte| byte.is_ascii_digit())) {
            let figure =
                format!("{} {}", pair[0], pair[1].trim_matches(|char: char| !char.is_alphanumeric()));
            let units = ["KiB", "s", "fields", "levels", "pessoas"];
            if units.iter().any(|unit| figure.ends_with(&format!(" {unit}"))) {
                assert!(figures.contains(&figure), "{path}: {figure} is no limit: {figures:?}");
                met.insert(figure);
            }
        }
    });
    for figure in &figures {
        assert!(met.contains(figure), "no sentence says {figure}");
    }
}

/// Each status that the server can send is in the document, and no other one.
fn statuses(document: &Document) {
    let documented: BTreeSet<u16> =
        document.responses().iter().map(|response| response.status.parse().unwrap()).collect();
    let sent: BTreeSet<u16> = Status::ALL.iter().map(|status| status.code()).collect();
    assert_eq!(documented, sent);
}

/// The paths are those that the server's source compares with.
fn paths(document: &Document) {
    let source = std::fs::read_to_string("src/api/route.rs").unwrap();
    let (routes, _tests) = source.split_once("#[cfg(test)]").unwrap();
    let known: BTreeSet<&str> = routes
        .split("b\"")
        .skip(1)
        .map(|rest| rest.split('"').next().unwrap())
        .filter(|path| path.starts_with('/'))
        .collect();
    let mut documented: BTreeSet<&str> =
        document.paths().into_iter().map(|path| path.split('{').next().unwrap()).collect();
    // `/pessoas/` is also a second form of `/pessoas`, which the text says.
    assert!(document.text("/paths/~1pessoas/post/description").contains("`/pessoas/` is the same path"));
    assert!(document.text("/paths/~1pessoas/get/description").contains("`/pessoas/` is the same path"));
    documented.insert("/pessoas/");
    assert_eq!(documented, known);
}

/// A path takes the methods that it has in the document and HEAD beside GET; any other gets 405 and is told which.
fn methods(document: &Document, server: &Server) {
    let mut connection = server.connect();
    for path in document.paths() {
        let methods: BTreeSet<String> = document.methods(path);
        let target = path.replace("{id}", "01a20bd2-9a91-735a-92f8-1d35bae5e669");
        for method in ["GET", "HEAD", "POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "QUERY"] {
            connection.send(request(method, &target, ""));
            let response = connection.try_receive(method == "HEAD").expect("an answer");
            if methods.contains(method) {
                assert!(![404, 405, 501].contains(&response.status), "{method} {path}: {response:?}");
            } else {
                assert_eq!(response.status, 405, "{method} {path}");
                let allow: BTreeSet<String> =
                    response.header("Allow").unwrap().split(", ").map(str::to_owned).collect();
                assert_eq!(allow, methods, "{method} {path}");
            }
        }
    }
}

/// The page shows every operation, answer and shape, and each of its links leads somewhere.
fn page(document: &Document, server: &Server) {
    let page = server.ask("GET", "/docs", "");
    let page = page.text();
    let anchors: Vec<&str> = attribute(page, "id=\"");
    let unique: BTreeSet<&str> = anchors.iter().copied().collect();
    assert_eq!(anchors.len(), unique.len(), "an id is given once: {anchors:?}");
    for link in attribute(page, "href=\"#") {
        assert!(unique.contains(link), "#{link} leads nowhere");
    }
    for name in document.names() {
        assert!(unique.contains(&*name), "{name} is not on the page");
    }
    let shown = |text: &str| {
        text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
    };
    for example in document.responses().iter().flat_map(|response| &response.examples) {
        if let Some(detail) = example.value["detail"].as_str() {
            let detail = shown(&Value::from(detail).to_string());
            assert!(page.contains(&detail), "{detail} is not on the page");
        }
        if let Some(body) = example.request["body"].as_str() {
            assert!(page.contains(&shown(body)), "{body} is not on the page");
        }
    }
}

fn attribute<'a>(page: &'a str, start: &str) -> Vec<&'a str> {
    page.split(start).skip(1).map(|rest| rest.split('"').next().unwrap()).collect()
}
