//! A port of this machine alone that leads to a unix socket, for browsers, which speak to none. It reads nothing of what it
//! passes on.

use std::io;
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

/// Connections at once; one more is closed.
const CONNECTIONS_MAX: usize = 64;
/// How long the server may say nothing, and the client take nothing. The live page's events come more often.
const IDLE_TIME_MAX: Duration = Duration::from_secs(60);
/// Pause after a connection that could not be accepted.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Leads from the port (0: any) to the socket at `path` until this process ends; the socket need not be there yet.
///
/// # Errors
///
/// Somebody has the port, or there is no thread.
pub(crate) fn start(port: u16, path: &Path) -> io::Result<SocketAddr> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port))?;
    let address = listener.local_addr()?;
    let path = path.to_owned();
    thread::Builder::new().name("forward".to_owned()).spawn(move || accept(&listener, &path))?;
    Ok(address)
}

fn accept(listener: &TcpListener, path: &PathBuf) {
    // Each connection has one of these, with its two directions.
    let open = Arc::new(());
    loop {
        let Ok((client, _)) = listener.accept() else {
            thread::sleep(ACCEPT_PAUSE);
            continue;
        };
        if Arc::strong_count(&open) > 2 * CONNECTIONS_MAX {
            continue;
        }
        // A server that is not there is a connection that closes.
        if let Ok(server) = UnixStream::connect(path) {
            let _ = pass(client, server, &open);
        }
    }
}

/// Passes on what comes in either direction, until both have ended.
fn pass(client: TcpStream, server: UnixStream, open: &Arc<()>) -> io::Result<()> {
    // A browser says nothing while it reads, so that only the server's direction is looked at; its end ends the other.
    client.set_write_timeout(Some(IDLE_TIME_MAX))?;
    server.set_read_timeout(Some(IDLE_TIME_MAX))?;
    let (mut from_client, mut to_client) = (client.try_clone()?, client);
    let (mut from_server, mut to_server) = (server.try_clone()?, server);
    let held = Arc::clone(open);
    thread::Builder::new().spawn(move || {
        let _ = io::copy(&mut from_client, &mut to_server);
        let _ = to_server.shutdown(Shutdown::Write);
        drop(held);
    })?;
    let held = Arc::clone(open);
    thread::Builder::new().spawn(move || {
        let _ = io::copy(&mut from_server, &mut to_client);
        let _ = to_client.shutdown(Shutdown::Both);
        let _ = from_server.shutdown(Shutdown::Both);
        drop(held);
    })?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};
    use std::os::unix::net::UnixListener;

    #[test]
    fn what_is_sent_comes_out_and_back() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("s.sock");
        let address = start(0, &path).expect("a port");
        // Nobody is there yet.
        let mut client = TcpStream::connect(address).expect("the port");
        assert_eq!(client.read(&mut [0]).unwrap_or(0), 0);

        let server = UnixListener::bind(&path).expect("a socket");
        let mut client = TcpStream::connect(address).expect("the port");
        client.write_all(b"ask").expect("a question");
        client.shutdown(Shutdown::Write).expect("its end");
        let (mut asked, _) = server.accept().expect("a connection");
        let mut question = String::new();
        asked.read_to_string(&mut question).expect("the question to its end");
        asked.write_all(b"answer").expect("an answer");
        drop(asked);
        let mut answer = String::new();
        client.read_to_string(&mut answer).expect("the answer to its end");
        assert_eq!((question.as_str(), answer.as_str()), ("ask", "answer"));
        assert_eq!(
            start(address.port(), &path).expect_err("a port that is taken").kind(),
            io::ErrorKind::AddrInUse
        );
    }
}
