//! The way to a Postgres on the same machine. It knows bytes, not messages.
//!
//! tokio's own streams register for reading and for writing, and a unix socket reports room to write whenever its peer
//! has read: every statement would wake its thread once for nothing. This socket registers for reading alone, and for
//! writing only while a write waits for room. What that saves was measured (perf/results/2026-11-26.md).

#![allow(unsafe_code, reason = "tokio takes it on trust that the descriptor stays open")]

use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::unix::AsyncFd;
use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};

/// A connected unix socket.
pub(super) struct Socket {
    readable: AsyncFd<UnixStream>,
    /// The same socket, while a write waits for room.
    writable: Option<AsyncFd<UnixStream>>,
}

impl Socket {
    /// Connects to the socket file at `path`.
    pub(super) async fn connect(path: &Path) -> io::Result<Socket> {
        let stream = tokio::net::UnixStream::connect(path).await?;
        let readable = watch(stream.into_std()?, Interest::READABLE)?;
        Ok(Socket { readable, writable: None })
    }
}

fn watch(stream: UnixStream, interest: Interest) -> io::Result<AsyncFd<UnixStream>> {
    // SAFETY: the stream owns its descriptor, and nobody closes or replaces the descriptor while `AsyncFd` owns the
    // stream.
    Ok(unsafe { AsyncFd::register_with_interest(stream, interest) }?)
}

impl AsyncRead for Socket {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        loop {
            let mut ready = ready!(self.readable.poll_read_ready(cx))?;
            let unfilled = buffer.initialize_unfilled();
            let room = unfilled.len();
            match self.readable.get_ref().read(unfilled) {
                Ok(bytes) => {
                    // A read that leaves room has taken all there was: the next one would find nothing.
                    if (1..room).contains(&bytes) {
                        ready.clear_ready();
                    }
                    buffer.advance(bytes);
                    return Poll::Ready(Ok(()));
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => ready.clear_ready(),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
    }
}

impl AsyncWrite for Socket {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        loop {
            let ready = match &self.writable {
                Some(writable) => Some(ready!(writable.poll_write_ready(cx))?),
                None => None,
            };
            match (self.readable.get_ref().write(bytes), ready) {
                (Err(error), Some(mut ready)) if error.kind() == io::ErrorKind::WouldBlock => {
                    ready.clear_ready()
                }
                (Err(error), None) if error.kind() == io::ErrorKind::WouldBlock => {
                    let same = self.readable.get_ref().try_clone()?;
                    self.writable = Some(watch(same, Interest::WRITABLE)?);
                }
                (Err(error), _) if error.kind() == io::ErrorKind::Interrupted => {}
                (written, _) => {
                    self.writable = None;
                    return Poll::Ready(written);
                }
            }
        }
    }

    /// Does nothing, since writes are not buffered here.
    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(self.readable.get_ref().shutdown(std::net::Shutdown::Write))
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::UnixListener;

    use super::*;

    #[tokio::test(flavor = "current_thread")]
    async fn what_does_not_fit_at_once_arrives_whole() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("socket");
        let listener = UnixListener::bind(&path).unwrap();
        let mut socket = Socket::connect(&path).await.unwrap();
        let mut peer = listener.accept().await.unwrap().0;

        // More than both buffers of the socket hold, so that each side waits for the other.
        let sent: Vec<u8> = (0..4 << 20).map(|i: u32| i.to_le_bytes()[i as usize % 3]).collect();
        let echo = async {
            let mut bytes = vec![0; sent.len()];
            peer.read_exact(&mut bytes).await.unwrap();
            peer.write_all(&bytes).await.unwrap();
        };
        // Fills the socket: there is no more room until the peer reads.
        let mut filled = 0;
        poll_fn(|cx| {
            while let Poll::Ready(written) = Pin::new(&mut socket).poll_write(cx, &sent[filled..]) {
                filled += written.unwrap();
            }
            Poll::Ready(())
        })
        .await;
        assert!(socket.writable.is_some() && filled < sent.len());
        let there_and_back = async {
            socket.write_all(&sent[filled..]).await.unwrap();
            assert!(socket.writable.is_none(), "it waits for room only while there is none");
            let mut back = vec![0; sent.len()];
            socket.read_exact(&mut back).await.unwrap();
            assert!(back == sent);
        };
        tokio::join!(echo, there_and_back);

        drop(peer);
        assert_eq!(socket.read(&mut [0; 8]).await.unwrap(), 0, "the end of the stream");
    }
}
