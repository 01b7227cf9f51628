//! rinha: see the README.

pub mod limits;
