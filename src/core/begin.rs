//! The beginning of a core's thread: its CPU and its driver. Whoever wants to know what a start would do tries both, for
//! all cores at once.

use std::sync::mpsc;
use std::thread;

use super::driver::{Chosen, Driver, Wanted};
use super::topology;

/// What a core has before it begins to work.
pub(super) struct Begun {
    pub(super) driver: Driver,
    pub(super) chosen: Chosen,
    /// Whether the kernel pinned it, or why not.
    pub(super) pinned: Result<(), String>,
}

/// Pins the calling thread and builds its driver.
///
/// # Errors
///
/// One line: the driver was refused.
pub(super) fn begin(cpu: usize, wanted: Wanted, connections: usize) -> Result<Begun, String> {
    let pinned = topology::pin(cpu).map_err(|errno| format!("not pinned to CPU {cpu}: {errno}"));
    let (driver, chosen) = Driver::build(wanted, connections).map_err(|error| error.to_string())?;
    Ok(Begun { driver, chosen, pinned })
}

/// What a core would have.
pub struct Tried {
    /// What would drive it.
    pub driver: Chosen,
    /// Whether the kernel pins it, or why not.
    pub pinned: Result<(), String>,
}

/// Begins a core on each of these CPUs, in the order of the CPUs, and lets go of them once all of them have begun, or cannot:
/// rings that are there together take their memory together.
pub fn try_out(cpus: &[usize], wanted: Wanted, connections: usize) -> Vec<Result<Tried, String>> {
    thread::scope(|scope| {
        let begun: Vec<_> = cpus
            .iter()
            .map(|&cpu| {
                let (tell, told) = mpsc::channel();
                let (hold, held) = mpsc::channel::<()>();
                let core = move || {
                    let begun = begin(cpu, wanted, connections);
                    let said = match &begun {
                        Ok(begun) => Ok(Tried { driver: begun.chosen.clone(), pinned: begun.pinned.clone() }),
                        Err(why) => Err(why.clone()),
                    };
                    let _gone = tell.send(said).is_err();
                    // Until the other end is dropped.
                    let _over = held.recv().is_err();
                    drop(begun);
                };
                let spawned = thread::Builder::new().spawn_scoped(scope, core);
                (spawned.map(drop).map_err(|error| format!("cannot start a thread: {error}")), told, hold)
            })
            .collect();
        let tried = begun.iter().map(|(spawned, told, _hold)| {
            spawned.clone()?;
            told.recv().unwrap_or_else(|_| Err("the thread that built a driver panicked".to_owned()))
        });
        tried.collect()
    })
}
