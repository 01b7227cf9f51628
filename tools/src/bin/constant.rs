//! A constant answer served by the server's own HTTP code: what a read would cost if finding it were free.
//!
//! `cargo run --release -p tools --bin constant -- ADDRESS [io_uring|epoll] [BODY_BYTES] [CPU]`
//!
//! ADDRESS is a TCP address or `unix:PATH`. In the server's place in the topology (`local --api`) it takes LISTEN and
//! CORES from the environment. Prints its CPU time per request on SIGTERM or Ctrl-C.

use std::cell::Cell;
use std::rc::Rc;
use std::sync::atomic::{AtomicU64, Ordering};

use clap::Parser;
use nix::sys::resource::{UsageWho, getrusage};
use rinha::core::{Driver, Machine, Wanted, topology};
use rinha::http::{Answered, Reply, Request, Service, Status};
use rinha::ledger::Ledger;
use rinha::limits::{CONNECTIONS_MAX, LEDGER_BYTES_DEFAULT};
use rinha::net::{Bound, Intake, Listen, Shared, clock};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Written five times a second by the core, read at the end by the signal thread.
static ANSWERED: AtomicU64 = AtomicU64::new(0);

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
    let Arguments { listen, driver: wanted, bytes, cpu } = Arguments::parse();
    let cpu = match (cpu, std::env::var("CORES").ok()) {
        (Some(cpu), _) => cpu,
        (None, Some(cores)) => {
            let cores = cores.parse().expect("CORES as the server takes them");
            Machine::this().and_then(|machine| machine.choose(&cores)).expect("CPUs")[0]
        }
        (None, None) => 0,
    };

    let mut signals =
        signal_hook::iterator::Signals::new([signal_hook::consts::SIGTERM, signal_hook::consts::SIGINT])
            .expect("signal handlers");
    std::thread::spawn(move || {
        signals.forever().next();
        let usage = getrusage(UsageWho::RUSAGE_SELF).expect("resource usage");
        let micros = |time: nix::sys::time::TimeVal| time.tv_sec() * 1_000_000 + time.tv_usec();
        let cpu = micros(usage.user_time()) + micros(usage.system_time());
        let answered = ANSWERED.load(Ordering::Relaxed);
        #[allow(clippy::cast_precision_loss, reason = "for people")]
        let each = cpu as f64 / answered.max(1) as f64;
        println!("constant: {answered} requests, {each:.2} us of CPU each");
        std::process::exit(0);
    });

    topology::pin(cpu).expect("a CPU this process may use");
    let (mut runtime, chosen) = Driver::build(wanted, CONNECTIONS_MAX).expect("a driver");
    eprintln!("constant: {listen}, {} ({}), {bytes} bytes, CPU {cpu}", chosen.kind.name(), chosen.reason);
    let nonblocking = runtime.needs_nonblocking();
    runtime.block_on(async {
        let shared = Shared::new(CONNECTIONS_MAX, Ledger::new(LEDGER_BYTES_DEFAULT));
        let service = Rc::new(Constant { body: vec![b'x'; bytes], answered: Cell::new(0) });
        // Held to the end: when dropped, it removes the paths of its sockets.
        let mut intake = Intake::new(Rc::clone(&shared), Rc::clone(&service), nonblocking);
        let bound = Bound::bind(&listen, 0).expect("a free address");
        intake.listen(bound).expect("a listener");
        monoio::spawn(clock::every_second(move || shared.tick()));
        loop {
            monoio::time::sleep(std::time::Duration::from_millis(200)).await;
            ANSWERED.store(service.answered.get(), Ordering::Relaxed);
        }
    });
}
