//! `docs/operating.md` against the server: every command, flag, refusal, alert and log line, and none that there is not.
//! Its metrics are the business of `tests/admin`.

use std::collections::BTreeSet;

use crate::pages::{Page, Row, code, words};
use crate::server::binary;
use crate::source::Texts;

fn page() -> Page {
    Page::read("docs/operating.md")
}

/// What the program says of itself.
pub(crate) fn help(arguments: &[&str]) -> String {
    let output = binary().args(arguments).stdout(std::process::Stdio::piped()).output().expect("the binary");
    assert!(output.status.success(), "{arguments:?}");
    String::from_utf8(output.stdout).unwrap()
}

/// The pieces of code in the first cells of a section's tables.
fn first_cells(rows: &[Row]) -> Vec<&str> {
    rows.iter().flat_map(|row| code(&row[0])).collect()
}

#[test]
fn every_command_is_there() {
    let help = help(&["--help"]);
    let (_, commands) = help.split_once("Commands:\n").expect("a list of commands");
    let commands = commands.lines().take_while(|line| !line.is_empty());
    let commands: Vec<String> =
        commands.map(|line| format!("rinha {}", line.split_whitespace().next().expect("a name"))).collect();
    assert_eq!(
        first_cells(&page().rows("Commands")),
        commands,
        "docs/operating.md, Commands: `rinha --help` is right"
    );
}

/// A flag of `--help`.
#[derive(Debug, PartialEq, Eq)]
struct Flag {
    name: String,
    variable: String,
    default: Option<String>,
}

fn flags() -> Vec<Flag> {
    let between = |line: &str, start: &str, end: &str| {
        let (_, rest) = line.split_once(start)?;
        Some(rest.split_once(end)?.0.to_owned())
    };
    let mut flags: Vec<Flag> = Vec::new();
    for line in help(&["--help"]).lines().map(str::trim) {
        if let Some(rest) = line.strip_prefix("--") {
            let name = format!("--{}", rest.split(' ').next().expect("a name"));
            flags.push(Flag { name, variable: String::new(), default: None });
        } else if let Some(flag) = flags.last_mut() {
            if let Some(variable) = between(line, "[env: ", "]") {
                flag.variable = variable.trim_end_matches('=').to_owned();
            }
            if let Some(default) = between(line, "[default: ", "]") {
                flag.default = Some(default);
            }
        }
    }
    flags
}

#[test]
fn every_flag_is_there() {
    let page = page();
    let rows = page.rows("Flags");
    let flags = flags();
    assert!(flags.len() >= 9, "{flags:?}");
    let names: Vec<&str> = flags.iter().map(|flag| flag.name.as_str()).collect();
    assert_eq!(first_cells(&rows), names, "docs/operating.md, Flags: `rinha --help` is right");
    for (flag, row) in flags.iter().zip(&rows) {
        assert_eq!(code(&row[1]), [&flag.variable], "{}", flag.name);
        // A default with conditions is a sentence here and there.
        let said = words(&row[2]);
        match &flag.default {
            Some(default) if default.contains(';') => {
                let first = default.split(';').next().unwrap();
                assert!(said.contains(first), "{}: expected the default {default}, got {said}", flag.name);
            }
            Some(default) => assert_eq!(&said, default, "{}", flag.name),
            None => assert_eq!(said, "none", "{}", flag.name),
        }
    }
}

#[test]
fn every_refusal_is_there() {
    let source = std::fs::read_to_string("src/admin/sums.rs").unwrap();
    let (_, list) = source.split_once("vec![").expect("the list of reasons");
    let (list, _) = list.split_once("\n    ]").expect("its end");
    let reasons: Vec<&str> = list.split("(\"").skip(1).map(|rest| rest.split('"').next().unwrap()).collect();
    assert!(reasons.len() >= 10, "{reasons:?}");
    assert_eq!(first_cells(&page().rows("Refusals")), reasons, "docs/operating.md, Refusals");
}

#[test]
fn every_alert_is_there() {
    let rules = std::fs::read_to_string("deploy/monitoring/rules.yml").unwrap();
    let alerts: Vec<&str> = rules.lines().filter_map(|line| line.trim().strip_prefix("- alert: ")).collect();
    assert!(alerts.len() >= 10, "{alerts:?}");
    assert_eq!(first_cells(&page().rows("Alerts and a dashboard")), alerts, "docs/operating.md, Alerts");
}

/// Where a line's message is another text altogether: why the server ends, a panic, a core that is not pinned.
const WITHOUT_WORDS: usize = 3;

/// What a start and a stop say at `info`, and every warning and error.
#[test]
fn every_log_line_is_there() {
    let texts = Texts::of_the_server();
    let (bare, logged): (Vec<_>, Vec<_>) =
        texts.logged.iter().cloned().partition(|(_, message)| message == "..");
    assert_eq!(bare.len(), WITHOUT_WORDS, "a line whose words are elsewhere: say them in docs/operating.md");
    assert!(logged.len() >= 40, "{logged:?}");
    let page = page();
    let rows = [page.rows("The start and the stop"), page.rows("Warnings and errors")].concat();
    let said: BTreeSet<(String, String)> =
        rows.iter().map(|row| (words(&row[0]), code(&row[1]).concat())).collect();
    assert_eq!(said.len(), rows.len(), "a line is listed once");
    let logged: BTreeSet<_> = logged.into_iter().collect();
    let missing: Vec<_> = logged.difference(&said).collect();
    assert!(missing.is_empty(), "docs/operating.md, The log: expected rows for {missing:#?}");
    let gone: Vec<_> = said.difference(&logged).filter(|(_, message)| !texts.all.contains(message)).collect();
    assert!(gone.is_empty(), "docs/operating.md, The log: nothing says {gone:#?}");
}

/// The texts with which a start, or the server, ends.
#[test]
fn every_end_is_there() {
    let texts = Texts::of_the_server();
    let page = page();
    let rows = page.rows("What ends a start");
    let said = first_cells(&rows);
    for message in &said {
        let there = texts.all.iter().any(|text| is_like(text, message));
        assert!(there, "docs/operating.md, What ends a start: nothing says {message:?}");
    }
    let ends = texts.errors.iter().filter(|(file, message)| {
        ["src/embedded/error.rs", "src/postgres/prepare.rs"].contains(&file.as_str()) && message != ".."
    });
    let ends: Vec<_> = ends.collect();
    assert!(ends.len() >= 15, "{ends:?}");
    for (file, end) in ends {
        // The whole of it, so that one text that is like all others does not stand for them.
        let named = said
            .iter()
            .any(|message| is_like(end, message) && message.trim_matches(['.', ' ', ':']).len() > 8);
        assert!(named, "docs/operating.md, What ends a start: expected {end:?} of {file}");
    }
}

/// Whether `text` is `pattern`, whose `..` stand for anything.
fn is_like(text: &str, pattern: &str) -> bool {
    let mut rest = text;
    for (number, part) in pattern.split("..").enumerate() {
        match rest.find(part) {
            Some(at) if number > 0 || at == 0 => rest = &rest[at + part.len()..],
            _ => return false,
        }
    }
    pattern.ends_with("..") || rest.is_empty()
}

#[test]
fn a_text_is_like_a_pattern() {
    for (text, pattern, expected) in [
        ("core .. panicked", "core .. panicked", true),
        ("core .. panicked", "core ..", true),
        ("core .. panicked", "panicked", false),
        ("core .. panicked again", "core .. panicked", false),
        ("the core .. panicked", "core .. panicked", false),
        (".. ended: ..", ".. ended: ..", true),
    ] {
        assert_eq!(is_like(text, pattern), expected, "{text:?} {pattern:?}");
    }
}
