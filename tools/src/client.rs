//! A client of HTTP/1.1 over one connection, for whoever counts what answers take. It knows nothing of what is asked.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::Duration;

/// Limit of one answer.
const ANSWER_TIME_MAX: Duration = Duration::from_secs(10);
/// Fields of an answer.
const FIELDS_MAX: usize = 16;
/// What an answer has room for before its length is known.
const BUFFER_BYTES: usize = 64 * 1024;

/// Who is asked.
#[derive(Clone, Debug)]
pub enum Address {
    /// Over TCP.
    Tcp(SocketAddr),
    /// By the socket's file.
    Unix(PathBuf),
}

trait Stream: Read + Write + Send {}
impl Stream for TcpStream {}
impl Stream for UnixStream {}

/// One connection, made when it is needed.
pub struct Client {
    address: Address,
    stream: Option<Box<dyn Stream>>,
    buffer: Vec<u8>,
}

/// What came back, until the next question.
#[derive(Debug)]
pub struct Answer<'a> {
    /// The status.
    pub status: u16,
    /// Status line and fields.
    pub head: &'a [u8],
    /// As many bytes as `Content-Length` says.
    pub body: &'a [u8],
}

impl Client {
    /// Connects with the first question.
    pub fn new(address: Address) -> Client {
        Client { address, stream: None, buffer: vec![0; BUFFER_BYTES] }
    }

    /// Sends `request`, a whole one, and reads its answer. With `close`, and after an error, the next request has a new
    /// connection.
    pub fn ask(&mut self, request: &[u8], close: bool) -> io::Result<Answer<'_>> {
        let mut stream = match self.stream.take() {
            Some(stream) => stream,
            None => self.connect()?,
        };
        stream.write_all(request)?;
        let (status, head, whole) = self.answer(&mut *stream)?;
        if !close {
            self.stream = Some(stream);
        }
        Ok(Answer { status, head: &self.buffer[..head], body: &self.buffer[head..whole] })
    }

    /// Ends the connection: the next request has a new one.
    pub fn close(&mut self) {
        self.stream = None;
    }

    fn connect(&self) -> io::Result<Box<dyn Stream>> {
        Ok(match &self.address {
            Address::Tcp(address) => {
                let stream = TcpStream::connect(address)?;
                stream.set_nodelay(true)?;
                stream.set_read_timeout(Some(ANSWER_TIME_MAX))?;
                Box::new(stream)
            }
            Address::Unix(path) => {
                let stream = UnixStream::connect(path)?;
                stream.set_read_timeout(Some(ANSWER_TIME_MAX))?;
                Box::new(stream)
            }
        })
    }

    /// The status, the end of the head and that of the body.
    fn answer(&mut self, stream: &mut dyn Stream) -> io::Result<(u16, usize, usize)> {
        let malformed = || io::Error::from(io::ErrorKind::InvalidData);
        let (mut filled, mut whole) = (0, None);
        loop {
            match stream.read(&mut self.buffer[filled..])? {
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                read => filled += read,
            }
            if whole.is_none() {
                let mut fields = [httparse::EMPTY_HEADER; FIELDS_MAX];
                let mut answer = httparse::Response::new(&mut fields);
                if let httparse::Status::Complete(head) =
                    answer.parse(&self.buffer[..filled]).map_err(|_| malformed())?
                {
                    let length =
                        answer.headers.iter().find(|field| field.name.eq_ignore_ascii_case("content-length"));
                    let length =
                        length.and_then(|field| std::str::from_utf8(field.value).ok()?.parse::<usize>().ok());
                    let code = answer.code.ok_or_else(malformed)?;
                    whole = Some((code, head, head + length.ok_or_else(malformed)?));
                }
            }
            match whole {
                Some((_, _, end)) if filled == end => return Ok(whole.expect("it was just there")),
                Some((_, _, end)) if self.buffer.len() < end => self.buffer.resize(end, 0),
                _ if filled == self.buffer.len() => return Err(malformed()),
                _ => {}
            }
        }
    }
}

impl Answer<'_> {
    /// The value of the field of this name.
    pub fn field(&self, name: &str) -> Option<&str> {
        let mut fields = [httparse::EMPTY_HEADER; FIELDS_MAX];
        let mut answer = httparse::Response::new(&mut fields);
        answer.parse(self.head).ok()?;
        let field = answer.headers.iter().find(|field| field.name.eq_ignore_ascii_case(name))?;
        std::str::from_utf8(field.value).ok()
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;
    use std::thread;

    use super::*;

    /// Each answer arrives in two pieces, the second of which begins within the body.
    #[test]
    fn answers_are_whole_and_have_fields() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let long = "x".repeat(3 * BUFFER_BYTES);
        let bodies = ["{}", "", &long].map(str::to_owned);
        let server = thread::spawn({
            let bodies = bodies.clone();
            move || {
                let (mut stream, _) = listener.accept().unwrap();
                for body in bodies {
                    assert_ne!(stream.read(&mut [0; 16]).unwrap(), 0);
                    let length = body.len();
                    let head =
                        format!("HTTP/1.1 201 Created\r\nlocation: /a\r\nContent-Length: {length}\r\n\r\n");
                    let (now, later) = body.split_at(length / 2);
                    stream.write_all(format!("{head}{now}").as_bytes()).unwrap();
                    stream.write_all(later.as_bytes()).unwrap();
                }
            }
        });
        let mut client = Client::new(Address::Tcp(address));
        for body in &bodies {
            let answer = client.ask(b"ask", false).unwrap();
            assert_eq!((answer.status, answer.field("Location")), (201, Some("/a")));
            assert_eq!(answer.field("retry-after"), None);
            assert!(answer.body == body.as_bytes());
        }
        server.join().unwrap();
        assert!(client.ask(b"ask", false).is_err(), "nobody answers any more");
    }
}
