//! Each request of the table, sent to the server itself and through HAProxy, beside a victim whose requests go over the
//! same connections between HAProxy and the servers. No hidden request runs, nobody gets an answer that is not theirs, and
//! HAProxy passes on nothing that was not sent.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use crate::ground::{Ground, Way, alone, seconds};
use crate::judge::{Said, Sent, judge, read};
use crate::load::{Pessoa, seed, wait_until};
use crate::payloads::{self, Payload, payloads};
use crate::recorder::{Recorder, Tamper};
use crate::server::{Address, Connection, Response};

/// How a payload's bytes go out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Manner {
    /// At once, and nothing will follow.
    Whole,
    /// At once; the end comes when the victim was served.
    Open,
    /// In two parts, between which the victim is served.
    Cut,
}

#[test]
#[ignore = "takes all that the machine has: make hostile"]
fn direct() {
    let _alone = alone();
    let ground = Ground::start(Way::Direct).expect("a server");
    let sent = Arc::default();
    let (seen, wrong) = attack(&ground, &sent, seconds());
    assert_eq!(wrong, [] as [String; 0]);
    assert_eq!(hidden(&ground), [] as [String; 0]);
    println!("smuggling, Direct: {seen}; none of the hidden ones ran");
}

#[test]
#[ignore = "takes all that the machine has, and HAProxy: make hostile"]
fn balanced() {
    let _alone = alone();
    let Some((seen, wrong, hidden, shared)) = through_haproxy(|_| (), seconds()) else { return };
    assert_eq!(wrong, [] as [String; 0]);
    assert_eq!(hidden, [] as [String; 0]);
    assert!(shared > 0, "no connection to a server had requests of both: the victim was in no danger");
    println!(
        "smuggling, Balanced: {seen}; none of the hidden ones ran; {shared} connections to the servers had requests of the \
         victim too, which got its own answers"
    );
}

/// A proxy that reads lengths as zero: all of the above must see it, or it sees nothing.
#[test]
#[ignore = "takes HAProxy: make hostile"]
fn a_proxy_that_reads_differently_is_caught() {
    let _alone = alone();
    let lie = |bytes: &mut [u8]| {
        if !bytes.windows(8).any(|part| part == b"?x=outer") {
            return;
        }
        let name = b"content-length: ";
        let found = bytes.windows(name.len()).position(|part| part.eq_ignore_ascii_case(name));
        let digits = found.into_iter().flat_map(|at| at + name.len()..);
        for at in digits.take_while(|&at| at < 16 << 10) {
            match bytes.get_mut(at) {
                Some(digit) if digit.is_ascii_digit() => *digit = b'0',
                _ => break,
            }
        }
    };
    let Some((_, wrong, hidden, _)) = through_haproxy(lie, Duration::ZERO) else { return };
    println!(
        "caught: {} hidden requests ran, and {} things were wrong, such as {:?}",
        hidden.len(),
        wrong.len(),
        wrong.first()
    );
    assert!(!hidden.is_empty(), "a hidden request that ran was not seen");
    assert!(
        wrong.iter().any(|wrong| wrong.contains("nobody sent")),
        "the judge of the bytes saw nothing: {wrong:?}"
    );
}

/// What was seen, what was wrong, the hidden requests that ran, and how many connections to the servers were shared with
/// the victim.
fn through_haproxy(tamper: Tamper, lasts: Duration) -> Option<(String, Vec<String>, Vec<String>, usize)> {
    let recorder = Recorder::default();
    let relays = recorder.clone();
    let ground = Ground::start_with(Way::Balanced, move |directory, name| {
        let there = directory.join(format!("real-{name}.sock"));
        relays.relay(&directory.join(format!("{name}-0.sock")), there.clone(), tamper);
        there
    })?;
    // What the ground itself creates.
    let sent = Arc::new(Mutex::new(Sent::from([(
        Said::new("POST", "/pessoas", Pessoa::named("conhecida").body()),
        1,
    )])));
    let (seen, mut wrong) = attack(&ground, &sent, lasts);
    let sent = sent.lock().unwrap_or_else(PoisonError::into_inner);
    let records = recorder.records();
    wrong.extend(judge(&records, &sent));
    let shared = records.iter().filter(|record| {
        let passed = read(&record.to_server).requests;
        let of = |name: &str| passed.iter().any(|said| said.target.contains(name));
        of("victim") && of("outer")
    });
    let seen = format!("{seen}; {} connections to the servers were recorded", records.len());
    Some((seen, wrong, hidden(&ground), shared.count()))
}

/// The pessoas that hidden requests created, but for those that may have been somebody's next request.
fn hidden(ground: &Ground) -> Vec<String> {
    let mut found =
        ground.cluster.query("select apelido from pessoas where apelido like 'hidden-%' order by 1");
    if ground.way == Way::Balanced {
        let all = payloads("");
        found.retain(|apelido| {
            let at: usize =
                apelido.rsplit('-').next().and_then(|at| at.parse().ok()).expect("its place in the table");
            !all[at].may_be_next()
        });
    }
    found
}

/// The hidden request of this label.
fn next_request(label: &str) -> Said {
    let text = payloads::hidden(label);
    let (_, body) = text.split_once("\r\n\r\n").expect("a head");
    Said::new("POST", &format!("/pessoas?x=hidden-{label}"), body)
}

/// Sends every payload in every manner, at least once and for as long as the run lasts. What was seen, and what was wrong.
fn attack(ground: &Ground, sent: &Arc<Mutex<Sent>>, lasts: Duration) -> (String, Vec<String>) {
    let strict = ground.way == Way::Direct;
    let seed = seed();
    let mut random = StdRng::seed_from_u64(seed);
    let address = ground.addresses().swap_remove(0);
    let (stop, answered) = (AtomicBool::new(false), AtomicUsize::new(0));
    let (mut wrong, mut nexts) = (Vec::new(), 0);
    let (mut count, kinds) = (0, payloads("").len());
    let began = Instant::now();
    thread::scope(|scope| {
        let victim = scope.spawn(|| victim(&address, sent, &answered, &stop));
        let served = || {
            let before = answered.load(Ordering::Relaxed);
            // One that was asked before, and one on each server.
            wait_until("the victim", || {
                answered.load(Ordering::Relaxed) >= before + 3 || victim.is_finished()
            });
        };
        for round in 0.. {
            if round > 0 && began.elapsed() >= lasts {
                break;
            }
            for at in 0..kinds {
                for manner in [Manner::Whole, if random.random() { Manner::Open } else { Manner::Cut }] {
                    let label = format!("{round}-{manner:?}-{at}");
                    let payload = payloads(&label).swap_remove(at);
                    count += 1;
                    if let Some((method, target, body)) = &payload.outer {
                        note(sent, Said::new(method, target, body.clone()));
                    }
                    let next = !strict && payload.may_be_next();
                    if next {
                        note(sent, next_request(&label));
                    }
                    let answers = send(&address, &payload, manner, &mut random, &served);
                    let got = summary(&answers);
                    if strict && got != payload.direct {
                        wrong.push(format!(
                            "{} ({manner:?}): expected {}, got {got}",
                            payload.name, payload.direct
                        ));
                    }
                    // Through a proxy the status may be its own, but there is no more than one for each request, and nothing
                    // but errors to those that are here.
                    let most = payload.direct.split(' ').count() + usize::from(next);
                    let served = answers.iter().filter(|answer| answer.status < 400).count();
                    if answers.len() > most || served > usize::from(next) {
                        wrong.push(format!(
                            "{} ({manner:?}): {got} for at most {most} requests",
                            payload.name
                        ));
                    }
                    nexts += served;
                }
            }
        }
        served();
        stop.store(true, Ordering::Relaxed);
        wrong.extend(victim.join().expect("the victim's own answers"));
    });
    ground.settle();
    let answered = answered.into_inner();
    let seen = format!(
        "{count} attempts of {kinds} kinds in {:.1?} beside {answered} requests of a victim; {nexts} of what came behind ran as \
         the same client's next request; TEST_SEED={seed}",
        began.elapsed()
    );
    (seen, wrong)
}

fn note(sent: &Arc<Mutex<Sent>>, said: Said) {
    *sent.lock().unwrap_or_else(PoisonError::into_inner).entry(said).or_default() += 1;
}

/// Sends one payload, and reads all that comes back.
fn send(
    address: &Address,
    payload: &Payload,
    manner: Manner,
    random: &mut StdRng,
    served: &dyn Fn(),
) -> Vec<Response> {
    let mut connection = Connection::open(address);
    let cut = match manner {
        Manner::Cut => random.random_range(1..payload.bytes.len()),
        _ => payload.bytes.len(),
    };
    let (first, rest) = payload.bytes.split_at(cut);
    // One that was refused may be closed under what it sends.
    let _ = connection.try_send(first);
    if manner != Manner::Whole {
        served();
    }
    let _ = connection.try_send(rest);
    let _ = connection.try_finish();
    let mut answers = Vec::new();
    while let Ok(answer) = connection.try_receive_any() {
        if answer.status >= 200 {
            answers.push(answer);
        }
    }
    answers
}

fn summary(answers: &[Response]) -> String {
    let statuses: Vec<String> = answers
        .iter()
        .map(|answer| {
            let close = answer.header("Connection").is_some_and(|value| value.eq_ignore_ascii_case("close"));
            format!("{}{}", answer.status, if close { "!" } else { "" })
        })
        .collect();
    statuses.join(" ")
}

/// Creates, reads back, misses: with targets and bodies of its own, of which every answer must be. Ends at the first one that
/// is not, and says so.
fn victim(
    address: &Address,
    sent: &Arc<Mutex<Sent>>,
    answered: &AtomicUsize,
    stop: &AtomicBool,
) -> Option<String> {
    let mut connection = Connection::open(address);
    for number in 0.. {
        if stop.load(Ordering::Relaxed) {
            break;
        }
        let pessoa = Pessoa::named(&format!("victim{number}"));
        let mut ask = |method: &str, target: &str, body: &str| {
            note(sent, Said::new(method, target, body));
            match connection.try_ask(method, target, body) {
                Ok(answer) => {
                    answered.fetch_add(1, Ordering::Relaxed);
                    Ok(answer)
                }
                Err(error) => Err(format!("the victim's {method} {target}: {error}")),
            }
        };
        let mut round = || -> Result<(), String> {
            let made = ask("POST", &format!("/pessoas?x=victim-{number}"), &pessoa.body())?;
            let own = |answer: &Response, status: u16| match answer.status {
                found if found == status && (status != 200 || answer.body == made.body) => Ok(()),
                found => Err(format!("the victim expected {status}, and was told {found} {}", answer.text())),
            };
            own(&made, 201)?;
            if made.json() != pessoa.shown(&made.id()) {
                return Err(format!("the victim was told of another pessoa: {}", made.text()));
            }
            for turn in 0..2 {
                own(&ask("GET", &format!("/pessoas/{}?x=victim-{number}-{turn}", made.id()), "")?, 200)?;
            }
            own(&ask("GET", &format!("/pessoas/victim-{number}"), "")?, 404)
        };
        if let Err(wrong) = round() {
            return Some(wrong);
        }
    }
    None
}
