//! The man pages and completions as their readers see them, and their way onto a host and off it.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use tempfile::TempDir;

const PAGES: [&str; 4] = ["rinha", "rinha-serve", "rinha-check", "rinha-healthcheck"];

fn made() -> TempDir {
    let directory = tempfile::tempdir().expect("a directory");
    let made = Command::new(env!("CARGO_BIN_EXE_pages")).arg(directory.path()).status().expect("pages");
    assert!(made.success());
    directory
}

/// The output of a program; `None`, and why, where it is not installed.
fn ask(program: &str, arguments: &[&str]) -> Option<Output> {
    match Command::new(program).args(arguments).env("MANWIDTH", "1000").output() {
        Ok(output) => Some(output),
        Err(error) => {
            println!("skipped: {program}: {error}");
            None
        }
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn path(directory: &TempDir, name: &str) -> String {
    directory.path().join(name).to_str().expect("UTF-8").to_owned()
}

#[test]
fn every_option_and_variable_is_in_the_page() {
    let directory = made();
    let mut command = rinha::config::command();
    command.build();
    let commands: Vec<_> = std::iter::once(&command).chain(command.get_subcommands()).collect();
    let mut options = 0;
    for of in commands.into_iter().filter(|of| of.get_name() != "help") {
        let name =
            if of.get_name() == "rinha" { "rinha".to_owned() } else { format!("rinha-{}", of.get_name()) };
        assert!(PAGES.contains(&name.as_str()), "a page for {name}");
        // As roff writes a hyphen.
        let page =
            fs::read_to_string(path(&directory, &format!("{name}.1"))).expect("a page").replace("\\-", "-");
        for argument in of.get_arguments() {
            let long = format!("--{}", argument.get_long().expect("a long flag"));
            assert!(page.contains(&long), "{long} is not in {name}.1");
            if let Some(variable) = argument.get_env().and_then(|variable| variable.to_str()) {
                assert!(page.contains(&format!("\\fB{variable}\\fR")), "{variable} is not in {name}.1");
            }
            options += 1;
        }
        for word in ["secret", "postgres://rinha:"] {
            assert!(!page.contains(word));
        }
    }
    assert!(options > 20, "{options}");
    let page = fs::read_to_string(path(&directory, "rinha.1")).expect("a page");
    for section in
        ["NAME", "OPTIONS", "ENVIRONMENT", "EXIT STATUS", "SIGNALS", "FILES", "EXAMPLES", "SEE ALSO"]
    {
        assert!(
            page.contains(&format!(".SH {section}\n")) || page.contains(&format!(".SH \"{section}\"\n")),
            "{section}"
        );
    }
}

#[test]
fn the_pages_are_well_formed() {
    let directory = made();
    for page in PAGES {
        let file = path(&directory, &format!("{page}.1"));
        if let Some(output) = ask("mandoc", &["-T", "lint", "-W", "error", &file]) {
            assert!(output.status.success(), "{}", text(&output.stdout));
        }
        if let Some(output) = ask("man", &["--warnings", "-l", &file]) {
            assert!(output.status.success() && output.stderr.is_empty(), "{page}: {}", text(&output.stderr));
            assert!(text(&output.stdout).contains("--listen"), "{}", text(&output.stdout));
        }
    }
}

/// What a shell offers after a line that is typed so far.
#[test]
fn shells_complete() {
    let directory = made();
    let (bash, zsh, fish) =
        (path(&directory, "rinha.bash"), path(&directory, "_rinha"), path(&directory, "rinha.fish"));
    for (shell, arguments) in
        [("bash", ["-n", &bash]), ("zsh", ["-n", &zsh]), ("fish", ["--no-execute", &fish])]
    {
        if let Some(output) = ask(shell, &arguments) {
            assert!(output.status.success() && output.stderr.is_empty(), "{shell}: {}", text(&output.stderr));
        }
    }
    for (line, expected) in [
        ("rinha --cache", &["--cache-bytes"][..]),
        ("rinha --driver ", &["auto", "io_uring", "epoll"]),
        ("rinha serve --driver ", &["auto", "io_uring", "epoll"]),
        ("rinha check --format ", &["text", "json"]),
        ("rinha ch", &["check"]),
        ("rinha healthcheck --l", &["--listen"]),
    ] {
        let words: Vec<String> = line.split(' ').map(|word| format!("'{word}'")).collect();
        let script = format!(
            "source {bash}; COMP_WORDS=({}); COMP_CWORD={}; COMP_LINE='{line}'; COMP_POINT={}; _rinha rinha \
             \"${{COMP_WORDS[COMP_CWORD]}}\" \"${{COMP_WORDS[COMP_CWORD-1]}}\"; printf '%s\\n' \"${{COMPREPLY[@]}}\"",
            words.join(" "),
            words.len() - 1,
            line.len()
        );
        if let Some(output) = ask("bash", &["-c", &script]) {
            let offered = text(&output.stdout);
            let offered: BTreeSet<&str> = offered.lines().collect();
            assert_eq!(offered, expected.iter().copied().collect(), "bash: {line}: {}", text(&output.stderr));
        }
        // fish is offered values of a flag only behind a command: clap_complete's script asks for one first.
        if line != "rinha --driver "
            && let Some(output) = ask("fish", &["-c", &format!("source {fish}; complete -C '{line}'")])
        {
            let offered = text(&output.stdout);
            let offered: BTreeSet<&str> =
                offered.lines().filter_map(|line| line.split('\t').next()).collect();
            assert!(expected.iter().all(|word| offered.contains(word)), "fish: {line}: {offered:?}");
        }
    }
    let script = format!(
        "fpath=({} $fpath); autoload -Uz compinit; compinit -u -d {}/dump; print ${{_comps[rinha]}}",
        directory.path().display(),
        directory.path().display()
    );
    if let Some(output) = ask("zsh", &["-fc", &script]) {
        assert_eq!(text(&output.stdout).trim(), "_rinha", "{}", text(&output.stderr));
    }
}

/// Every file below a directory.
fn files(directory: &Path) -> BTreeSet<PathBuf> {
    let mut found = BTreeSet::new();
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        match entry.path() {
            path if path.is_dir() => found.extend(files(&path)),
            path => drop(found.insert(path)),
        }
    }
    found
}

#[test]
fn installed_and_taken_away() {
    let (directory, host) = (made(), tempfile::tempdir().expect("a directory"));
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let make = |target: &str| {
        let mut command = Command::new("make");
        command.current_dir(&root).arg(target).args(["PREFIX=/opt/rinha", "SYSCONFDIR=/opt/etc"]);
        command.arg(format!("DESTDIR={}", host.path().display()));
        // Any program will do.
        command.arg(format!("PROGRAM={}", env!("CARGO_BIN_EXE_pages")));
        command.arg(format!("PAGES={}", directory.path().display()));
        let output = command.output().expect("make");
        assert!(output.status.success(), "{}", text(&output.stderr));
        println!("{}", text(&output.stdout));
    };
    make("install");
    let at = |path: &str| host.path().join(path);
    let expected: BTreeSet<PathBuf> = [
        "opt/etc/rinha/rinha.env",
        "opt/rinha/bin/rinha",
        "opt/rinha/lib/systemd/system/rinha.service",
        "opt/rinha/lib/systemd/system/rinha@.service",
        "opt/rinha/share/bash-completion/completions/rinha",
        "opt/rinha/share/fish/vendor_completions.d/rinha.fish",
        "opt/rinha/share/man/man1/rinha-check.1",
        "opt/rinha/share/man/man1/rinha-healthcheck.1",
        "opt/rinha/share/man/man1/rinha-serve.1",
        "opt/rinha/share/man/man1/rinha.1",
        "opt/rinha/share/zsh/site-functions/_rinha",
    ]
    .map(at)
    .into_iter()
    .collect();
    assert_eq!(files(host.path()), expected);
    for unit in ["rinha.service", "rinha@.service"] {
        let unit = fs::read_to_string(at("opt/rinha/lib/systemd/system").join(unit)).expect("a unit");
        assert!(unit.contains("\nExecStart=/opt/rinha/bin/rinha\n"), "{unit}");
        assert!(unit.contains("\nEnvironmentFile=-/opt/etc/rinha/rinha.env\n"), "{unit}");
        assert!(!unit.contains("=-/etc/"), "{unit}");
    }
    // What an operator wrote stays, whatever is installed or taken away.
    fs::write(at("opt/etc/rinha/rinha.env"), "LOG=debug\n").expect("a file");
    make("install");
    make("uninstall");
    assert_eq!(files(host.path()), BTreeSet::from([at("opt/etc/rinha/rinha.env")]));
    assert_eq!(fs::read_to_string(at("opt/etc/rinha/rinha.env")).expect("a file"), "LOG=debug\n");
}

/// What would stand in a unit in another form is refused before anything is written.
#[test]
fn odd_places_are_refused() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let host = tempfile::tempdir().expect("a directory");
    for (name, value) in [
        ("PREFIX", "/opt/a&b"),
        ("PREFIX", "/opt/a|b"),
        ("PREFIX", "/opt/my app"),
        ("PREFIX", "opt"),
        ("SYSCONFDIR", "/etc/%h"),
    ] {
        let mut command = Command::new("tools/install");
        command.current_dir(&root).arg("install").env(name, value).env("DESTDIR", host.path());
        let output = command.output().expect("tools/install");
        let said = text(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{value}: {said}");
        assert!(said.contains("expected an absolute path"), "{said}");
    }
    assert_eq!(files(host.path()), BTreeSet::new());
}
