//! The real binary as a child process, and a client that speaks raw bytes to it. Gone when dropped, also when the
//! test panics.

#![allow(dead_code, reason = "each test file uses its own part of this")]

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;
use tokio_postgres::config::Host;

/// How long a start may take, a first private cluster included.
const START_TIME_MAX: Duration = Duration::from_secs(60);
/// How long a test waits for bytes; longer than every answer the server promises.
const READ_TIME_MAX: Duration = Duration::from_secs(20);

/// The binary under test: this build's, or the one that `RINHA_TEST_BINARY` names.
pub(crate) fn binary() -> Command {
    let other = std::env::var_os("RINHA_TEST_BINARY").filter(|path| !path.is_empty());
    program(other.map_or_else(|| beside("rinha"), PathBuf::from))
}

/// A program of this build. Cargo tells its place to the tests of the server's own package only; other programs lie beside it.
fn beside(name: &str) -> PathBuf {
    match option_env!("CARGO_BIN_EXE_rinha") {
        Some(path) => Path::new(path).with_file_name(name),
        None => std::env::current_exe().expect("this program's path").with_file_name(name),
    }
}

/// A server that is this program.
pub(crate) fn program(path: PathBuf) -> Command {
    let mut command = Command::new(path);
    // What the machine's environment says must not decide a test.
    for name in [
        "LISTEN",
        "DATABASE_URL",
        "PARTITIONS",
        "DATA_DIR",
        "CORES",
        "DRIVER",
        "CACHE_BYTES",
        "ADMIN",
        "ADMIN_PEERS",
        "INSTANCE",
        "LOG",
        "LOG_FORMAT",
        "NOTIFY_SOCKET",
        "WATCHDOG_USEC",
        "WATCHDOG_PID",
    ] {
        command.env_remove(name);
    }
    command.stdin(Stdio::null()).stdout(Stdio::null());
    command
}

/// A running server.
pub(crate) struct Server {
    child: Child,
    log: Arc<Mutex<Vec<String>>>,
    /// The line that it wrote when it began to serve.
    pub(crate) start: Value,
}

impl Server {
    /// Starts the server with these arguments, listening on a free TCP port of loopback besides, and waits until it
    /// serves.
    pub(crate) fn start(arguments: &[&str]) -> Server {
        let mut command = binary();
        command.args(["--log-format", "json", "--listen", "127.0.0.1:0"]).args(arguments);
        let mut server = Server::spawn(command);
        server.wait_until_serving();
        server
    }

    /// Starts the server on the test's cluster.
    pub(crate) fn on(config: &tokio_postgres::Config, arguments: &[&str]) -> Server {
        let url = database_url(config);
        Server::start(&[&["--database-url", &url], arguments].concat())
    }

    /// Runs `command`, whose log is JSON, without waiting for anything.
    pub(crate) fn spawn(mut command: Command) -> Server {
        let mut child = command.stderr(Stdio::piped()).spawn().expect("the server's process");
        let stderr = child.stderr.take().expect("stderr is piped");
        let log = Arc::new(Mutex::new(Vec::new()));
        let lines = Arc::clone(&log);
        std::thread::spawn(move || {
            for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                lines.lock().unwrap_or_else(PoisonError::into_inner).push(line);
            }
        });
        Server { child, log, start: Value::Null }
    }

    /// Waits for the line that says that it serves.
    pub(crate) fn wait_until_serving(&mut self) {
        let began = Instant::now();
        loop {
            let serving = self.events().into_iter().find(|event| event["message"] == "serving");
            if let Some(serving) = serving {
                self.start = serving;
                return;
            }
            let ended = self.child.try_wait().expect("the server's state");
            assert!(
                ended.is_none() && began.elapsed() < START_TIME_MAX,
                "expected a serving server ({ended:?}): {:#?}",
                self.log()
            );
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// What it wrote so far, line by line.
    pub(crate) fn log(&self) -> Vec<String> {
        self.log.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The lines that are JSON.
    pub(crate) fn events(&self) -> Vec<Value> {
        self.log().iter().filter_map(|line| serde_json::from_str(line).ok()).collect()
    }

    /// Every place it listens on, in the order of its arguments, the free port of loopback first.
    pub(crate) fn addresses(&self) -> Vec<Address> {
        let listen = self.start["listen"].as_str().expect("the start line names the listeners");
        listen.split(',').map(Address::parse).collect()
    }

    /// Its TCP address.
    pub(crate) fn tcp(&self) -> Address {
        self.addresses().swap_remove(0)
    }

    /// A new connection to its TCP address.
    pub(crate) fn connect(&self) -> Connection {
        Connection::open(&self.tcp())
    }

    /// One request on a connection of its own.
    pub(crate) fn ask(&self, method: &str, target: &str, body: &str) -> Response {
        self.connect().ask(method, target, body)
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn signal(&self, signal: Signal) {
        let pid = i32::try_from(self.child.id()).expect("a pid of Linux fits an i32");
        kill(Pid::from_raw(pid), signal).expect("a live server");
    }

    /// Waits for its end.
    pub(crate) fn wait(&mut self, time_max: Duration) -> ExitStatus {
        let began = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().expect("the server's state") {
                return status;
            }
            assert!(began.elapsed() < time_max, "expected an end within {time_max:?}: {:#?}", self.log());
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Whether it has ended.
    pub(crate) fn has_ended(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(Some(_)))
    }

    /// Kills the server, and waits for its end.
    pub(crate) fn kill(&mut self) {
        self.child.kill().expect("a live server");
        self.child.wait().expect("its end");
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(Some(_))) {
            return;
        }
        // Not SIGKILL at once: a private Postgres must end with its server.
        self.signal(Signal::SIGTERM);
        let began = Instant::now();
        while began.elapsed() < Duration::from_secs(11) {
            if matches!(self.child.try_wait(), Ok(Some(_))) {
                return;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The URL of a test's cluster.
pub(crate) fn database_url(config: &tokio_postgres::Config) -> String {
    let Some(Host::Unix(directory)) = config.get_hosts().first() else { panic!("expected a unix socket") };
    let user = config.get_user().expect("a user");
    let database = config.get_dbname().expect("a database");
    format!("host={} user={user} dbname={database}", directory.display())
}

/// A place to connect to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Address {
    Tcp(SocketAddr),
    Unix(PathBuf),
}

impl Address {
    pub(crate) fn parse(text: &str) -> Address {
        match text.strip_prefix("unix:") {
            Some(path) => Address::Unix(path.into()),
            None => Address::Tcp(text.parse().expect("a TCP address")),
        }
    }
}

enum Stream {
    Tcp(TcpStream),
    Unix(UnixStream),
}

impl Read for Stream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Stream::Tcp(stream) => stream.read(buffer),
            Stream::Unix(stream) => stream.read(buffer),
        }
    }
}

/// A client's connection. Requests are bytes; answers are read as RFC 9112 frames them.
pub(crate) struct Connection {
    stream: Stream,
    /// What was read and not yet taken as an answer.
    buffer: Vec<u8>,
}

impl Connection {
    pub(crate) fn open(address: &Address) -> Connection {
        Connection::try_open(address).expect("a connection")
    }

    pub(crate) fn try_open(address: &Address) -> io::Result<Connection> {
        let stream = match address {
            Address::Tcp(address) => {
                let stream = TcpStream::connect_timeout(address, READ_TIME_MAX)?;
                stream.set_nodelay(true)?;
                stream.set_read_timeout(Some(READ_TIME_MAX))?;
                stream.set_write_timeout(Some(READ_TIME_MAX))?;
                Stream::Tcp(stream)
            }
            Address::Unix(path) => {
                let stream = UnixStream::connect(path)?;
                stream.set_read_timeout(Some(READ_TIME_MAX))?;
                stream.set_write_timeout(Some(READ_TIME_MAX))?;
                Stream::Unix(stream)
            }
        };
        Ok(Connection { stream, buffer: Vec::new() })
    }

    /// A connection that the caller made.
    pub(crate) fn over(stream: TcpStream) -> Connection {
        Connection { stream: Stream::Tcp(stream), buffer: Vec::new() }
    }

    /// Ends it by a reset, where it is TCP. A unix socket with unread bytes is reset by any close.
    pub(crate) fn reset(self) {
        if let Stream::Tcp(stream) = &self.stream {
            let socket = socket2::SockRef::from(stream);
            socket.set_linger(Some(Duration::ZERO)).expect("an open socket");
        }
    }

    /// The same connection once more, for a thread of its own; it has read nothing.
    pub(crate) fn try_clone(&self) -> io::Result<Connection> {
        let stream = match &self.stream {
            Stream::Tcp(stream) => Stream::Tcp(stream.try_clone()?),
            Stream::Unix(stream) => Stream::Unix(stream.try_clone()?),
        };
        Ok(Connection { stream, buffer: Vec::new() })
    }

    /// Throws away what was read.
    pub(crate) fn forget(&mut self) {
        self.buffer.clear();
    }

    /// Ends both directions, whoever else holds the connection.
    pub(crate) fn abort(&mut self) {
        let _ = match &self.stream {
            Stream::Tcp(stream) => stream.shutdown(Shutdown::Both),
            Stream::Unix(stream) => stream.shutdown(Shutdown::Both),
        };
    }

    /// Sends bytes as they are.
    pub(crate) fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.try_send(bytes).expect("a peer that reads");
    }

    pub(crate) fn try_send(&mut self, bytes: impl AsRef<[u8]>) -> io::Result<()> {
        match &mut self.stream {
            Stream::Tcp(stream) => stream.write_all(bytes.as_ref()),
            Stream::Unix(stream) => stream.write_all(bytes.as_ref()),
        }
    }

    /// Says that nothing more will be sent.
    pub(crate) fn finish(&mut self) {
        self.try_finish().expect("an open connection");
    }

    /// As [`finish`](Self::finish), to a peer that may be gone.
    pub(crate) fn try_finish(&mut self) -> io::Result<()> {
        match &self.stream {
            Stream::Tcp(stream) => stream.shutdown(Shutdown::Write),
            Stream::Unix(stream) => stream.shutdown(Shutdown::Write),
        }
    }

    /// Sends a well-formed request and reads its answer.
    pub(crate) fn ask(&mut self, method: &str, target: &str, body: &str) -> Response {
        self.try_ask(method, target, body).expect("an answer")
    }

    pub(crate) fn try_ask(&mut self, method: &str, target: &str, body: &str) -> io::Result<Response> {
        self.try_send(request(method, target, body))?;
        self.try_receive(method == "HEAD")
    }

    /// Reads one answer to anything but HEAD.
    pub(crate) fn receive(&mut self) -> Response {
        self.try_receive(false).expect("an answer")
    }

    /// Reads what one `read` gives; an error when that is the end.
    pub(crate) fn read_once(&mut self) -> io::Result<()> {
        match self.fill()? {
            0 => Err(io::ErrorKind::UnexpectedEof.into()),
            _ => Ok(()),
        }
    }

    /// Reads what is there, without waiting; 0 is the end.
    pub(crate) fn read_now(&mut self) -> io::Result<usize> {
        self.set_nonblocking(true)?;
        let filled = self.fill();
        self.set_nonblocking(false)?;
        filled
    }

    /// Reads a byte, without waiting, and throws it away; an error at the end of the stream, and none when there is no byte.
    pub(crate) fn skip_byte_now(&mut self) -> io::Result<()> {
        self.set_nonblocking(true)?;
        let read = self.stream.read(&mut [0]);
        self.set_nonblocking(false)?;
        match read {
            Ok(0) => Err(io::ErrorKind::UnexpectedEof.into()),
            Err(error) if error.kind() != io::ErrorKind::WouldBlock => Err(error),
            _ => Ok(()),
        }
    }

    fn set_nonblocking(&self, nonblocking: bool) -> io::Result<()> {
        match &self.stream {
            Stream::Tcp(stream) => stream.set_nonblocking(nonblocking),
            Stream::Unix(stream) => stream.set_nonblocking(nonblocking),
        }
    }

    /// Whether anything came within `time`, the peer's close included.
    pub(crate) fn hears_within(&mut self, time: Duration) -> bool {
        self.set_read_timeout(time);
        let filled = self.fill();
        self.set_read_timeout(READ_TIME_MAX);
        match filled {
            Ok(_) => true,
            Err(error) => !matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut),
        }
    }

    /// What was read and not yet taken as an answer.
    pub(crate) fn unread(&self) -> &[u8] {
        &self.buffer
    }

    /// Reads one answer of whoever may be before the server: one without a length ends with the connection.
    pub(crate) fn try_receive_any(&mut self) -> io::Result<Response> {
        let unframed =
            |response: &Response| response.status >= 200 && response.header("Content-Length").is_none();
        while parse_head(&self.buffer).is_none() {
            self.read_once()?;
        }
        match parse_head(&self.buffer) {
            Some((length, mut response)) if unframed(&response) => {
                while self.read_once().is_ok() {}
                response.body = self.buffer.split_off(length);
                response.raw = std::mem::take(&mut self.buffer);
                Ok(response)
            }
            _ => self.try_receive(false),
        }
    }

    /// How long an answer is waited for from now on.
    pub(crate) fn set_read_timeout(&self, time: Duration) {
        let set = match &self.stream {
            Stream::Tcp(stream) => stream.set_read_timeout(Some(time)),
            Stream::Unix(stream) => stream.set_read_timeout(Some(time)),
        };
        set.expect("an open connection");
    }

    /// Reads one answer; that to HEAD has no body.
    pub(crate) fn try_receive(&mut self, head_only: bool) -> io::Result<Response> {
        loop {
            if let Some((head_length, mut response)) = parse_head(&self.buffer) {
                let informational = response.status < 200;
                let length = match response.header("Content-Length") {
                    _ if head_only || informational => 0,
                    Some(length) => length.parse().expect("a length"),
                    None => panic!("expected Content-Length in every answer: {response:?}"),
                };
                if self.buffer.len() >= head_length + length {
                    response.body = self.buffer[head_length..head_length + length].to_vec();
                    response.raw = self.buffer.drain(..head_length + length).collect();
                    return Ok(response);
                }
            }
            if self.fill()? == 0 {
                let rest = String::from_utf8_lossy(&self.buffer).into_owned();
                return Err(io::Error::new(io::ErrorKind::UnexpectedEof, format!("closed after {rest:?}")));
            }
        }
    }

    /// Waits for the server's close; whether nothing came before it. A reset is no close.
    pub(crate) fn is_closed_by_server(&mut self) -> bool {
        self.buffer.is_empty() && self.fill().is_ok_and(|bytes| bytes == 0)
    }

    /// Whether the connection still answers.
    pub(crate) fn is_alive(&mut self) -> bool {
        self.try_ask("GET", "/healthz", "").is_ok()
    }

    fn fill(&mut self) -> io::Result<usize> {
        let mut chunk = [0; 64 * 1024];
        let bytes = self.stream.read(&mut chunk)?;
        self.buffer.extend_from_slice(&chunk[..bytes]);
        Ok(bytes)
    }
}

/// A well-formed request.
pub(crate) fn request(method: &str, target: &str, body: &str) -> String {
    let length = match body {
        "" => String::new(),
        body => format!("Content-Length: {}\r\n", body.len()),
    };
    format!("{method} {target} HTTP/1.1\r\nHost: localhost\r\n{length}\r\n{body}")
}

fn parse_head(bytes: &[u8]) -> Option<(usize, Response)> {
    let mut fields = [httparse::EMPTY_HEADER; 32];
    let mut head = httparse::Response::new(&mut fields);
    let httparse::Status::Complete(length) = head.parse(bytes).expect("a well-formed head") else {
        return None;
    };
    let headers = head.headers.iter().map(|field| {
        (field.name.to_owned(), String::from_utf8(field.value.to_vec()).expect("ASCII in header fields"))
    });
    let status = head.code.expect("a status");
    let reason = head.reason.expect("a reason phrase").to_owned();
    let headers = headers.collect();
    Some((length, Response { status, reason, headers, body: Vec::new(), raw: Vec::new() }))
}

/// An answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Response {
    pub(crate) status: u16,
    /// The reason phrase.
    pub(crate) reason: String,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
    /// Head and body as they came.
    pub(crate) raw: Vec<u8>,
}

impl Response {
    /// The value of a field, by its name in any case.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let field = self.headers.iter().find(|(found, _)| found.eq_ignore_ascii_case(name));
        field.map(|(_, value)| value.as_str())
    }

    pub(crate) fn text(&self) -> &str {
        std::str::from_utf8(&self.body).expect("UTF-8")
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {:?}", self.text()))
    }

    /// The id of what was created, from `Location`.
    pub(crate) fn id(&self) -> String {
        let location = self.header("Location").expect("a Location");
        location.strip_prefix("/pessoas/").expect("a path").to_owned()
    }
}
