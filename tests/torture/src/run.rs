//! One run of a plan: everything up, clients at work, each lane of the plan on a thread of its own, everything healed, and
//! what clients were told held against the table and against what each instance shows at rest.

use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use serde_json::Value;

use crate::alibi::{self, Struck};
use crate::clients::{Clients, told};
use crate::cluster::query;
use crate::faults::Deed;
use crate::hand::{self, Hand};
use crate::history::{
    Asked, Before, CLOCK_SLACK, Entry, FRESH_MAX, Lie, REST_TIME_MAX, Told, Verdict, at_rest, judge,
};
use crate::lab::{INSTANCES, Lab, MEND_TIME_MAX, Subject};
use crate::load::Pessoa;
use crate::plan::{Plan, Step};
use crate::proxy::Mode;
use crate::server::{Address, Connection, request};

/// 201s of each instance after everything is healed.
const STEADY: usize = 20;
/// Failures without an alibi that are shown.
const EXAMPLES: usize = 3;
/// An id's time that is so far from now is by a clock that jumped.
const CLOCK_DOUBT: Duration = Duration::from_secs(1800);
/// Turns of a single client at rest: a create, and each kind of look at it through each instance.
const REST_TURNS: usize = 5;
/// Requests on their way at once while everything is read back.
const PIPELINE: usize = 64;
/// Pessoas that are searched for through each instance in the end.
const SEARCHES: usize = 100;
/// The table stays the same for so long before it is called at rest.
const STILL: Duration = Duration::from_secs(1);
const LOOK_PERIOD: Duration = Duration::from_millis(20);
/// The table's rows, each as the API shows it.
const TABLE: &str = "select json_build_object('id', id, 'apelido', apelido, 'nome', nome, 'nascimento', \
                     nascimento::text, 'stack', stack) from pessoas";

/// What came of a run.
pub(crate) struct Outcome {
    pub(crate) verdict: Verdict,
    /// What was seen that no rule of a history names.
    pub(crate) findings: Vec<String>,
    /// What each fault did.
    pub(crate) notes: Vec<String>,
    /// In a line.
    pub(crate) summary: String,
}

impl Outcome {
    pub(crate) fn is_clean(&self) -> bool {
        self.verdict.lies.is_empty() && self.findings.is_empty()
    }

    /// What is wrong.
    pub(crate) fn explain(&self, examples: usize) -> String {
        let findings: String = self.findings.iter().map(|finding| format!("   {finding}\n")).collect();
        self.verdict.explain_with(examples) + &findings
    }
}

/// Runs a plan on a new database.
pub(crate) fn run(plan: &Plan, subject: &Subject) -> Outcome {
    let mut lab = Lab::start(subject);
    let addresses: Vec<Address> = lab.addresses();
    let epoch = Instant::now();
    let prefix = format!("{:x}.", plan.seed & 0xFFFF);
    let (known, mut history) = lab.seed_known(&prefix, epoch);
    let clients = Clients::start(&addresses, known, &prefix, plan.seed, epoch);
    let hand = Hand::start(lab.session(), plan.seed, clients.recent(), epoch);
    let struck = torture(&mut lab, plan, epoch);
    thread::sleep(Duration::from_secs(plan.seconds).saturating_sub(epoch.elapsed()));
    let over = epoch.elapsed();
    lab.heal();
    let mut notes: Vec<String> = struck.iter().map(note).collect();
    notes.push(format!("over at {over:.1?}, everything serves again at {:.1?}", epoch.elapsed()));

    let mut findings = lab.findings();
    if findings.is_empty() {
        findings = creates_again(&lab, &clients);
    }
    let well = findings.is_empty();
    history.extend(clients.finish());
    history.extend(hand.finish());
    // Who does not serve is not asked.
    let mut rest = if well { rest(&lab, &addresses, plan.seed, epoch) } else { Vec::new() };
    let table = table_at_rest(&lab, &mut findings);
    if well && rest.iter().all(|entry| entry.told != Told::Lost) {
        rest.extend(read_back(&addresses, &table, epoch));
    }
    if self::table(&lab) != table {
        findings.push("the table changed while nobody asked for a change".to_owned());
    }
    let (without, slowest) = alibi::without(&history, &struck, epoch.elapsed());
    let (late, without): (Vec<&Entry>, Vec<&Entry>) =
        without.into_iter().partition(|entry| alibi::is_late(entry));
    findings.extend(without.iter().take(EXAMPLES).map(|entry| format!("no fault made this fail: {entry}")));
    if without.len() > EXAMPLES {
        findings.push(format!("no fault made {} more fail", without.len() - EXAMPLES));
    }
    let late: Vec<Entry> = late.into_iter().cloned().collect();
    history.extend(rest.iter().cloned());
    let before = Before { counts_never_fall: true, balancers: vec![INSTANCES], ..Before::default() };
    let mut verdict = judge(&history, &table, &before);
    for entry in &late {
        verdict.accuse(Lie::Late, format!("after {:.1?}", entry.ended - entry.began), [entry]);
    }
    at_rest(&mut verdict, &rest, &table);
    findings.extend(lab.findings());
    let mut summary = summary(&history, &table, &verdict, &lab);
    summary.push_str(&format!("; the last failure {slowest:.1?} after its fault"));
    Outcome { verdict, findings, notes, summary }
}

/// Strikes and heals as the plan says: each lane for itself.
fn torture(lab: &mut Lab, plan: &Plan, epoch: Instant) -> Vec<Struck> {
    let session = lab.session();
    let lane = |name: &'static str, target: usize| -> Vec<Step> {
        let steps = plan.steps.iter().filter(|step| step.fault.lane() == name && step.target == target);
        steps.cloned().collect()
    };
    let mut struck: Vec<Struck> = Vec::new();
    thread::scope(|scope| {
        let mut lanes = Vec::new();
        for (number, instance) in lab.instances.iter_mut().enumerate() {
            let steps = lane("instance", number);
            lanes.push(scope.spawn(move || {
                each(&steps, epoch, |step| match step.fault.deed {
                    Deed::Instance(strike, heal) => afflict(instance, strike, heal, step, epoch),
                    _ => Ok(String::new()),
                })
            }));
        }
        for (number, proxy) in lab.proxies.iter_mut().enumerate() {
            let steps = lane("proxy", number);
            lanes.push(scope.spawn(move || {
                each(&steps, epoch, |step| match step.fault.deed {
                    Deed::Proxy(mode) => {
                        afflict(proxy, |proxy| proxy.set(mode), |proxy| proxy.set(Mode::Pass), step, epoch)
                    }
                    _ => Ok(String::new()),
                })
            }));
        }
        if let Some(balancer) = &mut lab.balancer {
            let steps = lane("balancer", 0);
            lanes.push(scope.spawn(move || {
                each(&steps, epoch, |step| match step.fault.deed {
                    Deed::Balancer(strike, heal) => afflict(balancer, strike, heal, step, epoch),
                    _ => Ok(String::new()),
                })
            }));
        }
        let postgres = &mut lab.postgres;
        let steps = lane("postgres", 0);
        lanes.push(scope.spawn(move || {
            each(&steps, epoch, |step| match step.fault.deed {
                Deed::Postgres(strike, heal) => {
                    afflict(postgres, strike, heal, step, epoch)?;
                    postgres.excuse().map_or(Ok(String::new()), Err)
                }
                _ => Ok(String::new()),
            })
        }));
        if let Some(second) = &mut lab.second {
            let steps = lane("second", 0);
            lanes.push(scope.spawn(move || {
                each(&steps, epoch, |step| match step.fault.deed {
                    Deed::Second(strike, heal) => afflict(second, strike, heal, step, epoch),
                    _ => Ok(String::new()),
                })
            }));
        }
        for name in ["table", "sessions", "settings"] {
            let (steps, session) = (lane(name, 0), session.clone());
            lanes.push(scope.spawn(move || {
                each(&steps, epoch, |step| match step.fault.deed {
                    Deed::Table(work) | Deed::Sessions(work) | Deed::Settings(work) => work(&session, step),
                    _ => Ok(String::new()),
                })
            }));
        }
        for lane in lanes {
            struck.extend(lane.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)));
        }
    });
    struck.sort_by_key(|one| one.from);
    struck
}

fn note(struck: &Struck) -> String {
    let Struck { from, to, fault, target, said } = struck;
    let said = said.clone().unwrap_or_else(|why| format!("nothing, as {why}"));
    format!("{from:>8.2?} to {to:>8.2?} {} {} {target} {said}", fault.name, fault.lane())
}

/// Waits for each step's time, and notes what it did and when.
fn each(
    steps: &[Step],
    epoch: Instant,
    mut deed: impl FnMut(&Step) -> Result<String, String>,
) -> Vec<Struck> {
    let mut struck = Vec::new();
    for step in steps {
        thread::sleep(Duration::from_millis(step.at).saturating_sub(epoch.elapsed()));
        let from = epoch.elapsed();
        let said = deed(step);
        struck.push(Struck { from, to: epoch.elapsed(), fault: step.fault, target: step.target, said });
    }
    struck
}

/// Strikes, and heals when the plan says so: a fault is no shorter because its strike took its time.
fn afflict<T>(
    what: &mut T,
    strike: impl FnOnce(&mut T),
    heal: impl FnOnce(&mut T),
    step: &Step,
    epoch: Instant,
) -> Result<String, String> {
    strike(what);
    thread::sleep(Duration::from_millis(step.end()).saturating_sub(epoch.elapsed()));
    heal(what);
    Ok(String::new())
}

/// Every instance creates again, or that is a finding.
fn creates_again(lab: &Lab, clients: &Clients) -> Vec<String> {
    let began = Instant::now();
    let goal: Vec<usize> = clients.acknowledged().iter().map(|count| count + STEADY).collect();
    loop {
        let now = clients.acknowledged();
        let late: Vec<usize> = (0..goal.len()).filter(|number| now[*number] < goal[*number]).collect();
        if late.is_empty() {
            return Vec::new();
        }
        if began.elapsed() > MEND_TIME_MAX {
            let say = |number: &usize| {
                let log = lab.instances.get(*number).map(|instance| instance.log()).unwrap_or_default();
                format!("instance {number} creates nothing: {log}")
            };
            return late.iter().map(say).collect();
        }
        thread::sleep(LOOK_PERIOD);
    }
}

/// A row put in by hand, which everybody finds a second later. Then one client alone: creates, and at once looks at what it created through every instance, in each way. The first question
/// without an answer is the last.
fn rest(lab: &Lab, addresses: &[Address], seed: u64, epoch: Instant) -> Vec<Entry> {
    // Nobody else's commit leads a feed to this row.
    let (put_in, apelido) = hand::put_in(&lab.session(), &format!("{:x}.qh.", seed & 0xFFFF), epoch);
    let mut entries: Vec<Entry> = vec![put_in];
    thread::sleep(FRESH_MAX + 2 * CLOCK_SLACK);
    let mut ask = |instance: usize, method: &str, target: &str, body: &str, asked: Asked| {
        if entries.last().is_some_and(|entry| entry.told == Told::Lost) {
            return Told::Nothing;
        }
        let began = epoch.elapsed();
        let told = ask_in_time(&addresses[instance], &request(method, target, body), &asked);
        entries.push(Entry { instance, began, ended: epoch.elapsed(), asked, told: told.clone() });
        told
    };
    for instance in 0..addresses.len() {
        let asked = Asked::Search { apelido: apelido.clone() };
        ask(instance, "GET", &format!("/pessoas?t={apelido}"), "", asked);
    }
    for turn in 0..REST_TURNS {
        for instance in 0..addresses.len() {
            let pessoa = Pessoa::named(&format!("{:x}.q{turn}{instance}.", seed & 0xFFFF));
            let apelido = pessoa.apelido.clone();
            let told = ask(instance, "POST", "/pessoas", &pessoa.body(), Asked::Create(pessoa));
            let search = format!("/pessoas?t={apelido}");
            ask(instance, "GET", &search, "", Asked::Search { apelido: apelido.clone() });
            for other in 0..addresses.len() {
                if let Told::Created { id, .. } = &told {
                    let asked = Asked::Get { id: id.clone(), known: false };
                    ask(other, "GET", &format!("/pessoas/{id}"), "", asked);
                }
                ask(other, "GET", "/contagem-pessoas", "", Asked::Count);
            }
        }
    }
    entries
}

/// One question on a connection of its own, whose answer is not waited for much longer than it may take at rest.
pub(crate) fn ask_in_time(address: &Address, question: &str, asked: &Asked) -> Told {
    let answer = Connection::try_open(address).and_then(|mut connection| {
        connection.try_send(question)?;
        if !connection.hears_within(2 * REST_TIME_MAX) {
            return Err(std::io::ErrorKind::TimedOut.into());
        }
        connection.try_receive(false)
    });
    answer.map_or(Told::Lost, |response| told(&response, asked))
}

/// The table once it stays as it is: what was sent and never answered may still come.
fn table_at_rest(lab: &Lab, findings: &mut Vec<String>) -> Vec<Value> {
    let began = Instant::now();
    let mut last = table(lab);
    let mut since = Instant::now();
    while since.elapsed() < STILL.max(FRESH_MAX) {
        thread::sleep(10 * LOOK_PERIOD);
        let now = table(lab);
        if now != last {
            (last, since) = (now, Instant::now());
        }
        if began.elapsed() > MEND_TIME_MAX {
            findings.push("the table does not come to rest".to_owned());
            break;
        }
    }
    last
}

fn table(lab: &Lab) -> Vec<Value> {
    let rows = lab.tables().into_iter().flat_map(|config| query(&config, TABLE));
    let mut rows: Vec<Value> =
        rows.map(|row: String| serde_json::from_str(&row).expect("JSON of Postgres")).collect();
    rows.sort_by(|a, b| a["id"].as_str().cmp(&b["id"].as_str()));
    rows
}

/// Every row through every instance, by its id and some by a search, and the count.
fn read_back(addresses: &[Address], table: &[Value], epoch: Instant) -> Vec<Entry> {
    let mut entries = Vec::new();
    let text = |row: &Value, member: &str| row[member].as_str().unwrap_or_default().to_owned();
    let mut questions: Vec<(String, Asked)> = vec![("/contagem-pessoas".to_owned(), Asked::Count)];
    questions.extend(table.iter().map(|row| {
        let id = text(row, "id");
        (format!("/pessoas/{id}"), Asked::Get { id, known: false })
    }));
    let step = (table.len() / SEARCHES).max(1);
    questions.extend(table.iter().step_by(step).map(|row| {
        let apelido = text(row, "apelido");
        (format!("/pessoas?t={apelido}"), Asked::Search { apelido })
    }));
    for (instance, address) in addresses.iter().enumerate() {
        let mut connection = Connection::open(address);
        for some in questions.chunks(PIPELINE) {
            let began = epoch.elapsed();
            let requests: String = some.iter().map(|(target, _)| request("GET", target, "")).collect();
            let mut lost = connection.try_send(requests).is_err();
            for (_, asked) in some {
                let response = if lost { None } else { connection.try_receive(false).ok() };
                lost = response.is_none();
                let told = response.map_or(Told::Lost, |response| told(&response, asked));
                entries.push(Entry { instance, began, ended: epoch.elapsed(), asked: asked.clone(), told });
            }
            if lost {
                // One is proof enough, and each costs as long as a client waits.
                return entries;
            }
        }
    }
    entries
}

fn summary(history: &[Entry], table: &[Value], verdict: &Verdict, lab: &Lab) -> String {
    let count = |is: fn(&Told) -> bool| history.iter().filter(|entry| is(&entry.told)).count();
    let starts: Vec<usize> = lab.instances.iter().map(|instance| instance.starts()).collect();
    format!(
        "{} questions: {} created, {} refused, {} unavailable, {} lost; {} rows, {} by a wrong clock; processes of the instances: {starts:?}; \
         oldest search without a 201: {:.0?}",
        history.len(),
        count(|told| matches!(told, Told::Created { .. })),
        count(|told| *told == Told::Refused),
        count(|told| *told == Told::Unavailable),
        count(|told| *told == Told::Lost),
        table.len(),
        table.iter().filter(|row| is_by_a_wrong_clock(row)).count(),
        verdict.stalest,
    )
}

/// Whether the time in an id of a server is far from now. Ids of rows put in by hand have none.
fn is_by_a_wrong_clock(row: &Value) -> bool {
    let id = row["id"].as_str().unwrap_or_default().replace('-', "");
    let millis = id.get(..12).and_then(|time| u64::from_str_radix(time, 16).ok());
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let is_a_time = id.get(12..13) == Some("7");
    is_a_time && millis.is_some_and(|millis| now.abs_diff(Duration::from_millis(millis)) > CLOCK_DOUBT)
}
