//! The main flow through monoio-http's client: whether another implementation reads HTTP as this server writes it.

use bytes::Bytes;
use http::{Request, Response};
use monoio::io::sink::SinkExt;
use monoio::io::stream::Stream;
use monoio::io::{AsyncReadRent, AsyncWriteRent, Split};
use monoio::net::{TcpStream, UnixStream};
use monoio::{LegacyDriver, RuntimeBuilder};
use monoio_http::common::body::Body;
use monoio_http::h1::codec::ClientCodec;
use monoio_http::h1::payload::{FixedPayload, FramedPayload, Payload, PayloadError};
use serde_json::Value;

use crate::server::Address;
use crate::world::{World, person};

/// Runs the main flow by a client that shares no code with the server.
pub(crate) fn the_main_flow(world: &World) {
    // The server's driver is what is tested, not the client's.
    let mut runtime = RuntimeBuilder::<LegacyDriver>::new().enable_timer().build().unwrap();
    runtime.block_on(async {
        match &world.addresses()[0] {
            Address::Tcp(address) => main_flow(world, TcpStream::connect(address).await.unwrap()).await,
            Address::Unix(path) => main_flow(world, UnixStream::connect(path).await.unwrap()).await,
        }
    });
}

/// Creates a pessoa, and asks for all that can be known of it, on one connection.
async fn main_flow<S: Split + AsyncReadRent + AsyncWriteRent>(world: &World, stream: S) {
    let mut codec = ClientCodec::new(stream);
    let created = ask(&mut codec, "POST", "/pessoas", &person("by another")).await;
    assert_eq!(created.status(), 201);
    let path = created.headers()["Location"].to_str().unwrap().to_owned();

    let fetched = ask(&mut codec, "GET", &path, "").await;
    assert_eq!((fetched.status(), fetched.body()), (http::StatusCode::OK, created.body()));
    let found = ask(&mut codec, "GET", "/pessoas?t=BY+another", "").await;
    assert_eq!(found.status(), 200);
    assert_eq!(found.body()[..], [b"[", &created.body()[..], b"]"].concat());
    let count = ask(&mut codec, "GET", "/contagem-pessoas", "").await;
    assert_eq!(count.body()[..], *world.rows().to_string().as_bytes());

    for (method, target, body, status) in [
        ("POST", "/pessoas", &*person("by another"), 422),
        ("POST", "/pessoas", "{", 400),
        ("GET", "/pessoas/1", "", 404),
        ("GET", "/pessoas", "", 400),
        ("DELETE", "/pessoas", "", 405),
    ] {
        let problem = ask(&mut codec, method, target, body).await;
        assert_eq!(problem.status(), status, "{method} {target}");
        assert_eq!(problem.headers()["Content-Type"], "application/problem+json");
        let document: Value = serde_json::from_slice(problem.body()).unwrap();
        assert_eq!(document["status"], status);
    }
}

async fn ask<S>(codec: &mut ClientCodec<S>, method: &str, target: &str, body: &str) -> Response<Bytes>
where
    S: Split + AsyncReadRent + AsyncWriteRent,
{
    let payload: Payload<Bytes, PayloadError> = match body {
        "" => Payload::None,
        body => Payload::Fixed(FixedPayload::new(Bytes::copy_from_slice(body.as_bytes()))),
    };
    let request =
        Request::builder().method(method).uri(target).header("Host", "localhost").body(payload).unwrap();
    codec.send_and_flush(request).await.unwrap();
    let (head, decoder) = codec.next().await.expect("an answer").unwrap().into_parts();
    let mut payload = FramedPayload::new(codec, decoder);
    let mut body = Vec::new();
    while let Some(part) = payload.next_data().await {
        body.extend_from_slice(&part.unwrap());
    }
    Response::from_parts(head, body.into())
}
