//! Encrypted connections to the database: whether, and whom the server believes.

use crate::encrypted::Encrypted;
use crate::expect_refused;
use crate::load::Pessoa;
use crate::server::Server;

#[test]
fn the_url_says_whether_and_whom_to_believe() {
    let database = Encrypted::start("localhost");
    let url = |host: &str, tls: &str| format!("postgres://rinha@{host}:{}/postgres?{tls}", database.port);
    let (root, stranger) = (database.root(), database.stranger());
    let (root, stranger) = (root.display(), stranger.display());
    for (host, tls) in [
        ("127.0.0.1", "sslmode=require".to_owned()),
        ("127.0.0.1", format!("sslmode=verify-ca&sslrootcert={root}")),
        ("localhost", format!("sslmode=verify-full&sslrootcert={root}")),
    ] {
        let server = Server::start(&["--cores", "1", "--database-url", &url(host, &tls)]);
        let apelido = format!("{host} {}", &tls[..16.min(tls.len())]);
        assert_eq!(Pessoa::named(&apelido).post_to(&server).status, 201, "{tls}");
    }
    for (host, tls, expected) in [
        ("127.0.0.1", String::new(), "no encryption (SQLSTATE 28000)"),
        ("127.0.0.1", format!("sslmode=verify-full&sslrootcert={root}"), "not valid for name"),
        ("127.0.0.1", format!("sslmode=require&sslrootcert={stranger}"), "invalid peer certificate"),
        ("localhost", format!("sslmode=verify-full&sslrootcert={stranger}"), "invalid peer certificate"),
    ] {
        expect_refused(&url(host, &tls), expected);
    }
}
