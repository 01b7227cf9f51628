//! `GET /contagem-pessoas`.

use crate::world::{World, person};

pub(crate) fn get_contagem_pessoas(world: &World) {
    check(world);
    let before = world.rows();
    assert_eq!(world.create(person("counted")).status, 201);
    assert_eq!(world.create(person("counted")).status, 422);
    assert_eq!(world.create("{}").status, 422);
    assert_eq!(check(world), before + 1);
    // Behind the server's back: the count is the database's, never a cache's.
    world.query(
        "INSERT INTO pessoas (id, apelido, nome, nascimento) \
         SELECT gen_random_uuid(), 'behind ' || number, 'Ana', '2000-01-01' FROM generate_series(1, 1000) AS number",
    );
    assert_eq!(check(world), before + 1_001);
    world.query("DELETE FROM pessoas");
    assert_eq!(check(world), 0);
}

/// The answer is what Postgres counts itself, in decimal and nothing else.
#[track_caller]
fn check(world: &World) -> u64 {
    let expected = world.rows();
    let mut client = world.connect();
    for target in ["/contagem-pessoas", "/contagem-pessoas?x=1"] {
        let response = client.ask("GET", target, "");
        assert_eq!((response.status, response.text()), (200, &*expected.to_string()));
        let content_type = response.header("Content-Type").unwrap();
        assert_eq!(content_type.split(';').next(), Some("text/plain"));
        let head = client.ask("HEAD", target, "");
        assert_eq!((head.status, head.header("Content-Length")), (200, response.header("Content-Length")));
        assert_eq!(head.header("Content-Type"), Some(content_type));
    }
    client.expect_alive();
    expected
}
