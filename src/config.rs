//! The only reader of flags and environment. It checks values, also against this machine; it opens nothing
//! but the certificates that a database URL names.

mod filter;

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::exit;
use std::str::FromStr;

use bytesize::ByteSize;
use clap::builder::{NonEmptyStringValueParser, Resettable};
use clap::error::ErrorKind;
use clap::{Arg, Args, CommandFactory, FromArgMatches, Parser, Subcommand, ValueEnum};

pub use filter::LogFilter;

use crate::core::{Cores, Machine, Wanted};
use crate::limits::{CACHE_BYTES_DEFAULT, CACHE_BYTES_MAX, CACHE_BYTES_MIN, LIVE_PEERS_MAX, NODES_MAX};
use crate::net::Listen;
use crate::people::InstanceNumber;
use crate::postgres::{Partitions, Source};

/// Exit status of a wrong command line.
const EXIT_USAGE: i32 = 2;

/// A people API that acknowledges only what is committed.
#[derive(Parser, Debug)]
#[command(name = "rinha", version = env!("RINHA_VERSION"), args_conflicts_with_subcommands = true)]
struct Cli {
    #[command(subcommand)]
    command: Option<CliCommand>,
    #[command(flatten)]
    serve: Serve,
}

#[derive(Subcommand, Debug)]
enum CliCommand {
    /// Run the server (the default)
    Serve(Serve),
    /// GET /healthz on a listener; exit 0 if it answers 200, else 1
    Healthcheck(Healthcheck),
    /// What a start with these options would do, and what would stop it; exit 0 if it would succeed, else 1
    Check(Check),
}

/// What the server needs to know.
#[derive(Args, Debug)]
pub struct Serve {
    /// A TCP address such as 0.0.0.0:9999, :9999 or localhost:9999, or unix:PATH ({core} in PATH makes one socket a
    /// core); repeatable
    #[arg(long, env = "LISTEN", value_delimiter = ',', default_value = "0.0.0.0:9999")]
    pub listen: Vec<Listen>,

    /// Where Postgres is, as a URL or as key=value pairs; without it a private Postgres is run. Repeatable, for several
    /// primaries that share the people (several URLs in the variable have spaces between them)
    #[arg(long, env = "DATABASE_URL", hide_env_values = true, value_parser = NonEmptyStringValueParser::new())]
    database_url: Vec<String>,

    /// In how many partitions the people are, each a schema at one of the databases: a power of two up to 256
    #[arg(long, env = "PARTITIONS", default_value = "1")]
    pub partitions: Partitions,

    /// Where the private Postgres keeps its cluster [default: ./data; as root: /var/lib/rinha]
    #[arg(long, env = "DATA_DIR")]
    data_dir: Option<PathBuf>,

    /// How many cores: auto, a number, a list of CPUs such as 0,2-3, or auto@K or N@K to start at the K-th
    #[arg(long, env = "CORES", default_value = "auto")]
    pub cores: Cores,

    /// What drives the sockets; io_uring refuses to fall back
    #[arg(long, env = "DRIVER", value_enum, default_value = "auto")]
    pub driver: Wanted,

    /// Which of several instances this is, from 0 to 63: new ids say it, so that a balancer can send a lookup to the one
    /// that made the pessoa; without it they are random there
    #[arg(long, env = "INSTANCE")]
    pub instance: Option<InstanceNumber>,

    /// Memory for pessoas and their index, such as 256MiB; auto is half of the memory limit
    #[arg(long, env = "CACHE_BYTES", default_value = "auto")]
    cache_bytes: CacheBytes,

    /// Where operators ask for /metrics, /healthz, /readyz and /live: a TCP address, or unix:PATH [default: with a private
    /// Postgres admin.sock in its data directory; with a database URL none]
    #[arg(long, env = "ADMIN")]
    pub admin: Option<Listen>,

    /// Where other instances have theirs: /live shows these too; repeatable
    #[arg(long, env = "ADMIN_PEERS", value_delimiter = ',')]
    pub admin_peers: Vec<Listen>,

    /// What is logged: off, error, warn, info, debug, trace, or a filter such as info,rinha::postgres=debug
    #[arg(long, env = "LOG", default_value = "info")]
    pub log: LogFilter,

    /// How it is logged
    #[arg(long, env = "LOG_FORMAT", value_enum, default_value = "text")]
    pub log_format: LogFormat,
}

/// What the health check needs to know.
#[derive(Args, Debug)]
pub struct Healthcheck {
    /// The listener to ask: a TCP address, or unix:PATH
    #[arg(long, env = "LISTEN", value_delimiter = ',', default_value = "0.0.0.0:9999")]
    pub listen: Vec<Listen>,
}

/// What a look at a start needs to know.
#[derive(Args, Debug)]
pub struct Check {
    /// What the start would be told.
    #[command(flatten)]
    pub serve: Serve,

    /// How it is shown
    #[arg(long, value_enum, default_value = "text")]
    pub format: ReportFormat,
}

/// The form of a report.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum ReportFormat {
    /// A line for each finding.
    Text,
    /// One JSON object.
    Json,
}

/// What the command line asks for.
#[derive(Debug)]
pub enum Command {
    /// Run the server.
    Serve(Serve),
    /// Ask a server for its health.
    Healthcheck(Healthcheck),
    /// Say what a start would do.
    Check(Check),
}

impl Serve {
    /// Bytes of memory for pessoas and their index.
    pub fn cache_bytes(&self, machine: &Machine) -> usize {
        match self.cache_bytes {
            CacheBytes::Bytes(bytes) => bytes,
            CacheBytes::Auto => match machine.memory_limit() {
                // The other half is for connections, queues and the allocator.
                Some(limit) => (limit / 2).clamp(CACHE_BYTES_MIN, CACHE_BYTES_DEFAULT),
                None => CACHE_BYTES_DEFAULT,
            },
        }
    }

    /// Refuses values that are wrong here, whatever else happens: the start would only find that out later. Fills in what
    /// follows from other values.
    fn check(&mut self) -> Result<(), String> {
        // A machine that does not tell its CPUs is no wrong value.
        if let Ok(machine) = Machine::this() {
            machine.choose(&self.cores)?;
        }
        if self.admin.is_none() && self.is_private() {
            self.admin = Some(self.admin_beside_the_data()?);
        }
        if self.admin.as_ref().is_some_and(Listen::is_one_a_core) {
            return Err("--admin: expected one socket, not one a core".to_owned());
        }
        if self.admin_peers.len() > LIVE_PEERS_MAX {
            return Err(format!("--admin-peers: expected at most {LIVE_PEERS_MAX} addresses"));
        }
        if self.admin_peers.iter().any(Listen::is_one_a_core) {
            return Err("--admin-peers: expected one socket of each instance, not one a core".to_owned());
        }
        let nodes = self.nodes();
        if nodes > NODES_MAX {
            return Err(format!("--database-url: expected at most {NODES_MAX} databases, got {nodes}"));
        }
        if nodes > self.partitions.count() {
            return Err(format!(
                "--partitions: expected as many as there are databases, {nodes}, or more, got {}",
                self.partitions
            ));
        }
        match self.sources()? {
            Some(_) => Ok(()),
            None => check_data_dir(&self.data_dir()),
        }
    }

    /// How many databases there are.
    pub fn nodes(&self) -> usize {
        self.database_urls().len().max(1)
    }

    /// The URL of each database. None: a private Postgres is run.
    fn database_urls(&self) -> Vec<&str> {
        let is_url = |text: &str| text.starts_with("postgres://") || text.starts_with("postgresql://");
        // A URL has no spaces, key=value pairs have.
        let urls = self.database_url.iter().flat_map(|text| match is_url(text) {
            true => text.split_whitespace().collect(),
            false => vec![text.as_str()],
        });
        urls.collect()
    }

    /// Each database that is named; `None`: a private Postgres is run.
    ///
    /// # Errors
    ///
    /// One line: a URL is none.
    pub fn sources(&self) -> Result<Option<Vec<Source>>, String> {
        let source = |url| {
            let source = Source::parse(url).map_err(|why| format!("--database-url: {why}"));
            source.map(|source| source.with_partitions(self.partitions))
        };
        let sources: Vec<Source> = self.database_urls().into_iter().map(source).collect::<Result<_, _>>()?;
        Ok(Some(sources).filter(|sources| !sources.is_empty()))
    }

    /// Whether a private Postgres is run.
    pub fn is_private(&self) -> bool {
        self.database_url.is_empty()
    }

    /// Where operators are answered beside the data of a private Postgres.
    fn admin_beside_the_data(&self) -> Result<Listen, String> {
        let path = self.data_dir().join(ADMIN_SOCKET);
        let listen = path.to_str().ok_or_else(|| "expected a path in UTF-8".to_owned());
        let listen = listen.and_then(|path| format!("unix:{path}").parse::<Listen>());
        listen.map_err(|why| format!("{}: {why}; give an --admin", path.display()))
    }

    /// The directory of the private Postgres' cluster.
    pub fn data_dir(&self) -> PathBuf {
        self.data_dir.clone().unwrap_or_else(|| match nix::unistd::geteuid().is_root() {
            // Postgres refuses to run as root, so it runs as another user, who must be able to reach the directory.
            true => PathBuf::from("/var/lib/rinha"),
            false => PathBuf::from("./data"),
        })
    }
}

/// The name of the operators' socket beside the data of a private Postgres.
const ADMIN_SOCKET: &str = "admin.sock";

/// Refuses a path below or at something that is no directory.
fn check_data_dir(path: &Path) -> Result<(), String> {
    // What does not exist yet is made below what does.
    match path.ancestors().find(|ancestor| ancestor.exists()) {
        Some(file) if !file.is_dir() => {
            Err(format!("--data-dir {}: expected a directory; {} is none", path.display(), file.display()))
        }
        _ => Ok(()),
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum CacheBytes {
    Auto,
    Bytes(usize),
}

impl FromStr for CacheBytes {
    type Err = String;

    fn from_str(text: &str) -> Result<CacheBytes, String> {
        if text == "auto" {
            return Ok(CacheBytes::Auto);
        }
        let size: ByteSize = text.parse().map_err(|_| "expected auto or a size such as 256MiB".to_owned())?;
        match usize::try_from(size.as_u64()) {
            Ok(bytes) if (CACHE_BYTES_MIN..=CACHE_BYTES_MAX).contains(&bytes) => Ok(CacheBytes::Bytes(bytes)),
            _ => {
                let (least, most) = (CACHE_BYTES_MIN >> 10, CACHE_BYTES_MAX >> 40);
                Err(format!("expected at least {least}KiB and at most {most}TiB"))
            }
        }
    }
}

/// The form of a log line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

/// The command line, for whoever describes it.
pub fn command() -> clap::Command {
    Cli::command()
}

/// An empty variable counts as none: that is what compose makes of one that is not set.
fn parse(arguments: impl IntoIterator<Item = OsString>) -> Result<Cli, clap::Error> {
    let without_empty = |argument: Arg| match argument.get_env() {
        Some(name) if std::env::var_os(name).is_some_and(|value| value.is_empty()) => {
            argument.env(Resettable::Reset)
        }
        _ => argument,
    };
    let command =
        Cli::command().mut_args(without_empty).mut_subcommands(|command| command.mut_args(without_empty));
    let matches = command.try_get_matches_from(arguments)?;
    Cli::from_arg_matches(&matches)
}

/// Reads the command line and the environment; a wrong value is one line on stderr and exit 2.
pub fn read() -> Command {
    let cli = match parse(std::env::args_os()) {
        Ok(cli) => cli,
        Err(error) if matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion) => {
            error.exit()
        }
        Err(error) => refuse(&one_line(&error.to_string())),
    };
    let (serve, command) = match cli.command {
        Some(CliCommand::Healthcheck(healthcheck)) => return Command::Healthcheck(healthcheck),
        Some(CliCommand::Check(mut check)) => (check.serve.check(), Command::Check(check)),
        Some(CliCommand::Serve(mut serve)) => (serve.check(), Command::Serve(serve)),
        None => {
            let mut serve = cli.serve;
            (serve.check(), Command::Serve(serve))
        }
    };
    match serve {
        Ok(()) => command,
        Err(why) => refuse(&why),
    }
}

fn refuse(why: &str) -> ! {
    eprintln!("rinha: {why} (see rinha --help)");
    exit(EXIT_USAGE);
}

/// The first paragraph of clap's message, on one line. It says what is wrong; the rest is usage and hints.
fn one_line(message: &str) -> String {
    let paragraph = message.split("\n\n").next().unwrap_or(message);
    let words: Vec<&str> = paragraph.split_whitespace().collect();
    words.join(" ").trim_start_matches("error: ").to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::UNIX_PATH_MAX;

    fn parsed(arguments: &[&str]) -> Result<Cli, String> {
        Cli::try_parse_from([&["rinha"], arguments].concat()).map_err(|error| one_line(&error.to_string()))
    }

    #[test]
    fn good_values() {
        let cli = parsed(&[
            "--listen",
            "127.0.0.1:1",
            "--listen",
            "unix:/x-{core}.sock",
            "--cache-bytes",
            "256MiB",
        ]);
        let serve = cli.unwrap().serve;
        assert_eq!(
            serve.listen,
            [Listen::Tcp(([127, 0, 0, 1], 1).into()), Listen::Unix("/x-{core}.sock".to_owned())]
        );
        assert_eq!(serve.cache_bytes(&Machine::at("/nowhere", vec![])), 256 << 20);
        assert_eq!(Listen::unix_path("/x-{core}.sock", 1), PathBuf::from("/x-1.sock"));
        assert!(matches!(parsed(&["healthcheck"]).unwrap().command, Some(CliCommand::Healthcheck(_))));
        assert!(matches!(
            parsed(&["serve", "--driver", "epoll"]).unwrap().command,
            Some(CliCommand::Serve(_))
        ));
    }

    #[test]
    fn an_automatic_cache_is_half_of_the_memory_limit() {
        let serve = parsed(&[]).unwrap().serve;
        let root = tempfile::tempdir().unwrap();
        let machine = Machine::at(root.path(), vec![0]);
        assert_eq!(serve.cache_bytes(&machine), CACHE_BYTES_DEFAULT);
        for path in ["proc/self", "sys/fs/cgroup"] {
            std::fs::create_dir_all(root.path().join(path)).unwrap();
        }
        std::fs::write(root.path().join("proc/self/cgroup"), "0::/\n").unwrap();
        for (limit, expected) in
            [("314572800", 150 << 20), ("99999999999", CACHE_BYTES_DEFAULT), ("65536", CACHE_BYTES_MIN)]
        {
            std::fs::write(root.path().join("sys/fs/cgroup/memory.max"), limit).unwrap();
            assert_eq!(serve.cache_bytes(&machine), expected, "{limit}");
        }
    }

    #[test]
    fn wrong_values_are_one_line_that_says_what_was_expected() {
        let long = format!("unix:/{}", "x".repeat(UNIX_PATH_MAX));
        for (arguments, expected) in [
            (&["--listen", "9999"][..], "expected an address"),
            (&["--listen", "unix:"], "expected a path"),
            (&["--listen", &long], "at most 107 bytes"),
            (&["--cores", "none"], "expected auto"),
            (&["--cores", "257"], "expected at most 256 cores"),
            (&["--cores", "0,0"], "expected each CPU once"),
            (&["--driver", "kqueue"], "io_uring"),
            (&["--cache-bytes", "lots"], "expected auto or a size"),
            (&["--cache-bytes", "1KiB"], "expected at least 64KiB"),
            (&["--cache-bytes", "16EiB"], "at most 4TiB"),
            (&["--log", "rinha=loud"], "expected a level"),
            (&["--log", "bogus"], "nothing here is called bogus"),
            (&["--log-format", "xml"], "json"),
            (&["--verbose"], "unexpected argument"),
            (&["dance"], "unrecognized subcommand"),
        ] {
            let error = parsed(arguments).unwrap_err();
            assert!(error.contains(expected) && !error.contains('\n'), "{arguments:?}: {error}");
        }
    }

    #[test]
    fn a_data_directory_is_a_directory_or_can_become_one() {
        let place = tempfile::tempdir().unwrap();
        std::fs::write(place.path().join("file"), "").unwrap();
        for (path, expected) in
            [("", true), ("new", true), ("new/er", true), ("file", false), ("file/x", false)]
        {
            assert_eq!(check_data_dir(&place.path().join(path)).is_ok(), expected, "{path}");
        }
    }
}
