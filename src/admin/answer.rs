//! Paths to answers. It knows HTTP's form and the board, and no socket.

use std::time::{SystemTime, UNIX_EPOCH};

use super::board::{Board, Stage};
use super::{exposition, families};
use crate::http::{Head, HttpDate, Method, Persistence, ResponseHead, Status, path_and_query, write_head};

/// Media type of everything but the metrics.
const TEXT: &str = "text/plain; charset=utf-8";

/// The answer to a request that was read whole: head and body.
pub(super) async fn answer(board: &Board, started: SystemTime, head: &Head, received: &[u8]) -> Vec<u8> {
    let (path, _) = path_and_query(&received[head.target.clone()]);
    let head_only = head.method == Method::Head;
    let plain = |status, text: String| written(status, TEXT, None, text.as_bytes(), head_only);
    match path {
        b"/metrics" | b"/healthz" | b"/readyz" if !matches!(head.method, Method::Get | Method::Head) => {
            written(
                Status::METHOD_NOT_ALLOWED,
                TEXT,
                Some(("Allow", b"GET, HEAD")),
                b"expected GET or HEAD\n",
                false,
            )
        }
        b"/metrics" => {
            let text = exposition::text(board, &board.ask().await, started);
            written(Status::OK, families::MEDIA_TYPE, None, text.as_bytes(), head_only)
        }
        b"/healthz" => {
            let silent: Vec<String> = board.silent().await.iter().map(ToString::to_string).collect();
            match silent.is_empty() {
                true => plain(Status::OK, "live\n".to_owned()),
                false => {
                    let text = format!("cores that do not answer: {}\n", silent.join(", "));
                    plain(Status::SERVICE_UNAVAILABLE, text)
                }
            }
        }
        b"/readyz" => {
            let stage = board.stage();
            let status = if stage == Stage::Serving { Status::OK } else { Status::SERVICE_UNAVAILABLE };
            plain(status, format!("{}\n", stage.name()))
        }
        _ => plain(Status::NOT_FOUND, "expected /metrics, /healthz or /readyz\n".to_owned()),
    }
}

/// An answer that says no.
pub(super) fn refused(status: Status, detail: &str) -> Vec<u8> {
    written(status, TEXT, None, format!("{detail}\n").as_bytes(), false)
}

fn written(
    status: Status,
    content_type: &'static str,
    extra: Option<(&'static str, &[u8])>,
    body: &[u8],
    head_only: bool,
) -> Vec<u8> {
    let head = ResponseHead {
        status,
        content_type: Some(content_type),
        content_length: body.len(),
        extra,
        persistence: Persistence::Close,
    };
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let mut out = Vec::with_capacity(256 + body.len());
    write_head(&mut out, &head, &HttpDate::from_unix(now.as_secs()));
    if !head_only {
        out.extend_from_slice(body);
    }
    out
}
