//! The front door: `README.md` is short, its figures are of one run that is kept, and it says in Portuguese what it says
//! in English. And no page has lines that must be read twice.

use std::collections::BTreeSet;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

use pulldown_cmark::{Event, Tag, TagEnd};

use crate::pages::Page;

const LINES_MAX: usize = 150;
/// Of a line of prose.
const CHARS_MAX: usize = 120;
const PORTUGUESE: &str = "README.pt-BR.md";

#[test]
fn it_is_short() {
    for path in ["README.md", PORTUGUESE] {
        let lines = Page::read(path).text.lines().count();
        assert!(lines <= LINES_MAX, "{path}: expected at most {LINES_MAX} lines, got {lines}");
    }
}

/// Lines of prose; tables, blocks and HTML are as wide as they are.
#[test]
fn lines_are_not_too_long() {
    for page in Page::all_kept() {
        let mut wide = BTreeSet::new();
        let line_of = |offset: usize| page.text[..offset].matches('\n').count();
        let mut depth = 0;
        for (event, range) in page.events() {
            let (is_start, is_end) = match event {
                Event::Start(Tag::Table(_) | Tag::CodeBlock(_) | Tag::HtmlBlock) => (true, false),
                Event::End(TagEnd::Table | TagEnd::CodeBlock | TagEnd::HtmlBlock) => (false, true),
                _ => (false, false),
            };
            if is_start && depth == 0 {
                wide.extend(line_of(range.start)..=line_of(range.end.saturating_sub(1)));
            }
            depth = depth + usize::from(is_start) - usize::from(is_end);
        }
        for (number, line) in page.text.lines().enumerate().filter(|(number, _)| !wide.contains(number)) {
            let chars = line.chars().count();
            // What cannot be divided is as long as it is.
            let whole = !line.trim().trim_start_matches("- ").contains(' ');
            assert!(
                chars <= CHARS_MAX || whole,
                "{}:{}: expected at most {CHARS_MAX} characters, got {chars}",
                page.path.display(),
                number + 1
            );
        }
    }
}

/// What is between the two comments around the figures.
fn figures(page: &Page) -> &str {
    let (_, rest) = page.text.split_once("<!-- figures: ").expect("where the figures begin");
    rest.split_once("<!-- figures: end -->").expect("where they end").0
}

/// The table is what `perf/table` makes of the run that is named above it, in the raw results that are named below it.
#[test]
fn its_figures_are_of_one_run_that_is_kept() {
    for (path, language) in [("README.md", "en"), (PORTUGUESE, "pt")] {
        let page = Page::read(path);
        let figures = figures(&page);
        let links = page.links();
        let mut targets = links.iter().map(|link| link.target.as_str());
        let results = targets
            .find(|target| target.starts_with("perf/results/") && figures.contains(&format!("({target})")));
        let results =
            results.unwrap_or_else(|| panic!("{path}: expected a link to the raw results below the table"));
        let raw = std::fs::read_to_string(results).unwrap();
        let command = figures.split('`').find(|code| code.starts_with("perf/")).expect("the command");
        let run = raw.split_once(&format!("$ {command}\n"));
        let (_, run) = run.unwrap_or_else(|| panic!("{path}: {results} has no run of {command}"));
        let run = run.split("\n```").next().unwrap_or(run);
        let rows: Vec<&str> = figures.lines().filter(|line| line.starts_with('|')).skip(2).collect();
        assert_eq!(
            rows.join("\n"),
            table(language, run).trim_end(),
            "{path}: perf/table {language}, of {results}"
        );
    }
}

/// What `perf/table` makes of the output of `perf/bench`.
fn table(language: &str, run: &str) -> String {
    let mut command = Command::new("perf/table");
    command.arg(language).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut table = command.spawn().expect("perf/table");
    table.stdin.take().expect("a pipe").write_all(run.as_bytes()).expect("perf/table reads");
    let output = table.wait_with_output().expect("its end");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("UTF-8")
}

/// The numbers of a text, without the separators of thousands; `point` is what divides off fractions.
fn numbers(text: &str, point: char) -> Vec<String> {
    let comma = if point == '.' { ',' } else { '.' };
    let signs: Vec<char> = text.chars().collect();
    let digit = |at: usize| signs.get(at).is_some_and(char::is_ascii_digit);
    let (mut numbers, mut at) = (Vec::new(), 0);
    while at < signs.len() {
        if !digit(at) {
            at += 1;
            continue;
        }
        let mut number = String::new();
        loop {
            if digit(at) {
                number.push(signs[at]);
            } else if at < signs.len() && signs[at] == point && digit(at + 1) {
                number.push('.');
            } else if at < signs.len()
                && signs[at] == comma
                && (1..=3).all(|next| digit(at + next))
                && !digit(at + 4)
            {
                // A separator.
            } else if at < signs.len() && signs[at] == '.' && digit(at + 1) {
                // A version has points in every language.
                number.push('.');
            } else {
                break;
            }
            at += 1;
        }
        numbers.push(number);
    }
    numbers
}

/// A page's prose and tables, without blocks, pictures and where links lead.
fn prose(page: &Page) -> String {
    let (mut text, mut inside_block) = (String::new(), false);
    for (event, _) in page.events() {
        match event {
            Event::Start(Tag::CodeBlock(_)) => inside_block = true,
            Event::End(TagEnd::CodeBlock) => inside_block = false,
            Event::Text(part) if !inside_block => text.push_str(&part),
            // Code is the same in every language.
            Event::Code(_) => text.push(' '),
            Event::SoftBreak | Event::End(TagEnd::TableCell | TagEnd::Paragraph | TagEnd::Heading(_)) => {
                text.push('\n');
            }
            _ => {}
        }
    }
    text
}

#[test]
fn both_languages_say_the_same() {
    let (english, portuguese) = (Page::read("README.md"), Page::read(PORTUGUESE));
    let commands = |page: &Page| -> Vec<(String, String)> {
        let blocks = page.blocks().into_iter();
        blocks.map(|block| (block.language.clone(), without_comments(&block.text))).collect()
    };
    assert_eq!(commands(&portuguese), commands(&english), "{PORTUGUESE}: commands");
    let links = |page: &Page| -> Vec<String> {
        let links = page.links().into_iter().map(|link| link.target);
        let mut links: Vec<String> = links.filter(|target| !target.starts_with("README")).collect();
        links.sort();
        links
    };
    assert_eq!(links(&portuguese), links(&english), "{PORTUGUESE}: links");
    for (page, other) in [(&english, PORTUGUESE), (&portuguese, "README.md")] {
        let leads = page.links().iter().any(|link| link.target == other);
        assert!(leads, "{}: expected a link to {other}", page.path.display());
    }
    let codes = |page: &Page| -> Vec<String> {
        let mut codes: Vec<String> = page
            .events()
            .filter_map(|(event, _)| match event {
                Event::Code(code) => Some(code.to_string()),
                _ => None,
            })
            .collect();
        codes.sort();
        codes
    };
    assert_eq!(codes(&portuguese), codes(&english), "{PORTUGUESE}: what is code");
    let mut said = [numbers(&prose(&english), '.'), numbers(&prose(&portuguese), ',')];
    said.iter_mut().for_each(|numbers| numbers.sort());
    let [english, portuguese] = said;
    assert_eq!(portuguese, english, "{PORTUGUESE}: numbers");
    assert!(english.len() >= 30, "{english:?}");
}

/// A block without the remarks behind its commands.
fn without_comments(block: &str) -> String {
    let lines = block.lines().map(|line| line.split("  #").next().unwrap().trim_end());
    lines.collect::<Vec<_>>().join("\n")
}

#[test]
fn numbers_are_read_in_both_languages() {
    for (text, point, expected) in [
        ("19,068 a second, 1.5 CPUs, 2026-11-26", '.', vec!["19068", "1.5", "2026", "11", "26"]),
        ("19.068 por segundo, 1,5 CPUs, Linux 6.18", ',', vec!["19068", "1.5", "6.18"]),
        ("1, 2, and 3.", '.', vec!["1", "2", "3"]),
        ("1,20", '.', vec!["1", "20"]),
    ] {
        assert_eq!(numbers(text, point), expected, "{text}");
    }
}

/// `CHANGELOG.md` knows the version of the manifest, and every other page that `CONTRIBUTING.md` speaks of is there.
#[test]
fn the_change_log_knows_this_version() {
    let page = Page::read("CHANGELOG.md");
    let heading = format!("\n## [{}]", env!("CARGO_PKG_VERSION"));
    assert!(page.text.contains(&heading), "CHANGELOG.md: expected{heading}");
    assert!(page.text.contains("\n## [Unreleased]"), "CHANGELOG.md: expected a place for what comes next");
    let kinds = ["Added", "Changed", "Deprecated", "Removed", "Fixed", "Security"];
    for kind in page.text.lines().filter_map(|line| line.strip_prefix("### ")) {
        assert!(kinds.contains(&kind), "CHANGELOG.md: {kind}: expected one of {kinds:?}");
    }
    assert!(Path::new("LICENSE").exists());
}
