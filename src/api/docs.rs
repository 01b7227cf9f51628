//! The documentation of the API, made of `openapi.yaml` when the binary is built. It knows no endpoint: what it says
//! about them is held against the server by `tests/openapi`.

use crate::http::reply::{HTML, TEXT};
use crate::http::{Answered, Reply, Status};
use crate::limits::DOCS_BYTES_MAX;

/// `openapi.yaml` as JSON.
const OPENAPI: &str = include_str!(concat!(env!("OUT_DIR"), "/openapi.json"));
/// The same for people: one page that fetches nothing.
const PAGE: &str = include_str!(concat!(env!("OUT_DIR"), "/docs.html"));

/// `GET /`: leads to the page.
pub(super) fn root(reply: Reply<'_>) -> Answered {
    let text = b"The documentation of this API is at /docs.\n";
    reply.body(Status::SEE_OTHER, TEXT, Some(("Location", b"/docs")), text)
}

/// `GET /docs`.
pub(super) fn page(reply: Reply<'_>) -> Answered {
    reply.body(Status::OK, HTML, None, PAGE.as_bytes())
}

/// `GET /openapi.json`.
pub(super) fn openapi(reply: Reply<'_>) -> Answered {
    reply.json(Status::OK, OPENAPI.as_bytes())
}

const _: () = assert!(OPENAPI.len() <= DOCS_BYTES_MAX && PAGE.len() <= DOCS_BYTES_MAX);
