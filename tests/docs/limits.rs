//! The limits in `docs/operating.md` against `src/limits.rs`: each is there with its value, or nobody outside can meet it.

use std::time::Duration;

use rinha::limits::*;

use crate::pages::{Page, code, words};

/// A limit as a number: bytes, pieces, or nanoseconds.
trait Number {
    fn number(self) -> u128;
}

macro_rules! numbers {
    ($($kind:ty),*) => {
        $(impl Number for $kind {
            fn number(self) -> u128 {
                self.try_into().expect("no limit is negative")
            }
        })*
    };
}

numbers!(u32, u64, usize, i32);

impl Number for Duration {
    fn number(self) -> u128 {
        self.as_nanos()
    }
}

macro_rules! limits {
    ($($name:ident),* $(,)?) => {
        [$((stringify!($name), $name.number())),*]
    };
}

/// Nobody outside can tell these: sizes of buffers and steps within the server, and waits that are part of longer ones.
#[rustfmt::skip]
const NOT_MET: &[&str] = &[
    "READ_BUFFER_INITIAL", "READ_BUFFER_MAX", "DOCS_BYTES_MAX", "WRITE_BUFFER_HIGH", "WRITE_BUFFER_KEEP",
    "TURN_PAUSE", "BIND_PAUSE", "CLOCK_PERIOD", "ACCEPT_BACKOFF", "ACCEPT_LOG_PERIOD",
    "DRAIN_BACKLOG_QUIET", "MESH_STATES_MAX", "UNPROVEN_MAX", "FEED_NOTICES_MAX", "FEED_GAP",
    "FEED_NUDGE_GAP_MAX", "FEED_NUDGE_ROWS",
    "FEED_TURN_MAX", "FEED_CHUNK", "FEED_PAUSE", "IDLE_QUESTION_PERIOD",
    "ADDRESS_HEAD_START", "ADDRESS_RETRY_PAUSE", "PREPARE_TIME_MAX", "PREPARE_LOCK_TIME_MAX",
    "ASIDE_LOCK_TIME_MAX", "ASIDE_PERIOD", "ASIDE_TRIES_MAX", "CONNECT_BACKOFF_MIN", "ADMIN_QUESTIONS_MAX",
    "LOG_FLUSH_TIME_MAX", "EMBEDDED_LOG_TAIL_BYTES", "EMBEDDED_COMMAND_LINE_BYTES",
    "EMBEDDED_PROBE_TIME_MAX", "EMBEDDED_STRAY_GRACE", "EMBEDDED_STRAY_TIME_MAX",
    "EMBEDDED_BUSY_PAUSE", "EMBEDDED_STOP_QUIT_MAX", "EMBEDDED_STOP_KILL_MAX",
    "EMBEDDED_POLL_PERIOD", "EMBEDDED_SLACK", "RING_ENTRIES", "RING_ENTRIES_MIN", "RING_COMPLETIONS_MAX",
];

/// Those of the page, with their values from the code.
#[rustfmt::skip]
fn met() -> Vec<(&'static str, u128)> {
    limits![
        REQUEST_LINE_MAX, HEADER_SECTION_MAX, HEADER_FIELDS_MAX, BODY_MAX, CHUNK_LINE_MAX, CHUNK_OVERHEAD_MAX,
        JSON_DEPTH_MAX, APELIDO_CHARS_MAX, NOME_CHARS_MAX, STACK_ITEM_CHARS_MAX, SEARCH_RESULTS_MAX,
        REQUEST_TIME_MAX, LINGER_BYTES_MAX, LINGER_TIME_MAX, CONNECTIONS_MAX, REFUSALS_MAX, FILE_RESERVE,
        FILE_RESERVE_PER_CORE, FILE_RESERVE_PER_LANE, LISTEN_BACKLOG, HANDOVER_MAX, WRITE_TIME_MAX, IDLE_TIME_MAX, TURN_READS_MAX,
        TURN_ANSWERS_MAX, TURN_BYTES_MAX, UNIX_PATH_MAX, BIND_TIME_MAX, BALANCER_TIME_MAX, CACHE_BYTES_DEFAULT,
        CACHE_BYTES_MIN, CACHE_BYTES_MAX, CONNECTION_BYTES, LEDGER_BYTES_DEFAULT, LEDGER_BYTES_MIN, LEDGER_SMALL_BYTES,
        PROCESS_BYTES, CORE_BYTES, LANE_BYTES, PARTITIONS_MAX, NODES_MAX, NODE_WAIT_MAX, GIVE_BACK_BYTES, CORES_MAX, CORES_PER_CPU_MAX, MESH_QUESTIONS_MAX, SESSIONS_PER_CORE, SESSIONS_BESIDES,
        MESH_STATE_TIME_MAX, COMMIT_TIME_MAX, READ_TIME_MAX, SEARCH_TIME_MAX, COMMIT_QUEUE_MAX, COMMIT_QUEUE_MIN, COMMIT_WAIT_MAX, READ_QUEUE_MAX,
        COUNT_QUEUE_MAX, COUNT_REST, COUNT_REST_MAX, COUNT_PART_ROWS, COUNT_BURST_MAX, LIVE_SEND_BYTES, SEARCH_QUEUE_MAX, RETRY_AFTER_SECONDS, COMMIT_BATCH_MAX, COMMIT_BATCH_BYTES_MAX, COMMIT_GAP,
        COMMIT_BATCH_ENOUGH, COMMIT_LOCK_TIME_MAX, READ_BATCH_MAX, MINTS_MAX, STATEMENT_TIME_MAX,
        SILENCE_TIME_MAX, DEAD_HOST_TIME_MAX, ADDRESS_TIME_MAX, LOOKOUT_PERIOD, CONNECT_BACKOFF_MAX,
        START_TIME_MAX, START_REFUSED_TIME_MAX, SCHEMA_LOCK_TIME_MAX, FEED_PERIOD, FEED_PERIOD_QUIET,
        FEED_TIME_MAX, FEED_AGE_MAX, FEED_BULK_MIN, UNFIT_ROWS_NAMED_MAX, FEED_QUEUE_MAX, FEED_QUEUE_BYTES_MAX, POSTGRES_MAJOR_MIN,
        EMBEDDED_INITDB_TIME_MAX, EMBEDDED_READY_TIME_MAX, EMBEDDED_ADOPT_TIME_MAX, EMBEDDED_LOCK_TIME_MAX, EMBEDDED_BUSY_TIME_MAX,
        EMBEDDED_LOG_BYTES_MAX,
        SIGNAL_REPEAT_TIME, DRAIN_IDLE_TIME_MAX, DRAIN_TIME_MAX, STOP_TIME_MAX, HANG_UP_TIME_MAX,
        EMBEDDED_STOP_FAST_MAX, ADMIN_CONNECTIONS_MAX, ADMIN_TIME_MAX, ADMIN_CORE_TIME_MAX, LIVE_PERIOD,
        LIVE_WATCHERS_MAX, LIVE_WRITE_TIME_MAX, LIVE_PEERS_MAX, LIVE_PEER_TIME_MAX, LIVE_SNAPSHOT_BYTES_MAX, START_EXTENSION,
        NOTIFY_STATUS_BYTES_MAX, LOG_LINES_MAX,
        LOG_LINE_BYTES_MAX,
    ]
    .to_vec()
}

/// `64 KiB`, `5.5 s`, `16,384`: as a number.
fn read(value: &str) -> Option<u128> {
    let (digits, unit) = value.split_once(' ').unwrap_or((value, ""));
    let factor: u128 = match unit {
        "" | "bytes" => 1,
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        "GiB" => 1 << 30,
        "ms" => 1_000_000,
        "s" => 1_000_000_000,
        _ => return None,
    };
    let digits = digits.replace(',', "");
    let (whole, tenths) = digits.split_once('.').unwrap_or((&digits, "0"));
    let tenths: u128 = if tenths.len() == 1 { tenths.parse().ok()? } else { return None };
    Some(whole.parse::<u128>().ok()? * factor + tenths * factor / 10)
}

#[test]
fn every_limit_is_there_with_its_value() {
    let page = Page::read("docs/operating.md");
    let rows = page.rows("Limits");
    let met = met();
    for row in &rows {
        let name = code(&row[0]).concat();
        let value = met.iter().find(|(known, _)| *known == name);
        let (_, value) = value.unwrap_or_else(|| panic!("{name}: expected it in the list of this test"));
        let said = words(&row[1]);
        assert_eq!(read(&said), Some(*value), "docs/operating.md, Limits: {name} is not {said}");
    }
    assert_eq!(rows.len(), met.len(), "docs/operating.md, Limits: a row for each limit of this test");
    let source = std::fs::read_to_string("src/limits.rs").unwrap();
    let names = source.lines().filter_map(|line| line.strip_prefix("pub const ")?.split(':').next());
    let names: Vec<&str> = names.collect();
    for name in &names {
        let listed = met.iter().any(|(known, _)| known == name);
        assert!(
            listed != NOT_MET.contains(name),
            "{name}: expected a row in docs/operating.md, Limits, or a place in NOT_MET"
        );
    }
    assert_eq!(names.len(), met.len() + NOT_MET.len(), "a limit is gone");
}

#[test]
fn values_are_read() {
    for (value, expected) in [
        ("64 KiB", Some(65_536)),
        ("5.5 s", Some(5_500_000_000)),
        ("200 ms", Some(200_000_000)),
        ("327,936 bytes", Some(327_936)),
        ("13", Some(13)),
        ("7 parsecs", None),
        ("many", None),
    ] {
        assert_eq!(read(value), expected, "{value}");
    }
}
