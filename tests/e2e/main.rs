//! The composition from end to end: what `compose.yml` describes, brought up by a real engine, asked through its one
//! port, broken and mended. `make e2e` runs it on each engine that is there.
//!
//! [`composition`] is what is up, and how to look into it; then comes what is asked of it: [`rows`] of the contract,
//! [`confinement`], the [`image`], [`operators`], [`faults`]; and of the [`balancer`] alone. Each engine has one test, as
//! starting a composition takes longer than asking any of the questions.

#![allow(clippy::unwrap_used, reason = "clippy knows test functions, not the helpers of a test file")]

#[path = "../support/cluster.rs"]
mod cluster;
#[path = "../support/encrypted.rs"]
mod encrypted;
#[path = "../support/load.rs"]
mod load;
#[path = "../support/processes.rs"]
mod processes;
#[path = "../support/race.rs"]
mod race;
#[path = "../support/server.rs"]
mod server;
#[path = "../support/standby.rs"]
mod standby;
#[path = "../support/turns.rs"]
mod turns;

#[allow(dead_code, reason = "written for the contract's own test")]
#[path = "../contract/answer.rs"]
mod answer;

mod balancer;
mod composition;
mod confinement;
mod faults;
mod image;
mod operators;
mod rows;

use std::time::Instant;

use composition::{Composition, Containers, Processes};
use confinement::Seccomp;
use faults::Ledger;
use turns::Turns;

/// How many there are, for those who wait.
const DOCKER_STEPS: usize = 27;
const PODMAN_STEPS: usize = 19;
const LOCAL_STEPS: usize = 15;

#[test]
#[ignore = "needs a container engine: make e2e"]
fn docker() {
    let mut turns = Turns::new("e2e", DOCKER_STEPS);
    let mut containers = Containers::new("docker");
    step(&mut turns, "build", || containers.build());

    step(&mut turns, "haproxy starts first, postgres last", || {
        containers.start_alone(&["haproxy"]);
        rows::no_server_yet(&containers);
        // The balancer's log has what goes wrong, and nothing else.
        assert!(containers.engine(&["logs", &containers.container("haproxy")]).contains(" 503 "));
        containers.start_alone(&["api1", "api2"]);
        containers.start_alone(&["postgres"]);
        containers.wait_until_serving();
        confinement::check_logs(&containers);
    });
    the_rows(&mut turns, &containers);
    step(&mut turns, "confinement", || confinement::check(&containers));
    step(&mut turns, "the image", || image::check(&containers));
    step(&mut turns, "the live page", || operators::check(&containers));
    step(&mut turns, "health checks", || image::check_health(&containers));
    step(&mut turns, "a database with a name", || image::check_names(&containers));
    step(&mut turns, "a database with a certificate", || image::check_certificates(&containers));
    step(&mut turns, "wrong values", || confinement::check_values(&containers));
    step(&mut turns, "haproxy.cfg", || confinement::haproxy_takes_its_configuration(&containers));
    containers.down(&["--volumes"]);

    step(&mut turns, "postgres starts first, haproxy last", || {
        containers.start_alone(&["postgres"]);
        containers.start_alone(&["api2", "api1"]);
        containers.start_alone(&["haproxy"]);
        containers.wait_until_serving();
    });
    let mut ledger = Ledger::new();
    step(&mut turns, "kill -9 of an instance", || faults::kill_instances(&containers, &mut ledger));
    step(&mut turns, "stop of an instance", || faults::stop_an_instance(&containers, &mut ledger));

    step(&mut turns, "down, and up in the order of compose.yml", || {
        // Without --volumes: the data outlives it.
        containers.down(&[]);
        containers.up(&["--wait"]);
        confinement::check_logs(&containers);
        ledger.verify(&containers);
    });
    step(&mut turns, "restart of Postgres", || faults::restart_postgres(&containers, &mut ledger));
    step(&mut turns, "stop of everything", || faults::stop_everything(&containers, &mut ledger));
    for (name, seccomp) in [
        ("io_uring is forbidden", Seccomp::Refusing(nix::libc::EPERM)),
        ("io_uring is hidden", Seccomp::Refusing(nix::libc::ENOSYS)),
        ("the engine's own profile", Seccomp::OfTheEngine),
        ("the profile of compose.yml", Seccomp::OfTheProject),
    ] {
        step(&mut turns, name, || {
            confinement::choose(&mut containers, &seccomp);
            containers.up(&[]);
            confinement::check_driver(&containers, &seccomp);
            ledger.verify(&containers);
        });
    }
    step(&mut turns, "a password, as docs/compose.md sets it", || with_a_password(&mut containers));
    assert!(turns.are_over(), "another number of steps than was told");
}

/// The first start of a cluster with a password.
fn with_a_password(containers: &mut Containers) {
    containers.down(&["--volumes"]);
    confinement::choose(containers, &Seccomp::OfTheProject);
    containers.variables.extend(confinement::password());
    containers.up(&[]);
    confinement::check_password(containers);
    confinement::check_logs(containers);
}

#[test]
#[ignore = "needs a container engine: make e2e"]
fn podman() {
    let mut turns = Turns::new("e2e", PODMAN_STEPS);
    let mut containers = Containers::new("podman");
    step(&mut turns, "build", || containers.build());
    step(&mut turns, "up", || containers.up(&[]));
    the_rows(&mut turns, &containers);
    step(&mut turns, "confinement", || confinement::check(&containers));
    step(&mut turns, "the image", || image::check(&containers));
    step(&mut turns, "the live page", || operators::check(&containers));
    step(&mut turns, "health checks", || image::check_health(&containers));
    step(&mut turns, "a database with a name", || image::check_names(&containers));
    step(&mut turns, "a database with a certificate", || image::check_certificates(&containers));
    step(&mut turns, "wrong values", || confinement::check_values(&containers));
    for (name, seccomp) in [
        ("io_uring is forbidden", Seccomp::Refusing(nix::libc::EPERM)),
        ("the engine's own profile", Seccomp::OfTheEngine),
    ] {
        step(&mut turns, name, || {
            containers.down(&["--volumes"]);
            confinement::choose(&mut containers, &seccomp);
            containers.up(&[]);
            confinement::check_driver(&containers, &seccomp);
        });
    }
    step(&mut turns, "kill -9 of an instance", || faults::kill_instances(&containers, &mut Ledger::new()));
    step(&mut turns, "a password, as docs/compose.md sets it", || with_a_password(&mut containers));
    assert!(turns.are_over(), "another number of steps than was told");
}

#[test]
#[ignore = "needs haproxy, and root for the limits: make e2e"]
fn local() {
    let mut turns = Turns::new("e2e", LOCAL_STEPS);
    step(&mut turns, "haproxy.cfg", confinement::haproxy_takes_its_configuration_here);
    step(&mut turns, "lookups go to their maker", balancer::lookups_go_to_their_maker);
    let processes = Processes::start();
    step(&mut turns, "up", || processes.wait_until_serving());
    step(&mut turns, "the live page", operators::look);
    the_rows(&mut turns, &processes);
    drop(processes);

    let processes = Processes::start();
    step(&mut turns, "up, with an empty database", || processes.wait_until_serving());
    step(&mut turns, "limits", || {
        if nix::unistd::geteuid().is_root() {
            confinement::check_limits(&processes);
        } else {
            tell!("   not checked: the limits, which only root can set");
        }
    });
    step(&mut turns, "Postgres", || confinement::check_postgres(&processes));
    step(&mut turns, "kill -9 of an instance", || faults::kill_instances(&processes, &mut Ledger::new()));
    drop(processes);

    step(&mut turns, "a password, as docs/compose.md sets it", || {
        let processes = Processes::start_with(&confinement::password());
        processes.wait_until_serving();
        confinement::check_password(&processes);
    });
    assert!(turns.are_over(), "another number of steps than was told");
}

fn the_rows(turns: &mut Turns, composition: &dyn Composition) {
    step(turns, "rows of the contract", || rows::main_rows(composition));
    step(turns, "read your write", || rows::read_your_write(composition));
    step(turns, "found by the other instance", || rows::found_by_both(composition));
    step(turns, "one winner an apelido", || rows::one_winner(composition));
    step(turns, "slow bodies", || rows::slow_bodies(composition));
    step(turns, "other protocols", || rows::other_protocols(composition));
}

/// Runs a step, and prints its name and how long it took. The last name is that of the step that failed.
fn step(turns: &mut Turns, name: &str, run: impl FnOnce()) {
    tell!("-- {name}");
    let began = Instant::now();
    turns.turn(name, run);
    tell!("   {:.1} s", began.elapsed().as_secs_f64());
}
