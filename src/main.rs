//! The server's binary: arguments to configuration, configuration to threads.

use std::process::ExitCode;

use rinha::config::{self, Command};
use rinha::process;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    match config::read() {
        Command::Healthcheck(healthcheck) => match healthcheck.listen.first().map(process::check) {
            Some(Ok(())) => ExitCode::SUCCESS,
            Some(Err(why)) => fail(&why),
            None => fail("expected a listener to ask"),
        },
        Command::Serve(serve) => {
            process::start_log(&serve.log, serve.log_format);
            match process::serve(&serve) {
                // Threads still hold rings and connections; the kernel closes them all when the process exits.
                Ok(()) => std::process::exit(0),
                Err(why) => {
                    tracing::error!("{why}");
                    std::process::exit(1);
                }
            }
        }
    }
}

fn fail(why: &str) -> ExitCode {
    eprintln!("rinha: {why}");
    ExitCode::FAILURE
}
