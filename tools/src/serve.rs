//! What serves in the server's place, by the server's own net and HTTP code: the floor of a measurement.

use std::rc::Rc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use nix::sys::resource::{UsageWho, getrusage};
use rinha::core::{Driver, Machine, Wanted, topology};
use rinha::http::Service;
use rinha::ledger::Ledger;
use rinha::limits::{CONNECTIONS_MAX, LEDGER_BYTES_DEFAULT};
use rinha::net::{Bound, Intake, Listen, Shared, clock};

/// Written five times a second by the core, read at the end by the signal thread.
static ANSWERED: AtomicU64 = AtomicU64::new(0);

/// One line, and the end.
fn refuse(name: &str, why: &str) -> ! {
    eprintln!("{name}: {why}");
    std::process::exit(1);
}

/// Serves until SIGTERM or Ctrl-C, and then says its CPU time a request. `cpu` is the CPU to run on; without it the first
/// that the variable CORES, as the server takes it, names, or 0. `service` makes what answers, on this thread, which becomes the core's.
///
/// # Panics
///
/// Something cannot be had: a driver, the CPU, the address.
pub fn serve<S: Service>(
    name: &'static str,
    listen: &Listen,
    wanted: Wanted,
    cpu: Option<usize>,
    service: impl AsyncFnOnce() -> Rc<S>,
    answered: impl Fn(&S) -> u64 + 'static,
) {
    let cpu = match (cpu, std::env::var("CORES").ok()) {
        (Some(cpu), _) => cpu,
        (None, Some(cores)) => {
            let cores = cores.parse().map_err(|why| format!("CORES: {why}"));
            let cpus = cores.and_then(|cores| Machine::this().and_then(|machine| machine.choose(&cores)));
            cpus.unwrap_or_else(|why| refuse(name, &why))[0]
        }
        (None, None) => 0,
    };
    let mut signals =
        signal_hook::iterator::Signals::new([signal_hook::consts::SIGTERM, signal_hook::consts::SIGINT])
            .expect("signal handlers");
    thread::spawn(move || {
        signals.forever().next();
        said(name);
        std::process::exit(0);
    });
    // As the server names its own: `perf/rates` looks for it.
    nix::sys::prctl::set_name(c"core-0").expect("a short name");
    topology::pin(cpu).expect("a CPU this process may use");
    let (mut runtime, chosen) = Driver::build(wanted, CONNECTIONS_MAX).expect("a driver");
    eprintln!("{name}: {listen}, {} ({}), CPU {cpu}", chosen.kind.name(), chosen.reason);
    let nonblocking = runtime.needs_nonblocking();
    runtime.block_on(async {
        let shared = Shared::new(CONNECTIONS_MAX, Ledger::new(LEDGER_BYTES_DEFAULT));
        let service = service().await;
        // Held to the end: when dropped, it removes the paths of its sockets.
        let mut intake = Intake::new(Rc::clone(&shared), Rc::clone(&service), nonblocking);
        let bound = Bound::bind(listen, 0).unwrap_or_else(|why| refuse(name, &why));
        intake.listen(bound).expect("a listener");
        monoio::spawn(clock::every_second(move || shared.tick()));
        loop {
            monoio::time::sleep(Duration::from_millis(200)).await;
            ANSWERED.store(answered(&service), Ordering::Relaxed);
        }
    });
}

fn said(name: &str) {
    let usage = getrusage(UsageWho::RUSAGE_SELF).expect("resource usage");
    let micros = |time: nix::sys::time::TimeVal| time.tv_sec() * 1_000_000 + time.tv_usec();
    let cpu = micros(usage.user_time()) + micros(usage.system_time());
    let answered = ANSWERED.load(Ordering::Relaxed);
    #[allow(clippy::cast_precision_loss, reason = "for people")]
    let each = cpu as f64 / answered.max(1) as f64;
    println!("{name}: {answered} requests, {each:.2} us of CPU each");
}
