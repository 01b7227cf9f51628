//! The answer to one request, as bytes at the end of a connection's write buffer. It knows HTTP's form and
//! nothing of pessoas.

use super::date::HttpDate;
use super::response::{Persistence, ResponseHead, write_head};
use super::status::Status;
use crate::limits::RETRY_AFTER_SECONDS;

/// Media type of every 2xx but the count's.
pub const JSON: &str = "application/json";
/// Media type of the count.
pub const TEXT: &str = "text/plain; charset=utf-8";
/// Media type of every 4xx and 5xx (RFC 9457).
pub const PROBLEM: &str = "application/problem+json";

/// A field of the head beyond those that every answer has.
pub type Extra<'a> = Option<(&'static str, &'a [u8])>;

/// What an answer says of the moment in which it is written. That may be seconds after its request was read, when
/// the database was slow, and a drain may have begun between the two.
pub type Moment<'a> = &'a dyn Fn() -> (HttpDate, Persistence);

/// Where the answer to one request goes. Every method writes a whole answer and says what that tells the client about
/// its connection; it takes the reply, so that there is one answer.
pub struct Reply<'a> {
    out: &'a mut Vec<u8>,
    moment: Moment<'a>,
    /// `HEAD`: the same head, no body.
    head_only: bool,
}

impl<'a> Reply<'a> {
    /// A reply that appends to `out`.
    pub fn new(out: &'a mut Vec<u8>, moment: Moment<'a>, head_only: bool) -> Self {
        Reply { out, moment, head_only }
    }

    /// A head for a body of `length` bytes; the body is then what `body` appends.
    pub fn with_body(
        self,
        status: Status,
        content_type: &'static str,
        extra: Extra<'_>,
        length: usize,
        body: impl FnOnce(&mut Vec<u8>),
    ) -> Persistence {
        let (date, persistence) = (self.moment)();
        let head = ResponseHead {
            status,
            content_type: Some(content_type),
            content_length: length,
            extra,
            persistence,
        };
        write_head(self.out, &head, &date);
        if !self.head_only {
            let start = self.out.len();
            body(self.out);
            debug_assert_eq!(self.out.len() - start, length, "Content-Length is the body's length");
        }
        persistence
    }

    /// An answer whose body is there already.
    pub fn body(
        self,
        status: Status,
        content_type: &'static str,
        extra: Extra<'_>,
        body: &[u8],
    ) -> Persistence {
        self.with_body(status, content_type, extra, body.len(), |out| out.extend_from_slice(body))
    }

    /// `200` or `201` with a JSON body.
    pub fn json(self, status: Status, body: &[u8]) -> Persistence {
        self.body(status, JSON, None, body)
    }

    /// A 4xx or 5xx: `{"title","status","detail"}`, the title being the status' reason phrase.
    pub fn problem(self, status: Status, detail: &str, extra: Extra<'_>) -> Persistence {
        self.body(status, PROBLEM, extra, problem_json(status, detail).as_bytes())
    }

    /// `503`: the outcome is unknown, and the same request may be sent again.
    pub fn unavailable(self, detail: &str) -> Persistence {
        let seconds = RETRY_AFTER_SECONDS.to_string();
        self.problem(Status::SERVICE_UNAVAILABLE, detail, Some(("Retry-After", seconds.as_bytes())))
    }
}

/// The body of a problem (RFC 9457). Details quote what a client sent at most in characters that JSON escapes.
fn problem_json(status: Status, detail: &str) -> String {
    let detail = sonic_rs::to_string(detail).expect("a string is always JSON");
    format!(r#"{{"title":"{}","status":{},"detail":{detail}}}"#, status.reason(), status.code())
}
