//! `POST /pessoas`.

use std::sync::Barrier;

use rinha::limits::BODY_MAX;
use uuid::Uuid;

use crate::answer::{Client, expect, shown};
use crate::server::{Connection, Response};
use crate::world::{World, chunked, in_every_world, person};

/// A pessoa that only SQL knows, in the decomposed form of its name.
const PAST: &str = "\
    INSERT INTO pessoas (id, apelido, nome, nascimento) \
    VALUES ('00000000-0000-4000-8000-000000000001', 'past jose\u{301}', 'José', '2000-01-01')";

#[test]
fn post_pessoas() {
    in_every_world(PAST, |world| {
        let before = world.rows();
        malformed(world);
        invalid(world);
        a_wrong_type_wins_over_a_broken_rule(world);
        too_large(world);
        assert_eq!(world.rows(), before, "what is refused is not stored");
        let accepted = accepted(world);
        assert_eq!(world.rows(), before + accepted, "what is acknowledged is stored");
        unique_byte_for_byte(world);
        of_creates_at_once_one_wins(world);
    });
}

/// However many clients want one apelido at the same time, one gets it.
fn of_creates_at_once_one_wins(world: &World) {
    let addresses = world.addresses();
    for round in 0..5 {
        let body = person(&format!("at once {round}"));
        let together = Barrier::new(8);
        let create = |number: usize| {
            let mut client = Client::new(Connection::open(&addresses[number % addresses.len()]));
            together.wait();
            client.ask("POST", "/pessoas", &body).status
        };
        let statuses: Vec<u16> = std::thread::scope(|scope| {
            let create = &create;
            let clients: Vec<_> = (0..8).map(|number| scope.spawn(move || create(number))).collect();
            clients.into_iter().map(|client| client.join().unwrap()).collect()
        });
        let count = |status| statuses.iter().filter(|&&got| got == status).count();
        assert_eq!((count(201), count(422)), (1, 7), "{statuses:?}");
        let rows = world.query(&format!("SELECT count(*) FROM pessoas WHERE apelido = 'at once {round}'"));
        assert_eq!(rows, ["1"]);
    }
}

/// Bodies and what they are answered with, without the id. `@` stands for an apelido of the case's own.
const ACCEPTED: &[(&str, &str)] = &[
    (
        r#"{"apelido":"@","nome":"Ana","nascimento":"2000-02-29","stack":["C#","Node"]}"#,
        r#""apelido":"@","nome":"Ana","nascimento":"2000-02-29","stack":["C#","Node"]"#,
    ),
    // Members in any order, whitespace around everything.
    (
        " \r\n{\t\"stack\" : [ \"Go\" , \"C\" ] ,\n\"nascimento\":\"2000-02-29\", \"nome\":\"Ana\" , \"apelido\":\"@\"\n}\n ",
        r#""apelido":"@","nome":"Ana","nascimento":"2000-02-29","stack":["Go","C"]"#,
    ),
    // An absent stack is shown as null; an empty one stays empty.
    (
        r#"{"apelido":"@","nome":"Ana","nascimento":"2000-02-29"}"#,
        r#""apelido":"@","nome":"Ana","nascimento":"2000-02-29","stack":null"#,
    ),
    (
        r#"{"apelido":"@","nome":"Ana","nascimento":"2000-02-29","stack":null}"#,
        r#""apelido":"@","nome":"Ana","nascimento":"2000-02-29","stack":null"#,
    ),
    (
        r#"{"apelido":"@","nome":"Ana","nascimento":"2000-02-29","stack":[]}"#,
        r#""apelido":"@","nome":"Ana","nascimento":"2000-02-29","stack":[]"#,
    ),
    // Order and repeats are kept.
    (
        r#"{"apelido":"@","nome":"Ana","nascimento":"2000-02-29","stack":["b","a","b","B"," "]}"#,
        r#""apelido":"@","nome":"Ana","nascimento":"2000-02-29","stack":["b","a","b","B"," "]"#,
    ),
    // Unknown members are ignored, whatever they hold.
    (
        r#"{"x":{"apelido":1,"y":[null,1e999,"\u0000"]},"id":"mine","apelido":"@","nome":"Ana","nascimento":"2000-02-29","Nome":1,"":0}"#,
        r#""apelido":"@","nome":"Ana","nascimento":"2000-02-29","stack":null"#,
    ),
    // As deep as it may be: the object is the first level.
    (
        r#"{"apelido":"@","nome":"Ana","nascimento":"2000-02-29","x":[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]}"#,
        r#""apelido":"@","nome":"Ana","nascimento":"2000-02-29","stack":null"#,
    ),
    // Escapes are undone, in names too, and made again only where JSON needs them.
    (
        r#"{"\u0061pelido":"@","n\u006Fme":"\"\\\/\b\f\n\r\t\u001f\u00e9\uD83E\uDD80","nascimento":"2000\u002d02-29","stac\u006b":["\u0043"]}"#,
        r#""apelido":"@","nome":"\"\\/\b\f\n\r\t\u001fé🦀","nascimento":"2000-02-29","stack":["C"]"#,
    ),
    // What an array's text form could trip over.
    (
        r#"{"apelido":"@","nome":"'; DROP TABLE pessoas; --","nascimento":"2000-02-29","stack":["\"","\\","\\\"","a,b","{a}","{","}","NULL","null"," a ","'","\t\n","C:\\n","é","🦀"]}"#,
        r#""apelido":"@","nome":"'; DROP TABLE pessoas; --","nascimento":"2000-02-29","stack":["\"","\\","\\\"","a,b","{a}","{","}","NULL","null"," a ","'","\t\n","C:\\n","é","🦀"]"#,
    ),
    // The first and the last day; leap days of each kind of leap year; only spaces is a nome.
    (
        r#"{"apelido":"@","nome":"   ","nascimento":"0001-01-01"}"#,
        r#""apelido":"@","nome":"   ","nascimento":"0001-01-01","stack":null"#,
    ),
    (
        r#"{"apelido":"@","nome":"a","nascimento":"9999-12-31"}"#,
        r#""apelido":"@","nome":"a","nascimento":"9999-12-31","stack":null"#,
    ),
    (
        r#"{"apelido":"@","nome":"a","nascimento":"2024-02-29"}"#,
        r#""apelido":"@","nome":"a","nascimento":"2024-02-29","stack":null"#,
    ),
];

/// Checks every accepted body, and returns how many there were.
fn accepted(world: &World) -> u64 {
    let mut instance = world.other_instance();
    let mut other = Client::new(instance.connect());
    let mut created = Vec::new();
    let mut check = |body: &str, expected: &str| {
        let apelido = format!("accepted {}", created.len());
        let (body, expected) = (body.replace('@', &apelido), expected.replace('@', &apelido));
        created.push(check_created(world, &mut other, &body, &expected));
    };
    for (body, expected) in ACCEPTED {
        check(body, expected);
    }
    // Lengths count Unicode scalar values: one may take four bytes, be written as escapes, or share a letter with
    // another.
    for (character, written) in
        [("a", "a"), ("é", "é"), ("🦀", "🦀"), ("🦀", r"\uD83E\uDD80"), ("\u{301}", "\u{301}")]
    {
        let members = |character: &str| {
            let (nome, item) = (character.repeat(100), character.repeat(32));
            format!(
                r#""apelido":"@","nome":"{nome}","nascimento":"2000-02-29","stack":["{item}","{character}"]"#
            )
        };
        check(&format!("{{{}}}", members(written)), &members(character));
    }
    for character in ["a", "é", "🦀", " "] {
        let members = format!(
            r#""apelido":"{}","nome":"Ana","nascimento":"2000-02-29","stack":null"#,
            character.repeat(32)
        );
        check(&format!("{{{members}}}"), &members);
    }
    // As many items as fit, and a body that is exactly as long as it may be.
    let items = vec![r#""a""#; 16_000].join(",");
    let members = format!(r#""apelido":"@","nome":"Ana","nascimento":"2000-02-29","stack":[{items}]"#);
    check(&format!("{{{members}}}"), &members);
    let members = r#""apelido":"exact","nome":"Ana","nascimento":"2000-02-29","stack":null"#;
    let spaces = " ".repeat(BODY_MAX - members.len() - 2);
    check(&format!("{{{members}}}{spaces}"), members);
    instance.kill();
    for (created, row) in created.iter().zip(rows_of(world, &created)) {
        assert_eq!(created.json(), row);
    }
    created.len() as u64
}

/// The created pessoas, as SQL sees them.
fn rows_of(world: &World, created: &[Response]) -> Vec<serde_json::Value> {
    let ids: Vec<String> = created.iter().map(Response::id).collect();
    let rows = world.query(&format!(
        "SELECT json_build_object('id', id, 'apelido', apelido, 'nome', nome, \
         'nascimento', to_char(nascimento, 'YYYY-MM-DD'), 'stack', stack) \
         FROM unnest('{{{}}}'::uuid[]) WITH ORDINALITY AS asked (id, place) JOIN pessoas USING (id) ORDER BY place",
        ids.join(",")
    ));
    assert_eq!(rows.len(), created.len());
    rows.iter().map(|row| serde_json::from_str(row).unwrap()).collect()
}

/// 201 with the pessoa as GET returns it, from here and from another instance.
#[track_caller]
fn check_created(world: &World, other: &mut Client, body: &str, expected: &str) -> Response {
    let created = world.create(body);
    let shown = shown(body);
    assert_eq!((created.status, &*created.reason), (201, "Created"), "{shown}: {}", created.text());
    assert_eq!(created.header("Content-Type"), Some("application/json"));
    let id = created.id();
    assert_eq!(Uuid::parse_str(&id).unwrap().to_string(), id, "lower case, 36 characters");
    assert_eq!(created.header("Location"), Some(&*format!("/pessoas/{id}")));
    assert_eq!(created.text(), format!(r#"{{"id":"{id}",{expected}}}"#), "{shown}");

    let path = format!("/pessoas/{id}");
    for fetched in [world.ask("GET", &path, ""), other.ask("GET", &path, "")] {
        assert_eq!((fetched.status, fetched.text()), (200, created.text()));
    }
    created
}

/// A body whose other members are right.
fn with(members: &str) -> String {
    let mut body = String::from("{");
    for (name, member) in [
        ("apelido", r#""apelido":"refused""#),
        ("nome", r#""nome":"Ana""#),
        ("nascimento", r#""nascimento":"2000-02-29""#),
    ] {
        if !members.contains(&format!("\"{name}\"")) {
            body += &format!("{member},");
        }
    }
    body + members + "}"
}

#[track_caller]
fn check(world: &World, body: impl AsRef<[u8]>, expected: &str) {
    let body = body.as_ref();
    let mut client = world.connect();
    let response = client.ask("POST", "/pessoas", body);
    println!("{}", shown(body));
    expect(&response, expected);
    // The framing was right, so the conversation goes on.
    client.expect_alive();
}

fn malformed(world: &World) {
    let good = with("\"x\":0");
    let not_json = "400 the body: expected one JSON object, got something else at byte ";
    for body in
        ["", " ", "x", "{", "{} {}", "{'a':1}", "{\"a\":1,}", "{\"a\":01}", "{\"a\":NaN}", "\u{feff}{}"]
    {
        check(world, body, not_json);
    }
    check(world, &good[..good.len() - 1], not_json);
    check(world, format!("{good}x"), not_json);
    check(world, format!("{good}{good}"), not_json);
    check(world, format!("{good}\0"), not_json);
    for body in ["null", "1", "\"a\"", "[]", r#"["ana","Ana","2000-02-29",null]"#] {
        check(world, body, "400 the body: expected a JSON object, got another JSON type");
    }
    for bytes in [&b"\xff"[..], b"\xc0\x80", b"\xed\xa0\x80", b"\xe2\x82"] {
        for (before, after) in
            [(&b"{\"apelido\":\""[..], &b"\"}"[..]), (b"{\"x\":\"", b"\"}"), (good.as_bytes(), b"")]
        {
            check(world, [before, bytes, after].concat(), "400 the body: expected UTF-8");
        }
    }
    for member in ["apelido", "nome", "nascimento"] {
        for value in ["1", "10", "true", "[]", "{}", "[\"a\"]"] {
            let expected = format!("400 `{member}`: expected a string");
            check(world, with(&format!("\"{member}\":{value}")), &expected);
        }
    }
    for value in ["\"x\"", "1", "true", "{}", "{\"0\":\"a\"}"] {
        check(
            world,
            with(&format!("\"stack\":{value}")),
            "400 `stack`: expected null or an array of strings",
        );
    }
    for value in ["1", "null", "true", "[]", "{}"] {
        let expected = "400 `stack[1]`: expected a string of 1 to 32 characters";
        check(world, with(&format!("\"stack\":[\"a\",{value}]")), expected);
    }
    for (member, value) in [
        ("apelido", "\"a\""),
        ("nome", "\"a\""),
        ("nascimento", "\"2000-01-01\""),
        ("stack", "null"),
        ("x", "1"),
    ] {
        let twice = with(&format!("\"{member}\":{value},\"{member}\":{value}"));
        check(world, twice, &format!("400 `{member}`: expected once"));
    }
    check(world, with(r#""nome":"a","n\u006fme":"a""#), "400 `nome`: expected once");
    for text in [r"\ud800", r"\udc00", r"\ud800x", r"\ud800\ud800", r"\udc00\ud800"] {
        for members in [
            format!(r#""apelido":"{text}""#),
            format!(r#""stack":["{text}"]"#),
            format!(r#""x":"{text}""#),
            format!(r#""{text}":1"#),
        ] {
            check(world, with(&members), "400 the body: expected surrogate escapes in pairs");
        }
    }
    for nested in
        [format!("{}{}", "[".repeat(32), "]".repeat(32)), "[".repeat(60_000), "{\"a\":".repeat(10_000)]
    {
        check(world, with(&format!("\"x\":{nested}")), "400 the body: expected at most 32 levels of nesting");
    }
}

fn invalid(world: &World) {
    let date = "a string AAAA-MM-DD, a calendar date of the years 0001 to 9999";
    for (member, rule) in [
        ("apelido", "a string of 1 to 32 characters"),
        ("nome", "a string of 1 to 100 characters"),
        ("nascimento", date),
    ] {
        let expected = format!("422 `{member}`: expected {rule}");
        let null = with(&format!("\"{member}\":null"));
        check(world, &null, &expected);
        check(world, null.replace(&format!("\"{member}\""), "\"other\""), &expected);
        for text in ["", r"\u0000", r"a\u0000"] {
            check(world, with(&format!("\"{member}\":\"{text}\"")), &expected);
        }
    }
    check(world, "{}", "422 `apelido`: expected");
    for character in ["a", " ", "é", "🦀", r"\uD83E\uDD80"] {
        for (place, members) in [
            ("apelido", format!("\"apelido\":\"{}\"", character.repeat(33))),
            ("nome", format!("\"nome\":\"{}\"", character.repeat(101))),
            ("stack[1]", format!("\"stack\":[\"a\",\"{}\"]", character.repeat(33))),
        ] {
            check(world, with(&members), &format!("422 `{place}`: expected a string of 1 to "));
        }
    }
    for items in ["[\"\"]", r#"["\u0000"]"#] {
        let expected = "422 `stack[0]`: expected a string of 1 to 32 characters";
        check(world, with(&format!("\"stack\":{items}")), expected);
    }
    for date in [
        "0000-01-01",
        "2000-13-01",
        "2000-00-01",
        "2000-01-00",
        "2000-01-32",
        "2000-04-31",
        "2001-02-29",
        "1900-02-29",
        "2000-1-1",
        "20000101",
        "2000/01/01",
        "01-01-2000",
        "10000-01-01",
        "-001-01-01",
        "+001-01-01",
        "infinity",
        "today",
        "2000-01-01 ",
        " 2000-01-01",
        "2000-01-01T00:00:00Z",
        "2000-01-0١",
        "２０００-01-01",
    ] {
        check(
            world,
            with(&format!("\"nascimento\":\"{date}\"")),
            "422 `nascimento`: expected a string AAAA-MM-DD",
        );
    }
}

fn a_wrong_type_wins_over_a_broken_rule(world: &World) {
    for broken in
        [r#""apelido":"""#, r#""apelido":null"#, r#""nascimento":"x""#, r#""stack":[""]"#, r#""a":0"#]
    {
        check(world, format!(r#"{{{broken},"nome":1}}"#), "400 `nome`: expected a string");
        check(world, format!(r#"{{"nome":1,{broken}}}"#), "400 `nome`: expected a string");
        check(world, format!(r#"{{{broken},"nome":"","nome":""}}"#), "400 `nome`: expected once");
        check(world, format!(r#"{{{broken},"nome":"a"}}x"#), "400 the body: expected one JSON object");
        check(world, format!(r#"{{{broken},"nome":"a"}}"#), "422 `");
    }
    // Not even a taken apelido is looked at before the types.
    expect(&world.create(r#"{"apelido":"past jose\u0301","nome":1}"#), "400 `nome`: expected a string");
    check(world, with(r#""stack":["",1]"#), "400 `stack[1]`: expected a string");
}

fn too_large(world: &World) {
    let body = format!("{}{}", person("too large"), " ".repeat(BODY_MAX));
    let announced =
        |length: &str| format!("POST /pessoas HTTP/1.1\r\nHost: a\r\nContent-Length: {length}\r\n\r\n");
    for request in [
        announced("65537"),
        announced("99999999999999999999999"),
        format!("{}{}", announced("65537"), &body[..65_537]),
        chunked("/pessoas", &body),
        "POST /pessoas HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n10001\r\n".to_owned(),
        // The data of the chunks would fit; with the framing around it the body does not.
        format!(
            "POST /pessoas HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n{}",
            format!("1;{}\r\nx\r\n", "a".repeat(200)).repeat(2_000)
        ),
    ] {
        let mut client = world.connect();
        client.send_unless_closed(&request);
        let response = client.receive();
        expect(&response, "413 the ");
        client.expect_close();
    }
    // No answer to HEAD has a body, not even a refusal.
    let mut client = world.connect();
    client.send_unless_closed(announced("65537").replacen("POST", "HEAD", 1));
    assert_eq!(client.receive_to("HEAD").status, 413);
    client.expect_close();
}

fn unique_byte_for_byte(world: &World) {
    let taken = "422 `apelido`: expected one that no other pessoa has";
    let created = |response: &Response| expect(response, "201");
    // Each differs from the others in bytes, if not to the eye.
    for apelido in
        ["jose", "Jose", "JOSE", "jos\u{e9}", "jose\u{301}", "Jos\u{e9}", "jose ", " jose", "j\u{43e}se"]
    {
        created(&world.create(person(apelido)));
        expect(&world.create(person(apelido)), taken);
    }
    // An apelido is taken however it is written, and whatever else differs.
    expect(&world.create(person(r"jos\u00e9")), taken);
    expect(&world.create(r#"{"nome":"B","nascimento":"1999-01-01","stack":["x"],"apelido":"jose"}"#), taken);
    // Rows that came by SQL, before the start and behind the server's back.
    expect(&world.create(person("past jose\u{301}")), taken);
    created(&world.create(person("past jos\u{e9}")));
    world.query(
        "INSERT INTO pessoas (id, apelido, nome, nascimento) VALUES (gen_random_uuid(), 'behind', 'a', '2000-01-01')",
    );
    expect(&world.create(person("behind")), taken);
    // The apelido of a refused pessoa is free.
    expect(&world.create(r#"{"apelido":"free","nome":"","nascimento":"2000-01-01"}"#), "422 `nome`");
    created(&world.create(person("free")));
}
