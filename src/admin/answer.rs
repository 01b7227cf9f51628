//! Paths to answers. It knows HTTP's form and the board, and no socket.

use std::time::{SystemTime, UNIX_EPOCH};

use super::board::{Board, Stage};
use super::live::{self, Live, Place};
use super::{exposition, families};
use crate::http::{Head, HttpDate, Method, Persistence, ResponseHead, Status, path_and_query, write_head};

const TEXT: &str = "text/plain; charset=utf-8";
const HTML: &str = "text/html; charset=utf-8";
const CSS: &str = "text/css; charset=utf-8";
const JAVASCRIPT: &str = "text/javascript; charset=utf-8";
const JSON: &str = "application/json";

/// What a path asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Asked {
    Metrics,
    Live,
    Ready,
    Page,
    Style,
    Script(&'static str),
    Now,
    Events,
}

/// Every path, and what it asks for.
const PATHS: [(&str, Asked); 10] = [
    ("/metrics", Asked::Metrics),
    ("/healthz", Asked::Live),
    ("/readyz", Asked::Ready),
    ("/live", Asked::Page),
    // Relative links of the page lead here, also behind a balancer that puts a prefix before them.
    ("/live/page.css", Asked::Style),
    ("/live/numbers.js", Asked::Script(live::NUMBERS)),
    ("/live/charts.js", Asked::Script(live::CHARTS)),
    ("/live/page.js", Asked::Script(live::SCRIPT)),
    ("/live/now", Asked::Now),
    ("/live/events", Asked::Events),
];

/// What is sent.
pub(super) enum Answer {
    /// Head and body.
    Bytes(Vec<u8>),
    /// The events of the live page, to the end of the connection.
    Events(Place),
}

/// The answer to a request that was read whole.
pub(super) async fn answer(
    board: &Board,
    live: &Live,
    started: SystemTime,
    head: &Head,
    received: &[u8],
) -> Answer {
    let (path, _) = path_and_query(&received[head.target.clone()]);
    let head_only = head.method == Method::Head;
    let written = |status, content_type, extra, body: &str| {
        Answer::Bytes(bytes(status, content_type, extra, body.as_bytes(), head_only))
    };
    let plain = |status, text: &str| written(status, TEXT, None, text);
    let Some((_, asked)) = PATHS.iter().find(|(known, _)| known.as_bytes() == path) else {
        return plain(Status::NOT_FOUND, "expected /metrics, /healthz, /readyz or /live\n");
    };
    if !matches!(head.method, Method::Get | Method::Head) {
        let allow = Some(("Allow", &b"GET, HEAD"[..]));
        return written(Status::METHOD_NOT_ALLOWED, TEXT, allow, "expected GET or HEAD\n");
    }
    // Whatever a proxy or a browser keeps of these is wrong a second later.
    let fresh = Some(("Cache-Control", &b"no-store"[..]));
    match asked {
        Asked::Metrics => {
            let text = exposition::text(board, &board.ask().await, started);
            written(Status::OK, families::MEDIA_TYPE, None, &text)
        }
        Asked::Live => {
            let silent: Vec<String> = board.silent().await.iter().map(ToString::to_string).collect();
            match silent.is_empty() {
                true => plain(Status::OK, "live\n"),
                false => {
                    let text = format!("cores that do not answer: {}\n", silent.join(", "));
                    plain(Status::SERVICE_UNAVAILABLE, &text)
                }
            }
        }
        Asked::Ready => {
            let stage = board.stage();
            let status = if stage == Stage::Serving { Status::OK } else { Status::SERVICE_UNAVAILABLE };
            plain(status, &format!("{}\n", stage.name()))
        }
        Asked::Page => {
            let policy = Some(("Content-Security-Policy", live::POLICY.as_bytes()));
            written(Status::OK, HTML, policy, live::PAGE)
        }
        Asked::Style => written(Status::OK, CSS, fresh, live::STYLE),
        Asked::Script(script) => written(Status::OK, JAVASCRIPT, fresh, script),
        Asked::Now => written(Status::OK, JSON, fresh, &live.now().await),
        Asked::Events if head_only => written(Status::OK, "text/event-stream", fresh, ""),
        Asked::Events => match live.enter() {
            Some(place) => Answer::Events(place),
            None => plain(Status::SERVICE_UNAVAILABLE, "too many watch the live page, try again\n"),
        },
    }
}

/// An answer that says no.
pub(super) fn refused(status: Status, detail: &str) -> Vec<u8> {
    bytes(status, TEXT, None, format!("{detail}\n").as_bytes(), false)
}

fn bytes(
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
