//! The endpoints: a request's method and path to a function, and its answer. It knows the people and HTTP, never a socket.

pub mod handlers;
pub mod health;
pub mod route;
