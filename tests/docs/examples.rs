//! The examples: every command in a `console` block is run as it stands, in order, a page against a server with an empty
//! table, and must print what the page says. Only the port, the ids and the date differ.

use std::process::Command;

use crate::cluster::Cluster;
use crate::pages::Page;
use crate::server::{Address, Server};

/// A command and what it prints.
struct Example {
    command: String,
    expected: String,
}

/// The examples of a page: a line that starts with `$ ` is a command, the lines below it its output.
fn examples(page: &Page) -> Vec<Example> {
    let mut examples: Vec<Example> = Vec::new();
    for block in page.blocks().into_iter().filter(|block| block.language == "console") {
        for (number, line) in block.text.lines().enumerate() {
            if let Some(command) = line.strip_prefix("$ ") {
                examples.push(Example { command: command.to_owned(), expected: String::new() });
            } else {
                assert!(number > 0, "{}: a block starts with a command", page.path.display());
                let example = examples.last_mut().expect("a command came before");
                example.expected.push_str(line);
                example.expected.push('\n');
            }
        }
    }
    examples
}

/// The output with one text in place of the dates and ids, which are new each time.
fn normalized(output: &str) -> String {
    let lines = output.lines().map(|line| {
        let line = line.trim_end_matches('\r');
        if line.starts_with("Date: ") { "Date: -".to_owned() } else { without_ids(line) }
    });
    lines.collect::<Vec<_>>().join("\n").trim_end().to_owned()
}

fn without_ids(line: &str) -> String {
    const ID_CHARS: usize = 36;
    let is_id = |text: &str| uuid::Uuid::try_parse(text).is_ok();
    let mut rest = line;
    let mut out = String::new();
    while let Some(first) = rest.chars().next() {
        // The nil-like id of the 404 example stays as it is.
        let id = rest.get(..ID_CHARS).filter(|text| is_id(text) && !text.starts_with("00000000"));
        match id {
            Some(_) => {
                out.push_str("ID");
                rest = &rest[ID_CHARS..];
            }
            None => {
                out.push(first);
                rest = &rest[first.len_utf8()..];
            }
        }
    }
    out
}

#[test]
fn the_examples_print_what_the_pages_say() {
    let cluster = Cluster::start();
    let mut run = 0;
    for (number, page) in Page::all_kept().iter().enumerate() {
        let examples = examples(page);
        if examples.is_empty() {
            continue;
        }
        // A table of its own.
        let mut database = cluster.config();
        database.dbname(format!("page{number}"));
        cluster.query(&format!("create database page{number} encoding 'UTF8' template template0"));
        let server = Server::on(&database, &["--cores=1"]);
        let Address::Tcp(address) = server.tcp() else { panic!("the first listener is TCP") };
        for Example { command, expected } in examples {
            let here = command.replace("localhost:9999", &address.to_string());
            let output = Command::new("sh").args(["-c", &here]).output().expect("a shell");
            let path = page.path.display();
            assert!(
                output.status.success(),
                "{path}: {command}: {}",
                String::from_utf8_lossy(&output.stderr)
            );
            let printed = String::from_utf8(output.stdout).expect("UTF-8");
            assert_eq!(normalized(&printed), normalized(&expected), "{path}: {command}");
            run += 1;
        }
    }
    assert!(run >= 10, "the pages have lost their examples");
}
