//! `rinha check`: each line's wrong value, and that nothing is changed by the look.

mod database;
mod machine;
mod places;
mod private;

use std::process::{Command, Stdio};

use serde_json::Value;

use crate::cluster::Cluster;
use crate::load::Pessoa;
use crate::server::{Server, binary, database_url};

/// What `rinha check` said.
#[derive(Debug)]
struct Said {
    code: Option<i32>,
    stdout: String,
    stderr: String,
}

impl Said {
    fn by(mut command: Command) -> Said {
        let output = command.stdout(Stdio::piped()).stderr(Stdio::piped()).output().expect("a process");
        let text = |bytes| String::from_utf8(bytes).expect("UTF-8");
        Said { code: output.status.code(), stdout: text(output.stdout), stderr: text(output.stderr) }
    }

    /// The verdict on something, and what was found.
    fn of(&self, name: &str) -> (String, String) {
        let lines = self.all(name);
        assert_eq!(lines.len(), 1, "{name}: {self:#?}");
        lines.into_iter().next().expect("one line")
    }

    fn all(&self, name: &str) -> Vec<(String, String)> {
        let report: Value =
            serde_json::from_str(&self.stdout).unwrap_or_else(|_| panic!("expected JSON: {self:#?}"));
        assert_eq!(report["would_start"].as_bool(), Some(self.code == Some(0)), "{self:#?}");
        let text = |finding: &Value, member: &str| finding[member].as_str().expect("a text").to_owned();
        let findings = report["findings"].as_array().expect("an array").iter();
        findings
            .inspect(|finding| assert!(!text(finding, "expected").is_empty(), "{finding}"))
            .filter(|finding| finding["name"] == name)
            .map(|finding| (text(finding, "verdict"), text(finding, "found")))
            .collect()
    }

    /// Expects this verdict on something, and these words.
    fn expect(&self, name: &str, verdict: &str, words: &[&str]) {
        let (found, said) = self.of(name);
        println!("{found}  {name}  {said}");
        assert_eq!(found, verdict, "{name}: {said}");
        assert!(words.iter().all(|word| said.contains(word)), "{words:?} in {name}: {said}");
        assert!(self.code == Some(if verdict == "error" { 1 } else { 0 }) || verdict != "error", "{self:#?}");
        assert_eq!(self.stderr, "");
    }
}

/// The command, as JSON, at an address that nobody else has.
fn command(arguments: &[&str]) -> Command {
    let mut command = binary();
    command.args(["check", "--format=json"]).args(arguments);
    command
}

fn check(arguments: &[&str]) -> Said {
    Said::by(command(&[&["--listen=127.0.0.1:0"], arguments].concat()))
}

#[test]
fn the_report_for_people_says_the_same() {
    let cluster = Cluster::start();
    let url = database_url(&cluster.config());
    let arguments = ["--listen=127.0.0.1:0", "--log=off", "--database-url", &url];
    let json = Said::by(command(&arguments));
    let mut text = binary();
    text.arg("check").args(arguments);
    let text = Said::by(text);
    println!("{}", text.stdout);
    assert_eq!((json.code, text.code, text.stderr.as_str()), (Some(0), Some(0), ""));
    let report: Value = serde_json::from_str(&json.stdout).expect("JSON");
    let names =
        report["findings"].as_array().expect("an array").iter().map(|finding| finding["name"].as_str());
    let lines: Vec<&str> = text.stdout.lines().collect();
    for (name, line) in names.zip(&lines) {
        assert_eq!(line.split_whitespace().nth(1), name, "{line}");
    }
    assert!(lines.contains(
        &"warn   log          off, as text on stderr (expected: a filter that lets warnings through)"
    ));
    assert!(lines.last().expect("a line").starts_with("a start would succeed: "), "{}", text.stdout);
    assert_eq!(lines.len(), report["findings"].as_array().map_or(0, Vec::len) + 1);
}

#[test]
fn a_wrong_value_is_one_line_and_exit_2() {
    for wrong in [
        &["--database-url", "postgres://rinha@localhost:port/rinha"][..],
        &["--database-url", "user=rinha"],
        &["--database-url", "host=a sslmode=verify-full sslrootcert=/nowhere"],
        &["--cores", "0"],
        &["--cores", "0-255"],
        &["--listen", "here"],
        &["--admin", "unix:/run/{core}"],
        &["--data-dir", "/etc/passwd/data"],
        &["--log", "bogus"],
        &["--driver", "kqueue"],
        &["--cache-bytes", "1KiB"],
        &["--format", "xml"],
        &["--dance"],
    ] {
        let mut command = binary();
        command.arg("check").args(wrong);
        let said = Said::by(command);
        assert_eq!((said.code, said.stdout.as_str()), (Some(2), ""), "{wrong:?}: {said:#?}");
        assert_eq!(said.stderr.lines().count(), 1, "{wrong:?}: {said:#?}");
    }
}

/// Who serves does not notice, and is seen where it is in the way.
#[test]
fn beside_a_server_that_serves() {
    let cluster = Cluster::start();
    let url = database_url(&cluster.config());
    let server = Server::on(&cluster.config(), &["--admin=127.0.0.1:0", "--cores=2"]);
    assert_eq!(Pessoa::named("antes").post_to(&server).status, 201);
    let log = server.log();
    let said = check(&["--database-url", &url, "--cores=2"]);
    assert_eq!(said.code, Some(0), "{said:#?}");
    said.expect("schema", "ok", &["it is there"]);
    said.expect("database", "ok", &["PostgreSQL 1", "primary"]);

    let listen = server.start["listen"].as_str().expect("an address").to_owned();
    let said = Said::by(command(&["--database-url", &url, "--listen", &listen]));
    said.expect("listen", "error", &[&listen, "another server listens there", "a server that is well"]);

    assert_eq!(server.log(), log);
    assert_eq!(server.ask("GET", "/contagem-pessoas", "").text(), "1");
    assert_eq!(Pessoa::named("depois").post_to(&server).status, 201);
}
