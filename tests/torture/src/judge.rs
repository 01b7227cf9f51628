//! The judge is judged: a true history has no lies, and each kind of lie is found.

use std::collections::HashSet;
use std::time::Duration;

use serde_json::Value;

use crate::history::{Asked, Before, Entry, Lie, Told, Verdict, at_rest, judge};
use crate::load::Pessoa;

const ID: &str = "018f4a52-0000-7000-8000-000000000001";
const OTHER: &str = "018f4a52-0000-7000-8000-000000000002";

fn entry(began: u64, ended: u64, asked: Asked, told: Told) -> Entry {
    let (began, ended) = (Duration::from_millis(began), Duration::from_millis(ended));
    Entry { instance: 0, began, ended, asked, told }
}

fn ana() -> Pessoa {
    Pessoa::named("ana")
}

fn created() -> Told {
    Told::Created { id: ID.to_owned(), body: ana().shown(ID) }
}

fn create(began: u64, ended: u64, told: Told) -> Entry {
    entry(began, ended, Asked::Create(ana()), told)
}

fn get(began: u64, told: Told) -> Entry {
    entry(began, began + 1, Asked::Get { id: ID.to_owned(), known: false }, told)
}

fn search(began: u64, list: Vec<Value>) -> Entry {
    entry(began, began + 1, Asked::Search { apelido: "ana".to_owned() }, Told::List(list))
}

/// The same question to the other instance.
fn elsewhere(entry: Entry) -> Entry {
    Entry { instance: 1, ..entry }
}

fn count(began: u64, number: usize) -> Entry {
    entry(began, began + 1, Asked::Count, Told::Number(number))
}

/// The kinds of lies, each once.
fn lies(history: &[Entry], table: &[Value]) -> Vec<Lie> {
    let verdict = judge(history, table, &Before { counts_never_fall: true, ..Before::default() });
    let mut lies: Vec<Lie> = verdict.lies.into_iter().map(|(lie, _)| lie).collect();
    lies.sort();
    lies.dedup();
    lies
}

/// The row of a pessoa with another name.
fn renamed(id: &str) -> Value {
    Pessoa { nome: "Eva".to_owned(), ..ana() }.shown(id)
}

#[test]
fn a_true_history_has_no_lies() {
    let row = ana().shown(ID);
    let table = std::slice::from_ref(&row);
    let mut history = vec![
        count(0, 0),
        get(1, Told::Absent),
        // It was stored by the first, whose client was not told; the second was refused, the third never left.
        create(10, 20, Told::Unavailable),
        create(15, 30, Told::Refused),
        create(31, 32, Told::Nothing),
        search(40, vec![]),
        get(41, Told::Found(row.clone())),
        count(42, 1),
        get(43, Told::Unavailable),
        get(44, Told::Lost),
    ];
    assert_eq!(lies(&history, table), []);
    // Who is told 201 meanwhile may be refused to others, and a fresh one need not be found by a search at once.
    history = vec![
        create(10, 20, created()),
        create(5, 12, Told::Refused),
        count(11, 1),
        count(11, 0),
        elsewhere(search(900, vec![])),
        search(1200, vec![row.clone()]),
        get(21, Told::Found(row.clone())),
        // It began before the 201 came.
        get(19, Told::Absent),
    ];
    assert_eq!(lies(&history, table), []);
}

#[test]
fn what_was_there_before_is_no_stranger() {
    let before = Before { rows: 1, apelidos: HashSet::from(["eva".to_owned()]), ..Before::default() };
    let table = [Pessoa::named("eva").shown(OTHER)];
    let refused = entry(1, 2, Asked::Create(Pessoa::named("eva")), Told::Refused);
    let verdict = judge(&[refused, count(3, 1)], &table, &before);
    assert!(verdict.lies.is_empty(), "{}", verdict.explain());
    let verdict = judge(&[count(3, 0)], &table, &before);
    assert_eq!(verdict.count(&Lie::WrongCount), 1, "{}", verdict.explain());
}

#[test]
fn each_kind_of_lie_is_found() {
    let row = ana().shown(ID);
    let acknowledged = create(10, 20, created());
    let with = |more: Entry| vec![acknowledged.clone(), more];
    let sent_in_doubt = create(10, 20, Told::Unavailable);
    let rival = entry(10, 20, Asked::Create(Pessoa { nome: "Eva".to_owned(), ..ana() }), Told::Lost);
    let eva = Pessoa::named("eva").shown(OTHER);
    let other_winner = Told::Created { id: OTHER.to_owned(), body: ana().shown(OTHER) };
    let cases: Vec<(&str, Vec<Entry>, Vec<Value>, Lie)> = vec![
        ("no row", vec![acknowledged.clone()], vec![], Lie::Lost),
        (
            "the row of another",
            vec![acknowledged.clone(), sent_in_doubt.clone()],
            vec![ana().shown(OTHER)],
            Lie::Lost,
        ),
        (
            "the row has what a rival sent",
            with(entry(15, 30, Asked::Create(Pessoa { nome: "Eva".to_owned(), ..ana() }), Told::Refused)),
            vec![renamed(ID)],
            Lie::Changed,
        ),
        (
            "a GET that shows another pessoa",
            with(entry(30, 31, Asked::Get { id: OTHER.to_owned(), known: false }, Told::Found(row.clone()))),
            vec![row.clone()],
            Lie::Changed,
        ),
        ("another content in the table", vec![acknowledged.clone()], vec![renamed(ID)], Lie::Changed),
        (
            "another content in the 201",
            vec![create(10, 20, Told::Created { id: ID.to_owned(), body: renamed(ID) })],
            vec![row.clone()],
            Lie::Changed,
        ),
        (
            "another content in a GET",
            with(get(30, Told::Found(renamed(ID)))),
            vec![row.clone()],
            Lie::Changed,
        ),
        ("another content in a search", with(search(30, vec![renamed(ID)])), vec![row.clone()], Lie::Changed),
        ("stored with what nobody sent", vec![sent_in_doubt.clone()], vec![renamed(ID)], Lie::Changed),
        ("two winners", with(create(30, 40, other_winner)), vec![row.clone()], Lie::SecondWinner),
        ("one winner twice", with(create(30, 40, created())), vec![row.clone()], Lie::SecondWinner),
        ("404 after the 201", with(get(30, Told::Absent)), vec![row.clone()], Lie::WrongAbsence),
        (
            "404 after a 200",
            vec![sent_in_doubt.clone(), get(30, Told::Found(row.clone())), get(40, Told::Absent)],
            vec![row.clone()],
            Lie::WrongAbsence,
        ),
        (
            "404 after a search that showed it",
            vec![sent_in_doubt.clone(), search(30, vec![row.clone()]), get(40, Told::Absent)],
            vec![row.clone()],
            Lie::WrongAbsence,
        ),
        ("422 of a new apelido", vec![create(10, 20, Told::Refused)], vec![row.clone()], Lie::WrongRefusal),
        (
            "422 of an apelido that nobody has",
            vec![sent_in_doubt.clone(), create(30, 40, Told::Refused)],
            vec![],
            Lie::WrongRefusal,
        ),
        (
            "422 before anybody else asked",
            vec![create(10, 20, Told::Refused), create(30, 40, created())],
            vec![row.clone()],
            Lie::WrongRefusal,
        ),
        (
            "a search without an old 201",
            with(elsewhere(search(1100, vec![]))),
            vec![row.clone()],
            Lie::StaleSearch,
        ),
        (
            "a search without a 201 of the same instance",
            with(search(21, vec![])),
            vec![row.clone()],
            Lie::StaleSearch,
        ),
        (
            "a count that fell",
            vec![sent_in_doubt.clone(), count(30, 1), elsewhere(count(40, 0))],
            vec![row.clone()],
            Lie::WrongCount,
        ),
        ("a search that shows what is not there", vec![search(1, vec![row.clone()])], vec![], Lie::Vanished),
        (
            "a GET that shows what is not there",
            vec![sent_in_doubt.clone(), get(1, Told::Found(row.clone()))],
            vec![],
            Lie::Vanished,
        ),
        ("a count without a 201", with(count(30, 0)), vec![row.clone()], Lie::WrongCount),
        ("a count of more than was sent", with(count(30, 2)), vec![row.clone()], Lie::WrongCount),
        ("nothing was stored", vec![create(10, 20, Told::Nothing)], vec![row.clone()], Lie::StoredAllTheSame),
        (
            "what was refused, beside a rival in doubt",
            vec![rival.clone(), create(11, 20, Told::Refused)],
            vec![row.clone()],
            Lie::StoredAllTheSame,
        ),
        (
            "what was not stored, beside a rival in doubt",
            vec![rival.clone(), create(11, 20, Told::Nothing)],
            vec![row.clone()],
            Lie::StoredAllTheSame,
        ),
        (
            "a search that shows one twice",
            with(search(30, vec![row.clone(), row.clone()])),
            vec![row.clone()],
            Lie::WrongList,
        ),
        (
            "a search that shows another one",
            with(search(30, vec![eva.clone()])),
            vec![row.clone(), eva],
            Lie::WrongList,
        ),
        ("nobody sent it", vec![], vec![row.clone()], Lie::Stranger),
        (
            "a status that is none",
            vec![create(10, 20, Told::Other(500, String::new()))],
            vec![],
            Lie::Unexpected,
        ),
        ("a GET that is neither", vec![get(1, Told::Other(500, String::new()))], vec![], Lie::Unexpected),
        (
            "an apelido twice in the table",
            vec![acknowledged.clone(), sent_in_doubt],
            vec![row, ana().shown(OTHER)],
            Lie::SecondWinner,
        ),
    ];
    for (name, history, table, lie) in cases {
        assert!(lies(&history, &table).contains(&lie), "{name}: {:?}", lies(&history, &table));
    }
}

#[test]
fn whatever_is_in_doubt_may_be_either_but_once() {
    let row = ana().shown(ID);
    for doubt in [Told::Unavailable, Told::Lost] {
        for table in [vec![], vec![row.clone()]] {
            let mut history = vec![create(10, 20, doubt.clone()), create(21, 30, doubt.clone()), count(5, 0)];
            history.push(count(40, table.len()));
            history.push(get(40, if table.is_empty() { Told::Absent } else { Told::Found(row.clone()) }));
            history.push(search(40, table.clone()));
            assert_eq!(lies(&history, &table), [], "{doubt:?}, {} rows", table.len());
        }
        // It came to be after the first look at it, as a statement on its way does.
        let late = [create(10, 20, doubt.clone()), get(30, Told::Absent), count(31, 0), count(40, 1)];
        assert_eq!(lies(&late, std::slice::from_ref(&row)), []);
        let twice = [row.clone(), ana().shown(OTHER)];
        assert_eq!(
            lies(&[create(10, 20, doubt.clone()), create(21, 30, doubt)], &twice),
            [Lie::SecondWinner]
        );
    }
}

#[test]
fn a_balancer_may_ask_any_instance() {
    let row = ana().shown(ID);
    let history = [create(10, 20, created()), search(21, vec![])];
    let before = Before { balancers: vec![0], ..Before::default() };
    let verdict = judge(&history, std::slice::from_ref(&row), &before);
    assert!(verdict.lies.is_empty(), "{}", verdict.explain());
    assert_eq!(verdict.stalest, Duration::from_millis(1));
}

#[test]
fn a_lie_comes_with_the_operations_that_prove_it() {
    let history = [count(1, 0), create(10, 20, created()), get(25, Told::Lost), get(30, Told::Absent)];
    let verdict = judge(&history, &[ana().shown(ID)], &Before::default());
    let [(Lie::WrongAbsence, evidence)] = &verdict.lies[..] else { panic!("{}", verdict.explain()) };
    let proof: Vec<&str> = evidence.lines().skip(1).map(str::trim).collect();
    assert_eq!(proof, [history[1].to_string(), history[3].to_string()]);
    assert!(proof[1].contains("GET") && proof[1].ends_with("404"), "{evidence}");
}

#[test]
fn at_rest_everything_is_answered_and_exact() {
    let row = ana().shown(ID);
    let table = std::slice::from_ref(&row);
    let at_rest = |entry: Entry| {
        let mut verdict = Verdict::default();
        at_rest(&mut verdict, &[create(10, 20, Told::Refused), entry], table);
        verdict.lies.into_iter().map(|(lie, _)| lie).collect::<Vec<Lie>>()
    };
    assert_eq!(at_rest(count(30, 1)), []);
    assert_eq!(at_rest(get(30, Told::Found(row.clone()))), []);
    assert_eq!(at_rest(search(30, vec![row.clone()])), []);
    assert_eq!(at_rest(count(30, 0)), [Lie::WrongCount]);
    assert_eq!(at_rest(count(30, 2)), [Lie::WrongCount]);
    // Nobody was ever told of it, but it is there.
    assert_eq!(at_rest(get(30, Told::Absent)), [Lie::WrongAbsence]);
    assert_eq!(at_rest(search(1500, vec![])), [Lie::StaleSearch]);
    for told in [Told::Unavailable, Told::Nothing, Told::Lost] {
        assert_eq!(at_rest(get(30, told)), [Lie::NotAtRest]);
    }
    let slow = entry(30, 3000, Asked::Count, Told::Number(1));
    assert_eq!(at_rest(slow), [Lie::NotAtRest]);
}
