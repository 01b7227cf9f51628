//! `GET /pessoas/:id`.

use crate::answer::{Client, expect};
use crate::world::{World, in_every_world, person};

/// Rows from before the start, whose ids someone else minted, and without a stored search text.
const PAST: &str = r#"
    INSERT INTO pessoas (id, apelido, nome, nascimento, stack) VALUES
        ('00000000-0000-0000-0000-000000000000', 'nil', 'Ana', '0001-01-01', NULL),
        ('0190a1b2-c3d4-7e5f-8a9b-0c1d2e3f4a5b', 'past', 'É "x"', '2000-02-29', '{}'),
        ('ffffffff-ffff-ffff-ffff-ffffffffffff', 'max', 'Ana', '9999-12-31', '{"b","a,b",NULL_,"\"","b"}')"#;

/// Targets and what they answer; a 200's body without its id.
const CASES: &[(&str, &str)] = &[
    (
        "/pessoas/00000000-0000-0000-0000-000000000000",
        r#"200 "apelido":"nil","nome":"Ana","nascimento":"0001-01-01","stack":null"#,
    ),
    (
        "/pessoas/0190a1b2-c3d4-7e5f-8a9b-0c1d2e3f4a5b",
        r#"200 "apelido":"past","nome":"É \"x\"","nascimento":"2000-02-29","stack":[]"#,
    ),
    (
        "/pessoas/ffffffff-ffff-ffff-ffff-ffffffffffff",
        r#"200 "apelido":"max","nome":"Ana","nascimento":"9999-12-31","stack":["b","a,b","NULL_","\"","b"]"#,
    ),
    // Either case, and a query that means nothing.
    (
        "/pessoas/0190A1B2-C3D4-7E5F-8A9B-0C1D2E3F4A5B",
        r#"200 "apelido":"past","nome":"É \"x\"","nascimento":"2000-02-29","stack":[]"#,
    ),
    (
        "/pessoas/0190a1B2-c3d4-7e5f-8A9B-0c1d2e3f4a5b?t=x",
        r#"200 "apelido":"past","nome":"É \"x\"","nascimento":"2000-02-29","stack":[]"#,
    ),
    // No committed pessoa has that id.
    ("/pessoas/0190a1b2-c3d4-7e5f-8a9b-0c1d2e3f4a5c", "404 no pessoa has this id"),
    ("/pessoas/10000000-0000-0000-0000-000000000000", "404 no pessoa has this id"),
    // Not a UUID in the 36-character form.
    ("/pessoas/1", "404 expected an id in the 36-character form of a UUID"),
    ("/pessoas/past", "404 expected an id in the 36-character form of a UUID"),
    ("/pessoas/0190a1b2c3d47e5f8a9b0c1d2e3f4a5b", "404 expected an id in the 36-character form of a UUID"),
    (
        "/pessoas/{0190a1b2-c3d4-7e5f-8a9b-0c1d2e3f4a5b}",
        "404 expected an id in the 36-character form of a UUID",
    ),
    (
        "/pessoas/urn:uuid:0190a1b2-c3d4-7e5f-8a9b-0c1d2e3f4a5b",
        "404 expected an id in the 36-character form of a UUID",
    ),
    ("/pessoas/0190a1b2-c3d4-7e5f-8a9b-0c1d2e3f4a5", "404 expected an id in the 36-character form of a UUID"),
    (
        "/pessoas/0190a1b2-c3d4-7e5f-8a9b-0c1d2e3f4a5bb",
        "404 expected an id in the 36-character form of a UUID",
    ),
    (
        "/pessoas/0190a1b2-c3d4-7e5f-8a9b-0c1d2e3f4a5g",
        "404 expected an id in the 36-character form of a UUID",
    ),
    (
        "/pessoas/0190a1b2-c3d47-e5f-8a9b-0c1d2e3f4a5b",
        "404 expected an id in the 36-character form of a UUID",
    ),
    (
        "/pessoas/%30190a1b2-c3d4-7e5f-8a9b-0c1d2e3f4a5b",
        "404 expected an id in the 36-character form of a UUID",
    ),
];

#[test]
fn get_pessoas_id() {
    in_every_world(PAST, |world| {
        // Twice: the first may be answered by Postgres, the second from memory.
        for (target, expected) in CASES.iter().chain(CASES) {
            check(world, target, expected);
        }
        behind_the_servers_back(world);
        through_every_instance(world);
    });
}

#[track_caller]
fn check(world: &World, target: &str, expected: &str) {
    let mut client = world.connect();
    let response = client.ask("GET", target, "");
    match expected.strip_prefix("200 ") {
        Some(members) => {
            let id = target["/pessoas/".len()..].split('?').next().unwrap().to_lowercase();
            let body = format!(r#"{{"id":"{id}",{members}}}"#);
            assert_eq!((response.status, response.text()), (200, &*body), "{target}");
            assert_eq!(response.header("Content-Type"), Some("application/json"));
        }
        None => expect(&response, expected),
    }
    // HEAD: the same head, no body.
    let head = client.ask("HEAD", target, "");
    assert_eq!((head.status, &head.body[..]), (response.status, &b""[..]), "{target}");
    for name in ["Content-Length", "Content-Type"] {
        assert_eq!(head.header(name), response.header(name), "{target}");
    }
    client.expect_alive();
}

/// An id that was not there a moment ago may be there now: a miss is never remembered.
fn behind_the_servers_back(world: &World) {
    let id = "0190a1b2-c3d4-7e5f-8a9b-000000000000";
    check(world, &format!("/pessoas/{id}"), "404 no pessoa has this id");
    world.query(&format!(
        "INSERT INTO pessoas (id, apelido, nome, nascimento) VALUES ('{id}', 'late', 'Ana', '2000-01-01')"
    ));
    let expected = r#"200 "apelido":"late","nome":"Ana","nascimento":"2000-01-01","stack":null"#;
    check(world, &format!("/pessoas/{id}"), expected);
}

fn through_every_instance(world: &World) {
    let mut other = world.other_instance();
    let (mut here, mut there) = (world.connect(), Client::new(other.connect()));
    for number in 0..10 {
        let created = here.ask("POST", "/pessoas", person(&format!("here {number}")));
        let found = there.ask("GET", &format!("/pessoas/{}", created.id()), "");
        assert_eq!((found.status, found.text()), (200, created.text()));
        let created = there.ask("POST", "/pessoas", person(&format!("there {number}")));
        let found = here.ask("GET", &format!("/pessoas/{}", created.id()), "");
        assert_eq!((found.status, found.text()), (200, created.text()));
    }
    other.kill();
}
