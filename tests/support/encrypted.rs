//! A Postgres with a certificate, which takes encrypted connections alone.

#![allow(dead_code, reason = "each test file uses its own part of this")]

use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use tempfile::TempDir;

use crate::cluster::Cluster;
use crate::load::wait_until;
use crate::processes::Child;
use crate::standby::program;

/// It listens on 127.0.0.1. The fields are dropped in order: first it stops, then its directory goes.
pub(crate) struct Encrypted {
    /// Where it listens.
    pub(crate) port: u16,
    _postgres: Child,
    directory: TempDir,
}

impl Encrypted {
    /// A new one, whose certificate is for this name.
    pub(crate) fn start(name: &str) -> Encrypted {
        let cluster = Cluster::start();
        let pgdata = cluster.pgdata();
        let certificates = Certificates::of(name);
        write(&pgdata.join("server.crt"), &certificates.server, &pgdata);
        write(&pgdata.join("server.key"), &certificates.key, &pgdata);
        write(&pgdata.join("pg_hba.conf"), "hostssl all all 127.0.0.1/32 trust\n", &pgdata);
        let directory = cluster.leave(|mut postgres| postgres.stop().expect("its end"));
        let (root, stranger) = (certificates.root, Certificates::of(name).root);
        fs::write(directory.path().join("root.crt"), root).expect("a file");
        fs::write(directory.path().join("stranger.crt"), stranger).expect("a file");

        let port = Child::free_port();
        let mut postgres = program("postgres");
        postgres.arg("-D").arg(&pgdata).args(["-c", "ssl=on", "-c", "listen_addresses=127.0.0.1"]);
        postgres.args(["-c", "unix_socket_directories=", "-c", &format!("port={port}")]);
        let postgres = Child::start_as_owner_of(&pgdata, postgres);
        wait_until("Postgres", || std::net::TcpStream::connect(("127.0.0.1", port)).is_ok());
        Encrypted { port, _postgres: postgres, directory }
    }

    /// The certificate of the authority that vouches for it.
    pub(crate) fn root(&self) -> PathBuf {
        self.directory.path().join("root.crt")
    }

    /// That of another.
    pub(crate) fn stranger(&self) -> PathBuf {
        self.directory.path().join("stranger.crt")
    }
}

/// Writes a file for the user of Postgres.
fn write(path: &Path, text: &str, owner: &Path) {
    fs::write(path, text).expect("a file");
    fs::set_permissions(path, Permissions::from_mode(0o600)).expect("its mode");
    let owner = fs::metadata(owner).expect("the cluster");
    chown(path, Some(owner.uid()), Some(owner.gid())).expect("its owner");
}

/// An authority, and what it vouches for: a server with a name. All are PEM.
struct Certificates {
    root: String,
    server: String,
    key: String,
}

impl Certificates {
    fn of(name: &str) -> Certificates {
        let key = KeyPair::generate().expect("a key");
        let mut authority = CertificateParams::new(Vec::<String>::new()).expect("parameters");
        authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let root = authority.self_signed(&key).expect("a certificate").pem();
        let issuer = Issuer::new(authority, key);
        let key = KeyPair::generate().expect("a key");
        let server = CertificateParams::new(vec![name.to_owned()]).expect("parameters");
        let server = server.signed_by(&key, &issuer).expect("a certificate").pem();
        Certificates { root, server, key: key.serialize_pem() }
    }
}
