//! What is run for a service of `compose.yml` on this machine, without its container.

use std::path::PathBuf;

use crate::compose::{Service, is_path};
use crate::error::Result;
use crate::initdb::initialize;
use crate::place::Place;
use crate::stop::Stop;

/// A service's command, with this machine's paths in place of the container's, and with the files and the database that
/// it needs; none if `stop` was set meanwhile. `api` is the program of the instances, in place of the server.
pub(crate) fn prepare(
    place: &Place,
    name: &str,
    service: &Service,
    api: Option<&str>,
    stop: &Stop,
) -> Result<Option<Vec<String>>> {
    let mut replaced: Vec<(String, PathBuf)> = service
        .volumes
        .iter()
        .map(|(source, target)| {
            let here = if is_path(source) { place.copy(source)? } else { place.volume(source) };
            Ok((target.clone(), here))
        })
        .collect::<Result<_>>()?;
    // The longest path is replaced first, as a shorter one may be its beginning.
    replaced.sort_by_key(|(target, _)| std::cmp::Reverse(target.len()));
    let here = |text: &str| {
        replaced
            .iter()
            .fold(text.to_owned(), |text, (target, path)| text.replace(target, &path.to_string_lossy()))
    };
    let mut command = vec!["env".to_owned()];
    command.extend(service.environment.iter().map(|(name, value)| format!("{name}={}", here(value))));
    // If this process is killed, the kernel tells the service to end. The option comes after the change of the user,
    // which would forget it.
    let signal = service.stop.signal.as_str().trim_start_matches("SIG");
    command.push("setpriv".to_owned());
    if let Some(account) = &place.account {
        command.push("--init-groups".to_owned());
        command.extend([format!("--reuid={}", account.uid), format!("--regid={}", account.gid)]);
    }
    command.extend(["--pdeathsig".to_owned(), signal.to_owned()]);
    if let Some(database) = service.database() {
        if !initialize(place, name, &command, service, &database, stop)? {
            return Ok(None);
        }
        command.push(place.postgres.join("postgres").to_string_lossy().into_owned());
        command.extend(["-D".to_owned(), place.cluster(database.data).to_string_lossy().into_owned()]);
        command.extend(["-k".to_owned(), place.volume(database.socket).to_string_lossy().into_owned()]);
        command.extend(service.command.iter().skip(1).map(|argument| here(argument)));
    } else if service.built {
        let program = api.unwrap_or("target/release/rinha");
        command.push(place.copy(program)?.to_string_lossy().into_owned());
        command.extend(service.command.iter().map(|argument| here(argument)));
    } else {
        command.extend(service.command.iter().map(|argument| here(argument)));
    }
    Ok(Some(command))
}
