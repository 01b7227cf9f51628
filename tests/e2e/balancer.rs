//! Where `haproxy.cfg` sends lookups: HAProxy itself, before servers that only say who they are.

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use crate::composition::INSTANCES;
use crate::load::wait_until;
use crate::server::{Address, Connection};

/// Every id reaches the core of the instance that made it, or another server while that one is away.
pub(crate) fn lookups_go_to_their_maker() {
    for cores in [1, 2, 4] {
        let balancer = Balancer::start(cores);
        for (instance, digits) in ["80", "81"].into_iter().enumerate() {
            for home in 0..=0xff {
                let id = format!("019571ab-cdef-7000-{digits}{home:02x}-0123456789ab");
                let expected = format!("{}-{}", INSTANCES[instance], home % cores);
                assert_eq!(balancer.asked(&format!("/pessoas/{id}")), expected, "{id}, {cores} cores");
                if cores > 1 {
                    assert_eq!(balancer.asked(&format!("/pessoas/{}", id.to_uppercase())), expected, "{id}");
                }
            }
        }
        // What names no instance here goes to all in turns.
        for target in ["/pessoas/019571ab-cdef-7000-82ff-0123456789ab", "/pessoas?t=80", "/pessoas/80", "/"] {
            assert_eq!(balancer.turns(target, 2 * cores).len(), 2 * cores, "{target}");
        }
        let of_first = "/pessoas/019571ab-cdef-7000-8000-0123456789ab";
        let others = || {
            let names = balancer.turns(of_first, 2 * cores - 1);
            assert!(names.len() == 2 * cores - 1 && !names.contains("api1-0"), "{names:?}");
        };
        balancer.command("set server api/api1-0 state maint");
        others();
        balancer.command("set server api/api1-0 state ready");
        assert_eq!(balancer.asked(of_first), "api1-0");
        balancer.first_is_ill.store(true, Ordering::Relaxed);
        wait_until("another server for the first one's", || balancer.asked(of_first) != "api1-0");
        others();
    }
}

struct Balancer {
    child: Child,
    address: Address,
    directory: tempfile::TempDir,
    /// Makes `api1-0` fail its checks.
    first_is_ill: Arc<AtomicBool>,
}

impl Balancer {
    fn start(cores: usize) -> Balancer {
        let directory = tempfile::tempdir().unwrap();
        let first_is_ill = Arc::new(AtomicBool::new(false));
        for name in INSTANCES.iter().flat_map(|name| (0..cores).map(move |core| format!("{name}-{core}"))) {
            serve(directory.path(), name, &first_is_ill);
        }
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let child = Command::new("haproxy")
            .args(["-db", "-f", "haproxy.cfg"])
            .envs([("ADDRESS", "127.0.0.1"), ("STATE", ""), ("METRICS", "")])
            .env("SOCKETS", directory.path())
            .env("PORT", port.to_string())
            .env("API_CORES", cores.to_string())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let address = Address::Tcp(SocketAddr::from(([127, 0, 0, 1], port)));
        let balancer = Balancer { child, address, directory, first_is_ill };
        wait_until("all servers", || {
            let socket = UnixStream::connect(balancer.directory.path().join("haproxy-admin.sock"));
            socket.is_ok() && balancer.command("show stat").matches(",UP,").count() >= 2 * 2 * cores
        });
        balancer
    }

    /// Who answers this.
    fn asked(&self, target: &str) -> String {
        Connection::open(&self.address).ask("GET", target, "").text().to_owned()
    }

    /// Who answers when it is asked so often.
    fn turns(&self, target: &str, times: usize) -> BTreeSet<String> {
        (0..times).map(|_| self.asked(target)).collect()
    }

    /// What HAProxy says to this.
    fn command(&self, command: &str) -> String {
        let mut socket = UnixStream::connect(self.directory.path().join("haproxy-admin.sock")).unwrap();
        socket.write_all(format!("{command}\n").as_bytes()).unwrap();
        let mut said = String::new();
        socket.read_to_string(&mut said).unwrap();
        said
    }
}

impl Drop for Balancer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Answers every request with the server's name, for as long as the test lasts.
fn serve(directory: &Path, name: String, first_is_ill: &Arc<AtomicBool>) {
    let listener = UnixListener::bind(directory.join(format!("{name}.sock"))).unwrap();
    let ill = Arc::clone(first_is_ill);
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let (name, ill) = (name.clone(), Arc::clone(&ill));
            thread::spawn(move || answer(stream, &name, &ill));
        }
    });
}

fn answer(mut stream: UnixStream, name: &str, ill: &AtomicBool) {
    let (mut received, mut bytes) = (Vec::new(), [0; 4096]);
    while let Ok(read @ 1..) = stream.read(&mut bytes) {
        received.extend_from_slice(&bytes[..read]);
        if !received.ends_with(b"\r\n\r\n") {
            continue;
        }
        let failed = name == "api1-0" && ill.load(Ordering::Relaxed) && received.starts_with(b"GET /healthz");
        let status = if failed { "503 Service Unavailable" } else { "200 OK" };
        received.clear();
        let answer = format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\n\r\n{name}", name.len());
        if stream.write_all(answer.as_bytes()).is_err() {
            return;
        }
    }
}
