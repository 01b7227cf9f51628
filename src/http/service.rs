//! What a connection and the endpoints agree on: a request comes in, a service answers it through a reply.

use super::reply::Reply;
use super::request::Method;
use super::response::Persistence;

/// A whole request, borrowed from its connection's read buffer.
pub struct Request<'a> {
    /// Its method.
    pub method: Method,
    /// The request target, undecoded.
    pub target: &'a [u8],
    /// The body, its transfer coding undone; at most [`BODY_MAX`](crate::limits::BODY_MAX) bytes.
    pub body: &'a [u8],
}

/// What answers requests.
pub trait Service: 'static {
    /// Answers `request` by one of `reply`'s methods, and gives back what that method returned.
    fn respond(&self, request: Request<'_>, reply: Reply<'_>) -> impl Future<Output = Persistence>;
}
