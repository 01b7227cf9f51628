//! What is said while a large table is loaded.

use std::time::{Duration, Instant};

use serde_json::Value;

use crate::cluster::Cluster;
use crate::server::{Server, binary};
use crate::standby::{follow, promote, url};

/// Rows that take an unoptimised server some seconds.
const ROWS: usize = 400_000;
/// How long they may take to be loaded.
const LOAD_TIME_MAX: Duration = Duration::from_secs(90);

fn filled() -> Cluster {
    let cluster = Cluster::start();
    cluster.query(&std::fs::read_to_string("schema.sql").expect("the schema"));
    cluster.query(&format!(
        "insert into pessoas (id, apelido, nome, nascimento, stack) \
         select gen_random_uuid(), 'a' || n, 'Ana ' || n, '2000-01-01', array['Rust', 'C' || n] \
         from generate_series(1, {ROWS}) as n"
    ));
    cluster
}

fn said(server: &Server, message: &str) -> Vec<Value> {
    server.events().into_iter().filter(|event| event["message"] == message).collect()
}

fn number(event: &Value, field: &str) -> u64 {
    event[field].as_u64().unwrap_or_else(|| panic!("expected {field} in {event}"))
}

/// The lines of a load: they rise, and come no more often than about once a second.
fn check(lines: &[Value], elapsed: Duration, estimated: bool) {
    if elapsed < Duration::from_secs(2) {
        println!("a machine that loads {ROWS} rows in {elapsed:?}: few lines are to be seen");
    } else {
        assert!(!lines.is_empty(), "a load of {elapsed:?} without a line");
    }
    assert!(lines.len() as u64 <= elapsed.as_secs(), "{} lines in {elapsed:?}", lines.len());
    let rows: Vec<u64> = lines.iter().map(|line| number(line, "rows")).collect();
    assert!(rows.is_sorted() && rows.iter().all(|&rows| 0 < rows && rows <= ROWS as u64), "{rows:?}");
    for line in lines {
        assert!(number(line, "rows_a_second") > 0, "{line}");
        assert_eq!(line["of_about"].is_u64(), estimated, "{line}");
        if estimated {
            let about = number(line, "of_about");
            assert!(about.abs_diff(ROWS as u64) < ROWS as u64 / 20, "{line}");
            assert!(about <= number(line, "rows") || number(line, "seconds_left") > 0, "{line}");
        }
    }
}

fn elapsed(text: &Value) -> Duration {
    let text = text.as_str().expect("a time");
    let (number, unit) = text.split_at(text.find(char::is_alphabetic).expect("a unit"));
    let number: f64 = number.parse().expect("a number");
    Duration::from_secs_f64(if unit == "s" { number } else { number / 1000.0 })
}

#[test]
fn a_large_table_is_said_to_be_on_its_way() {
    let cluster = filled();
    for estimated in [false, true] {
        if estimated {
            cluster.query("analyze pessoas");
        }
        let mut server = Server::on(&cluster.config(), &["--cores=1"]);
        server.wait_until_serving();
        let (lines, loaded) = (said(&server, "loading"), said(&server, "loaded"));
        println!("{lines:#?} {loaded:#?}");
        let elapsed = elapsed(&server.start["loaded_in"]);
        check(&lines, elapsed, estimated);
        // Said if anything was: by itself the start's own line has it.
        assert_eq!(loaded.len(), usize::from(!lines.is_empty()), "{:#?}", server.log());
        assert!(loaded.iter().all(|loaded| number(loaded, "rows") == ROWS as u64), "{loaded:?}");
    }
}

#[test]
fn of_a_small_table_nothing_is_said() {
    let cluster = Cluster::start();
    let server = Server::on(&cluster.config(), &[]);
    assert_eq!(server.log().len(), 1, "{:#?}", server.log());
}

/// After a failover memory is loaded anew.
#[test]
fn a_load_after_a_failover_is_said_too() {
    let primary = filled();
    primary.query("analyze pessoas");
    let standby = follow(&primary);
    let mut command = binary();
    command.args(["--log-format=json", "--listen=127.0.0.1:0", "--cores=1", "--database-url"]);
    command.arg(url(&[primary.embedded.socket_dir(), standby.embedded.socket_dir()]));
    let mut server = Server::spawn(command);
    server.wait_until_serving();
    let before = said(&server, "loading").len();
    promote(&standby);
    let began = Instant::now();
    while !said(&server, "loaded").iter().any(|event| event["anew"] == true) {
        // A debug build that serves meanwhile: 9 s on a quiet machine, more where others build.
        assert!(began.elapsed() < LOAD_TIME_MAX, "expected its end: {:#?}", server.log());
        std::thread::sleep(Duration::from_millis(20));
    }
    let again = said(&server, "loaded").pop().expect("a line");
    assert_eq!(number(&again, "rows"), ROWS as u64);
    check(&said(&server, "loading")[before..], elapsed(&again["elapsed"]), true);
    drop(primary);
    assert_eq!(server.ask("GET", "/contagem-pessoas", "").text(), ROWS.to_string());
}
