//! Rows of somebody who took the table's checks away: what can be shown is served, what cannot is named in the log, and
//! neither stands in the way of the others.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::cluster::Cluster;
use crate::load::wait_until;
use crate::race::body;
use crate::server::Server;
use crate::{fill, found, search, wait_for_rows, wait_until_fresh};

/// The table as a stranger makes it: columns in another order, one more, one dropped, and no checks but the keys.
const UNCHECKED: &str = "create table pessoas ( \
        remark text default 'x', tx xid8 not null default pg_current_xact_id(), stack text[], nome text, \
        dropped int, search bytea, nascimento date, apelido text unique, id uuid unique); \
    alter table pessoas drop column dropped";

/// Makes the server's own table like that.
const DROP_CHECKS: &str = "alter table pessoas \
    drop constraint pessoas_nascimento_check, drop constraint pessoas_stack_check, \
    alter nome drop not null, alter nascimento drop not null, alter apelido type text, alter nome type text";

/// Rows that can be shown: apelido, then the columns nome, nascimento and stack, and what is shown of them.
fn shown() -> Vec<(&'static str, &'static str, Value)> {
    vec![
        ("plain", "'By Hand', '2000-01-01', '{Go,C}'", json!(["By Hand", "2000-01-01", ["Go", "C"]])),
        ("nothing", "'', '2000-01-01', null", json!(["", "2000-01-01", null])),
        ("no items", "'n', '2000-01-01', '{}'", json!(["n", "2000-01-01", []])),
        ("empty items", "'n', '2000-01-01', '{\"\",\"\"}'", json!(["n", "2000-01-01", ["", ""]])),
        // Subscripts that do not begin with 1.
        ("low bounds", "'n', '2000-01-01', '[-3:-2]={a,b}'", json!(["n", "2000-01-01", ["a", "b"]])),
        (
            "high bounds",
            "'n', '2000-01-01', '[2147483645:2147483646]={a,b}'",
            json!(["n", "2000-01-01", ["a", "b"]]),
        ),
        (
            "text null",
            "'n', '2000-01-01', '{\"NULL\",\"null\"}'",
            json!(["n", "2000-01-01", ["NULL", "null"]]),
        ),
        ("first day", "'n', '0001-01-01', null", json!(["n", "0001-01-01", null])),
        ("last day", "'n', '9999-12-31', null", json!(["n", "9999-12-31", null])),
        (
            "control",
            "E'\\x01\\x1f\\x7f\\u2028\\ufeff\\U0010FFFF\\\\\"', '2000-01-01', array[E'\\n', E'\\t\\r']",
            json!(["\u{1}\u{1f}\u{7f}\u{2028}\u{feff}\u{10ffff}\\\"", "2000-01-01", ["\n", "\t\r"]]),
        ),
        ("long", "repeat('é', 300000), '2000-01-01', null", json!(["é".repeat(300_000), "2000-01-01", null])),
        (
            "many items",
            "'n', '2000-01-01', (select array_agg('item' || number) from generate_series(1, 20000) as number)",
            json!([
                "n",
                "2000-01-01",
                (1..=20_000).map(|number| format!("item{number}")).collect::<Vec<_>>()
            ]),
        ),
    ]
}

/// Rows that cannot be shown, and the column that is at fault.
const UNFIT: [(&str, &str, &str); 11] = [
    ("infinite", "'n', 'infinity', null", "nascimento"),
    ("minus infinite", "'n', '-infinity', null", "nascimento"),
    ("before Christ", "'n', '0001-12-31 BC', null", "nascimento"),
    ("year 10000", "'n', '10000-01-01', null", "nascimento"),
    ("last of Postgres", "'n', '5874897-12-31', null", "nascimento"),
    ("without day", "'n', null, null", "nascimento"),
    ("without nome", "null, '2000-01-01', null", "nome"),
    ("null item", "'n', '2000-01-01', '{a,null}'", "stack"),
    ("only nulls", "'n', '2000-01-01', '{null}'", "stack"),
    ("matrix", "'n', '2000-01-01', '{{a,b},{c,d}}'", "stack"),
    ("cube", "'n', '2000-01-01', '[0:0][5:5][2:3]={{{a,b}}}'", "stack"),
];

/// The statement that puts a row in by hand.
fn put(apelido: &str, columns: &str) -> String {
    format!(
        "insert into pessoas (id, apelido, nome, nascimento, stack) \
         select gen_random_uuid(), '{apelido}', nome, nascimento::date, stack::text[] \
         from (values ({columns})) as given (nome, nascimento, stack)"
    )
}

/// The statements that put in all of them, those that cannot be shown first.
fn put_all() -> Vec<String> {
    let unfit = UNFIT.iter().map(|(apelido, columns, _)| put(apelido, columns));
    unfit.chain(shown().iter().map(|(apelido, columns, _)| put(apelido, columns))).collect()
}

/// Ids by apelido.
fn ids(cluster: &Cluster) -> BTreeMap<String, String> {
    let rows = cluster.query("select apelido, id from pessoas");
    rows.iter().filter_map(|row| row.rsplit_once('|')).map(|(a, id)| (a.to_owned(), id.to_owned())).collect()
}

fn search_exactly(server: &Server, apelido: &str) -> crate::server::Response {
    search(server, &apelido.replace(' ', "+"))
}

/// All that can be shown is shown, by its id and in searches; the rest is refused, and named. `others` are in the table too.
fn check(cluster: &Cluster, server: &Server, others: usize) {
    let (ids, shown) = (ids(cluster), shown());
    wait_for_rows(server, shown.len() + others);
    wait_until_fresh(server);
    for (apelido, _, members) in shown {
        let id = &ids[apelido];
        let pessoa = json!({
            "id": id, "apelido": apelido, "nome": members[0], "nascimento": members[1], "stack": members[2],
        });
        let got = server.ask("GET", &format!("/pessoas/{id}"), "");
        assert!(got.status == 200 && got.json() == pessoa, "{apelido}: {:.300}", got.text());
        let found = search_exactly(server, apelido);
        assert!(found.status == 200 && found.json() == json!([pessoa]), "{apelido}: {:.300}", found.text());
    }
    for (apelido, _, column) in UNFIT {
        let id = &ids[apelido];
        let got = server.ask("GET", &format!("/pessoas/{id}"), "");
        assert_eq!(got.status, 503, "{apelido}: never a 404 for a row that is there");
        assert!(got.text().contains("mended in the database"), "{}", got.text());
        assert_eq!(found(&search_exactly(server, apelido)), Some(vec![]), "{apelido}");
        assert_eq!(server.ask("POST", "/pessoas", &body(apelido, "x")).status, 422, "{apelido} is taken");
        assert!(!named(server).contains_key(id) || named(server)[id].contains(column), "{apelido}");
    }
    let rows = ids.len();
    assert_eq!(server.ask("GET", "/contagem-pessoas", "").text(), rows.to_string());
    let log = server.log();
    let fault =
        |line: &&String| line.contains("panic") || line.contains("connection to the database was lost");
    assert_eq!(log.iter().find(fault), None, "no panic, and no session is given up for a row");
}

/// What the log says of each row that it names.
fn named(server: &Server) -> BTreeMap<String, String> {
    let text = |value: &Value| value.as_str().map(str::to_owned);
    server.events().iter().filter_map(|event| Some((text(&event["id"])?, text(&event["why"])?))).collect()
}

#[test]
fn a_load_leaves_out_what_is_no_pessoa_and_takes_the_rest() {
    let cluster = Cluster::start();
    cluster.query(UNCHECKED);
    cluster.query(&put_all().join("; "));
    let server = Server::on(&cluster.config(), &["--cores", "2"]);
    check(&cluster, &server, 0);
    assert_eq!(named(&server).len(), 10, "the first are named, so that a whole table of them floods no log");
    let told = server.events().into_iter().find(|event| event["rows"] == UNFIT.len());
    assert!(told.is_some(), "and all are counted: {:#?}", server.log());
}

/// One by one, as they are committed; then many in one transaction, which is read beside the others.
#[test]
fn the_feed_leaves_out_what_is_no_pessoa_and_takes_the_rest() {
    const LARGE: usize = 2_000;
    let cluster = Cluster::start();
    drop(Server::on(&cluster.config(), &[]));
    cluster.query(DROP_CHECKS);
    let server = Server::on(&cluster.config(), &["--cores", "2"]);
    put_all().iter().for_each(|statement| drop(cluster.query(statement)));
    check(&cluster, &server, 0);
    assert!(named(&server).len() >= 10, "those of one answer beyond the tenth are counted only");
    let unfit = "insert into pessoas (id, apelido, nome, nascimento) values (gen_random_uuid(), 'large', 'n', 'infinity')";
    cluster.query(&format!(
        "begin; {unfit}; insert into pessoas (id, apelido, nome, nascimento) \
         select gen_random_uuid(), 'past' || number, 'Past', '2000-01-01' \
         from generate_series(1, {LARGE}) as number; commit"
    ));
    check(&cluster, &server, LARGE);
    wait_until("its name in the log", || named(&server).contains_key(&ids(&cluster)["large"]));
}

/// A memory that is too small for its index leaves searches to Postgres, which gives no more than fifty rows: those that are
/// no pessoas must not take the place of others.
#[test]
fn a_search_by_postgres_is_not_filled_with_what_is_no_pessoa() {
    let cluster = Cluster::start();
    drop(Server::on(&cluster.config(), &[]));
    cluster.query(DROP_CHECKS);
    for (number, (_, columns, _)) in UNFIT.iter().cycle().take(60).enumerate() {
        let apelido = format!("past0.{number}");
        cluster.query(&put(&apelido, columns));
        cluster.query(&format!(
            "update pessoas set search = convert_to('{apelido}', 'UTF8') || '\\x00'::bytea where apelido = '{apelido}'"
        ));
    }
    fill(&cluster, 4_000);
    let server = Server::on(&cluster.config(), &["--cores", "1", "--cache-bytes", "64KiB"]);
    wait_until("an incomplete memory", || {
        server.ask("GET", "/healthz", "").json()["cache"]["search_complete"] == false
    });
    let all = found(&search(&server, "past")).unwrap();
    assert_eq!(all.len(), 50);
    assert!(all.iter().all(|apelido| !apelido.starts_with("past0.")), "{all:?}");
    assert_eq!(found(&search(&server, "past0.")), Some(vec![]));
    assert_eq!(found(&search(&server, "past3999")), Some(vec!["past3999".to_owned()]));
}
