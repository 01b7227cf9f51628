//! The first start of the database, which the image's entrypoint does in a container: a cluster, its user and its
//! database.

use std::fs;
use std::fs::File;
use std::io::{Read, Seek, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Duration;

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;

use crate::compose::{Database, Service};
use crate::error::Result;
use crate::place::Place;
use crate::stop::Stop;

/// How often a program is looked at.
const POLL: Duration = Duration::from_millis(20);

/// Makes the cluster unless there is one; false if `stop` was set before there was. Postgres' programs are run behind
/// `prefix`, which sets their environment and their user.
pub(crate) fn initialize(
    place: &Place,
    name: &str,
    prefix: &[String],
    service: &Service,
    volumes: &Database<'_>,
    stop: &Stop,
) -> Result<bool> {
    let cluster = place.cluster(volumes.data);
    if cluster.exists() {
        return Ok(true);
    }
    // It gets its name when it is complete: half a cluster, as a kill leaves it, would be taken for one.
    let making = cluster.with_extension("making");
    if making.exists() {
        fs::remove_dir_all(&making)?;
    }
    let of = |name: &str| {
        service.environment.get(name).cloned().ok_or_else(|| format!("expected {name} in compose.yml"))
    };
    let (user, database) = (of("POSTGRES_USER")?, of("POSTGRES_DB")?);
    let program = |name: &str, said: &File| -> Result<Command> {
        let mut command = Command::new(&prefix[0]);
        command.args(&prefix[1..]).arg(place.postgres.join(name)).current_dir(place.volume(volumes.data));
        // A process group of its own: Ctrl-C reaches only this process, which ends what it started.
        command.stdout(said.try_clone()?).stderr(said.try_clone()?).process_group(0);
        Ok(command)
    };
    let log = place.log(&if name == "postgres" { "initdb".to_owned() } else { format!("{name}-initdb") });
    let said = File::options().create(true).truncate(true).read(true).write(true).open(&log)?;
    let password = place.volume(volumes.data).join("password");
    fs::write(&password, "")?;
    fs::set_permissions(&password, fs::Permissions::from_mode(0o600))?;
    // initdb refuses an empty password. Where compose.yml sets none, no connection is asked for one: any text does.
    let given = Some(of("POSTGRES_PASSWORD")?).filter(|given| !given.is_empty());
    fs::write(&password, given.as_deref().unwrap_or("unused"))?;
    place.give(&password)?;
    let mut initdb = program("initdb", &said)?;
    initdb.arg("-D").arg(&making).stdin(Stdio::null());
    initdb.args(["--encoding=UTF8", "--username", &user]).arg("--pwfile").arg(&password);
    match of("POSTGRES_INITDB_ARGS")?.split_whitespace().collect::<Vec<_>>()[..] {
        [] => initdb.arg("--auth=trust"),
        ref arguments => initdb.args(arguments),
    };
    let initialized = succeed("initdb", initdb.spawn()?, &said, &log, stop);
    fs::remove_file(password)?;
    if !initialized? {
        return Ok(false);
    }
    let mut single = program("postgres", &said)?;
    single.arg("--single").arg("-D").arg(&making).arg("postgres").stdin(Stdio::piped());
    let mut single = single.spawn()?;
    let mut statements = single.stdin.take().ok_or("expected a standard input")?;
    writeln!(statements, "CREATE DATABASE \"{database}\"")?;
    drop(statements);
    if !succeed("postgres --single", single, &said, &log, stop)? {
        return Ok(false);
    }
    fs::rename(making, cluster)?;
    Ok(true)
}

/// Waits for the end of a program; false if `stop` was set, which ends it.
fn succeed(name: &str, mut child: Child, mut said: &File, log: &Path, stop: &Stop) -> Result<bool> {
    let status = loop {
        if let Some(status) = child.try_wait()? {
            break status;
        }
        if stop.is_set() {
            // With all that it started. What they were making is thrown away.
            let group = Pid::from_raw(i32::try_from(child.id()).expect("a pid of Linux fits an i32"));
            let _ = killpg(group, Signal::SIGKILL);
            child.wait()?;
            return Ok(false);
        }
        thread::sleep(POLL);
    };
    if status.success() {
        return Ok(true);
    }
    let mut text = String::new();
    said.rewind()?;
    said.read_to_string(&mut text)?;
    Err(format!("{name}: {status}: {}; see {}", text.trim(), log.display()).into())
}
