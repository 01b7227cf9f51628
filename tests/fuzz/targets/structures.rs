//! Postings, arena and trigrams against sets, lists and scans.
#![no_main]

use libfuzzer_sys::fuzz_target;
use rinha::structures::{Run, run};

fuzz_target!(|steps: Run| run(steps));
