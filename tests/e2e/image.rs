//! The servers' image: how large it is, what is in it, and whether a server in it can do what takes more than its own
//! program: tell its health, find a host by its name, know whose certificate is good.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use crate::composition::{Composition, Containers, IMAGE, INSTANCES};
use crate::encrypted::Encrypted;
use crate::load::wait_until;
use crate::tell;

const BYTES_MAX: u64 = 20_000_000;
const PROGRAM: &str = "/usr/local/bin/rinha";
/// Where the engine puts what is its own.
const OF_THE_ENGINE: [&str; 4] = ["dev", "proc", "run", "sys"];

/// Its size, and its one program.
pub(crate) fn check(containers: &Containers) {
    let bytes = containers.engine(&["image", "inspect", "--format", "{{.Size}}", IMAGE]);
    let bytes: u64 = bytes.trim().parse().unwrap();
    tell!("   {bytes} bytes");
    assert!(bytes < BYTES_MAX, "expected less than {BYTES_MAX} bytes, got {bytes}");

    let root = PathBuf::from(format!("/proc/{}/root", containers.pid(INSTANCES[0])));
    let mut programs = Vec::new();
    for entry in fs::read_dir(&root).unwrap().map(Result::unwrap) {
        let name = entry.file_name();
        if entry.file_type().unwrap().is_dir() && !OF_THE_ENGINE.iter().any(|own| name == *own) {
            find_programs(&entry.path(), &mut programs);
        }
    }
    let mut programs: Vec<&str> =
        programs.iter().map(|path| path.strip_prefix(root.to_str().unwrap()).unwrap()).collect();
    // The C library and the loader are programs, too.
    programs.retain(|path| !path.starts_with("/lib"));
    assert_eq!(programs, [PROGRAM]);
    let shell = containers.try_engine(&["run", "--rm", "--entrypoint", "/bin/sh", IMAGE, "-c", "true"]);
    assert!(shell.is_err(), "there is a shell");
}

/// Files below `directory` that somebody may run.
fn find_programs(directory: &Path, found: &mut Vec<String>) {
    for entry in fs::read_dir(directory).unwrap().map(Result::unwrap) {
        let metadata = entry.metadata().unwrap();
        if metadata.is_dir() {
            find_programs(&entry.path(), found);
        } else if metadata.is_file() && metadata.permissions().mode() & 0o111 != 0 {
            found.push(entry.path().to_str().unwrap().to_owned());
        }
    }
}

/// The health check, as the engine runs it, says what is so.
pub(crate) fn check_health(containers: &Containers) {
    for name in INSTANCES {
        let container = containers.container(name);
        // Podman's checks are timers of systemd, which need not be there.
        if containers.engine_name() == "podman" {
            containers.engine(&["healthcheck", "run", &container]);
        } else {
            wait_until("its health", || containers.inspect(name, "{{.State.Health.Status}}") == "healthy");
        }
        let nobody = [PROGRAM, "healthcheck", "--listen", "unix:/run/rinha/nobody.sock"];
        let refused = containers.try_engine(&[&["exec", &container], &nobody[..]].concat());
        assert!(refused.is_err(), "expected nobody to be healthy");
    }
}

/// Servers that find their database by a name: of DNS, of `/etc/hosts`, of the machine itself.
pub(crate) fn check_names(containers: &Containers) {
    let database = Database::start(containers);
    let network = format!("--network={NETWORK}");
    let within = format!("--network=container:{DATABASE}");
    let known = format!("--add-host=known:{}", database.address());
    for (arguments, host, expected) in [
        (&[&*network][..], DATABASE, "serving"),
        (&[&network, &known], "known", "serving"),
        (&[&within], "localhost", "serving"),
        (&[&network], "nobody", "failed to lookup address information"),
    ] {
        expect_said(containers, arguments, &format!("postgres://rinha@{host}/rinha"), expected);
    }
}

/// Servers that look at their database's certificate, by a file and by what the image has. The database is of this
/// machine, as not every image of Postgres knows TLS.
pub(crate) fn check_certificates(containers: &Containers) {
    let database = Encrypted::start("db");
    let volume = format!("--volume={}:/root.crt:ro,z", database.root().display());
    let arguments = ["--network=host", "--add-host=db:127.0.0.1", &volume];
    for (host, root, expected) in [
        ("db", "&sslrootcert=/root.crt", "serving"),
        ("localhost", "&sslrootcert=/root.crt", "not valid for name"),
        // The image's own authorities are there, and do not know this one.
        ("db", "", "invalid peer certificate: UnknownIssuer"),
        ("db", "&sslrootcert=/nowhere.crt", "/nowhere.crt"),
    ] {
        let url = format!("postgres://rinha@{host}:{}/postgres?sslmode=verify-full{root}", database.port);
        expect_said(containers, &arguments, &url, expected);
    }
}

const SERVER: &str = "rinha-e2e-server";

/// Runs a server with a root that nobody can write to, until it has said what is expected.
fn expect_said(containers: &Containers, arguments: &[&str], url: &str, expected: &str) {
    let run = ["run", "--detach", "--name", SERVER, "--read-only", "--cap-drop=ALL"];
    // Its port is its own business, also where it has this machine's network.
    let serve = [IMAGE, "--listen", "127.0.0.1:0", "--cores", "1", "--database-url", url];
    let _server = Removed::new(containers, "rm", SERVER);
    containers.engine(&[&run[..], arguments, &serve].concat());
    wait_until("a server that says how it fares", || {
        let state = containers.engine(&["inspect", "--format", "{{.State.Status}}", SERVER]);
        let said = containers.logs_of(SERVER);
        let line = said.lines().find(|line| line.contains(expected));
        assert!(line.is_some() || state.trim() != "exited", "{url}: expected {expected:?}: {said}");
        line.inspect(|line| tell!("   {url}: {}", line.trim())).is_some()
    });
}

const NETWORK: &str = "rinha-e2e-names";
const DATABASE: &str = "rinha-e2e-db";
const POSTGRES: &str = "docker.io/library/postgres:18-bookworm";

/// What an engine has under a name, removed when this is made and when it is dropped, also when the test panics.
struct Removed<'a>(&'a Containers, &'static str, &'static str);

impl Removed<'_> {
    fn new<'a>(containers: &'a Containers, command: &'static str, name: &'static str) -> Removed<'a> {
        let removed = Removed(containers, command, name);
        removed.remove();
        removed
    }

    fn remove(&self) {
        let Removed(containers, command, name) = self;
        let arguments: &[&str] = match *command {
            "rm" => &["rm", "--force", "--volumes", name],
            _ => &["network", "rm", name],
        };
        // It need not be there.
        let _ = containers.try_engine(arguments);
    }
}

impl Drop for Removed<'_> {
    fn drop(&mut self) {
        self.remove();
    }
}

/// A Postgres in a network of its own. The fields are dropped in order.
struct Database<'a> {
    container: Removed<'a>,
    _network: Removed<'a>,
}

impl Database<'_> {
    fn start(containers: &Containers) -> Database<'_> {
        let container = Removed::new(containers, "rm", DATABASE);
        let network = Removed::new(containers, "network", NETWORK);
        containers.engine(&["network", "create", NETWORK]);
        let run = ["run", "--detach", "--name", DATABASE, "--network", NETWORK];
        let trusting = ["--env=POSTGRES_USER=rinha", "--env=POSTGRES_HOST_AUTH_METHOD=trust", POSTGRES];
        containers.engine(&[&run[..], &trusting].concat());
        let ready = ["exec", DATABASE, "pg_isready", "-q", "-h", "127.0.0.1", "-U", "rinha"];
        wait_until("a database that answers", || containers.try_engine(&ready).is_ok());
        Database { container, _network: network }
    }

    fn address(&self) -> String {
        let template = "{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}";
        let Removed(containers, _, name) = self.container;
        containers.engine(&["inspect", "--format", template, name]).trim().to_owned()
    }
}
