//! Batches against a table that does at random whatever Postgres may do: commits that are lost before, after or while they
//! are done, warnings, deadlocks, locks of strangers, rows that are refused, rows of others. Each report is held against the
//! table at the moment when it is made.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::time::Instant;

use futures_util::future::join_all;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{RngExt, SeedableRng};
use tokio_postgres::error::{Severity, SqlState};

use super::super::history::Identity;
use super::super::job::Job;

use super::super::own::own_commits;
use super::super::placement::CLOSED;
use super::super::sql::Xid8;
use super::super::table::Inserted;
use super::*;
use crate::channel::ring;
use crate::limits::{COMMIT_BATCH_BYTES_MAX, COMMIT_TIME_MAX};
use crate::pessoa::{HOME_BYTE, Pessoa};

const OURS: Identity = Identity { system: 7, timeline: 1 };
/// Faults of one case; afterwards the table only works.
const TROUBLES: u32 = 12;

/// A row that everybody sees.
struct Stored {
    apelido: String,
    id: Uuid,
    tx: u64,
    durable: bool,
}

/// What holds an apelido in an open transaction: a commit of ours whose connection is gone, or somebody else's row.
struct Open {
    rows: Vec<(String, Uuid)>,
}

struct Asked {
    apelido: String,
    deadline: Instant,
}

struct World {
    random: RefCell<StdRng>,
    troubles: Cell<u32>,
    rows: RefCell<Vec<Stored>>,
    open: RefCell<Vec<Open>>,
    refused: RefCell<BTreeMap<String, &'static str>>,
    /// Apelidos that met a partition that is elsewhere.
    elsewhere: RefCell<BTreeSet<String>>,
    partitions: Partitions,
    table_held: Cell<bool>,
    warning: RefCell<Option<String>>,
    next: Cell<u64>,
    asked: Vec<Asked>,
    reports: RefCell<ring::Receiver<Report>>,
    answers: RefCell<Vec<Vec<&'static str>>>,
    reported: RefCell<BTreeSet<Uuid>>,
}

impl World {
    fn chance(&self, percent: u32) -> bool {
        self.random.borrow_mut().random_range(0..100) < percent
    }

    fn trouble(&self, percent: u32) -> bool {
        let comes = self.troubles.get() > 0 && self.chance(percent);
        self.troubles.set(self.troubles.get() - u32::from(comes));
        comes
    }

    fn new_number(&self) -> u64 {
        self.next.set(self.next.get() + 1);
        self.next.get()
    }

    /// Commits those of `rows` that conflict with none.
    fn commit(&self, rows: &[(String, Uuid)], durable: bool) -> (HashSet<Uuid>, u64) {
        let (tx, mut ids) = (self.new_number(), HashSet::default());
        let mut stored = self.rows.borrow_mut();
        for (apelido, id) in rows {
            if !stored.iter().any(|row| row.apelido == *apelido || row.id == *id) {
                stored.push(Stored { apelido: apelido.clone(), id: *id, tx, durable });
                ids.insert(*id);
            }
        }
        (ids, tx)
    }

    /// Holds what was reported up to now against the table; then others do something.
    async fn moves(&self) {
        tokio::task::yield_now().await;
        self.check();
        let calm = self.troubles.get() == 0;
        while !self.open.borrow().is_empty() && (calm || self.chance(30)) {
            let ended = self.open.borrow_mut().swap_remove(0);
            if self.chance(60) {
                self.commit(&ended.rows, false);
            }
        }
        let somebody =
            || self.asked.choose(&mut *self.random.borrow_mut()).map(|asked| asked.apelido.clone());
        if self.trouble(8) {
            self.commit(&[(somebody().expect("there are some"), self.new_id())], false);
        }
        let apelido = somebody().expect("there are some");
        if !self.held(&apelido) && self.trouble(8) {
            self.open.borrow_mut().push(Open { rows: vec![(apelido, self.new_id())] });
        }
        if self.trouble(4) {
            let code = if self.chance(50) { "23514" } else { "42501" };
            self.refused.borrow_mut().insert(somebody().expect("there are some"), code);
        }
        self.table_held.set(self.trouble(5));
    }

    fn new_id(&self) -> Uuid {
        Uuid::from_u128(u128::from(self.new_number()) << 64)
    }

    fn held(&self, apelido: &str) -> bool {
        self.open.borrow().iter().any(|open| open.rows.iter().any(|(held, _)| held == apelido))
    }

    fn check(&self) {
        while let Some(report) = self.reports.borrow_mut().try_pop() {
            let rows = self.rows.borrow();
            let holder = |apelido: &str| rows.iter().find(|row| row.apelido == apelido);
            let (ticket, answer) = match &report {
                Report::Committed { ticket, record } => {
                    let row = holder(&record.pessoa.apelido).expect("201 for a row that is there");
                    assert!(row.id == record.pessoa.id, "201 for the row of somebody else");
                    assert!(row.durable, "201 for a row that is not durable");
                    self.reported.borrow_mut().insert(row.id);
                    (*ticket, "created")
                }
                Report::Duplicate { ticket, record } => {
                    let row = holder(&record.pessoa.apelido).expect("422 for a row that is there");
                    assert!(row.id != record.pessoa.id, "422 for its own row");
                    assert!(row.durable, "422 for a row that is not durable");
                    (Some(*ticket), "duplicate")
                }
                Report::Collision { ticket, record } => {
                    let Pessoa { id, apelido, .. } = &record.pessoa;
                    let taken = rows.iter().any(|row| row.id == *id && row.apelido != **apelido);
                    assert!(taken, "another id is minted only where this one is taken");
                    (Some(*ticket), "collision")
                }
                Report::Refused { ticket, .. } | Report::NotStored { ticket } => {
                    let apelido = &self.asked[*ticket].apelido;
                    let reason = self.refused.borrow().contains_key(apelido)
                        || self.elsewhere.borrow().contains(apelido);
                    assert!(reason, "refused without a reason");
                    let stored = holder(apelido).is_some_and(|row| row.id == id_of(*ticket));
                    assert!(!stored, "what is said not to be stored is stored");
                    (Some(*ticket), "refused")
                }
                Report::Unavailable { ticket } => {
                    assert!(self.asked[*ticket].deadline <= Instant::now(), "503 before its time");
                    (Some(*ticket), "unavailable")
                }
                _ => panic!("a create is answered as a create"),
            };
            if let (Report::Committed { record, .. }, Some(ticket)) = (&report, ticket) {
                assert_eq!(
                    *record.pessoa.apelido, *self.asked[ticket].apelido,
                    "the answer to another question"
                );
            }
            if let Some(ticket) = ticket {
                self.answers.borrow_mut()[ticket].push(answer);
            }
        }
    }
}

impl Table for World {
    fn partitions(&self) -> Partitions {
        self.partitions
    }

    fn identity(&self) -> Identity {
        OURS
    }

    fn take_warning(&self) -> Option<String> {
        self.warning.borrow_mut().take()
    }

    async fn insert(&self, rows: &[Insert]) -> Result<Inserted, Failure> {
        self.moves().await;
        let sorted = rows.is_sorted_by_key(|row| row.asked.pessoa.apelido.as_bytes());
        assert!(sorted, "two instances insert in one order");
        let partition = |row: &Insert| self.partitions.of_id(&row.asked.pessoa.id);
        assert!(rows.iter().all(|row| partition(row) == partition(&rows[0])), "one partition a statement");
        if self.trouble(6) {
            return Err(lost());
        }
        if self.trouble(4) {
            return Err(refused("57P01", Severity::Fatal));
        }
        if self.trouble(6) {
            return Err(refused("40P01", Severity::Error));
        }
        if self.table_held.get() || rows.iter().any(|row| self.held(&row.asked.pessoa.apelido)) {
            return Err(refused("55P03", Severity::Error));
        }
        let at_fault =
            rows.iter().find_map(|row| self.refused.borrow().get(&*row.asked.pessoa.apelido).copied());
        if let Some(code) = at_fault {
            return Err(refused(code, Severity::Error));
        }
        if self.partitions != Partitions::ONE && self.trouble(6) {
            let apelidos = rows.iter().map(|row| row.asked.pessoa.apelido.to_string());
            self.elsewhere.borrow_mut().extend(apelidos);
            return Err(Failure::Refused {
                sqlstate: SqlState::CHECK_VIOLATION,
                severity: Some(Severity::Error),
                constraint: Some(CLOSED.into()),
                message: "no".into(),
            });
        }
        let pairs: Vec<(String, Uuid)> =
            rows.iter().map(|row| (row.asked.pessoa.apelido.to_string(), row.asked.pessoa.id)).collect();
        if self.trouble(8) {
            // Its session goes on without its client.
            self.open.borrow_mut().push(Open { rows: pairs });
            return Err(lost());
        }
        let (warned, lost_after) = (self.trouble(8), self.trouble(8));
        let (ids, tx) = self.commit(&pairs, !warned && !lost_after);
        if lost_after {
            return Err(lost());
        }
        if warned {
            *self.warning.borrow_mut() = Some("canceling the wait for synchronous replication".to_owned());
        }
        let tx = (!ids.is_empty()).then(|| Xid8::from(tx));
        Ok(Inserted { ids, tx })
    }

    async fn holders(&self, rows: &[Insert]) -> Result<HashMap<Box<str>, Uuid>, Failure> {
        self.moves().await;
        if self.trouble(6) {
            return Err(refused("55P03", Severity::Error));
        }
        let of = |row: &Insert| {
            let stored = self.rows.borrow();
            let holder = stored.iter().find(|stored| stored.apelido == *row.asked.pessoa.apelido);
            holder.map(|holder| (Box::from(&*holder.apelido), holder.id))
        };
        let holders = rows.iter().filter_map(of).collect();
        self.barrier().await?;
        Ok(holders)
    }

    async fn barrier(&self) -> Result<(), Failure> {
        self.moves().await;
        if self.trouble(10) {
            return Err(lost());
        }
        self.rows.borrow_mut().iter_mut().for_each(|row| row.durable = true);
        Ok(())
    }

    async fn wait_for_locks(&self, _time_max: Duration) -> Result<(), Failure> {
        self.moves().await;
        if self.trouble(4) { Err(lost()) } else { Ok(()) }
    }

    async fn table_is_free(&self, _rows: &[Insert]) -> Result<bool, Failure> {
        self.moves().await;
        if self.trouble(4) { Err(lost()) } else { Ok(!self.table_held.get()) }
    }
}

fn lost() -> Failure {
    Failure::Lost("the connection is gone".to_owned())
}

fn refused(code: &str, severity: Severity) -> Failure {
    Failure::Refused {
        sqlstate: SqlState::from_code(code),
        severity: Some(severity),
        constraint: None,
        message: "no".into(),
    }
}

fn id_of(ticket: usize) -> Uuid {
    let mut bytes = (ticket as u128 + 1).to_be_bytes();
    // Every other one is at home in another partition.
    bytes[HOME_BYTE] = bytes[15];
    Uuid::from_bytes(bytes)
}

/// One case: some creates, few apelidos, and sessions until all are settled. Returns how each was answered.
async fn case(seed: u64) -> Vec<&'static str> {
    let mut random = StdRng::seed_from_u64(seed);
    let creates = random.random_range(1..12_usize);
    let apelidos = random.random_range(1..=creates);
    let began = Instant::now();
    let asked: Vec<Asked> = (0..creates)
        .map(|_| Asked {
            apelido: format!("a{}", random.random_range(0..apelidos)),
            deadline: match random.random_range(0..5) {
                0 => began + Duration::from_millis(random.random_range(0..80)),
                _ => began + 10 * COMMIT_TIME_MAX,
            },
        })
        .collect();
    let collisions = (0..creates).filter(|_| random.random_range(0..8) == 0);
    let collided = |ticket| Stored { apelido: format!("b{ticket}"), id: id_of(ticket), tx: 0, durable: true };
    let rows: Vec<Stored> = collisions.map(collided).collect();
    let late = random.random_range(0..=creates);
    let batch_max = random.random_range(1..=creates);

    let (outbox, reports) = ring::channel(3 * creates);
    let (mut jobs, inbox) = ring::channel(creates);
    let world = World {
        random: RefCell::new(random),
        troubles: Cell::new(TROUBLES),
        rows: RefCell::new(rows),
        open: RefCell::default(),
        refused: RefCell::default(),
        elsewhere: RefCell::default(),
        partitions: if seed.is_multiple_of(2) {
            Partitions::ONE
        } else {
            "2".parse().expect("a power of two")
        },
        table_held: Cell::default(),
        warning: RefCell::default(),
        next: Cell::new(100),
        answers: RefCell::new(vec![Vec::new(); creates]),
        asked,
        reports: RefCell::new(reports),
        reported: RefCell::default(),
    };
    let mut coming = world.asked.iter().enumerate().map(|(ticket, asked)| {
        let pessoa = Pessoa::from_columns(id_of(ticket), &asked.apelido, "Ana", 0, None::<Vec<&str>>);
        Job::new(ticket, asked.deadline, Box::new(Record::new(pessoa.expect("a valid pessoa"))))
    });
    let mut ask = |number: usize| {
        coming.by_ref().take(number).for_each(|job| assert!(jobs.push(job).is_ok(), "there is room"));
    };
    ask(creates - late);

    let mut queue = Queue::new(inbox, Rc::new(Outbox::new(outbox)));
    let (mut notices, mut own) = own_commits(1);
    let (feed, counters) = (notices.remove(0), Counters::default());
    let (mut aside, mut unsettled) = (Aside::default(), Vec::new());
    loop {
        ask(1);
        let mut batch = std::mem::take(&mut unsettled);
        queue.fill(&mut batch, batch_max, COMMIT_BATCH_BYTES_MAX, |record| record.bytes());
        if batch.is_empty() {
            if aside.rows().is_empty() {
                break;
            }
            aside.due().await;
        }
        if let Err((rest, _)) =
            Settling::new(&world, &mut queue, &feed, &mut aside, &counters).settle(batch).await
        {
            unsettled = rest;
            // The next session has heard no warning.
            world.warning.take();
        }
    }
    world.check();
    for (ticket, answers) in world.answers.borrow().iter().enumerate() {
        assert_eq!(answers.len(), 1, "create {ticket} is answered once: {answers:?}");
    }
    let noticed = own.known(OURS);
    for row in world.rows.borrow().iter().filter(|row| noticed.contains(&Xid8::from(row.tx))) {
        assert!(
            world.reported.borrow().contains(&row.id),
            "the feed leaves out a row of which no core heard"
        );
    }
    world.answers.take().into_iter().flatten().collect()
}

#[tokio::test(flavor = "current_thread")]
async fn whatever_the_table_does_each_create_is_answered_once_and_truly() {
    const CASES: u64 = 3_000;
    let first = std::env::var("SEED").ok().and_then(|seed| seed.parse().ok());
    let base = first.unwrap_or_else(rand::random::<u32>).into();
    println!("SEED={base}");
    // Their pauses pass at the same time.
    let cases = (base..base + CASES).map(async |seed| {
        let told = std::panic::AssertUnwindSafe(case(seed));
        match futures_util::FutureExt::catch_unwind(told).await {
            Ok(answers) => answers,
            Err(_) => panic!("the case of seed {seed} failed"),
        }
    });
    let answers: Vec<&str> = join_all(cases).await.into_iter().flatten().collect();
    for kind in ["created", "duplicate", "collision", "refused", "unavailable"] {
        let times = answers.iter().filter(|answer| **answer == kind).count();
        println!("{kind}: {times}");
        assert!(times > 0, "{kind} never happened");
    }
}
