//! Bodies: what the decoder says against what serde_json and the contract say. What is accepted survives its rendering
//! and its row.
//!
//! The input is a whole body, and also one value of a body that is right but for it: coverage alone keeps no input because
//! the rest of it is right.
#![no_main]

#[path = "../../../src/pessoa/oracle/judge.rs"]
#[allow(dead_code, reason = "a test uses it")]
mod judge;

use libfuzzer_sys::fuzz_target;
use rinha::{limits, pessoa};

/// What stands before and behind the input.
const FRAMES: [(&str, &str); 5] = [
    ("", ""),
    (r#"{"nome":"Ana","nascimento":"2000-01-01","apelido":"#, "}"),
    (r#"{"apelido":"ana","nome":"Ana","nascimento":""#, r#""}"#),
    (r#"{"apelido":"ana","nascimento":"2000-01-01","nome":"Ana","stack":["#, "]}"),
    (r#"{"apelido":"ana","nome":"Ana","nascimento":"2000-01-01","#, "}"),
];

fuzz_target!(|input: &[u8]| {
    for (before, behind) in FRAMES {
        let body = [before.as_bytes(), input, behind.as_bytes()].concat();
        if body.len() <= limits::BODY_MAX {
            assert_eq!(judge::verdict(&body), judge::expected(&body));
        }
    }
});
