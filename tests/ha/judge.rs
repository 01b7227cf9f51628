//! The judge is judged: a true history has no lies, and each kind of lie is found.

use std::collections::HashSet;
use std::time::Duration;

use serde_json::Value;

use crate::history::{Asked, Before, Entry, Lie, Told, judge, longest_gap};
use crate::load::Pessoa;
use crate::report::Line;

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

fn count(began: u64, number: usize) -> Entry {
    entry(began, began + 1, Asked::Count, Told::Number(number))
}

/// The kinds of lies, each once.
fn lies(history: &[Entry], table: &[Value]) -> Vec<Lie> {
    let verdict = judge(history, table, &Before::default());
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
        search(900, vec![]),
        search(1200, vec![row.clone()]),
        get(21, Told::Found(row.clone())),
        // It began before the 201 came.
        get(19, Told::Absent),
    ];
    assert_eq!(lies(&history, table), []);
}

#[test]
fn what_was_there_before_is_no_stranger() {
    let before = Before { rows: 1, apelidos: HashSet::from(["eva".to_owned()]) };
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
    let other_winner = Told::Created { id: OTHER.to_owned(), body: ana().shown(OTHER) };
    let cases: Vec<(&str, Vec<Entry>, Vec<Value>, Lie)> = vec![
        ("no row", vec![acknowledged.clone()], vec![], Lie::Lost),
        (
            "the row of another",
            vec![acknowledged.clone(), sent_in_doubt.clone()],
            vec![ana().shown(OTHER)],
            Lie::Lost,
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
        ("a search without an old 201", with(search(1100, vec![])), vec![row.clone()], Lie::StaleSearch),
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
fn the_longest_gap_is_found_at_the_ends_too() {
    let ms = Duration::from_millis;
    let gap = |times: &[u64], from, to| longest_gap(times.iter().map(|at| ms(*at)), ms(from), ms(to));
    assert_eq!(gap(&[], 10, 20), (ms(10), ms(20)));
    assert_eq!(gap(&[12, 13, 18], 10, 20), (ms(13), ms(18)));
    assert_eq!(gap(&[18, 13], 10, 20), (ms(13), ms(18)));
    assert_eq!(gap(&[11, 12], 10, 20), (ms(12), ms(20)));
    assert_eq!(gap(&[19, 5, 25], 10, 20), (ms(10), ms(19)));
}

#[test]
fn what_the_server_took_is_told_from_what_the_engine_took() {
    let ms = Duration::from_millis;
    // The engine commits until 100 and from 900 on; the instance until 90 and from 1200 on.
    let history = [create(80, 90, created()), create(1190, 1200, created()), create(1290, 1300, created())];
    let engine = [80, 100, 900, 1000, 1100, 1200, 1300].map(ms);
    let line = Line::of(("x", "y", &[0]), &history, (&engine, &engine), (ms(50), ms(1400)));
    assert_eq!((line.gap, line.engine, line.behind), (ms(1110), ms(800), ms(300)));
    // Where the engine never stops, all is the server's.
    let steady: Vec<Duration> = (0..140).map(|at| ms(at * 10)).collect();
    let line = Line::of(("x", "y", &[0]), &history, (&steady, &steady), (ms(50), ms(1400)));
    assert_eq!((line.gap, line.engine, line.behind), (ms(1110), ms(10), ms(1110)));
    // It commits for a moment, and then not for a while: only what it went on with counts.
    let moment = [80, 100, 400, 420, 1100, 1200].map(ms);
    let line = Line::of(("x", "y", &[0]), &history, (&moment, &moment), (ms(50), ms(1400)));
    assert_eq!((line.engine, line.behind), (ms(680), ms(330)));
    let moment = [80, 85, 610, 1150, 1200].map(ms);
    let line = Line::of(("x", "y", &[0]), &history, (&moment, &moment), (ms(50), ms(1400)));
    assert_eq!((line.engine, line.behind), (ms(540), ms(50)));
}
