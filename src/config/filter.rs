//! The value of `--log`. It says which lines are wanted; it logs nothing.

use std::str::FromStr;

use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::LevelFilter;

/// What a filter may name: the crates and rooms that have something to log.
const NAMES: [&str; 17] = [
    "rinha::admin",
    "rinha::api",
    "rinha::channel",
    "rinha::config",
    "rinha::core",
    "rinha::embedded",
    "rinha::http",
    "rinha::ledger",
    "rinha::limits",
    "rinha::metrics",
    "rinha::net",
    "rinha::people",
    "rinha::pessoa",
    "rinha::postgres",
    "rinha::process",
    "rinha",
    "tokio_postgres",
];

/// A log filter that is known to parse, and to let something through.
#[derive(Clone, Debug)]
pub struct LogFilter(pub String);

impl LogFilter {
    /// Whether anything lets a warning through.
    pub fn lets_warnings_through(&self) -> bool {
        EnvFilter::new(&self.0).max_level_hint().is_none_or(|most| most >= LevelFilter::WARN)
    }
}

impl FromStr for LogFilter {
    type Err = String;

    fn from_str(text: &str) -> Result<LogFilter, String> {
        const EXPECTED: &str = "expected a level (off, error, warn, info, debug, trace) or a filter such as \
                                info,rinha::postgres=debug";
        if EnvFilter::builder().parse(text).is_err() {
            return Err(EXPECTED.to_owned());
        }
        // A filter of names that nobody has would parse, and the server would be silent for ever. There are no spans
        // here, so that brackets, which name spans, match nothing either.
        match text.split(',').map(name).find(|name| name.is_some_and(|name| !is_known(name))).flatten() {
            None => Ok(LogFilter(text.to_owned())),
            Some(unknown) => Err(format!("{EXPECTED}; nothing here is called {unknown}")),
        }
    }
}

/// What a directive, `name`, `name=level` or `level`, names; none if it is for everything.
fn name(directive: &str) -> Option<&str> {
    match directive.split_once('=') {
        Some((name, _)) => Some(name),
        None if directive.is_empty() || directive.parse::<LevelFilter>().is_ok() => None,
        None => Some(directive),
    }
}

fn is_known(name: &str) -> bool {
    // A name below a room is not looked up any further.
    let rooms = NAMES.iter().filter(|known| known.contains("::"));
    NAMES.contains(&name)
        || rooms
            .map(|room| format!("{room}::"))
            .any(|room| name.len() > room.len() && name.starts_with(&room))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_of_this_program() {
        for (filter, unknown) in [
            ("info", None),
            ("OFF", None),
            ("3", None),
            ("", None),
            ("rinha", None),
            ("rinha=debug", None),
            ("info,rinha::postgres=debug,rinha::net::listener=trace", None),
            ("warn,tokio_postgres=info", None),
            ("bogus", Some("bogus")),
            ("info,bogus=debug", Some("bogus")),
            ("rinah=debug", Some("rinah")),
            ("rinha::postgress=debug", Some("rinha::postgress")),
            ("rinha::bogus", Some("rinha::bogus")),
            ("rinha::net::", Some("rinha::net::")),
            ("[span]", Some("[span]")),
        ] {
            match (filter.parse::<LogFilter>(), unknown) {
                (Ok(LogFilter(kept)), None) => assert_eq!(kept, filter),
                (Err(why), Some(name)) => {
                    assert!(why.ends_with(&format!("called {name}")), "{filter}: {why}")
                }
                (parsed, _) => panic!("{filter}: {parsed:?}"),
            }
        }
    }

    /// A room that is new must be in the list.
    #[test]
    fn every_room_is_known() {
        let library = include_str!("../lib.rs");
        let rooms: Vec<&str> =
            library.lines().filter_map(|line| line.strip_prefix("pub mod ")?.strip_suffix(';')).collect();
        assert!(!rooms.is_empty());
        assert_eq!(NAMES.len(), rooms.len() + 2);
        for room in rooms {
            assert!(is_known(&format!("rinha::{room}")), "{room}");
        }
    }
}
