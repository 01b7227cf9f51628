//! A constant answer served by the server's own HTTP code: what a read would cost if finding it were free.
//!
//! `cargo run --release -p tools --bin constant -- ADDRESS [io_uring|epoll] [BODY_BYTES] [CPU]`
//!
//! ADDRESS is a TCP address or `unix:PATH`. In the server's place in the topology (`local --api`) it takes LISTEN and
//! CORES from the environment. Prints its CPU time per request on SIGTERM or Ctrl-C.

use std::cell::Cell;
use std::rc::Rc;

use clap::Parser;
use rinha::core::Wanted;
use rinha::http::{Answered, Reply, Request, Service, Status};
use rinha::net::Listen;
use tools::serve::serve;

// The server's own, so that the waits of both cost the kernel the same; build.rs puts it in its place.
#[path = "../../../src/iowait.rs"]
mod iowait;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// A constant answer, served by the server's own HTTP code.
#[derive(Parser)]
struct Arguments {
    /// A TCP address, or unix:PATH
    #[arg(env = "LISTEN", default_value = "127.0.0.1:9998")]
    listen: Listen,
    /// What drives the sockets
    #[arg(value_enum, default_value = "auto")]
    driver: Wanted,
    /// Bytes of the answer's body
    #[arg(default_value_t = 300)]
    bytes: usize,
    /// The CPU to run on; without it the first that CORES, as the server takes it, names, or 0
    cpu: Option<usize>,
}

struct Constant {
    body: Vec<u8>,
    answered: Cell<u64>,
}

impl Service for Constant {
    async fn respond(&self, _: Request<'_>, reply: Reply<'_>) -> Answered {
        self.answered.set(self.answered.get() + 1);
        reply.json(Status::OK, &self.body)
    }
}

fn main() {
    let Arguments { listen, driver, bytes, cpu } = Arguments::parse();
    let service = async || Rc::new(Constant { body: vec![b'x'; bytes], answered: Cell::new(0) });
    serve("constant", &listen, driver, cpu, service, |constant: &Constant| constant.answered.get());
}
