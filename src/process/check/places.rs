//! Where the server would listen: whether it may, and who is there.

use std::path::Path;

use super::finding::{Finding, Findings};
use crate::config::Serve;
use crate::net::{Bound, Flag, Listen, Tried};
use crate::process::healthcheck;
use crate::process::sockets::Sockets;

const EXPECTED: &str = "an address that this user may listen on and nobody else does";

/// Every listener, and that of operators. All are held until the last one was tried: one that is given twice is seen.
pub(super) fn listen(serve: &Serve, cores: usize, findings: &mut Findings) {
    let tried = Sockets::try_out(&serve.listen, cores);
    for (listen, tried) in &tried {
        findings.add(found("listen", listen, tried));
    }
    let Some(listen) = &serve.admin else {
        let nowhere = "no --admin: operators are not answered".to_owned();
        findings.add(Finding::ok("admin", nowhere, EXPECTED));
        return;
    };
    let tried = match beside_the_data(serve, listen) {
        // The start makes the directory, and locks it.
        Some(path) if path.parent().is_some_and(|data_dir| !data_dir.exists()) => {
            return findings.add(Finding::ok("admin", format!("{listen} would be made"), EXPECTED));
        }
        Some(path) => Bound::look_for(Flag::Admin, listen, path),
        None => Bound::try_for(Flag::Admin, listen, 0),
    };
    findings.add(found("admin", listen, &tried));
}

/// The path of a socket in the private Postgres' directory.
fn beside_the_data<'a>(serve: &Serve, listen: &'a Listen) -> Option<&'a Path> {
    let Listen::Unix(path) = listen else { return None };
    let is_private = serve.is_private();
    Some(Path::new(path)).filter(|path| is_private && path.parent() == Some(&*serve.data_dir()))
}

fn found(name: &'static str, listen: &Listen, tried: &Result<Tried, String>) -> Finding {
    match tried {
        Ok(tried) if tried.is_stale() => {
            let stale = format!("{}: a socket that nobody listens on would be replaced", tried.name());
            Finding::ok(name, stale, EXPECTED)
        }
        Ok(tried) => Finding::ok(name, tried.name().to_owned(), EXPECTED),
        Err(why) => {
            let who = match healthcheck::check(listen) {
                Ok(()) => "; who answers there is a server that is well",
                Err(_) => "",
            };
            Finding::error(name, format!("{why}{who}"), EXPECTED)
        }
    }
}
