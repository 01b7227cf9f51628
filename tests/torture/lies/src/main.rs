//! The server, with the lies of `table.rs` built in. What is compiled is a copy that build.rs makes.

#![allow(
    dead_code,
    unreachable_pub,
    missing_docs,
    rustdoc::all,
    reason = "a copy of the server, in one crate with its main"
)]
#![allow(clippy::all, reason = "the original is what is looked at")]

mod lie;

include!(concat!(env!("OUT_DIR"), "/src/lib.rs"));

fn main() -> std::process::ExitCode {
    server::main()
}
