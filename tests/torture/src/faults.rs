//! The table of faults: what each strikes, for how long, and what may fail meanwhile.

use std::fmt;
use std::time::Duration;

use crate::balancer::Balancer;
use crate::beside;
use crate::history::{Asked, Entry};
use crate::lab::{INSTANCES, Instance};
use crate::plan::Step;
use crate::postgres::Postgres;
use crate::proxy::Mode;

/// One fault.
pub(crate) struct Fault {
    pub(crate) name: &'static str,
    /// Its shortest and longest time, in milliseconds.
    pub(crate) length: (u64, u64),
    pub(crate) deed: Deed,
    pub(crate) may_fail: MayFail,
}

/// What may be answered with 502 to 504 or not at all until a fault is over, and for as long as mending takes. A lie is
/// never allowed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum MayFail {
    /// Everything is answered as ever, if later.
    Nothing,
    /// What is asked of the balancer.
    Balanced,
    /// What is asked of one server, and of the balancer, which may not have noticed.
    One,
    /// What needs Postgres, through any server: all but what memory had before everything began.
    All,
}

impl MayFail {
    /// Whether this may fail when `target` was struck.
    pub(crate) fn covers(self, target: usize, entry: &Entry) -> bool {
        match self {
            MayFail::Nothing => false,
            MayFail::Balanced => entry.instance == INSTANCES,
            MayFail::One => entry.instance == target || entry.instance == INSTANCES,
            MayFail::All => !matches!(entry.asked, Asked::Get { known: true, .. }),
        }
    }
}

impl fmt::Display for MayFail {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            MayFail::Nothing => "nothing",
            MayFail::Balanced => "what is asked of the balancer",
            MayFail::One => "what is asked of that server, or of the balancer",
            MayFail::All => "creates, and reads that memory cannot answer",
        })
    }
}

/// What strikes, and what heals.
#[derive(Clone, Copy)]
pub(crate) enum Deed {
    /// A server.
    Instance(fn(&mut Instance), fn(&mut Instance)),
    /// HAProxy.
    Balancer(fn(&mut Balancer), fn(&mut Balancer)),
    /// The postmaster and its children.
    Postgres(fn(&mut Postgres), fn(&mut Postgres)),
    /// The same, of the second node, where there is one.
    Second(fn(&mut Postgres), fn(&mut Postgres)),
    /// What is between one server and Postgres, which passes everything when it is over.
    Proxy(Mode),
    /// A session beside the servers', which does its work within the fault's time and says what it did.
    Table(Beside),
    /// The servers' sessions, from beside.
    Sessions(Beside),
    /// Settings of Postgres, from beside.
    Settings(Beside),
}

/// What a session beside the servers' does, within the time of its step.
pub(crate) type Beside = fn(&beside::Session, &Step) -> Result<String, String>;

impl Fault {
    /// What it strikes: two faults of one lane do not meet.
    pub(crate) fn lane(&self) -> &'static str {
        match self.deed {
            Deed::Instance(..) => "instance",
            Deed::Balancer(..) => "balancer",
            Deed::Postgres(..) => "postgres",
            Deed::Second(..) => "second",
            Deed::Proxy(_) => "proxy",
            Deed::Table(_) => "table",
            Deed::Sessions(_) => "sessions",
            Deed::Settings(_) => "settings",
        }
    }

    /// How many there are of what it strikes.
    pub(crate) fn targets(&self) -> usize {
        match self.deed {
            Deed::Instance(..) | Deed::Proxy(_) => INSTANCES,
            Deed::Balancer(..)
            | Deed::Postgres(..)
            | Deed::Second(..)
            | Deed::Table(_)
            | Deed::Sessions(_)
            | Deed::Settings(_) => 1,
        }
    }
}

use MayFail::{All, Balanced, Nothing, One};

const fn fault(name: &'static str, length: (u64, u64), deed: Deed, may_fail: MayFail) -> Fault {
    Fault { name, length, deed, may_fail }
}

/// All of them.
pub(crate) const FAULTS: &[Fault] = &[
    fault("kill", (50, 3000), Deed::Instance(Instance::kill, Instance::revive), One),
    fault("stop", (100, 3500), Deed::Instance(Instance::freeze, Instance::thaw), One),
    fault("restart", (50, 1000), Deed::Instance(Instance::stop, Instance::revive), One),
    fault(
        "clock-back",
        (500, 5000),
        Deed::Instance(Instance::set_clock_back, Instance::set_clock_right),
        Nothing,
    ),
    fault(
        "clock-ahead",
        (500, 5000),
        Deed::Instance(Instance::set_clock_ahead, Instance::set_clock_right),
        Nothing,
    ),
    fault("balancer-kill", (50, 1000), Deed::Balancer(Balancer::kill, Balancer::revive), Balanced),
    fault("balancer-stop", (100, 3000), Deed::Balancer(Balancer::freeze, Balancer::thaw), Balanced),
    fault("balancer-restart", (10, 100), Deed::Balancer(Balancer::leave, Balancer::revive), Balanced),
    fault("postgres-kill", (50, 2000), Deed::Postgres(Postgres::kill, Postgres::revive), All),
    fault("postgres-stop", (100, 3500), Deed::Postgres(Postgres::freeze, Postgres::thaw), All),
    fault("postgres-restart", (50, 1000), Deed::Postgres(Postgres::stop, Postgres::revive), All),
    fault("disk-full", (200, 6000), Deed::Postgres(Postgres::fill_disk, Postgres::free_disk), All),
    fault("slow-fsync", (500, 4000), Deed::Postgres(Postgres::slow_fsync, Postgres::quick_fsync), Nothing),
    fault("backend-kill", (100, 500), Deed::Sessions(beside::kill_a_backend), All),
    fault("backend-stop", (200, 6000), Deed::Sessions(beside::stop_a_backend), All),
    fault("backend-terminate", (100, 500), Deed::Sessions(beside::terminate_a_backend), Nothing),
    fault("cancel", (300, 2000), Deed::Sessions(beside::cancel_statements), Nothing),
    fault("delay", (500, 4000), Deed::Proxy(Mode::Delay(Duration::from_millis(150))), Nothing),
    fault("half-open", (300, 6000), Deed::Proxy(Mode::HalfOpen), One),
    fault("cut", (50, 3000), Deed::Proxy(Mode::Cut), One),
    fault("lose-replies", (50, 3000), Deed::Proxy(Mode::LoseReplies), One),
    fault("lock-table", (200, 5000), Deed::Table(beside::lock_table), All),
    fault("reindex", (500, 5000), Deed::Table(beside::reindex), Nothing),
    fault("create-index", (500, 5000), Deed::Table(beside::create_index), Nothing),
    fault("deadlock", (2500, 5000), Deed::Table(beside::deadlock), Nothing),
    fault("connections", (300, 3000), Deed::Sessions(beside::take_connections), All),
    fault("read-only", (300, 3000), Deed::Settings(beside::read_only), All),
    fault("statement-timeout", (300, 3000), Deed::Settings(beside::statement_timeout), All),
    fault("second-kill", (50, 2000), Deed::Second(Postgres::kill, Postgres::revive), All),
    fault("second-stop", (100, 3500), Deed::Second(Postgres::freeze, Postgres::thaw), All),
    fault("second-restart", (50, 1000), Deed::Second(Postgres::stop, Postgres::revive), All),
];
