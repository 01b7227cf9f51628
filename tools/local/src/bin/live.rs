//! Leads from a port of this machine alone to a server's operators' socket, until it is ended: `live SOCKET [PORT]`. A
//! browser then shows the live page; `make live` calls it.

use std::env;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::ExitCode;

#[path = "../forward.rs"]
mod forward;

/// Exit status of a wrong command line.
const EXIT_USAGE: u8 = 2;

fn main() -> ExitCode {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let (socket, port) = match &arguments[..] {
        [socket] => (socket, Some(9100)),
        [socket, port] => (socket, port.parse().ok()),
        _ => return wrong("expected SOCKET [PORT]"),
    };
    let Some(port) = port else { return wrong("expected a port such as 9100") };
    if let Err(error) = UnixStream::connect(socket) {
        return failed(&format!("{socket}: {error}"));
    }
    match forward::start(port, Path::new(socket)) {
        Ok(address) => {
            println!("http://{address}/live (until this ends: Ctrl-C)");
            loop {
                std::thread::park();
            }
        }
        Err(error) => failed(&format!("port {port}: {error}; set another METRICS_PORT")),
    }
}

fn wrong(why: &str) -> ExitCode {
    eprintln!("live: {why}");
    ExitCode::from(EXIT_USAGE)
}

fn failed(why: &str) -> ExitCode {
    eprintln!("live: {why}");
    ExitCode::FAILURE
}
