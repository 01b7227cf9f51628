//! HTTP/1.1 as a pure mapping between bytes and values: request heads and chunked bodies in, response heads out.
//! It knows nothing of the project but `limits`: no runtime, no socket, no route, no pessoa.
//!
//! A request's way through the files: [`request`] reads the head, [`chunked`] undoes the transfer coding,
//! [`target`] takes the target apart; a [`service`] answers through a [`reply`], whose head [`response`] writes with
//! its [`status`] and the [`date`]. What cannot be served is a [`Reject`]. The connection is closed after one, because
//! the framing of what follows cannot be trusted.

pub mod chunked;
pub mod date;
mod octets;
pub mod reject;
pub mod reply;
pub mod request;
pub mod response;
pub mod service;
pub mod status;
pub mod target;

pub use chunked::ChunkedDecoder;
pub use date::HttpDate;
pub use reject::Reject;
pub use reply::{Answered, Moment, Reply};
pub use request::{Framing, Head, HeadParser, Method, Progress, Version};
pub use response::{CONTINUE, Persistence, ResponseHead, write_head};
pub use service::{Request, Service};
pub use status::Status;
pub use target::{BadEncoding, decode_form, decode_form_utf8, first_value, path_and_query};
