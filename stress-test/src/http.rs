//! A client for the questions that the verdict asks, over TCP or a unix socket. Every question has a time limit.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};
use http_body_util::{BodyExt, Empty};
use hyper::body::Bytes;
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper::rt::{Read, Write};
use hyper_util::rt::TokioIo;
use tokio::net::{TcpStream, UnixStream};
use tokio::time::timeout;

/// Limit of one question, with its connection.
const ANSWER_TIME_MAX: Duration = Duration::from_secs(10);

/// Where a server listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Address {
    /// Host and port.
    Tcp(String),
    /// A socket's path.
    Unix(PathBuf),
}

impl fmt::Display for Address {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Address::Tcp(authority) => formatter.write_str(authority),
            Address::Unix(path) => write!(formatter, "{}", path.display()),
        }
    }
}

/// A connection that is used again for each question, and made again when it broke.
pub(crate) struct Client {
    address: Address,
    connection: Option<SendRequest<Empty<Bytes>>>,
}

impl Client {
    pub(crate) fn new(address: Address) -> Self {
        Self { address, connection: None }
    }

    /// Status and body.
    pub(crate) async fn get(&mut self, path: &str) -> Result<(u16, Bytes)> {
        let kept = self.connection.is_some();
        match self.try_get(path).await {
            // The server may close a kept connection at any time.
            Err(_) if kept => self.try_get(path).await,
            answer => answer,
        }
    }

    async fn try_get(&mut self, path: &str) -> Result<(u16, Bytes)> {
        let answer = timeout(ANSWER_TIME_MAX, self.ask(path)).await;
        let answer =
            answer.unwrap_or_else(|_| Err(anyhow!("no answer within {} s", ANSWER_TIME_MAX.as_secs())));
        if answer.is_err() {
            self.connection = None;
        }
        answer.with_context(|| format!("GET {path} of {}", self.address))
    }

    async fn ask(&mut self, path: &str) -> Result<(u16, Bytes)> {
        let connection = match &mut self.connection {
            Some(connection) => connection,
            none => none.insert(connect(&self.address).await?),
        };
        connection.ready().await?;
        let request = hyper::Request::get(path).header("Host", "localhost").body(Empty::new())?;
        let answer = connection.send_request(request).await?;
        let status = answer.status().as_u16();
        Ok((status, answer.into_body().collect().await?.to_bytes()))
    }
}

async fn connect(address: &Address) -> Result<SendRequest<Empty<Bytes>>> {
    match address {
        Address::Tcp(authority) => over(TcpStream::connect(authority).await?).await,
        Address::Unix(path) => over(UnixStream::connect(path).await?).await,
    }
}

async fn over<S>(stream: S) -> Result<SendRequest<Empty<Bytes>>>
where
    TokioIo<S>: Read + Write + Send + Unpin + 'static,
{
    let (sender, connection) = handshake(TokioIo::new(stream)).await?;
    // An error of the connection is an error of its requests too.
    tokio::spawn(async move { drop(connection.await) });
    Ok(sender)
}

/// One question on a connection of its own.
pub fn get(address: &Address, path: &str) -> Result<(u16, String)> {
    block_on(async {
        let (status, body) = Client::new(address.clone()).get(path).await?;
        Ok((status, String::from_utf8_lossy(&body).into_owned()))
    })
}

/// Whether somebody takes connections there; an answer is not waited for.
pub fn is_listened_on(address: &Address) -> bool {
    block_on(async {
        match address {
            Address::Tcp(authority) => {
                matches!(timeout(ANSWER_TIME_MAX, TcpStream::connect(authority)).await, Ok(Ok(_)))
            }
            Address::Unix(path) => {
                matches!(timeout(ANSWER_TIME_MAX, UnixStream::connect(path)).await, Ok(Ok(_)))
            }
        }
    })
}

/// How many rows there are, as the API says.
pub fn count(address: &Address) -> Result<u64> {
    match get(address, "/contagem-pessoas")? {
        (200, body) => body.trim().parse().with_context(|| format!("expected a number, got {body:?}")),
        (status, _) => bail!("/contagem-pessoas answered {status}"),
    }
}

/// Runs a future to its end on this thread.
pub(crate) fn block_on<F: Future>(future: F) -> F::Output {
    tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime").block_on(future)
}
