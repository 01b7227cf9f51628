//! Request heads: our parser against httparse with its differences listed, and against itself with the bytes cut
//! anywhere. The first byte says where to cut once more.
#![no_main]
#![allow(clippy::unwrap_used, reason = "a fuzz target panics on purpose")]

#[path = "../../http_oracle/httparse.rs"]
#[allow(dead_code, reason = "another target uses it")]
mod httparse;
#[path = "../../http_oracle/invariants.rs"]
#[allow(dead_code, reason = "another target uses it")]
mod invariants;

use invariants::{check_head, parse};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    let Some((&cut, input)) = input.split_first() else { return };
    httparse::compare(input);
    check_head(input, vec![usize::from(cut)]);
});
