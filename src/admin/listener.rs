//! The sockets of operators: each for one request, and within bounds of number, size and time; those that watch stay longer,
//! and have a number of their own. It knows no path and no metric.

use std::io;
use std::sync::Arc;
use std::time::SystemTime;

use tokio::net::{TcpListener, UnixListener};
use tokio::sync::Semaphore;
use tokio::time::{sleep, timeout};
use tracing::{info, warn};

use super::answer::{self, Answer};
use super::board::Board;
use super::live::{Live, Place};
use super::stream::Stream;
use crate::http::{HeadParser, Progress, Status};
use crate::limits::{ACCEPT_BACKOFF, ADMIN_CONNECTIONS_MAX, ADMIN_TIME_MAX, LINGER_BYTES_MAX};
use crate::net::listener::{Socket, UnixPath};
use crate::net::{Bound, Flag, Listen};

/// Pending connections that the kernel keeps.
const BACKLOG: i32 = 64;
/// The listener of operators. It answers until the process ends; dropping this removes the path of its socket.
pub struct Admin {
    _path: Option<UnixPath>,
}

impl Admin {
    /// Listens, on a thread of its own. The live page shows this instance and its `peers`, whose operators' listeners these
    /// are.
    ///
    /// # Errors
    ///
    /// One line: it cannot listen there, or its thread cannot start.
    pub fn start(listen: &Listen, peers: Vec<Listen>, board: Arc<Board>) -> Result<Admin, String> {
        let bound = Bound::bind_for(Flag::Admin, listen, 0)?;
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
            .spawn(move || runtime.block_on(accept(listener, peers, board)))
            .map_err(cannot)?;
        info!(address = name, "operators are answered");
        Ok(Admin { _path: path })
    }
}

enum Listener {
    Tcp(TcpListener),
    Unix(UnixListener),
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
async fn accept(listener: Listener, peers: Vec<Listen>, board: Arc<Board>) {
    let started = SystemTime::now();
    let live = Live::new(Arc::clone(&board), started, peers);
    let gathering = Arc::clone(&live);
    tokio::spawn(async move { gathering.gather().await });
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
        let (board, live) = (Arc::clone(&board), Arc::clone(&live));
        tokio::spawn(async move {
            // One that is late is closed, whatever it does.
            let served = match timeout(ADMIN_TIME_MAX, serve(&mut stream, &board, &live, started)).await {
                Ok(Ok(Some(watcher))) => {
                    drop(place);
                    live.show(&mut stream, watcher).await
                }
                Ok(served) => served.map(drop),
                Err(_) => return,
            };
            if let Err(error) = served {
                tracing::debug!(%error, "an operator's connection was lost");
            }
        });
    }
}

/// Answers one request, and reads to the peer's end: a close with unread bytes would take the answer back. One who is to
/// watch gets a place instead.
async fn serve(
    stream: &mut Stream,
    board: &Board,
    live: &Live,
    started: SystemTime,
) -> io::Result<Option<Place>> {
    let (mut received, mut parser) = (Vec::new(), HeadParser::default());
    // The parser refuses a head that is too long, so this ends.
    let out = loop {
        match parser.parse(&received) {
            Ok(Progress::Complete(head)) => {
                match answer::answer(board, live, started, &head, &received).await {
                    Answer::Bytes(out) => break out,
                    Answer::Events(place) => return Ok(Some(place)),
                }
            }
            Ok(Progress::Partial) => {}
            Err(reject) => break answer::refused(reject.status(), reject.detail()),
        }
        if stream.read(&mut received).await? == 0 {
            return Ok(None);
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
    Ok(None)
}
