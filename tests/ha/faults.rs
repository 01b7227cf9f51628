//! What is done to the cluster while clients are at work. The primary is named first in one
//! instance's URL and last in another's.

use std::thread;
use std::time::{Duration, Instant};

use ha::node::Part;
use nix::sys::signal::Signal;

use crate::clients::Clients;
use crate::cluster::query;
use crate::lab::Lab;
use crate::load::wait_until;
use crate::processes::send;
use crate::tell;

/// How long a node that a service manager will start again stays away: longer than Patroni's lock.
const AWAY: Duration = Duration::from_secs(25);
/// How long a loss lasts that the rest must get over without a new primary.
const SHORT: Duration = Duration::from_secs(12);
/// How long clients are given to be told something wrong.
const TELL: Duration = Duration::from_secs(3);

/// One fault: its name in the report, whether it is in the short form, and what is done.
pub(crate) struct Fault {
    pub(crate) name: &'static str,
    pub(crate) short: bool,
    pub(crate) strike: fn(&mut Lab, &Clients),
}

const fn fault(name: &'static str, short: bool, strike: fn(&mut Lab, &Clients)) -> Fault {
    Fault { name, short, strike }
}

/// All of them.
pub(crate) const FAULTS: &[Fault] = &[
    fault("kill -9 of the primary's postmaster", true, |lab, _| {
        lab.cluster.nodes[lab.primary].kill_postmaster().expect("a kill");
        wait_for_another(lab);
    }),
    fault("kill -9 of Patroni and Postgres", false, |lab, _| {
        let node = &mut lab.cluster.nodes[lab.primary];
        node.kill(Part::Patroni).expect("a kill");
        node.kill(Part::Postgres).expect("a kill");
        thread::sleep(AWAY);
        wait_for_another(lab);
    }),
    fault("switchover", true, |lab, _| {
        let standby = lab.cluster.sync_standby().expect("a synchronous standby");
        lab.cluster.switch_over(standby).expect("a switchover");
    }),
    fault("the primary's node is frozen, 15 s", false, |lab, _| freeze(lab, Part::All, 15)),
    fault("the primary's node is frozen, 40 s", true, |lab, _| freeze(lab, Part::All, 40)),
    fault("its Postgres alone is frozen, 15 s", false, |lab, _| freeze(lab, Part::Postgres, 15)),
    fault("its Postgres alone is frozen, 40 s", false, |lab, _| freeze(lab, Part::Postgres, 40)),
    fault("its Patroni alone is frozen, 15 s", false, |lab, _| freeze(lab, Part::Patroni, 15)),
    fault("its Patroni alone is frozen, 40 s", false, |lab, _| freeze(lab, Part::Patroni, 40)),
    fault("the primary's node is cut off, 15 s", true, |lab, _| cut(lab, 15)),
    fault("the primary's node is cut off, 40 s", false, |lab, _| cut(lab, 40)),
    fault("the synchronous standby is lost, and comes back", false, |lab, _| {
        let standby = lab.cluster.sync_standby().expect("a synchronous standby");
        lab.cluster.nodes[standby].kill(Part::All).expect("a kill");
        thread::sleep(SHORT);
    }),
    fault("the synchronous standby is frozen", false, |lab, _| {
        let standby = lab.cluster.sync_standby().expect("a synchronous standby");
        let frozen = lab.cluster.nodes[standby].freeze(Part::All).expect("a freeze");
        thread::sleep(SHORT);
        drop(frozen);
    }),
    fault("the other standby is lost, and comes back", false, |lab, _| {
        let standby = lab.cluster.sync_standby().expect("a synchronous standby");
        let other = lab.standbys().into_iter().find(|node| *node != standby).expect("two standbys");
        lab.cluster.nodes[other].kill(Part::All).expect("a kill");
        thread::sleep(SHORT);
    }),
    fault("both standbys are lost, and come back", false, |lab, _| {
        for node in lab.standbys() {
            lab.cluster.nodes[node].kill(Part::All).expect("a kill");
        }
        thread::sleep(SHORT);
    }),
    fault("both standbys' Postgres is frozen", true, |lab, _| {
        let freeze = |node: usize| lab.cluster.nodes[node].freeze(Part::Postgres).expect("a freeze");
        let frozen: Vec<_> = lab.standbys().into_iter().map(freeze).collect();
        thread::sleep(SHORT);
        drop(frozen);
    }),
    fault("all of etcd is lost, and comes back", false, |lab, _| {
        for node in &mut lab.cluster.nodes {
            node.kill_etcd().expect("a kill");
        }
        thread::sleep(SHORT);
    }),
    fault(
        "pg_terminate_backend on a commit that waits for the standby, then the primary is lost",
        true,
        |lab, _| {
            cut_a_wait_short(lab, |lab| tell_waiting(lab, "pg_terminate_backend"));
        },
    ),
    fault(
        "pg_cancel_backend on a commit that waits for the standby, then the primary is lost",
        false,
        |lab, _| {
            cut_a_wait_short(lab, |lab| tell_waiting(lab, "pg_cancel_backend"));
        },
    ),
    fault("kill -9 of a backend that waits for the standby, then the primary is lost", false, |lab, _| {
        cut_a_wait_short(lab, |lab| {
            let pid = waiting(lab)[0];
            send(pid, Signal::SIGKILL);
        });
    }),
];

/// Waits until another node is the primary.
fn wait_for_another(lab: &Lab) {
    let began = Instant::now();
    while lab.cluster.primary().is_none_or(|primary| primary == lab.primary) {
        assert!(
            began.elapsed() < Duration::from_secs(60),
            "expected another primary: {:?}",
            lab.cluster.members()
        );
        thread::sleep(Duration::from_millis(20));
    }
}

fn freeze(lab: &mut Lab, part: Part, seconds: u64) {
    let frozen = lab.cluster.nodes[lab.primary].freeze(part).expect("a freeze");
    thread::sleep(Duration::from_secs(seconds));
    drop(frozen);
}

fn cut(lab: &mut Lab, seconds: u64) {
    lab.cluster.cut(lab.primary).expect("a cut");
    thread::sleep(Duration::from_secs(seconds));
    lab.cluster.heal(lab.primary).expect("the end of a cut");
}

/// The server's backends that wait for the standby.
fn waiting(lab: &Lab) -> Vec<i32> {
    let statement =
        "select pid from pg_stat_activity where wait_event = 'SyncRep' and application_name like 'rinha%'";
    query(&lab.superuser(lab.primary), statement).iter().map(|pid| pid.parse().expect("a number")).collect()
}

/// Calls a function on each backend that waits.
fn tell_waiting(lab: &Lab, function: &str) {
    let told = query(
        &lab.superuser(lab.primary),
        &format!(
            "select {function}(pid) from pg_stat_activity \
             where wait_event = 'SyncRep' and application_name like 'rinha%'"
        ),
    );
    tell!("   {function} on {} backends", told.len());
}

/// The standbys go without anybody noticing; commits wait; `short` ends such a wait; then the primary is gone with its
/// disk's last rows, and a standby takes over. What was acknowledged meanwhile was on one host.
fn cut_a_wait_short(lab: &mut Lab, short: impl Fn(&Lab)) {
    // Patroni would start Postgres again, or take the standbys' part away.
    let mut watchers = Vec::new();
    for node in &lab.cluster.nodes {
        watchers.push(node.freeze(Part::Patroni).expect("a freeze"));
    }
    for node in lab.standbys() {
        lab.cluster.nodes[node].kill(Part::Postgres).expect("a kill");
    }
    // The balancers lead nowhere while no Patroni answers; the two instances that name all nodes commit on.
    wait_until("commits that wait for the standby", || waiting(lab).len() >= 2);
    short(lab);
    thread::sleep(TELL);
    lab.cluster.nodes[lab.primary].kill(Part::All).expect("a kill");
    drop(watchers);
    wait_for_another(lab);
}
