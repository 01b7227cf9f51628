//! The server's binary: arguments to configuration, configuration to threads.

mod iowait;

use std::io::Write;
use std::process::ExitCode;

use rinha::config::{self, Command, ReportFormat};
use rinha::process;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Gives memory that the calling thread has freed back to the system. The allocator does so by itself only where it is used
/// again.
#[allow(unsafe_code, reason = "the allocator's own function; the crates have no safe form of it")]
fn give_back() {
    // SAFETY: it takes and returns nothing, and may be called by any thread at any time.
    unsafe { libmimalloc_sys::mi_collect(true) }
}

fn main() -> ExitCode {
    match config::read() {
        Command::Healthcheck(healthcheck) => match healthcheck.listen.first().map(process::healthcheck) {
            Some(Ok(())) => ExitCode::SUCCESS,
            Some(Err(why)) => fail(&why),
            None => fail("expected a listener to ask"),
        },
        Command::Check(check) => {
            let report = process::check(&check.serve);
            let said = match check.format {
                ReportFormat::Text => Ok(report.text()),
                ReportFormat::Json => report.json(),
            };
            match said {
                Ok(text) => {
                    // Whoever closed stdout still has the exit status.
                    let _ = std::io::stdout().write_all(text.as_bytes());
                    if report.would_start() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
                }
                Err(why) => fail(&why),
            }
        }
        Command::Serve(serve) => {
            let log = match process::start_log(&serve.log, serve.log_format) {
                Ok(log) => log,
                Err(why) => return fail(&why),
            };
            let status = match process::serve(&serve, give_back, log.lost()) {
                Ok(()) => {
                    // The last line of an orderly stop, so that whoever waits for it knows.
                    tracing::info!("stopped");
                    0
                }
                Err(why) => {
                    tracing::error!("{why}");
                    1
                }
            };
            log.flush();
            // Threads still hold rings and connections; the kernel closes them all when the process exits.
            std::process::exit(status);
        }
    }
}

fn fail(why: &str) -> ExitCode {
    // A broken stderr is no reason to panic.
    let _ = writeln!(std::io::stderr(), "rinha: {why}");
    ExitCode::FAILURE
}
