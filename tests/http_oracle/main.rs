//! The head parser and the chunked decoder against parsers of other people, on generated and mutated requests. This
//! test knows only the public face of `rinha::http`. proptest prints the input of a failure, shrunk.

#![allow(clippy::unwrap_used, reason = "clippy knows test functions, not the helpers of a test file")]

mod generated;
mod httparse;
mod invariants;
mod monoio_http;

use generated::{TELLING, mutated, request};
use invariants::{check_chunked, check_head, parse};
use proptest::{prelude::*, sample::select};
use rinha::{
    http::{Framing, Head, Progress, Reject},
    limits,
};

#[path = "../../src/http/request/cases.rs"]
mod cases;

#[test]
fn every_case_agrees_with_both_oracles() {
    for (input, expected) in cases::cases() {
        assert_eq!(cases::outcome(&parse(&input), &input), expected);
        httparse::compare(&input);
        monoio_http::compare(&input);
        check_head(&input, Vec::new());
    }
}

fn places(input: &[u8], cuts: &[prop::sample::Index]) -> Vec<usize> {
    cuts.iter().map(|cut| cut.index(input.len() + 1)).collect()
}

fn cuts() -> impl Strategy<Value = Vec<prop::sample::Index>> {
    prop::collection::vec(any::<prop::sample::Index>(), 0..5)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 3000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn requests_agree_with_httparse(input in mutated()) {
        httparse::compare(&input);
    }

    #[test]
    fn accepted_requests_agree_with_monoio_http(input in prop_oneof![request(), mutated()]) {
        monoio_http::compare(&input);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn cuts_change_nothing(input in mutated(), cuts in cuts()) {
        check_head(&input, places(&input, &cuts));
    }

    #[test]
    fn no_bytes_panic(
        input in prop_oneof![
            prop::collection::vec(any::<u8>(), 0..200),
            prop::collection::vec(select(TELLING), 0..200),
        ],
        cuts in cuts(),
    ) {
        httparse::compare(&input);
        check_head(&input, places(&input, &cuts));
        for start in ["", "1\r\n", "0;", "0\r\n"] {
            let body = [start.as_bytes(), &input[..]].concat();
            let _ = check_chunked(&body, places(&body, &cuts));
        }
    }

    #[test]
    fn chunks_are_undone(
        chunks in prop::collection::vec(
            (
                prop::collection::vec(any::<u8>(), 1..60),
                select(&["", ";a", " ; a=b", ";a=\"\\\"\";b"][..]),
                any::<bool>(),
            ),
            0..8,
        ),
        trailers in select(&["", "A: b\r\n", "A:\r\nB: c\r\n"][..]),
        behind in prop::collection::vec(any::<u8>(), 0..20),
        cuts in cuts(),
    ) {
        let (mut coded, mut body) = (Vec::new(), Vec::new());
        for (data, extension, upper) in &chunks {
            let size = if *upper { format!("{:X}", data.len()) } else { format!("0{:x}", data.len()) };
            coded.extend_from_slice(format!("{size}{extension}\r\n").as_bytes());
            coded.extend_from_slice(data);
            coded.extend_from_slice(b"\r\n");
            body.extend_from_slice(data);
        }
        coded.extend_from_slice(format!("0\r\n{trailers}\r\n").as_bytes());
        let length = coded.len();
        coded.extend_from_slice(&behind);
        let cuts = places(&coded, &cuts);
        prop_assert_eq!(check_chunked(&coded, cuts), Ok((body, length, Progress::Complete(()))));
    }
}
