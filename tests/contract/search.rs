//! `GET /pessoas?t=:termo`.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use rinha::limits::SEARCH_RESULTS_MAX;
use serde_json::Value;

use crate::answer::{Client, expect, request};
use crate::world::{World, in_every_world, person};

/// Rows from before the start, without a stored search text: the server makes it when it reads them.
const PAST: &str = r#"
    INSERT INTO pessoas (id, apelido, nome, nascimento, stack) VALUES
        ('ffffffff-ffff-ffff-ffff-ffffffffffff', 'ze', 'José das Couves', '2000-01-01', '{"Fortran","COBOL"}'),
        ('00000000-0000-0000-0000-000000000000', 'Zefa', 'Josefa', '2000-01-01', '{}')"#;

/// Those whom every search looks for; `apelido`, `nome` and `stack`.
const PEOPLE: &[(&str, &str, &str)] = &[
    ("josé", "José Roberto", r#"["C#","Node","Oracle"]"#),
    ("ana", "Ana Barbosa", r#"["node.js","PostgreSQL"]"#),
    ("BETO", "Alberto ÇÃO", "null"),
    ("percent", "100% certo", "[]"),
    ("under_score", "a\\\\b", "[]"),
    ("plus", "um+dois", r#"["um dois","quotes \" and {braces}, commas"]"#),
    ("turk", "\u{130}stanbul", "[]"),
    ("greek", "\u{39f}\u{394}\u{39f}\u{3a3} \u{3a3}", "[]"),
    ("german", "Straße", "[]"),
    ("kelvin", "\u{212a}elvin", "[]"),
    ("crab", "🦀🦀", r#"["🦀rust"]"#),
    ("span", "wxw", r#"["yzy","vkv","yzy"]"#),
    ("nfd", "Zoe\u{308}", "[]"),
    ("nfc", "Zo\u{eb}", "[]"),
];

/// Queries and the apelidos that they find.
const CASES: &[(&str, &[&str])] = &[
    // The term is in the apelido, the nome or one stack item, or nothing is found.
    ("t=beto", &["BETO"]),
    ("t=Barbosa", &["ana"]),
    ("t=oracle", &["josé"]),
    ("t=node", &["ana", "josé"]),
    ("t=ode", &["ana", "josé"]),
    ("t=no-one-has-this", &[]),
    ("t=José Roberto da Silva Xavier de Alguma Coisa Que Ninguém Tem", &[]),
    // Rows from before the start.
    ("t=couves", &["ze"]),
    ("t=fortran", &["ze"]),
    ("t=josefa", &["Zefa"]),
    ("t=ZEFA", &["Zefa"]),
    // Case is ignored, accents count.
    ("t=JOSÉ", &["josé", "ze"]),
    ("t=josé", &["josé", "ze"]),
    ("t=jos", &["Zefa", "josé", "ze"]),
    ("t=jose", &["Zefa"]),
    ("t=çã", &["BETO"]),
    ("t=ca", &[]),
    ("t=POSTGRESQL", &["ana"]),
    ("t=zoë", &["nfc"]),
    ("t=zoe\u{308}", &["nfd"]),
    // Scalar by scalar: İ is i and a dot above, final sigma is no case of its own, ß has no other small form.
    ("t=\u{130}STANBUL", &["turk"]),
    ("t=i\u{307}stanbul", &["turk"]),
    ("t=istanbul", &[]),
    ("t=\u{3bf}\u{3b4}\u{3bf}\u{3c3}", &["greek"]),
    ("t=\u{39f}\u{394}\u{39f}\u{3a3}", &["greek"]),
    ("t=\u{3bf}\u{3b4}\u{3bf}\u{3c2}", &[]),
    ("t=STRAẞE", &["german"]),
    ("t=straße", &["german"]),
    ("t=strasse", &[]),
    ("t=kelvin", &["kelvin"]),
    ("t=\u{212a}ELVIN", &["kelvin"]),
    // One and two characters of any length in bytes.
    ("t=#", &["josé"]),
    ("t=🦀", &["crab"]),
    ("t=🦀🦀", &["crab"]),
    ("t=ç", &["BETO"]),
    ("t=kv", &["span"]),
    ("t=w", &["span"]),
    ("t=wx", &["span"]),
    // Nothing is a wildcard.
    ("t=%25", &["percent"]),
    ("t=0%25 c", &["percent"]),
    ("t=1%25certo", &[]),
    ("t=_", &["under_score"]),
    ("t=under%5Fscore", &["under_score"]),
    ("t=\\", &["under_score"]),
    ("t=a\\b", &["under_score"]),
    ("t=%22", &["plus"]),
    ("t={braces}, c", &["plus"]),
    ("t=n.de", &[]),
    // No match spans two fields or two items, whatever is between them.
    ("t=spanwxw", &[]),
    ("t=span wxw", &[]),
    ("t=span%00wxw", &[]),
    ("t=wxwyzy", &[]),
    ("t=wxw%00yzy", &[]),
    ("t=yzyvkv", &[]),
    ("t=yzy vkv", &[]),
    ("t=yzy,vkv", &[]),
    ("t=yzy%00vkv", &[]),
    ("t=vkv%00yzy", &[]),
    ("t=%00", &[]),
    ("t=%00wxw", &[]),
    ("t=wxw%00", &[]),
    // A pessoa is found once, though two of its items have the term.
    ("t=yzy", &["span"]),
    // Form-decoding.
    ("t=um+dois", &["plus"]),
    ("t=um%20dois", &["plus"]),
    ("t=um%2Bdois", &["plus"]),
    ("t=um%2bdois", &["plus"]),
    ("t=jos%C3%A9+rob", &["josé"]),
    ("t=%4a%4F%53%c3%89+R", &["josé"]),
    ("t=+", &["BETO", "ana", "greek", "josé", "percent", "plus", "ze"]),
];

/// Queries, each with a plain query that has the same term. A plain query that `CASES` does not have finds nothing.
const SAME: &[(&str, &str)] = &[
    ("t=node&t=beto", "t=node"),
    ("x=1&t=node", "t=node"),
    ("t=node&x", "t=node"),
    ("&&t=node&", "t=node"),
    ("T=beto&t=node", "t=node"),
    ("tt=beto&t=node", "t=node"),
    ("%74=node", "t=node"),
    ("t=beto&%74=node", "t=beto"),
    // What is ignored need not even be well-formed.
    ("x=%zz&%ff=%&t=node", "t=node"),
    ("t=node&t=%zz", "t=node"),
    // Only the first `=` separates.
    ("t=no=de", "t=no%3Dde"),
    ("t=node;x", "t=node%3Bx"),
];

/// Queries that are refused.
const REFUSED: &[(&str, &str)] = &[
    ("", "400 `t`: expected a search term"),
    ("?", "400 `t`: expected a search term"),
    ("?x=1", "400 `t`: expected a search term"),
    ("?T=node", "400 `t`: expected a search term"),
    ("?=node", "400 `t`: expected a search term"),
    ("?tt=node", "400 `t`: expected a search term"),
    ("?t%00=node", "400 `t`: expected a search term"),
    ("?t=%", "400 `t`: expected two hexadecimal digits after each %"),
    ("?t=%4", "400 `t`: expected two hexadecimal digits after each %"),
    ("?t=node%2", "400 `t`: expected two hexadecimal digits after each %"),
    ("?t=%zz", "400 `t`: expected two hexadecimal digits after each %"),
    ("?t=%+1", "400 `t`: expected two hexadecimal digits after each %"),
    ("?t=%%41", "400 `t`: expected two hexadecimal digits after each %"),
    ("?t=100%&t=node", "400 `t`: expected two hexadecimal digits after each %"),
    ("?t=%ff", "400 `t`: expected UTF-8 behind the percent-encoding"),
    ("?t=%C3", "400 `t`: expected UTF-8 behind the percent-encoding"),
    ("?t=%C3+%A9", "400 `t`: expected UTF-8 behind the percent-encoding"),
    ("?t=%C0%80", "400 `t`: expected UTF-8 behind the percent-encoding"),
    ("?t=%ED%A0%80", "400 `t`: expected UTF-8 behind the percent-encoding"),
];

#[test]
fn get_pessoas() {
    in_every_world(PAST, |world| {
        world.check_cache();
        let bodies = people(world);
        for (query, expected) in CASES {
            check(world, query, expected, &bodies);
        }
        for (query, same) in SAME {
            let (_, expected) = CASES.iter().find(|(query, _)| query == same).unwrap_or(&("", &[]));
            check(world, query, expected, &bodies);
        }
        for (query, expected) in REFUSED {
            let mut client = world.connect();
            println!("{query}");
            expect(&client.ask("GET", &format!("/pessoas{query}"), ""), expected);
            client.expect_alive();
        }
        more_than_an_answer_holds(world);
        seen_by_the_next_search(world);
        seen_on_another_instance(world);
        world.check_cache();
    });
}

/// Creates everyone, and returns the bodies by apelido.
fn people(world: &World) -> BTreeMap<String, String> {
    let mut client = world.connect();
    let mut bodies = BTreeMap::new();
    for (apelido, nome, stack) in PEOPLE {
        let body =
            format!(r#"{{"apelido":"{apelido}","nome":"{nome}","nascimento":"2000-01-01","stack":{stack}}}"#);
        let created = client.ask("POST", "/pessoas", body);
        expect(&created, "201");
        bodies.insert((*apelido).to_owned(), created.text().to_owned());
    }
    for id in ["ffffffff-ffff-ffff-ffff-ffffffffffff", "00000000-0000-0000-0000-000000000000"] {
        let past = client.ask("GET", &format!("/pessoas/{id}"), "");
        bodies.insert(past.json()["apelido"].as_str().unwrap().to_owned(), past.text().to_owned());
    }
    bodies
}

/// The tables' queries are easy to read. This is what a client sends for one: what no target may hold is
/// percent-encoded, and nothing else.
fn encoded(query: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_graphic() && byte != b'#';
    query
        .bytes()
        .map(|byte| if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") })
        .collect()
}

#[track_caller]
fn check(world: &World, query: &str, expected: &[&str], bodies: &BTreeMap<String, String>) {
    println!("{query}");
    let target = format!("/pessoas?{}", encoded(query));
    let mut client = world.connect();
    let response = client.ask("GET", &target, "");
    expect(&response, "200");
    assert_eq!(response.header("Content-Type"), Some("application/json"));
    // An array of bodies as GET gives them, in ascending order of id.
    let mut expected: Vec<&str> = expected.iter().map(|apelido| &*bodies[*apelido]).collect();
    expected.sort_unstable();
    assert_eq!(response.text(), format!("[{}]", expected.join(",")), "{query}");
    let head = client.ask("HEAD", &target, "");
    assert_eq!((head.status, &head.body[..]), (200, &b""[..]));
    assert_eq!(head.header("Content-Length"), response.header("Content-Length"));
}

/// At most 50 different ones that match, in ascending order of id; which of them is not promised.
fn more_than_an_answer_holds(world: &World) {
    let mut client = world.connect();
    for count in [49, 50, 51, 120] {
        let nome = format!("q{count}q");
        let requests: Vec<u8> = (0..count)
            .flat_map(|number| {
                let apelido = format!("crowd of {count}: {number}");
                request("POST", "/pessoas", person(&apelido).replace("Ana", &nome).as_bytes())
            })
            .collect();
        client.send(requests);
        for _ in 0..count {
            expect(&client.receive(), "201");
        }
        let found = found(&mut client, &format!("t=Q{count}Q"));
        assert_eq!(found.len(), count.min(SEARCH_RESULTS_MAX));
        assert!(found.iter().all(|pessoa| pessoa["nome"] == *nome));
    }
    // A present, empty term matches everything, however it is written.
    for query in ["t=", "t", "t=&t=node", "t&t=node", "x=1&t="] {
        assert_eq!(found(&mut client, query).len(), SEARCH_RESULTS_MAX, "{query}");
    }
}

#[track_caller]
fn found(client: &mut Client, query: &str) -> Vec<Value> {
    let response = client.ask("GET", &format!("/pessoas?{query}"), "");
    expect(&response, "200");
    let Value::Array(found) = response.json() else { panic!("expected an array: {}", response.text()) };
    let ids: Vec<&str> = found.iter().map(|pessoa| pessoa["id"].as_str().unwrap()).collect();
    assert!(ids.is_sorted_by(|a, b| a < b), "expected ascending ids: {ids:?}");
    found
}

/// A search that starts after the 201 sees the pessoa, on whatever connection.
fn seen_by_the_next_search(world: &World) {
    let mut client = world.connect();
    for number in 0..20 {
        let body = format!(
            r#"{{"apelido":"next {number}","nome":"x","nascimento":"2000-01-01","stack":["next q{number}q"]}}"#
        );
        let created = client.ask("POST", "/pessoas", body);
        expect(&created, "201");
        let response = world.ask("GET", &format!("/pessoas?t=q{number}q"), "");
        assert_eq!(response.text(), format!("[{}]", created.text()));
    }
}

/// A search on another instance sees the pessoa within one second.
fn seen_on_another_instance(world: &World) {
    let mut other = world.other_instance();
    let mut there = Client::new(other.connect());
    for number in 0..5 {
        let body =
            format!(r#"{{"apelido":"far {number}","nome":"far f{number}f","nascimento":"2000-01-01"}}"#);
        let created = world.create(body);
        expect(&created, "201");
        let began = Instant::now();
        while there.ask("GET", &format!("/pessoas?t=f{number}f"), "").text()
            != format!("[{}]", created.text())
        {
            assert!(began.elapsed() < Duration::from_secs(1), "expected {} to be found", created.text());
        }
    }
    other.kill();
}
