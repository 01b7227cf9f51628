//! Every program and script says how it is called, and refuses wrong arguments in one line, before it builds, starts or
//! makes anything.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Output};

use tempfile::TempDir;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the repository's root")
}

/// A place in which whatever would build or start something only notes that it was called.
struct Fakes(TempDir);

impl Fakes {
    fn new() -> Fakes {
        let fakes = Fakes(tempfile::tempdir().expect("a directory"));
        for name in ["cargo", "docker", "podman", "podman-compose", "mvn", "wrk", "haproxy", "go", "apt-get"]
        {
            let path = fakes.0.path().join(name);
            fs::write(&path, format!("#!/bin/sh\n: >'{}/called'\n", fakes.0.path().display()))
                .expect("a script");
            fs::set_permissions(&path, Permissions::from_mode(0o755)).expect("its mode");
        }
        fakes
    }

    fn run(&self, script: &str, arguments: &[&str], variables: &[(&str, &str)]) -> Output {
        let path = format!("{}:{}", self.0.path().display(), std::env::var("PATH").expect("a PATH"));
        // From somewhere else: each finds the repository by its own path.
        let mut command = Command::new(root().join(script));
        command.current_dir(self.0.path()).args(arguments).env("PATH", path).env("TMPDIR", self.0.path());
        for name in ["PORT", "DRIVER", "ROWS", "PROGRAM", "ENGINE"] {
            command.env_remove(name);
        }
        command.envs(variables.iter().copied()).output().expect("an end")
    }

    fn called(&self) -> bool {
        self.0.path().join("called").exists()
    }
}

const PROFILES: [&str; 6] =
    ["perf/flamegraph", "perf/offcpu", "perf/stat", "perf/uring", "perf/syscalls", "perf/heap"];
const OTHERS: [&str; 11] = [
    "perf/ab",
    "perf/bench",
    "perf/instances",
    "perf/many",
    "perf/overload",
    "perf/partitions",
    "perf/rates",
    "perf/ratios",
    "perf/scaling",
    "perf/size",
    "perf/soak",
];
const MORE: [&str; 10] = [
    "deploy/scale/move",
    "deploy/scale/split",
    "perf/table",
    "seccomp/generate",
    "tests/e2e/run",
    "tests/miri/run",
    "tools/check",
    "tools/compose",
    "tools/release",
    "tools/release-deps",
];

#[test]
fn every_script_has_a_help_that_does_nothing_else() {
    for script in PROFILES.iter().chain(&OTHERS).chain(&MORE) {
        for help in ["--help", "-h"] {
            let fakes = Fakes::new();
            let output = fakes.run(script, &[help], &[]);
            let text = String::from_utf8_lossy(&output.stdout);
            assert!(output.status.success() && text.contains(script), "{script}: {output:?}");
            assert!(
                !text.contains('#') && output.stderr.is_empty() && !fakes.called(),
                "{script}: {output:?}"
            );
        }
    }
    // A tool that is new is in a list above.
    let tools = fs::read_dir(root().join("perf")).expect("perf").flatten();
    for tool in tools
        .filter(|tool| tool.metadata().is_ok_and(|data| data.is_file() && data.permissions().mode() & 1 == 1))
    {
        let name = format!("perf/{}", tool.file_name().to_string_lossy());
        let known = PROFILES.iter().chain(&OTHERS).chain(&MORE).any(|known| *known == name);
        assert!(known, "{name} is in no list");
    }
}

fn refused(script: &str, arguments: &[&str], variables: &[(&str, &str)], expected: &str) {
    let fakes = Fakes::new();
    let output = fakes.run(script, arguments, variables);
    let text = String::from_utf8_lossy(&output.stderr);
    let what = format!("{script} {arguments:?} {variables:?}: {output:?}");
    assert_eq!(output.status.code(), Some(2), "{what}");
    assert!(text.contains(expected) && text.lines().count() == 1 && output.stdout.is_empty(), "{what}");
    assert!(!fakes.called(), "{what}");
}

#[test]
fn wrong_arguments_are_refused_before_anything_is_built() {
    for script in PROFILES {
        refused(script, &["dance"], &[], "expected a mix");
        refused(script, &["get", "0"], &[], "SECONDS: expected a whole number");
        refused(script, &["get", "1", "many"], &[], "CONNECTIONS: expected a whole number");
        refused(script, &["get", "1", "8", "9"], &[], "expected at most 3 arguments");
        refused(script, &[], &[("DRIVER", "kqueue")], "DRIVER: expected auto");
        refused(script, &[], &[("PORT", "here")], "PORT: expected a whole number");
    }
    for (script, arguments, expected) in [
        ("perf/ab", &["main"][..], "expected REV1 REV2"),
        ("perf/ab", &["a", "b", "dance"], "expected a mix"),
        ("perf/ab", &["a", "b", "get", "x"], "SECONDS"),
        ("perf/rates", &["1", "1", "none"], "RATE"),
        ("perf/bench", &["x"], "SECONDS"),
        ("perf/bench", &["1", "1", "64", "none"], "CONNECTIONS"),
        ("perf/instances", &["--version"], "SECONDS"),
        ("perf/instances", &["1", "1", "1", "1"], "at most 3"),
        ("perf/overload", &["x"], "SECONDS"),
        ("perf/overload", &["6", "half"], "FACTOR"),
        ("perf/ratios", &["1", "-1"], "ROUNDS"),
        ("perf/scaling", &["1", "1", "sideways"], "expected axes"),
        ("perf/size", &["0"], "PESSOAS"),
        ("perf/soak", &["long"], "MINUTES"),
        ("perf/soak", &["1", "2"], "at most 1"),
        ("seccomp/generate", &["--write"], "expected nothing or --check"),
        ("tests/e2e/run", &["docker"], "expected no arguments"),
        ("tools/check", &[], "expected docker, podman or local"),
        ("tools/check", &["lxc"], "expected docker, podman or local"),
        ("tools/compose", &["restart"], "expected up or down"),
    ] {
        refused(script, arguments, &[], expected);
    }
}

/// Who is no root is told what does without.
#[test]
fn what_needs_root_says_what_does_without() {
    let uid = fs::read_to_string("/proc/self/status").expect("a status");
    if uid.lines().any(|line| line.starts_with("Uid:\t0\t")) {
        // As `id` would say it to somebody else.
        let fakes = Fakes::new();
        let id = fakes.0.path().join("id");
        fs::write(&id, "#!/bin/sh\necho 1000\n").expect("a script");
        fs::set_permissions(&id, Permissions::from_mode(0o755)).expect("its mode");
        for script in PROFILES.iter().chain(&["perf/bench", "perf/rates"]) {
            let output = fakes.run(script, &[], &[]);
            let text = String::from_utf8_lossy(&output.stderr);
            assert_eq!(output.status.code(), Some(1), "{script}: {text}");
            assert!(
                text.contains("expected root") && text.contains("without root: perf/ratios"),
                "{script}: {text}"
            );
            assert!(text.lines().count() == 1 && !fakes.called(), "{script}: {text}");
        }
    }
}

#[test]
fn every_program_has_a_help_and_refuses_what_is_wrong() {
    for (program, wrong) in [
        (env!("CARGO_BIN_EXE_bare_inserts"), &["host=a", "0", "1"][..]),
        (env!("CARGO_BIN_EXE_constant"), &["nowhere"]),
        (env!("CARGO_BIN_EXE_fill"), &["host=a", "none"]),
        (env!("CARGO_BIN_EXE_flame"), &["burn"]),
        (env!("CARGO_BIN_EXE_limit"), &["--database-url", "host=a", "--listen", "nowhere"]),
        (env!("CARGO_BIN_EXE_pace"), &["nowhere", "1", "1"]),
        (env!("CARGO_BIN_EXE_rates"), &["measure", "nowhere", "a", "1", "1", "--out", "b"]),
        (env!("CARGO_BIN_EXE_soak"), &["127.0.0.1:1", "nowhere", "0", "--csv", "none"]),
    ] {
        let output = Command::new(program).arg("--help").output().expect("an end");
        let text = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success() && text.contains("Usage: "), "{program}: {output:?}");
        let output = Command::new(program).args(wrong).output().expect("an end");
        assert_eq!(output.status.code(), Some(2), "{program} {wrong:?}: {output:?}");
    }
}
