//! Flags and environment.

use crate::server::{Server, binary};
use crate::{processes, refused, run};

/// Every flag of the server, its variable, and values that are wrong for it. An empty value is wrong for all flags but the
/// filter, as an empty filter lets nothing through. An empty variable is none: compose makes that of one that is not set.
const FLAGS: [(&str, &str, &[&str]); 11] = [
    ("--listen", "LISTEN", &["9999", "localhost", "unix:", "127.0.0.1:99999", ""]),
    (
        "--database-url",
        "DATABASE_URL",
        &["foo", "user=rinha", "host=a sslmode=maybe", "host=a,b,c port=1,2", ""],
    ),
    ("--data-dir", "DATA_DIR", &["/etc/passwd", "/etc/passwd/data", ""]),
    ("--cores", "CORES", &["none", "0", "-1", "3-1", "1@", "@1", "1,", "256", "0-255", ""]),
    ("--driver", "DRIVER", &["kqueue", "IO_URING", ""]),
    ("--instance", "INSTANCE", &["64", "-1", "first", ""]),
    ("--cache-bytes", "CACHE_BYTES", &["lots", "1KiB", "-1", ""]),
    ("--admin", "ADMIN", &["9999", "unix:", "unix:/run/rinha/{core}.sock", "127.0.0.1:99999", ""]),
    ("--admin-peers", "ADMIN_PEERS", &["9999", "unix:/run/rinha/{core}.sock", "a:1,b:2"]),
    ("--log", "LOG", &["rinha=loud", "a=b=c", "bogus", "info,rinah=debug"]),
    ("--log-format", "LOG_FORMAT", &["xml", ""]),
];

#[test]
fn help_and_version_are_complete() {
    for arguments in
        [&["--help"][..], &["serve", "--help"], &["-h"], &["help"], &["help", "serve"], &["check", "--help"]]
    {
        let mut command = binary();
        command.args(arguments);
        let ended = run(command);
        assert_eq!((ended.code, ended.stderr.as_str()), (Some(0), ""), "{arguments:?}");
        for (flag, variable, _) in FLAGS {
            assert!(ended.stdout.contains(&format!("{flag} <")), "{flag} is not in {}", ended.stdout);
            assert!(
                ended.stdout.contains(&format!("[env: {variable}")),
                "{variable} is not in {}",
                ended.stdout
            );
        }
        for value in ["auto", "io_uring", "epoll", "text", "json", "0.0.0.0:9999", "{core}", "/var/lib/rinha"]
        {
            assert!(ended.stdout.contains(value), "{value} is not in {}", ended.stdout);
        }
        if arguments.contains(&"check") {
            assert!(ended.stdout.contains("--format <"), "{}", ended.stdout);
        } else if !arguments.contains(&"serve") {
            assert!(
                ended.stdout.contains("healthcheck") && ended.stdout.contains("serve"),
                "{}",
                ended.stdout
            );
        }
    }
    let mut command = binary();
    command.args(["healthcheck", "--help"]);
    let ended = run(command);
    assert_eq!((ended.code, ended.stderr.as_str()), (Some(0), ""));
    for word in ["--listen <", "[env: LISTEN", "0.0.0.0:9999", "unix:PATH", "exit 0"] {
        assert!(ended.stdout.contains(word), "{word} is not in {}", ended.stdout);
    }
    for flag in ["--version", "-V"] {
        let mut command = binary();
        command.arg(flag);
        let ended = run(command);
        assert_eq!((ended.code, ended.stderr.as_str()), (Some(0), ""));
        let said = ended.stdout.trim_end_matches('\n');
        let rest = said.strip_prefix(concat!("rinha ", env!("CARGO_PKG_VERSION")));
        // A release build says the commit too.
        let commit = rest
            .unwrap_or_else(|| panic!("{said}"))
            .strip_prefix(" (")
            .and_then(|rest| rest.strip_suffix(')'));
        let digits = commit.map(|commit| commit.trim_end_matches("-dirty"));
        let hexadecimal =
            |digits: &str| digits.len() >= 7 && digits.bytes().all(|byte| byte.is_ascii_hexdigit());
        assert!(digits.map_or(rest == Some(""), hexadecimal), "{said}");
    }
}

#[test]
fn help_shows_no_password() {
    let mut command = binary();
    command.arg("--help").env("DATABASE_URL", "postgres://rinha:secret@localhost/rinha");
    let ended = run(command);
    assert!(!ended.stdout.contains("secret"), "{}", ended.stdout);
}

#[test]
fn a_wrong_value_is_one_line_and_exit_2() {
    for (flag, variable, values) in FLAGS {
        for value in values {
            let mut by_flag = binary();
            by_flag.arg(format!("{flag}={value}"));
            refused(by_flag, 2, &["rinha: ", flag, "--help"]);
            if !value.is_empty() {
                let mut by_variable = binary();
                by_variable.env(variable, value);
                refused(by_variable, 2, &["rinha: ", flag, "--help"]);
            }
        }
    }
    // What it may hold is not shown.
    let mut command = binary();
    command.args(["--database-url", "host=a sslmode=maybe password=secret"]);
    let ended = run(command);
    assert!(ended.code == Some(2) && !ended.stderr.contains("secret"), "{}", ended.stderr);
    for (arguments, word) in [
        (&["--verbose"][..], "--verbose"),
        (&["dance"], "dance"),
        (&["serve", "now"], "now"),
        (&["healthcheck", "--cores", "1"], "--cores"),
        (&["healthcheck", "--listen", "here"], "--listen"),
        (&["--driver", "epoll", "--driver", "epoll"], "--driver"),
        (&["--listen"], "--listen"),
    ] {
        let mut command = binary();
        command.args(arguments);
        refused(command, 2, &["rinha: ", word, "--help"]);
    }
}

/// As every example says it, for the server and for its health check.
#[test]
fn localhost_and_no_host_are_addresses() {
    let home = processes::Home::new();
    let free = || {
        let free = std::net::TcpListener::bind("127.0.0.1:0").and_then(|free| free.local_addr());
        free.expect("a port").port()
    };
    let (own, any) = (free(), free());
    let mut command = binary();
    command.args(["--data-dir", &home.data_dir_text(), "--log-format=json"]);
    command.args(["--listen", &format!("localhost:{own}"), "--listen", &format!(":{any}")]);
    let mut server = Server::spawn(command);
    server.wait_until_serving();
    assert_eq!(server.start["listen"], format!("127.0.0.1:{own},0.0.0.0:{any}"));
    for listen in [format!("localhost:{own}"), format!(":{any}")] {
        let mut check = binary();
        check.args(["healthcheck", "--listen", &listen]);
        assert_eq!(run(check).code, Some(0), "{listen}");
    }
}

#[test]
fn an_empty_variable_is_none() {
    let home = processes::Home::new();
    let mut command = binary();
    for (_, variable, _) in FLAGS {
        command.env(variable, "");
    }
    // But for these the defaults would be the machine's.
    command.args(["--data-dir", &home.data_dir_text(), "--listen=127.0.0.1:0", "--log-format=json"]);
    let mut server = Server::spawn(command);
    server.wait_until_serving();
    assert_eq!(server.start["private"], true);
    let mut check = binary();
    check.env("LISTEN", "").args(["healthcheck", "--help"]);
    assert_eq!(run(check).code, Some(0));
}

#[test]
fn flags_win_over_the_environment() {
    let home = processes::Home::new();
    let serve = |driver: Option<&str>, format: Option<&str>| {
        let mut command = binary();
        command
            .env("LISTEN", "127.0.0.1:0")
            .env("DATA_DIR", home.data_dir())
            .env("DRIVER", "epoll")
            .env("LOG_FORMAT", "json")
            .env("CACHE_BYTES", "1MiB")
            .env("CORES", "auto@0");
        if let Some(driver) = driver {
            command.args(["--driver", driver]);
        }
        if let Some(format) = format {
            command.args(["--log-format", format]);
        }
        Server::spawn(command)
    };
    let mut server = serve(None, None);
    server.wait_until_serving();
    assert_eq!((&server.start["driver"], &server.start["private"]), (&"epoll".into(), &true.into()));
    assert_eq!(server.start["cache"], "1.0 MiB");
    assert!(home.data_dir().join("postgres").exists());
    drop(server);

    let mut server = serve(Some("auto"), None);
    server.wait_until_serving();
    assert_ne!(server.start["why"], "asked for");
    drop(server);

    let server = serve(None, Some("text"));
    crate::load::wait_until("a start in text", || server.log().iter().any(|line| line.contains("serving")));
    assert_eq!(server.events().len(), 0);
}
