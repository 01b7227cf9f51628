//! What the report of the faults is made of is held against histories whose figures are known.

use std::time::Duration;

use crate::history::{Asked, Entry, Told, longest_gap};
use crate::load::Pessoa;
use crate::report::Line;

fn created(began: u64, ended: u64) -> Entry {
    let (began, ended) = (Duration::from_millis(began), Duration::from_millis(ended));
    let pessoa = Pessoa::named("ana");
    let id = "018f4a52-0000-7000-8000-000000000001";
    let told = Told::Created { id: id.to_owned(), body: pessoa.shown(id) };
    Entry { instance: 0, began, ended, asked: Asked::Create(pessoa), told }
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
    let history = [created(80, 90), created(1190, 1200), created(1290, 1300)];
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
