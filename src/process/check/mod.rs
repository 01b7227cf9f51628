//! `rinha check`: what a start with these flags and this environment would do, and what would stop it. It takes the steps of
//! a start, as far as they change nothing: no schema, no cluster, no socket is left behind, and who serves meanwhile does
//! not notice.
//!
//! `finding` is what is found, and how it is shown; `host` asks the machine, `places` the addresses, `database` the database.

mod database;
mod finding;
mod host;
mod places;

pub use finding::Report;

use finding::{Finding, Findings};

use super::setup::Setup;
use crate::config::{LogFormat, Serve};

/// Looks at everything that a start needs, in the order of a start.
pub fn check(serve: &Serve) -> Report {
    let mut findings = Findings::default();
    host::kernel(&mut findings);
    match Setup::choose(serve) {
        Ok(setup) => {
            let cores = setup.cpus.len();
            host::machine(serve, &setup, &mut findings);
            places::listen(serve, cores, &mut findings);
            database::ask(serve, cores, &mut findings);
        }
        Err(why) => {
            findings.add(Finding::error("cores", why, "cores and files that an instance can have"));
            places::listen(serve, 1, &mut findings);
            database::ask(serve, 1, &mut findings);
        }
    }
    log(serve, &mut findings);
    findings.report()
}

fn log(serve: &Serve, findings: &mut Findings) {
    const EXPECTED: &str = "a filter that lets warnings through";
    let format = match serve.log_format {
        LogFormat::Text => "text",
        LogFormat::Json => "JSON",
    };
    let filter = &serve.log.0;
    let found = format!("{filter}, as {format} on stderr");
    findings.add(match serve.log.lets_warnings_through() {
        true => Finding::ok("log", found, EXPECTED),
        false => Finding::warn("log", found, EXPECTED),
    });
}
