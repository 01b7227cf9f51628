//! Something between server and database that gives a session another server, in the middle.

use std::io::{Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;

use tempfile::TempDir;
use tokio_postgres::Config;

use crate::cluster::{Cluster, temporary_directory};
use crate::load::wait_until;
use crate::race::body;
use crate::server::Server;
use crate::{found, insert, search};

/// The file name of a Postgres' socket.
const SOCKET: &str = ".s.PGSQL.5432";

/// A way to two databases. It takes a session from the first one to the second by saying there what its client has said so
/// far, as if that had come from nobody else.
struct Swapper {
    directory: TempDir,
    swapped: Arc<AtomicBool>,
    /// How many sessions have been taken along.
    taken: Arc<Mutex<usize>>,
}

impl Swapper {
    fn between(first: &Cluster, second: &Cluster) -> Swapper {
        let directory = temporary_directory();
        let listener = UnixListener::bind(directory.path().join(SOCKET)).unwrap();
        let [first, second] = [first, second].map(|cluster| cluster.embedded.socket_dir().join(SOCKET));
        let (swapped, taken) = (Arc::default(), Arc::default());
        let swapper = Swapper { directory, swapped: Arc::clone(&swapped), taken: Arc::clone(&taken) };
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let (swapped, taken) = (Arc::clone(&swapped), Arc::clone(&taken));
                let (first, second) = (first.clone(), second.clone());
                thread::spawn(move || relay(client, &first, &second, &swapped, &taken));
            }
        });
        swapper
    }

    fn config(&self, cluster: &Cluster) -> Config {
        let direct = cluster.config();
        let mut config = Config::new();
        config.host_path(self.directory.path()).port(5432);
        config.user(direct.get_user().unwrap()).dbname(direct.get_dbname().unwrap());
        config
    }
}

/// Relays one session, each request with its whole answer, so that the swap comes between two requests.
fn relay(mut client: UnixStream, first: &Path, second: &PathBuf, swapped: &AtomicBool, taken: &Mutex<usize>) {
    let mut on_second = swapped.load(Ordering::SeqCst);
    let Ok(mut server) = UnixStream::connect(if on_second { second.as_path() } else { first }) else {
        return;
    };
    let mut said: Vec<Vec<u8>> = Vec::new();
    while let Some(request) = read_request(&mut client, said.is_empty()) {
        if swapped.load(Ordering::SeqCst) && !on_second {
            let Ok(other) = UnixStream::connect(second) else { return };
            server = other;
            for request in &said {
                if server.write_all(request).is_err() || read_answer(&mut server).is_none() {
                    return;
                }
            }
            on_second = true;
            *taken.lock().unwrap() += 1;
        }
        if server.write_all(&request).is_err() {
            return;
        }
        let Some(answer) = read_answer(&mut server) else { return };
        if client.write_all(&answer).is_err() {
            return;
        }
        said.push(request);
    }
}

/// The messages of a client up to one that is answered by "ready for query"; at first the one that has no type.
fn read_request(client: &mut UnixStream, first: bool) -> Option<Vec<u8>> {
    let mut request = Vec::new();
    if first {
        read_rest(client, &mut request)?;
        return Some(request);
    }
    loop {
        let kind = read_message(client, &mut request)?;
        // Query, Sync; Terminate has no answer.
        match kind {
            b'Q' | b'S' => return Some(request),
            b'X' => return None,
            _ => {}
        }
    }
}

/// The messages of a server up to "ready for query".
fn read_answer(server: &mut UnixStream) -> Option<Vec<u8>> {
    let mut answer = Vec::new();
    while read_message(server, &mut answer)? != b'Z' {}
    Some(answer)
}

fn read_message(stream: &mut UnixStream, into: &mut Vec<u8>) -> Option<u8> {
    let mut kind = [0];
    stream.read_exact(&mut kind).ok()?;
    into.push(kind[0]);
    read_rest(stream, into)?;
    Some(kind[0])
}

/// What comes after a message's type: its length, which counts itself, and the rest.
fn read_rest(stream: &mut UnixStream, into: &mut Vec<u8>) -> Option<()> {
    let mut length = [0; 4];
    stream.read_exact(&mut length).ok()?;
    into.extend_from_slice(&length);
    let start = into.len();
    into.resize(start + usize::try_from(u32::from_be_bytes(length)).unwrap() - length.len(), 0);
    stream.read_exact(&mut into[start..]).ok()
}

/// All that was said in the session holds on the other server, its settings and statements too: only the answers tell.
#[test]
fn a_session_that_is_taken_to_another_database_is_found_out() {
    let (first, second) = (Cluster::start(), Cluster::start());
    drop(Server::on(&second.config(), &[]));
    // As many transactions as there, and more: what the first one's snapshot has not shown yet are none of these.
    for number in 0..20 {
        insert(&second, &format!("second{number}."), &[]);
    }
    let swapper = Swapper::between(&first, &second);
    let server = Server::on(&swapper.config(&first), &["--cores", "2"]);
    let lost = server.ask("POST", "/pessoas", &body("lost", "x"));
    assert_eq!(lost.status, 201);
    for number in 0..200 {
        first.query("select pg_current_xact_id()");
        if number % 50 == 0 {
            assert_eq!(found(&search(&server, "lost")), Some(vec!["lost".to_owned()]));
        }
    }
    swapper.swapped.store(true, Ordering::SeqCst);
    insert(&second, "swapped", &[]);
    for apelido in ["swapped", "second0.", "second19."] {
        wait_until(apelido, || found(&search(&server, apelido)).is_some_and(|found| found == [apelido]));
    }
    assert!(*swapper.taken.lock().unwrap() > 0);
    wait_until("the end of the lost row", || found(&search(&server, "lost")) == Some(Vec::new()));
    wait_until("the other history", || {
        server.log().iter().any(|line| line.contains("another history: loading anew"))
    });
    crate::wait_until_fresh(&server);
    assert_eq!(server.ask("GET", &format!("/pessoas/{}", lost.id()), "").status, 404);
}
