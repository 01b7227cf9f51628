//! The commands of the pages. A `sh` block is run as it stands, against a server with an admin listener, if it does nothing
//! but ask. Where a comment before it says `<!-- not run: WHY -->`, what it names must be there: targets, programs,
//! packages, tests, files, flags. The same holds for commands and paths in sentences.

use std::path::Path;
use std::process::Command;

use pulldown_cmark::Event;

use crate::cluster::{Cluster, temporary_directory};
use crate::pages::{Page, files};
use crate::server::{Address, Server};

/// Programs of the system that a page may name.
const PROGRAMS: [&str; 15] = [
    "apt-get",
    "cat",
    "cd",
    "curl",
    "echo",
    "exit",
    "findmnt",
    "git",
    "id",
    "kill",
    "nproc",
    "pgrep",
    "scp",
    "systemctl",
    "systemd-run",
];

/// What a block may be made of that is run: whatever else it names is a comment's business.
const HARMLESS: [&str; 2] = ["curl", "rinha"];

/// A program's name and its arguments.
type Words = Vec<String>;

/// The simple commands of a line of shell: those of substitutions too, without redirections and comments.
fn commands(line: &str) -> Vec<Words> {
    let (mut commands, mut words, mut word) = (Vec::new(), Words::new(), None::<String>);
    let mut quote: Option<char> = None;
    let mut signs = line.chars().peekable();
    let end_word = |words: &mut Words, word: &mut Option<String>| words.extend(word.take());
    while let Some(sign) = signs.next() {
        match (sign, quote) {
            ('\'', Some('\'')) | ('"', Some('"')) => quote = None,
            ('\'' | '"', None) => {
                quote = Some(sign);
                word.get_or_insert_default();
            }
            ('$', None | Some('"')) if signs.peek() == Some(&'(') => {
                signs.next();
                let inside: String = signs.by_ref().take_while(|sign| *sign != ')').collect();
                commands.extend(self::commands(&inside));
                word.get_or_insert_default().push_str("SUBSTITUTED");
            }
            (' ', None) => end_word(&mut words, &mut word),
            ('#', None) if word.is_none() => break,
            ('&' | '|' | ';', None) => {
                end_word(&mut words, &mut word);
                commands.push(std::mem::take(&mut words));
            }
            ('>', None) => {
                end_word(&mut words, &mut word);
                // The file.
                while signs.next_if(|sign| *sign == ' ').is_some() {}
                while signs.next_if(|sign| ![' ', ';', '&', '|'].contains(sign)).is_some() {}
            }
            (sign, _) => word.get_or_insert_default().push(sign),
        }
    }
    end_word(&mut words, &mut word);
    commands.push(words);
    commands.retain(|words| !words.is_empty());
    commands
}

/// What a command names that is not there.
fn fault(words: &[String]) -> Option<String> {
    let assigns = |word: &&String| word.split_once('=').is_some_and(|(name, _)| is_variable(name));
    let start = words.iter().take_while(|word| assigns(word) || *word == "sudo").count();
    let (program, arguments) = words[start..].split_first()?;
    match program.as_str() {
        "make" => arguments.iter().find_map(|word| make(word, arguments)),
        "cargo" => cargo(arguments),
        "rinha" => rinha(arguments),
        "docker" | "podman-compose" | "podman" => after(arguments, &["-f", "--env-file"])
            .find_map(|file| (!Path::new(file).is_file()).then(|| format!("{file}: no such file"))),
        path if path.contains('/') => script(path, arguments),
        name => (!PROGRAMS.contains(&name)).then(|| format!("{name}: expected one of {PROGRAMS:?}")),
    }
}

fn is_variable(name: &str) -> bool {
    !name.is_empty() && name.chars().all(|sign| sign.is_ascii_uppercase() || sign == '_')
}

/// The words that follow one of `flags`.
fn after<'a>(arguments: &'a [String], flags: &'a [&str]) -> impl Iterator<Item = &'a str> {
    let pairs = arguments.iter().zip(arguments.iter().skip(1));
    pairs.filter(|(flag, _)| flags.contains(&flag.as_str())).map(|(_, value)| value.as_str())
}

/// A target, or a variable: what `ARGS` holds must be known to what the target runs.
fn make(word: &str, all: &[String]) -> Option<String> {
    let makefile = std::fs::read_to_string("Makefile").unwrap();
    let Some((name, value)) = word.split_once('=') else {
        let there = makefile.lines().any(|line| line.starts_with(&format!("{word}:")));
        return (!there).then(|| format!("make {word}: no such target"));
    };
    if !makefile.contains(name) {
        return Some(format!("make {word}: the Makefile has no {name}"));
    }
    let place = match all.first()?.as_str() {
        "stress" | "stress-smoke" => "stress-test/src",
        "up-local" => "tools/local/src",
        "ha-up" => "deploy/ha/src",
        "ha" => "tests/ha",
        // Compose's and cargo's own.
        _ => return None,
    };
    unknown_flag(Path::new(place), value.split(' '))
}

fn cargo(arguments: &[String]) -> Option<String> {
    let here = arguments.iter().position(|word| word == "--").unwrap_or(arguments.len());
    let (own, passed) = arguments.split_at(here);
    let mut place = Path::new("src").to_owned();
    for package in after(own, &["-p"]) {
        let manifest = files(Path::new("")).into_iter().find(|file| {
            file.ends_with("Cargo.toml")
                && std::fs::read_to_string(file).unwrap().contains(&format!("name = \"{package}\""))
        });
        let Some(manifest) = manifest else { return Some(format!("no package {package}")) };
        place = manifest.with_file_name("src");
    }
    match own.first()?.as_str() {
        "test" => {
            let names: Vec<&str> = after(own, &["--test"]).collect();
            let there = |name: &str| [format!("tests/{name}"), format!("tests/{name}.rs")];
            for name in &names {
                let Some(place) = there(name).into_iter().find(|path| Path::new(path).exists()) else {
                    return Some(format!("no test {name}"));
                };
                let filter = own.last().filter(|last| !last.starts_with("--") && last != name);
                if let Some(filter) = filter
                    && !["fn", "mod"]
                        .iter()
                        .any(|kind| contains(Path::new(&place), &format!("{kind} {filter}")))
                {
                    return Some(format!("{place} has no {filter}"));
                }
            }
            None
        }
        "run" => unknown_flag(&place, passed.iter().skip(1).map(String::as_str)),
        "build" | "bench" | "clippy" | "deny" | "fmt" | "fuzz" => None,
        other => Some(format!("cargo {other}: expected a command of cargo that is known here")),
    }
}

/// A flag of the server, or of one of its commands, as its own help has them.
fn rinha(arguments: &[String]) -> Option<String> {
    let command = arguments.first().map(String::as_str).filter(|word| !word.starts_with('-'));
    let help = crate::operating::help(&[command.as_slice(), &["--help"]].concat());
    let known = |flag: &str| help.split_whitespace().any(|word| word.trim_end_matches(',') == flag);
    let flags = arguments.iter().filter(|word| word.starts_with("--"));
    let mut flags = flags.map(|word| word.split('=').next().unwrap());
    flags.find(|flag| !known(flag)).map(|flag| format!("rinha has no {flag}"))
}

/// A program of the repository, by its path.
fn script(path: &str, arguments: &[String]) -> Option<String> {
    use std::os::unix::fs::PermissionsExt;
    let Ok(found) = std::fs::metadata(path) else { return Some(format!("{path}: no such file")) };
    if found.permissions().mode() & 0o111 == 0 {
        return Some(format!("{path} cannot be run"));
    }
    unknown_flag(Path::new(path), arguments.iter().map(String::as_str))
}

/// A flag that the source at `place` does not know: clap spells it with underscores.
fn unknown_flag<'a>(place: &Path, words: impl Iterator<Item = &'a str>) -> Option<String> {
    let mut flags =
        words.filter_map(|word| word.strip_prefix("--")).map(|word| word.split('=').next().unwrap());
    flags
        .find(|flag| {
            !flag.is_empty()
                && *flag != "help"
                && !contains(place, &format!("--{flag}"))
                && !contains(place, &format!("{}:", flag.replace('-', "_")))
        })
        .map(|flag| format!("{} has no --{flag}", place.display()))
}

/// Whether a file, or one of a directory, has this text.
fn contains(place: &Path, text: &str) -> bool {
    let all = if place.is_dir() { files(place) } else { vec![place.to_owned()] };
    all.iter().any(|file| std::fs::read_to_string(file).is_ok_and(|source| source.contains(text)))
}

#[test]
fn commands_that_are_not_run_name_what_there_is() {
    let (mut seen, mut wrong) = (0, Vec::new());
    for page in Page::all_kept() {
        for block in page.blocks().iter().filter(|block| block.language == "sh") {
            let Some(why) = &block.not_run else { continue };
            assert!(why.len() >= 10, "{}: expected a reason, got {why:?}", page.path.display());
            for words in block.text.replace("\\\n", " ").lines().flat_map(commands) {
                seen += 1;
                wrong.extend(fault(&words).map(|why| format!("{}: {why}", page.path.display())));
            }
        }
    }
    assert!(seen >= 30, "expected the pages' commands, got {seen}");
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// What a command or a path in the midst of a sentence begins with.
const BEGINNINGS: [&str; 13] = [
    "make ",
    "cargo ",
    ".ci/",
    "benches/",
    "build/",
    "deploy/",
    "docs/",
    "perf/",
    "seccomp/",
    "src/",
    "stress-test/",
    "tests/",
    "tools/",
];

/// Made by those who use them.
const MADE: [&str; 2] = ["stress-test/results/", "stress-test/gatling/contest/"];

/// What a piece of code in a sentence names that is not there.
fn fault_in_sentence(page: &Path, code: &str) -> Option<String> {
    let bare = code.trim_start_matches(|sign: char| sign.is_ascii_uppercase() || ['_', '='].contains(&sign));
    let bare = bare.trim_start_matches(|sign: char| sign.is_ascii_digit() || sign == ' ');
    if !BEGINNINGS.iter().any(|start| bare.starts_with(start))
        || MADE.iter().any(|start| bare.starts_with(start))
    {
        return None;
    }
    let words = commands(code);
    let [words] = words.as_slice() else { return Some(format!("{code}: expected one command")) };
    match words.as_slice() {
        [path] => {
            let beside = page.parent().unwrap_or(Path::new("")).join(path);
            (!Path::new(path).exists() && !beside.exists()).then(|| format!("{path}: no such file"))
        }
        words => fault(words),
    }
}

#[test]
fn sentences_name_what_there_is() {
    let (mut seen, mut wrong) = (0, Vec::new());
    for page in Page::all_kept() {
        for (event, _) in page.events() {
            let Event::Code(code) = event else { continue };
            seen += 1;
            wrong.extend(
                fault_in_sentence(&page.path, &code).map(|why| format!("{}: {why}", page.path.display())),
            );
        }
    }
    assert!(seen >= 300, "expected the pages' code, got {seen}");
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn commands_run() {
    let cluster = Cluster::start();
    let directory = temporary_directory();
    let socket = directory.path().join("admin.sock");
    let on_socket = format!("--admin=unix:{}", socket.display());
    let server = Server::on(&cluster.config(), &["--cores=1", &on_socket]);
    let Address::Tcp(address) = server.tcp() else { panic!("the first listener is TCP") };
    let watched = Server::on(&cluster.config(), &["--cores=1", "--admin=127.0.0.1:0"]);
    let events = watched.events();
    let admin = events.iter().find(|event| event["message"] == "operators are answered").expect("a line");
    let admin = admin["address"].as_str().expect("an address");
    let programs = Path::new(env!("CARGO_BIN_EXE_rinha")).parent().expect("a directory");
    let path = format!("{}:{}", programs.display(), std::env::var("PATH").expect("PATH"));
    let mut run = 0;
    for page in Page::all_kept() {
        for block in page.blocks().iter().filter(|block| block.language == "sh" && block.not_run.is_none()) {
            for words in block.text.lines().flat_map(commands) {
                let harmless = HARMLESS.contains(&words[0].as_str());
                let path = page.path.display();
                assert!(
                    harmless,
                    "{path}: {}: expected <!-- not run: WHY --> before its block",
                    words.join(" ")
                );
            }
            let here = block.text.replace("localhost:9999", &address.to_string());
            let here = here.replace("127.0.0.1:9998", admin);
            let here = here.replace("/run/rinha/admin.sock", socket.to_str().expect("UTF-8"));
            let output =
                Command::new("sh").args(["-ec", &here]).env("PATH", &path).output().expect("a shell");
            let said = String::from_utf8_lossy(&output.stderr);
            assert!(output.status.success(), "{}: {}: {said}", page.path.display(), block.text);
            run += 1;
        }
    }
    assert!(run >= 3, "expected blocks to run, got {run}");
}

#[test]
fn lines_of_shell_are_read() {
    for (line, expected) in [
        ("make run     # builds; really", vec![vec!["make", "run"]]),
        (
            "A=1 make up ARGS='--name x' && cd y",
            vec![vec!["A=1", "make", "up", "ARGS=--name x"], vec!["cd", "y"]],
        ),
        (
            "kill -9 \"$(pgrep -x rinha)\"",
            vec![vec!["pgrep", "-x", "rinha"], vec!["kill", "-9", "SUBSTITUTED"]],
        ),
        ("echo a >b/c; exit", vec![vec!["echo", "a"], vec!["exit"]]),
        ("curl -d '{\"a\":\"b # c\"}' x", vec![vec!["curl", "-d", "{\"a\":\"b # c\"}", "x"]]),
        ("# nothing", vec![]),
    ] {
        assert_eq!(commands(line), expected, "{line}");
    }
}

/// What is not there is found, and what is there is not.
#[test]
fn a_wrong_command_is_found() {
    for (line, wrong) in [
        ("make run", false),
        ("make walk", true),
        ("make stress ARGS='--name x'", false),
        ("make stress ARGS='--nome x'", true),
        ("make run SPEED=9", true),
        ("cargo run -p stress-test -- sweep small -- --seconds 60", false),
        ("cargo run -p stress-toast -- sweep small", true),
        ("cargo run -p stress-test -- run --as-was", true),
        ("cargo test --locked --test faults a_killed_server", false),
        ("cargo test --locked --test faults a_killed_cat", true),
        ("cargo test --locked --test fables", true),
        ("DRIVER=epoll perf/bench 3 2 64", false),
        ("perf/benches", true),
        ("./compose.yml", true),
        ("docker compose -f deploy/ha/compose.yml up", false),
        ("docker compose -f deploy/he/compose.yml up", true),
        ("sudo apt-get update", false),
        ("frobnicate", true),
        ("rinha --cores 1", false),
        ("rinha --course 1", true),
    ] {
        let found: Vec<_> = commands(line).iter().filter_map(|words| fault(words)).collect();
        assert_eq!(!found.is_empty(), wrong, "{line}: {found:?}");
    }
    for (code, wrong) in [
        ("make ha ARGS=short", false),
        ("make hay", true),
        ("TOPOLOGY=1 perf/ab .@io_uring .@epoll MIX 3 3 64", false),
        ("TOPOLOGY=1 perf/ba main", true),
        ("src/limits.rs", false),
        ("src/limits.txt", true),
        ("tests/support", false),
        ("stress-test/results/DATE-NAME/", false),
        ("GET /pessoas", false),
    ] {
        assert_eq!(fault_in_sentence(Path::new("README.md"), code).is_some(), wrong, "{code}");
    }
}
