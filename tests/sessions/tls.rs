//! Encrypted connections to the database: whether, and whom the server believes.

use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::Path;

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};

use crate::cluster::Cluster;
use crate::expect_refused;
use crate::load::{Pessoa, wait_until};
use crate::processes::Child;
use crate::server::Server;
use crate::standby::program;

/// An authority, and what it vouches for: a server named `localhost`.
struct Certificates {
    root: String,
    server: String,
    key: String,
}

fn certificates() -> Certificates {
    let key = KeyPair::generate().expect("a key");
    let mut authority = CertificateParams::new(Vec::<String>::new()).expect("parameters");
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let root = authority.self_signed(&key).expect("a certificate").pem();
    let issuer = Issuer::new(authority, key);
    let key = KeyPair::generate().expect("a key");
    let server = CertificateParams::new(vec!["localhost".to_owned()]).expect("parameters");
    let server = server.signed_by(&key, &issuer).expect("a certificate").pem();
    Certificates { root, server, key: key.serialize_pem() }
}

/// Writes a file for the user of Postgres.
fn write(path: &Path, text: &str, owner: &Path) {
    fs::write(path, text).expect("a file");
    fs::set_permissions(path, Permissions::from_mode(0o600)).expect("its mode");
    let owner = fs::metadata(owner).expect("the cluster");
    chown(path, Some(owner.uid()), Some(owner.gid())).expect("its owner");
}

#[test]
fn the_url_says_whether_and_whom_to_believe() {
    let cluster = Cluster::start();
    let pgdata = cluster.pgdata();
    let certificates = certificates();
    write(&pgdata.join("server.crt"), &certificates.server, &pgdata);
    write(&pgdata.join("server.key"), &certificates.key, &pgdata);
    write(&pgdata.join("pg_hba.conf"), "hostssl all all 127.0.0.1/32 trust\n", &pgdata);
    let directory = cluster.leave(|mut postgres| postgres.stop().expect("its end"));
    let (root, stranger) = (directory.path().join("root.crt"), directory.path().join("stranger.crt"));
    fs::write(&root, certificates.root).expect("a file");
    fs::write(&stranger, self::certificates().root).expect("a file");

    let port = Child::free_port();
    let mut postgres = program("postgres");
    postgres.arg("-D").arg(&pgdata).args(["-c", "ssl=on", "-c", "listen_addresses=127.0.0.1"]);
    postgres.args(["-c", "unix_socket_directories=", "-c", &format!("port={port}")]);
    let _postgres = Child::start_as_owner_of(&pgdata, postgres);
    let reachable = || std::net::TcpStream::connect(("127.0.0.1", port)).is_ok();
    wait_until("Postgres", reachable);

    let url = |host: &str, tls: &str| format!("postgres://rinha@{host}:{port}/postgres?{tls}");
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
