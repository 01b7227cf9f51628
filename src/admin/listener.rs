//! The sockets of operators: each for one request, and within bounds of number, size and time. It knows no path and no
//! metric.

use std::io;
use std::net::Shutdown;
use std::sync::Arc;
use std::time::SystemTime;

use socket2::SockRef;
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio::sync::Semaphore;
use tokio::time::{sleep, timeout};
use tracing::{info, warn};

use super::answer;
use super::board::Board;
use crate::http::{HeadParser, Progress, Status};
use crate::limits::{ACCEPT_BACKOFF, ADMIN_CONNECTIONS_MAX, ADMIN_TIME_MAX, LINGER_BYTES_MAX};
use crate::net::listener::{Socket, UnixPath};
use crate::net::{Bound, Listen};

/// Pending connections that the kernel keeps.
const BACKLOG: i32 = 64;
/// Bytes of one read.
const READ_BYTES: usize = 4 * 1024;

/// The listener of operators. It answers until the process ends; dropping this removes the path of its socket.
pub struct Admin {
    _path: Option<UnixPath>,
}

impl Admin {
    /// Listens, on a thread of its own.
    ///
    /// # Errors
    ///
    /// One line: it cannot listen there, or its thread cannot start.
    pub fn start(listen: &Listen, board: Arc<Board>) -> Result<Admin, String> {
        let bound = Bound::bind_for("--admin", listen, 0)?;
        let name = bound.name();
        let cannot = |error: io::Error| format!("cannot listen on {name} for operators: {error}");
        let socket = bound.listen(BACKLOG, true).map_err(cannot)?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(cannot)?;
        let (listener, path) = {
            let _within = runtime.enter();
            match socket {
                Socket::Tcp(socket) => (Listener::Tcp(TcpListener::from_std(socket).map_err(cannot)?), None),
                Socket::Unix(socket, path) => {
                    (Listener::Unix(UnixListener::from_std(socket).map_err(cannot)?), Some(path))
                }
            }
        };
        std::thread::Builder::new()
            .name("admin".to_owned())
            .spawn(move || runtime.block_on(accept(listener, board)))
            .map_err(cannot)?;
        info!(address = name, "operators are answered");
        Ok(Admin { _path: path })
    }
}

enum Listener {
    Tcp(TcpListener),
    Unix(UnixListener),
}

enum Stream {
    Tcp(TcpStream),
    Unix(UnixStream),
}

impl Listener {
    async fn accept(&self) -> io::Result<Stream> {
        Ok(match self {
            Listener::Tcp(listener) => Stream::Tcp(listener.accept().await?.0),
            Listener::Unix(listener) => Stream::Unix(listener.accept().await?.0),
        })
    }
}

/// Serves what connects, for ever.
async fn accept(listener: Listener, board: Arc<Board>) {
    let started = SystemTime::now();
    let places = Arc::new(Semaphore::new(ADMIN_CONNECTIONS_MAX));
    loop {
        let mut stream = match listener.accept().await {
            Ok(stream) => stream,
            Err(error) => {
                warn!(%error, "cannot accept an operator's connection; trying on");
                sleep(ACCEPT_BACKOFF).await;
                continue;
            }
        };
        let Ok(place) = Arc::clone(&places).try_acquire_owned() else {
            let detail = "too many operators ask at once, try again";
            // It fits an empty socket buffer; whoever does not take it is not waited for.
            let _taken = stream.try_write(&answer::refused(Status::SERVICE_UNAVAILABLE, detail)).is_ok();
            continue;
        };
        let board = Arc::clone(&board);
        tokio::spawn(async move {
            // One that is late is closed, whatever it does.
            if let Ok(Err(error)) = timeout(ADMIN_TIME_MAX, serve(&mut stream, &board, started)).await {
                tracing::debug!(%error, "an operator's connection was lost");
            }
            drop(place);
        });
    }
}

/// Answers one request, and reads to the peer's end: a close with unread bytes would take the answer back.
async fn serve(stream: &mut Stream, board: &Board, started: SystemTime) -> io::Result<()> {
    let (mut received, mut parser) = (Vec::new(), HeadParser::default());
    // The parser refuses a head that is too long, so this ends.
    let out = loop {
        match parser.parse(&received) {
            Ok(Progress::Complete(head)) => break answer::answer(board, started, &head, &received).await,
            Ok(Progress::Partial) => {}
            Err(reject) => break answer::refused(reject.status(), reject.detail()),
        }
        if stream.read(&mut received).await? == 0 {
            return Ok(());
        }
    };
    stream.write_all(&out).await?;
    stream.end()?;
    let mut discarded = 0;
    while discarded < LINGER_BYTES_MAX {
        received.clear();
        match stream.read(&mut received).await? {
            0 => break,
            bytes => discarded += bytes,
        }
    }
    Ok(())
}

impl Stream {
    /// Appends what comes to `received`; no byte at the peer's end.
    async fn read(&mut self, received: &mut Vec<u8>) -> io::Result<usize> {
        let mut bytes = [0; READ_BYTES];
        loop {
            let read = match self {
                Stream::Tcp(stream) => {
                    stream.readable().await?;
                    stream.try_read(&mut bytes)
                }
                Stream::Unix(stream) => {
                    stream.readable().await?;
                    stream.try_read(&mut bytes)
                }
            };
            match read {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                read => {
                    let read = read?;
                    received.extend_from_slice(&bytes[..read]);
                    return Ok(read);
                }
            }
        }
    }

    async fn write_all(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            match self {
                Stream::Tcp(stream) => stream.writable().await?,
                Stream::Unix(stream) => stream.writable().await?,
            }
            match self.try_write(bytes) {
                Ok(written) => bytes = &bytes[written..],
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn try_write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Stream::Tcp(stream) => stream.try_write(bytes),
            Stream::Unix(stream) => stream.try_write(bytes),
        }
    }

    /// Says that nothing more will be sent.
    fn end(&self) -> io::Result<()> {
        match self {
            Stream::Tcp(stream) => SockRef::from(stream).shutdown(Shutdown::Write),
            Stream::Unix(stream) => SockRef::from(stream).shutdown(Shutdown::Write),
        }
    }
}
