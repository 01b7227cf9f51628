//! What breaks while clients are at work, and what that may cost them. Whatever happens, what was acknowledged stays.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use tokio_postgres::NoTls;

use crate::cluster::block_on;
use crate::composition::{Composition, Containers, INSTANCES, health};
use crate::load::{Attempt, Fate, Load, Pessoa, seed, verify, wait_until};
use crate::processes::{runs, send};
use crate::server::{Address, Connection};
use crate::tell;

const CLIENTS: usize = 16;
/// Creates of a steady load, before and after a fault.
const CREATES: usize = 300;
/// From a fault's end to a system that works as before.
const RECOVERY_MAX: Duration = Duration::from_secs(5);

/// Everything that was ever sent to one database, and what the clients were told.
pub(crate) struct Ledger {
    seed: u64,
    attempts: Vec<Attempt>,
}

impl Ledger {
    /// For an empty database.
    pub(crate) fn new() -> Ledger {
        Ledger { seed: seed(), attempts: Vec::new() }
    }

    /// Starts clients, and returns once they are at work.
    fn load(&self, address: &Address) -> Load {
        // Apelidos that no earlier load had.
        let load = Load::start(address, CLIENTS, self.seed.wrapping_add((self.attempts.len() as u64) << 32));
        load.wait_for(CREATES);
        load
    }

    /// Ends the load, and compares all that was told with all that is there.
    fn settle(&mut self, load: Load, composition: &dyn Composition) {
        self.attempts.extend(load.finish());
        self.verify(composition);
    }

    /// What was acknowledged is there, unchanged.
    pub(crate) fn verify(&self, composition: &dyn Composition) {
        verify(&self.attempts, &composition.database(), &composition.address());
    }
}

/// Requests that failed, or whose outcome a client was not told.
fn failed(load: &Load) -> usize {
    load.unavailable() + load.lost()
}

/// Kills the processes of the instances: whoever started them starts them again.
pub(crate) fn kill_instances(composition: &dyn Composition, ledger: &mut Ledger) {
    let load = ledger.load(&composition.address());
    for name in INSTANCES {
        let failed_before = failed(&load);
        let cores = health(&composition.instance(name)).unwrap()["cores"].take();
        let pid = composition.pid(name);
        send(pid, Signal::SIGKILL);
        wait_until("its end", || !runs(pid));
        let back = wait_until("its answer through the port", || {
            health(&composition.address()).is_some_and(|health| health["cores"] == cores)
        });
        load.wait_for(CREATES);
        let failed = failed(&load) - failed_before;
        tell!("   {name}: back in rotation after {back:?}; {failed} requests failed");
        assert!(back < RECOVERY_MAX);
        // Each client may lose the request that was under way. All later requests went to the other instance.
        assert!(failed <= CLIENTS, "{failed} failed requests of {CLIENTS} clients");
    }
    ledger.settle(load, composition);
}

/// An instance that is told to stop costs nobody anything.
pub(crate) fn stop_an_instance(containers: &Containers, ledger: &mut Ledger) {
    let load = ledger.load(&containers.address());
    for name in INSTANCES {
        containers.compose(&["stop", name]);
        load.wait_for(CREATES);
        containers.compose(&["start", name]);
        containers.wait_until_serving();
        assert_eq!((failed(&load), load.torn()), (0, 0), "requests that failed while {name} was away");
    }
    ledger.settle(load, containers);
}

/// While Postgres is away, reads of known pessoas go on and creates wait.
pub(crate) fn restart_postgres(containers: &Containers, ledger: &mut Ledger) {
    let mut connection = Connection::open(&containers.address());
    let known: Vec<Attempt> = (0..50)
        .map(|number| {
            let pessoa = Pessoa::named(&format!("known{number}"));
            Attempt::acknowledged(&pessoa, &pessoa.post(&mut connection).unwrap())
        })
        .collect();
    // The contract's time for the other instance to learn of them.
    thread::sleep(Duration::from_secs(1));
    let load = ledger.load(&containers.address());
    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        let reader = scope.spawn(|| read_until(&over, &containers.address(), &known));
        for (fault, strike) in [
            ("restart", &(|| drop(containers.compose(&["restart", "postgres"]))) as &dyn Fn()),
            ("kill -9", &|| {
                let pid = containers.pid("postgres");
                send(pid, Signal::SIGKILL);
                wait_until("its end", || !runs(pid));
            }),
        ] {
            strike();
            let away = wait_until("a database that answers", || answers(containers));
            let again = load.wait_for(CREATES);
            tell!("   {fault}: {away:?} until Postgres answers, {again:?} until {CREATES} more creates");
            assert!(again < RECOVERY_MAX);
        }
        over.store(true, Ordering::Relaxed);
        reader.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
    });
    assert_eq!((load.lost(), load.torn()), (0, 0), "a database that is away breaks no connection");
    ledger.attempts.extend(known);
    ledger.settle(load, containers);
}

/// Every read of a known pessoa is answered, whatever happens to the database.
fn read_until(over: &AtomicBool, address: &Address, known: &[Attempt]) {
    let (mut reads, mut slowest) = (0, Duration::ZERO);
    let mut connection = Connection::open(address);
    for attempt in known.iter().cycle() {
        let Fate::Acknowledged { id, body } = &attempt.fate else { panic!("expected a 201: {attempt:?}") };
        let began = Instant::now();
        let got = connection.ask("GET", &format!("/pessoas/{id}"), "");
        slowest = slowest.max(began.elapsed());
        assert_eq!((got.status, &got.body), (200, body));
        reads += 1;
        if over.load(Ordering::Relaxed) {
            break;
        }
        thread::sleep(Duration::from_millis(1));
    }
    tell!("   {reads} reads meanwhile, the slowest in {slowest:?}");
}

/// Whether the database answers; a container that is not running has no socket.
fn answers(composition: &dyn Composition) -> bool {
    block_on(async { composition.database().connect(NoTls).await.is_ok() })
}

/// The balancer goes first, if Compose started all of them in its order: it takes no new connection, and each client's
/// last request is answered with `Connection: close`. So no request fails before nobody is there.
pub(crate) fn stop_everything(containers: &Containers, ledger: &mut Ledger) {
    let load = ledger.load(&containers.balancer());
    let began = Instant::now();
    containers.compose(&["stop"]);
    tell!("   stopped in {:?}", began.elapsed());
    for name in INSTANCES {
        let log = containers.logs(name);
        assert!(log.trim_end().ends_with("stopped"), "{name}: {log}");
    }
    assert_eq!((failed(&load), load.torn()), (0, 0), "requests that failed");
    ledger.attempts.extend(load.finish());
    containers.up(&[]);
    ledger.verify(containers);
}
