//! What a foreign writer may have put into the table, by the binary protocol's bytes.
#![no_main]

use libfuzzer_sys::fuzz_target;
use rinha::postgres::sql::{Run, run};

fuzz_target!(|input: Run| run(input));
