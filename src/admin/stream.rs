//! A connection, over TCP or a unix socket alike. It knows no HTTP.

use std::io;
use std::net::Shutdown;

use socket2::SockRef;
use tokio::net::{TcpStream, UnixStream};

/// Bytes of one read.
const READ_BYTES: usize = 4 * 1024;

/// A connection.
pub(super) enum Stream {
    /// Over TCP.
    Tcp(TcpStream),
    /// Over a unix socket.
    Unix(UnixStream),
}

impl Stream {
    /// Appends what comes to `received`; no byte at the peer's end.
    pub(super) async fn read(&mut self, received: &mut Vec<u8>) -> io::Result<usize> {
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

    /// Writes all of it.
    pub(super) async fn write_all(&mut self, mut bytes: &[u8]) -> io::Result<()> {
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

    /// Writes as much as fits the socket's buffer.
    pub(super) fn try_write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Stream::Tcp(stream) => stream.try_write(bytes),
            Stream::Unix(stream) => stream.try_write(bytes),
        }
    }

    /// Asks the kernel to keep no more than this of what was written and not taken, in bytes. It may double it.
    pub(super) fn keep_at_most(&self, bytes: usize) -> io::Result<()> {
        match self {
            Stream::Tcp(stream) => SockRef::from(stream).set_send_buffer_size(bytes),
            Stream::Unix(stream) => SockRef::from(stream).set_send_buffer_size(bytes),
        }
    }

    /// Says that nothing more will be sent.
    pub(super) fn end(&self) -> io::Result<()> {
        match self {
            Stream::Tcp(stream) => SockRef::from(stream).shutdown(Shutdown::Write),
            Stream::Unix(stream) => SockRef::from(stream).shutdown(Shutdown::Write),
        }
    }
}
