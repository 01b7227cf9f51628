//! Asks another instance for its snapshot, in bounded time and bytes. What it says is text that nobody here reads.

use std::io;

use tokio::net::{TcpStream, UnixStream};
use tokio::time::timeout;

use crate::admin::stream::Stream;
use crate::limits::{LIVE_PEER_TIME_MAX, LIVE_SNAPSHOT_BYTES_MAX};
use crate::net::Listen;

const REQUEST: &[u8] = b"GET /live/now HTTP/1.1\r\nHost: peer\r\nConnection: close\r\n\r\n";

/// Its snapshot, or one line that says why there is none.
pub(super) async fn ask(peer: &Listen) -> Result<String, String> {
    match timeout(LIVE_PEER_TIME_MAX, asked(peer)).await {
        Ok(Ok(answer)) => snapshot(&answer),
        Ok(Err(error)) => Err(error.to_string()),
        Err(_) => Err(format!("no answer within {} ms", LIVE_PEER_TIME_MAX.as_millis())),
    }
}

async fn asked(peer: &Listen) -> io::Result<Vec<u8>> {
    let mut stream = match peer {
        Listen::Tcp(address) => Stream::Tcp(TcpStream::connect(address).await?),
        Listen::Unix(path) => Stream::Unix(UnixStream::connect(path).await?),
    };
    stream.write_all(REQUEST).await?;
    let mut answer = Vec::new();
    while stream.read(&mut answer).await? > 0 {
        if answer.len() > LIVE_SNAPSHOT_BYTES_MAX {
            return Err(io::Error::other(format!("an answer of more than {LIVE_SNAPSHOT_BYTES_MAX} bytes")));
        }
    }
    Ok(answer)
}

/// The body of an answer that is whole.
fn snapshot(answer: &[u8]) -> Result<String, String> {
    let strange = || "no snapshot in its answer: expected a rinha server's --admin there".to_owned();
    let text = str::from_utf8(answer).map_err(|_| strange())?;
    let (head, body) = text.split_once("\r\n\r\n").ok_or_else(strange)?;
    let length = format!("\r\nContent-Length: {}", body.len());
    let is_whole = head.lines().any(|line| line == &length[2..]);
    if head.starts_with("HTTP/1.1 200 ") && is_whole { Ok(body.to_owned()) } else { Err(strange()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_whole_answer_has_a_snapshot() {
        let check = |answer: &str, expected: Option<&str>| {
            assert_eq!(snapshot(answer.as_bytes()).ok().as_deref(), expected, "{answer:?}");
        };
        check("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}", Some("{}"));
        check("HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n{}", None);
        check("HTTP/1.1 200 OK\r\n\r\n{}", None);
        check("HTTP/1.1 404 Not Found\r\nContent-Length: 2\r\n\r\n{}", None);
        check("SSH-2.0-OpenSSH", None);
        check("", None);
        assert!(snapshot(b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n\xff").is_err());
    }
}
