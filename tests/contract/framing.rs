//! How requests may be framed, and that it does not matter how their bytes arrive.

use std::time::Duration;

use rinha::limits::BODY_MAX;

use crate::answer::{Client, expect, expect_persistence, request};
use crate::server::Response;
use crate::world::{World, chunked, in_every_world, person};

pub(crate) fn framing(world: &World) {
    chunked_bodies(world);
    continue_before_the_body(world);
    http_1_0(world);
    connection_options(world);
}

/// A test of its own, because it takes its time.
#[test]
fn cut_anywhere() {
    in_every_world("", |world| {
        let created = world.create(person("cut taken"));
        let path = format!("/pessoas/{}", created.id());
        let get = request("GET", &path, b"");
        check_cut(world, |_| get.clone(), &[&|got, _| got.body == created.body]);
        let two = [&get[..], &request("GET", "/pessoas/1", b"")].concat();
        check_cut(world, |_| two.clone(), &[&|got, _| got.body == created.body, &|got, _| got.status == 404]);
        // To say that an apelido is taken, the server needs the whole body too, and mostly no Postgres.
        let body = |cut, free| person(if cut == 0 { free } else { "cut taken" });
        let expected = |got: &Response, cut| got.status == if cut == 0 { 201 } else { 422 };
        let post = |cut| request("POST", "/pessoas", body(cut, "cut post!").as_bytes());
        check_cut(world, post, &[&expected]);
        let post = |cut| chunked("/pessoas", &body(cut, "cut chunk")).into_bytes();
        check_cut(world, post, &[&expected]);
    });
}

fn chunked_bodies(world: &World) {
    let mut client = world.connect();
    for (number, coded) in [
        // Any sizes, in either case, with leading zeros; extensions and trailers mean nothing.
        "@1\r\n{\r\n00@2\r\n\r\n0\r\n\r\n",
        "@1;a\r\n{\r\n@2;a=\"b;\\\"c\" ; d\r\n\r\n000\r\nX: y\r\nContent-Length: 5\r\n\r\n",
    ]
    .into_iter()
    .enumerate()
    {
        let body = person(&format!("chunked {number}"));
        let (first, rest) = body.split_at(1);
        let coded = coded.replacen("@1", "1", 1).replacen("{\r\n", &format!("{first}\r\n"), 1).replacen(
            "@2",
            &format!("{:X}", rest.len()),
            1,
        );
        let at = coded.find("\r\n\r\n0").unwrap() + 2;
        let coded = format!("{}{rest}{}", &coded[..at], &coded[at..]);
        client
            .send(format!("POST /pessoas HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: Chunked\r\n\r\n{coded}"));
        expect(&client.receive(), "201");
    }
    // One byte to a chunk, and a body as long as it may be.
    let body = person("chunked to the limit");
    let body = format!("{body}{}", " ".repeat(BODY_MAX - body.len()));
    let bytewise: String = body.chars().map(|byte| format!("1\r\n{byte}\r\n")).collect();
    client.send(format!(
        "POST /pessoas HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n{bytewise}0\r\n\r\n"
    ));
    expect(&client.receive(), "201");
    // A chunked body follows the rules of any body, and one that nobody asked for is passed over.
    for (request, expected) in [
        (chunked("/pessoas", "{\"nome\":1}"), "400 `nome`"),
        (chunked("/pessoas", "{}"), "422 `apelido`"),
        (chunked("/pessoas", &person("chunked to the limit")), "422 `apelido`: expected one that no other"),
        (chunked("/nowhere", "{}"), "404 "),
    ] {
        client.send(request);
        expect(&client.receive(), expected);
    }
    client.send(chunked("/contagem-pessoas", "{}").replace("POST", "GET"));
    expect(&client.receive(), "200");
    client.expect_alive();
}

fn continue_before_the_body(world: &World) {
    let head = |framing: &str| {
        format!("POST /pessoas HTTP/1.1\r\nHost: a\r\n{framing}\r\nExpect: 100-Continue\r\n\r\n")
    };
    let mut client = world.connect();
    let body = person("expected");
    client.send(head(&format!("Content-Length: {}", body.len())));
    client.receive_continue();
    client.send(&body);
    expect(&client.receive(), "201");

    client.send(head("Transfer-Encoding: chunked"));
    client.receive_continue();
    client.send("2\r\n{}\r\n0\r\n\r\n");
    expect(&client.receive(), "422 `apelido`");

    // A client that does not wait is not kept waiting, and one that has no body is not told to send it.
    for request in [format!("{}{{}}", head("Content-Length: 2")), head("Content-Length: 0")] {
        client.send(request);
        let answer = client.receive();
        assert!(matches!(answer.status, 400 | 422), "{answer:?}");
    }
    // HTTP/1.0 knows no such answer.
    client.send(head("Content-Length: 2\r\nConnection: keep-alive").replace("HTTP/1.1", "HTTP/1.0"));
    client.send("{}");
    expect(&client.receive(), "422 `apelido`");
    client.expect_alive();

    // A body that will be refused is refused before it is sent.
    client.send(head("Content-Length: 65537"));
    expect(&client.receive(), "413 the body must be at most 64 KiB");
    client.expect_close();
}

fn http_1_0(world: &World) {
    let body = person("http 1.0");
    let post = format!("POST /pessoas HTTP/1.0\r\nContent-Length: {}\r\n\r\n{body}", body.len());
    for (request, expected) in [
        ("GET /contagem-pessoas HTTP/1.0\r\n\r\n", "200"),
        ("GET /contagem-pessoas HTTP/1.0\r\nHost: a\r\n\r\n", "200"),
        ("GET /pessoas/1 HTTP/1.0\r\nConnection: x\r\n\r\n", "404 "),
        (&post, "201"),
        ("GET /contagem-pessoas HTTP/1.0\r\nConnection: keep-alive, close\r\n\r\n", "200"),
    ] {
        let mut client = world.connect();
        client.send(request);
        let response = client.receive();
        expect(&response, expected);
        expect_persistence(&response, Some("close"));
        client.expect_close();
    }
    let mut client = world.connect();
    for _ in 0..3 {
        client.send("GET /contagem-pessoas HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\n");
        let response = client.receive();
        expect(&response, "200");
        expect_persistence(&response, Some("keep-alive"));
    }
    client.expect_alive();
}

fn connection_options(world: &World) {
    for option in ["close", "Close", "x, close", "keep-alive, close", "close\r\nConnection: keep-alive"] {
        let mut client = world.connect();
        client.send(format!("GET /pessoas/1 HTTP/1.1\r\nHost: a\r\nConnection: {option}\r\n\r\n"));
        let response = client.receive();
        expect(&response, "404 ");
        expect_persistence(&response, Some("close"));
        client.expect_close();
    }
    // A client that has closed its sending side is answered all the same.
    let mut client = world.connect();
    client.send(request("GET", "/contagem-pessoas", b""));
    client.finish();
    expect(&client.receive(), "200");
    client.expect_close();
}

/// A pause in which the server can read what was sent so far. Without it the test would pass too, but try fewer cuts.
const PAUSE: Duration = Duration::from_micros(150);

/// Whether this is the answer to a request that was cut there.
type IsRight<'a> = &'a dyn Fn(&Response, usize) -> bool;

/// Sends `request(cut)` cut in two at every byte, and `request(0)` byte by byte; `answers` know what must come back.
#[track_caller]
fn check_cut(world: &World, request: impl Fn(usize) -> Vec<u8>, answers: &[IsRight<'_>]) {
    let length = request(0).len();
    let mut client = world.connect();
    let expect_answers = |client: &mut Client, cut: usize| {
        for answer in answers {
            let got = client.receive();
            assert!(answer(&got, cut), "cut at {cut}: {got:?}");
        }
    };
    for cut in 1..length {
        let bytes = request(cut);
        assert_eq!(bytes.len(), length, "so that every cut is tried");
        client.send(&bytes[..cut]);
        std::thread::sleep(PAUSE);
        client.send(&bytes[cut..]);
        expect_answers(&mut client, cut);
    }
    for byte in request(0) {
        client.send([byte]);
        std::thread::sleep(PAUSE);
    }
    expect_answers(&mut client, 0);
}
