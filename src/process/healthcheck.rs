//! `rinha healthcheck`: one `GET /healthz` by monoio-http's client, for containers without curl. It shares no HTTP code
//! with the server that it asks.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use bytes::Bytes;
use http::StatusCode;
use monoio::io::sink::SinkExt;
use monoio::io::stream::Stream;
use monoio::io::{AsyncReadRent, AsyncWriteRent, Split};
use monoio::net::{TcpStream, UnixStream};
use monoio::{LegacyDriver, RuntimeBuilder};
use monoio_http::h1::codec::ClientCodec;
use monoio_http::h1::payload::{Payload, PayloadError};

use crate::net::Listen;

/// How long the check may take, from the connect to the answer.
const TIME_MAX: Duration = Duration::from_secs(3);

/// Asks one listener.
///
/// # Errors
///
/// One line that says why the instance is not healthy.
pub fn check(listen: &Listen) -> Result<(), String> {
    // The check runs on epoll: it must not need io_uring, which a container may forbid.
    let mut runtime = RuntimeBuilder::<LegacyDriver>::new()
        .enable_timer()
        .build()
        .map_err(|error| format!("cannot start: {error}"))?;
    let status = runtime
        // In an async block: a timer can only be made inside its runtime.
        .block_on(async { monoio::time::timeout(TIME_MAX, ask(listen)).await })
        .map_err(|_| format!("{listen} did not answer within {TIME_MAX:?}"))?
        .map_err(|why| format!("{listen}: {why}"))?;
    match status {
        StatusCode::OK => Ok(()),
        status => Err(format!("{listen} answered {status}")),
    }
}

async fn ask(listen: &Listen) -> Result<StatusCode, String> {
    let connect = |error: std::io::Error| format!("cannot connect: {error}");
    match listen {
        Listen::Tcp(address) => {
            get(TcpStream::connect_addr(reachable(*address)).await.map_err(connect)?).await
        }
        Listen::Unix(path) => {
            get(UnixStream::connect(Listen::unix_path(path, 0)).await.map_err(connect)?).await
        }
    }
}

/// A listener on every address is asked on loopback.
fn reachable(address: SocketAddr) -> SocketAddr {
    let ip = match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, address.port())
}

async fn get<S: Split + AsyncReadRent + AsyncWriteRent>(stream: S) -> Result<StatusCode, String> {
    let request = http::Request::get("/healthz")
        .header(http::header::HOST, "localhost")
        .header(http::header::CONNECTION, "close")
        .body(Payload::<Bytes, PayloadError>::None)
        .map_err(|error| error.to_string())?;
    let mut codec = ClientCodec::new(stream);
    codec.send_and_flush(request).await.map_err(|error| error.to_string())?;
    match codec.next().await {
        Some(Ok(response)) => Ok(response.status()),
        Some(Err(error)) => Err(error.to_string()),
        None => Err("closed without an answer".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_address_is_asked_on_loopback() {
        for (listen, expected) in
            [("0.0.0.0:9999", "127.0.0.1:9999"), ("[::]:9999", "[::1]:9999"), ("10.0.0.1:80", "10.0.0.1:80")]
        {
            assert_eq!(reachable(listen.parse().unwrap()).to_string(), expected);
        }
    }
}
