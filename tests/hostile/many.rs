//! Many connections: that do nothing, that come and go, and more than there are descriptors for.

use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use rinha::limits::{ACCEPT_LOG_PERIOD, REQUEST_TIME_MAX};

use crate::ground::{Ground, Way, connect_from_anywhere, descriptors, seconds};
use crate::load::{Attempt, Fate, Pessoa, seed, wait_until};
use crate::server::{Connection, request};

/// Connections that do nothing.
const IDLE: usize = 10_000;
/// Threads that open and close.
const STORMERS: u64 = 3;
/// Connections that want a descriptor where there is none.
const WAITING: usize = 50;
/// Descriptors that are left to a process when the attack begins.
const LEFT: usize = 10;
/// How long they are few at most behind HAProxy, which waits for an answer for 12 s, and then says 504.
const BALANCED_TIME_MAX: Duration = Duration::from_secs(8);

/// Connections that say nothing; whoever comes then is served all the same.
pub(crate) fn idle(ground: &Ground) -> String {
    let mut random = StdRng::seed_from_u64(seed());
    let began = Instant::now();
    // Not more than this process may have: it has the clients' ends, and the other processes may have as many.
    let room = nix::sys::resource::getrlimit(nix::sys::resource::Resource::RLIMIT_NOFILE).unwrap().1;
    let count = IDLE.min(usize::try_from(room).unwrap_or(usize::MAX).saturating_sub(500));
    let connections: Vec<Connection> = ground
        .addresses_of(count)
        .map(|(_, address)| connect_from_anywhere(&address, &mut random).expect("a connection"))
        .collect();
    let opened = began.elapsed();
    if ground.way == Way::Direct {
        let health = &ground.health()[0];
        assert!(health["connections"]["open"].as_u64().unwrap() >= count as u64, "{health}");
    }
    // HAProxy has fewer places than that: a newcomer waits there until the first ones were silent for too long.
    let asked = Instant::now();
    let answer = connect_from_anywhere(&ground.addresses()[0], &mut random)
        .and_then(|mut newcomer| newcomer.try_ask("GET", "/contagem-pessoas", ""))
        .expect("an answer");
    assert_eq!(answer.status, 200);
    let waited = asked.elapsed();
    let waited_max = match ground.way {
        Way::Direct => crate::ground::POLITE_P99_MAX,
        Way::Balanced => REQUEST_TIME_MAX + Duration::from_secs(5),
    };
    assert!(waited <= waited_max, "a newcomer waited for {waited:?}");
    thread::sleep(seconds().saturating_sub(began.elapsed()));
    format!(
        "{} connections, opened in {opened:.1?}; a newcomer was answered after {waited:.1?}",
        connections.len()
    )
}

/// Connections that come and go: with nothing said, half a request, a whole one whose answer nobody reads; closed or
/// reset.
pub(crate) fn storm(ground: &Ground) -> String {
    let seed = seed();
    let before = descriptors(ground.servers[0].pid());
    let until = Instant::now() + seconds();
    let get = request("GET", "/pessoas?t=nobody", "");
    let opened: usize = thread::scope(|scope| {
        let stormers: Vec<_> = (0..STORMERS)
            .map(|number| {
                let get = &get;
                scope.spawn(move || {
                    let mut random = StdRng::seed_from_u64(seed.wrapping_add(number));
                    let addresses = ground.addresses();
                    let mut opened = 0;
                    while Instant::now() < until {
                        let address = &addresses[random.random_range(0..addresses.len())];
                        // A backlog may be full for a moment.
                        let Ok(mut connection) = connect_from_anywhere(address, &mut random) else {
                            continue;
                        };
                        opened += 1;
                        let said = random.random_range(0..=get.len());
                        let said = if random.random_bool(0.3) { get.len() } else { said };
                        let _it_may_be_refused = connection.try_send(&get[..said]);
                        if random.random_bool(0.5) {
                            connection.reset();
                        }
                    }
                    opened
                })
            })
            .collect();
        stormers.into_iter().map(|stormer| stormer.join().expect("a stormer")).sum()
    });
    // Descriptors come back. A balancer keeps some connections to the server.
    wait_until("the descriptors", || descriptors(ground.servers[0].pid()) <= before + 64);
    format!("{opened} connections came and went, TEST_SEED={seed}")
}

/// A server has no descriptor left: it serves those it has, and the others when there are some again. It says so once. Behind
/// a balancer the other one serves on.
pub(crate) fn no_descriptors(ground: &Ground) -> String {
    let pid = ground.servers[0].pid();
    let limit = |soft: &str| {
        let mut command = Command::new("prlimit");
        command.args(["--pid", &pid.to_string(), &format!("--nofile={soft}")]);
        let output = command.output().expect("prlimit, of util-linux");
        assert!(output.status.success(), "{output:?}");
    };
    let shown = std::fs::read_to_string(format!("/proc/{pid}/limits")).expect("a live process");
    let line = shown.lines().find(|line| line.starts_with("Max open files")).expect("its limit on files");
    let was = line.split_whitespace().nth(3).expect("the soft limit").to_owned();
    let began = Instant::now();
    limit(&format!("{}:", descriptors(pid) + LEFT));
    let address = ground.addresses().swap_remove(0);
    let pessoas: Vec<Pessoa> = (0..WAITING).map(|number| Pessoa::named(&format!("espera{number}"))).collect();
    let mut waiting: Vec<Connection> = pessoas
        .iter()
        .map(|pessoa| {
            let mut connection = Connection::open(&address);
            connection.send(request("POST", "/pessoas", &pessoa.body()));
            connection
        })
        .collect();
    let complaints = || {
        let log = ground.servers[0].log();
        log.iter().filter(|line| line.contains("cannot accept a connection")).count()
    };
    wait_until("a complaint", || complaints() > 0);
    let lasts = match ground.way {
        Way::Direct => seconds(),
        Way::Balanced => seconds().min(BALANCED_TIME_MAX),
    };
    thread::sleep(lasts.saturating_sub(began.elapsed()));
    let early = waiting.iter_mut().filter_map(|client| client.read_now().ok()).count();
    assert!(early < WAITING, "all {WAITING} were served: the process had descriptors left");
    let (said, lasted) = (complaints(), began.elapsed());
    limit(&format!("{was}:"));
    // Its one listener that is full says so once in a while.
    let periods = usize::try_from(lasted.as_secs() / ACCEPT_LOG_PERIOD.as_secs()).expect("a short time");
    assert!(said <= periods + 1, "{said} complaints in {lasted:?}");
    let back = Instant::now();
    for (pessoa, client) in pessoas.iter().zip(&mut waiting) {
        let answer = client.receive();
        assert_eq!(answer.status, 201, "{}", answer.text());
        ground.note(Attempt::acknowledged(pessoa, &answer));
    }
    let served = back.elapsed();
    let late = Pessoa::named("depois");
    let answer = late.post(&mut Connection::open(&address)).expect("an answer");
    assert_eq!(answer.status, 201);
    let fate = Fate::Acknowledged { id: answer.id(), body: answer.body };
    ground.note(Attempt { pessoa: late, fate, doubted: false });
    format!(
        "{WAITING} clients where {LEFT} descriptors were left for {lasted:.1?}: {early} were served, the others within \
         {served:.1?} of more; the server said so {said} times"
    )
}
