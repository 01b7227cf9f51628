//! What is run for a service of `compose.yml` on this machine, without its container.

use std::path::PathBuf;

use crate::compose::Service;
use crate::error::Result;
use crate::initdb::initialize;
use crate::place::Place;

/// A service's command, with this machine's paths in place of the container's, and with the files and the database that
/// it needs. `api` is the program of the instances, in place of the server.
pub(crate) fn prepare(
    place: &Place,
    name: &str,
    service: &Service,
    api: Option<&str>,
) -> Result<Vec<String>> {
    let mut replaced: Vec<(String, PathBuf)> = service
        .volumes
        .iter()
        .map(|(source, target)| {
            let here = if source.starts_with("./") { place.copy(source)? } else { place.volume(source) };
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
    if let Some(account) = &place.account {
        command.extend(["setpriv", "--init-groups"].map(str::to_owned));
        command.extend([format!("--reuid={}", account.uid), format!("--regid={}", account.gid)]);
    }
    if name == "postgres" {
        initialize(place, &command, service)?;
        command.push(place.postgres.join("postgres").to_string_lossy().into_owned());
        command.extend(["-D".to_owned(), place.cluster().to_string_lossy().into_owned()]);
        command.extend(["-k".to_owned(), place.volume("postgres-socket").to_string_lossy().into_owned()]);
        command.extend(service.command.iter().skip(1).map(|argument| here(argument)));
    } else if service.built {
        let program = api.unwrap_or("target/release/rinha");
        command.push(place.copy(program)?.to_string_lossy().into_owned());
        command.extend(service.command.iter().map(|argument| here(argument)));
    } else {
        command.extend(service.command.iter().map(|argument| here(argument)));
    }
    Ok(command)
}
