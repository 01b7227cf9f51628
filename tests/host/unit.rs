//! The systemd units and their settings. `tests/host/boot` runs them, in a systemd of its own.

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;
use std::process::Command;

use crate::cluster::temporary_directory;
use crate::server::binary;

/// The highest exposure that `systemd-analyze security` may give, in tenths.
const EXPOSURE_MAX: u32 = 12;

fn units() -> Option<(tempfile::TempDir, Vec<PathBuf>)> {
    if let Err(error) = Command::new("systemd-analyze").arg("--version").output() {
        println!("skipped: expected systemd-analyze; install the package systemd ({error})");
        return None;
    }
    let directory = temporary_directory();
    let mut units = Vec::new();
    for (unit, name) in [("rinha.service", "rinha.service"), ("rinha@.service", "rinha@1.service")] {
        let text = fs::read_to_string(format!("deploy/systemd/{unit}")).expect("a unit");
        // The program under test is where the unit says.
        let program = binary().get_program().to_str().expect("UTF-8").to_owned();
        let text = text.replace("ExecStart=/usr/local/bin/rinha\n", &format!("ExecStart={program}\n"));
        assert!(text.contains(&program));
        units.push(directory.path().join(name));
        fs::write(units.last().expect("a path"), text).expect("a unit");
    }
    Some((directory, units))
}

#[test]
fn systemd_finds_nothing_wrong() {
    let Some((_directory, units)) = units() else { return };
    for unit in units {
        let output = Command::new("systemd-analyze").args(["verify", "--man=no"]).arg(&unit).output();
        let output = output.expect("systemd-analyze");
        // Of units of this machine it may say something too.
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        let of_ours: Vec<&str> = said.lines().filter(|line| line.contains("rinha")).collect();
        assert!(of_ours.is_empty(), "{of_ours:#?}");
    }
}

#[test]
fn little_is_exposed() {
    let Some((_directory, units)) = units() else { return };
    for unit in units {
        let mut command = Command::new("systemd-analyze");
        command.args(["security", "--offline=yes", "--threshold", &EXPOSURE_MAX.to_string()]).arg(&unit);
        let output = command.output().expect("systemd-analyze");
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        println!("{}", text.lines().last().unwrap_or_default());
        assert!(output.status.success(), "{text}{}", String::from_utf8_lossy(&output.stderr));
    }
}

/// Every variable is there, as a comment with a value that the server takes.
#[test]
fn the_settings_are_complete() {
    let text = fs::read_to_string("deploy/systemd/rinha.env").expect("the settings");
    assert!(text.lines().all(|line| line.is_empty() || line.starts_with('#')), "all of it is optional");
    let settings = text.lines().filter_map(|line| line.strip_prefix('#')?.split_once('='));
    let settings: Vec<(&str, &str)> = settings
        .filter(|(name, _)| name.bytes().all(|byte| byte.is_ascii_uppercase() || byte == b'_'))
        .collect();
    let command = rinha::config::command();
    let known: BTreeSet<&str> =
        command.get_arguments().filter_map(|argument| argument.get_env()?.to_str()).collect();
    assert_eq!(settings.iter().map(|(name, _)| *name).collect::<BTreeSet<_>>(), known);
    let mut check = binary();
    check.arg("check").envs(settings);
    let output = check.output().expect("a check");
    assert_ne!(output.status.code(), Some(2), "{}", String::from_utf8_lossy(&output.stderr));
}
