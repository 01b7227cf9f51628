//! The endpoints: what the contract says of each path. It knows the people and HTTP's form, never a socket or SQL.
//!
//! A request's way through the files: `route` (method and path to endpoint), `handlers` (one function each);
//! `requests` counts what was answered; `health` is what the instance says of itself, `docs` what the API says of
//! itself.

mod docs;
mod handlers;
mod health;
mod requests;
mod route;

pub use handlers::Api;
pub use health::{DriverState, Health};
pub use requests::{Requests, Series};
