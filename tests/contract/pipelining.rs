//! Requests that are sent without waiting for answers.

use crate::answer::{expect, expect_persistence, request};
use crate::world::{World, person};

pub(crate) fn pipelined_requests(world: &World) {
    one_write_for_what_was_read_together(world);
    in_order(world);
    an_early_end(world);
}

/// All requests fit one read of the server. If each answer were written as soon as it is known, the first would be here
/// long before Postgres has counted, and one `read` would give no more than the first.
fn one_write_for_what_was_read_together(world: &World) {
    let mut client = world.connect();
    let requests = [
        request("GET", "/pessoas/1", b""),
        request("GET", "/contagem-pessoas", b""),
        request("POST", "/pessoas", person("piped").as_bytes()),
        request("GET", "/pessoas/00000000-0000-0000-0000-000000000001", b""),
        request("GET", "/pessoas?t=piped", b""),
        request("GET", "/contagem-pessoas", b""),
        request("DELETE", "/pessoas", b""),
    ];
    let rows = world.rows();
    client.send(requests.concat());
    client.read_once();
    assert!(
        client.unread().ends_with(br#""detail":"expected one of the methods GET, HEAD, POST"}"#),
        "expected the last answer with the first: {:?}",
        String::from_utf8_lossy(client.unread())
    );
    expect(&client.receive(), "404 expected an id");
    assert_eq!(client.receive().text(), rows.to_string());
    let created = client.receive();
    expect(&created, "201");
    expect(&client.receive(), "404 no pessoa has this id");
    // Each request sees what the ones before it did.
    assert_eq!(client.receive().text(), format!("[{}]", created.text()));
    assert_eq!(client.receive().text(), (rows + 1).to_string());
    expect(&client.receive(), "405");
    assert_eq!(client.unread(), b"");
    client.expect_alive();
}

/// Many more requests than one read holds, some of which wait for Postgres.
fn in_order(world: &World) {
    let mut client = world.connect();
    let mut requests = Vec::new();
    for number in 0..100 {
        requests.extend(request("POST", "/pessoas", person(&format!("in order {number}")).as_bytes()));
        requests.extend(request("GET", &format!("/{number}"), b""));
        requests.extend(request("POST", "/pessoas", person(&format!("in order {number}")).as_bytes()));
        requests.extend(request("GET", &format!("/pessoas?t=in+order+{number}"), b""));
    }
    client.send(requests);
    for number in 0..100 {
        let created = client.receive();
        assert_eq!(created.json()["apelido"], format!("in order {number}"));
        expect(&client.receive(), "404 ");
        expect(&client.receive(), "422 `apelido`");
        assert!(client.receive().text().contains(created.text()), "in order {number}");
    }
    client.expect_alive();
}

/// What follows a request that closes its connection is not answered.
fn an_early_end(world: &World) {
    let mut client = world.connect();
    let closing = "GET /contagem-pessoas HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
    let late = request("POST", "/pessoas", person("late").as_bytes());
    client.send([&request("GET", "/pessoas/1", b""), closing.as_bytes(), &late].concat());
    let response = client.receive();
    expect(&response, "404 ");
    expect_persistence(&response, None);
    let response = client.receive();
    expect(&response, "200");
    expect_persistence(&response, Some("close"));
    client.expect_close();
    assert_eq!(world.query("SELECT count(*) FROM pessoas WHERE apelido = 'late'"), ["0"]);
}
