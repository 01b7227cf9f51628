//! The answer to one request, as bytes at the end of a connection's write buffer. It knows HTTP's form and
//! nothing of pessoas.

use super::date::HttpDate;
use super::response::{Persistence, ResponseHead, write_head};
use super::status::Status;
use crate::limits::RETRY_AFTER_SECONDS;

/// Media type of every 2xx but the count's, and of `/healthz` whatever its status is.
pub const JSON: &str = "application/json";
/// Media type of the count, and of what a redirection says.
pub const TEXT: &str = "text/plain; charset=utf-8";
/// Media type of the page at `/docs`.
pub const HTML: &str = "text/html; charset=utf-8";
/// Media type of every 4xx and 5xx but that of `/healthz` (RFC 9457).
pub const PROBLEM: &str = "application/problem+json";

/// Enough for the head of any answer.
const HEAD_BYTES: usize = 256;

/// A field of the head beyond those that every answer has.
pub type Extra<'a> = Option<(&'static str, &'a [u8])>;

/// The moment in which an answer is written. With a slow database that is seconds after the request was read, and a
/// drain may have begun meanwhile, or memory have become scarce.
pub trait Moment {
    /// The answer's `Date`.
    fn date(&self) -> HttpDate;

    /// What the answer says about the connection.
    fn persistence(&self) -> Persistence;

    /// Whether `more` bytes of body may be added to the `gathered` ones that wait to be written.
    fn has_room(&self, gathered: usize, more: usize) -> bool;
}

/// What was answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Answered {
    /// The answer's status.
    pub status: Status,
    /// What it says about the connection.
    pub persistence: Persistence,
}

/// Where the answer to one request goes. Every method writes a whole answer, and returns what was answered. It consumes the
/// reply, so that a request gets one answer.
pub struct Reply<'a> {
    out: &'a mut Vec<u8>,
    moment: &'a dyn Moment,
    /// `HEAD`: the same head, no body.
    head_only: bool,
}

impl<'a> Reply<'a> {
    /// A reply that appends to `out`.
    pub fn new(out: &'a mut Vec<u8>, moment: &'a dyn Moment, head_only: bool) -> Self {
        Reply { out, moment, head_only }
    }

    /// Writes a head for a body of `length` bytes, and then the body, which `body` must append. To HEAD `body` is not
    /// called. Where there is no room for such a body, the answer is a `503` instead, and the connection's last.
    pub fn with_body(
        self,
        status: Status,
        content_type: &'static str,
        extra: Extra<'_>,
        length: usize,
        body: impl FnOnce(&mut Vec<u8>),
    ) -> Answered {
        if !self.head_only && !self.moment.has_room(self.out.len(), length) {
            return self.no_room();
        }
        let persistence = self.moment.persistence();
        // At once: the buffer is small when it is empty.
        self.out.reserve(if self.head_only { HEAD_BYTES } else { HEAD_BYTES + length });
        let head = ResponseHead {
            status,
            content_type: Some(content_type),
            content_length: length,
            extra,
            persistence,
        };
        write_head(self.out, &head, &self.moment.date());
        if !self.head_only {
            let start = self.out.len();
            body(self.out);
            debug_assert_eq!(self.out.len() - start, length, "Content-Length is the body's length");
        }
        Answered { status, persistence }
    }

    fn no_room(self) -> Answered {
        let body = problem_json(Status::SERVICE_UNAVAILABLE, "too many answers wait to be read, try again");
        let seconds = RETRY_AFTER_SECONDS.to_string();
        let head = ResponseHead {
            status: Status::SERVICE_UNAVAILABLE,
            content_type: Some(PROBLEM),
            content_length: body.len(),
            extra: Some(("Retry-After", seconds.as_bytes())),
            persistence: Persistence::Close,
        };
        write_head(self.out, &head, &self.moment.date());
        self.out.extend_from_slice(body.as_bytes());
        Answered { status: head.status, persistence: head.persistence }
    }

    /// An answer whose body is there already.
    pub fn body(self, status: Status, content_type: &'static str, extra: Extra<'_>, body: &[u8]) -> Answered {
        self.with_body(status, content_type, extra, body.len(), |out| out.extend_from_slice(body))
    }

    /// An answer with a JSON body and no extra field.
    pub fn json(self, status: Status, body: &[u8]) -> Answered {
        self.body(status, JSON, None, body)
    }

    /// A 4xx or 5xx: `{"title","status","detail"}`, the title being the status' reason phrase.
    pub fn problem(self, status: Status, detail: &str, extra: Extra<'_>) -> Answered {
        self.body(status, PROBLEM, extra, problem_json(status, detail).as_bytes())
    }

    /// `503`: the same request may be sent again. Its outcome is unknown unless `detail` says more.
    pub fn unavailable(self, detail: &str) -> Answered {
        let seconds = RETRY_AFTER_SECONDS.to_string();
        self.problem(Status::SERVICE_UNAVAILABLE, detail, Some(("Retry-After", seconds.as_bytes())))
    }
}

/// The body of a problem (RFC 9457). `detail` is escaped, because it may quote what a client sent.
fn problem_json(status: Status, detail: &str) -> String {
    let detail = sonic_rs::to_string(detail).expect("a string is always JSON");
    format!(r#"{{"title":"{}","status":{},"detail":{detail}}}"#, status.reason(), status.code())
}
