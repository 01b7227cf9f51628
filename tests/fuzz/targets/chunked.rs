//! Chunked bodies: our decoder against a plain reading of the grammar, and against itself with the bytes cut anywhere.
//! The first byte says where to cut once more.
//!
//! The input is a whole body, and also the extensions or the trailers of one that is right but for them: coverage alone keeps
//! no input because the rest of it is right.
#![no_main]

#[path = "../../http_oracle/httparse.rs"]
#[allow(dead_code, reason = "another target uses it")]
mod httparse;
#[path = "../../http_oracle/invariants.rs"]
#[allow(dead_code, reason = "another target uses it")]
mod invariants;
#[allow(dead_code, reason = "another target uses it")]
mod reference;

use libfuzzer_sys::fuzz_target;
use rinha::http::Progress;

use invariants::{check_chunked, parse};

fuzz_target!(|input: &[u8]| {
    let Some((&cut, input)) = input.split_first() else { return };
    for (before, behind) in [("", ""), ("1", "\r\na\r\n0\r\n\r\n"), ("0\r\n", "\r\n\r\n")] {
        let body = [before.as_bytes(), input, behind.as_bytes()].concat();
        let decoded = match check_chunked(&body, vec![usize::from(cut)]) {
            Ok((body, length, Progress::Complete(()))) => Some((body, length)),
            Ok((.., Progress::Partial)) | Err(_) => None,
        };
        assert_eq!(decoded, reference::chunked(&body));
    }
});
