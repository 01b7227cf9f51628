//! The README's examples: every command in a `console` block is run as it stands, in order, against one server, and
//! must print what the README says. Only the port, the ids and the date differ.

#[path = "support/cluster.rs"]
mod cluster;
#[path = "support/server.rs"]
mod server;

use std::process::Command;

use cluster::Cluster;
use server::{Address, Server};

/// A command and what it prints.
struct Example {
    command: String,
    expected: String,
}

/// The examples of the `console` blocks: a line that starts with `$ ` is a command, the lines below it its output.
fn examples(markdown: &str) -> Vec<Example> {
    let mut examples: Vec<Example> = Vec::new();
    let mut inside = false;
    for line in markdown.lines() {
        if line.starts_with("```") {
            inside = line == "```console";
        } else if !inside {
        } else if let Some(command) = line.strip_prefix("$ ") {
            examples.push(Example { command: command.to_owned(), expected: String::new() });
        } else {
            let example = examples.last_mut().expect("a block starts with a command");
            example.expected.push_str(line);
            example.expected.push('\n');
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
fn the_examples_print_what_the_readme_says() {
    let cluster = Cluster::start();
    let server = Server::on(&cluster.config(), &[]);
    let Address::Tcp(address) = server.tcp() else { panic!("the first listener is TCP") };
    let examples = examples(include_str!("../README.md"));
    assert!(examples.len() >= 8, "the README has lost its examples");
    for Example { command, expected } in examples {
        let here = command.replace("localhost:9999", &address.to_string());
        let output = Command::new("sh").args(["-c", &here]).output().expect("a shell");
        assert!(output.status.success(), "{command}: {}", String::from_utf8_lossy(&output.stderr));
        let printed = String::from_utf8(output.stdout).expect("UTF-8");
        assert_eq!(normalized(&printed), normalized(&expected), "{command}");
    }
}
