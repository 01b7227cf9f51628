//! The first start of the database, which the image's entrypoint does in a container: a cluster, its user and its
//! database.

use std::fs;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::process::{Child, Command, Stdio};

use crate::compose::Service;
use crate::error::Result;
use crate::place::Place;

/// Makes the cluster unless there is one. Postgres' programs are run behind `prefix`, which sets their environment and
/// their user.
pub(crate) fn initialize(place: &Place, prefix: &[String], service: &Service) -> Result<()> {
    if place.cluster().join("PG_VERSION").exists() {
        return Ok(());
    }
    let of = |name: &str| {
        service.environment.get(name).cloned().ok_or_else(|| format!("expected {name} in compose.yml"))
    };
    let (user, database) = (of("POSTGRES_USER")?, of("POSTGRES_DB")?);
    let program = |name: &str| {
        let mut command = Command::new(&prefix[0]);
        command.args(&prefix[1..]).arg(place.postgres.join(name)).current_dir(place.volume("data"));
        command.stdout(Stdio::null()).stderr(Stdio::piped());
        command
    };
    let password = place.volume("data").join("password");
    fs::write(&password, "")?;
    fs::set_permissions(&password, fs::Permissions::from_mode(0o600))?;
    // initdb refuses an empty password. Where compose.yml sets none, no connection is asked for one: any text does.
    let given = Some(of("POSTGRES_PASSWORD")?).filter(|given| !given.is_empty());
    fs::write(&password, given.as_deref().unwrap_or("unused"))?;
    place.give(&password)?;
    let mut initdb = program("initdb");
    initdb.arg("-D").arg(place.cluster());
    initdb.args(["--encoding=UTF8", "--username", &user]).arg("--pwfile").arg(&password);
    match of("POSTGRES_INITDB_ARGS")?.split_whitespace().collect::<Vec<_>>()[..] {
        [] => initdb.arg("--auth=trust"),
        ref arguments => initdb.args(arguments),
    };
    succeed("initdb", initdb.spawn()?)?;
    fs::remove_file(password)?;
    let mut single = program("postgres");
    single.arg("--single").arg("-D").arg(place.cluster()).arg("postgres").stdin(Stdio::piped());
    let mut single = single.spawn()?;
    let mut statements = single.stdin.take().ok_or("expected a standard input")?;
    writeln!(statements, "CREATE DATABASE \"{database}\"")?;
    drop(statements);
    succeed("postgres --single", single)
}

fn succeed(name: &str, child: Child) -> Result<()> {
    let output = child.wait_with_output()?;
    match output.status.success() {
        true => Ok(()),
        false => {
            Err(format!("{name}: {}: {}", output.status, String::from_utf8_lossy(&output.stderr)).into())
        }
    }
}
