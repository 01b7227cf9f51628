//! What a connection and the endpoints agree on: a request comes in, a service answers it through a reply.

use std::time::Instant;

use super::reply::{Answered, Reply};
use super::request::Method;
use super::status::Status;

/// A whole request, borrowed from its connection's read buffer.
pub struct Request<'a> {
    /// Its method.
    pub method: Method,
    /// The request target, undecoded.
    pub target: &'a [u8],
    /// The body, its transfer coding undone; at most [`BODY_MAX`](crate::limits::BODY_MAX) bytes.
    pub body: &'a [u8],
    /// When the last of it was read.
    pub received: Instant,
}

/// What answers requests.
pub trait Service: 'static {
    /// Answers `request` by one of `reply`'s methods, and gives back what that method returned.
    fn respond(&self, request: Request<'_>, reply: Reply<'_>) -> impl Future<Output = Answered>;

    /// Hears of a request that its connection answered itself, as it was none or found no room; what there is of it was read
    /// at `received`.
    fn rejected(&self, _status: Status, _received: Instant) {}
}
