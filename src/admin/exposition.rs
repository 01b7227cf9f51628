//! What the cores and threads counted, as metrics: their names, labels and help. It measures nothing.
//!
//! Names follow OpenTelemetry's conventions where those speak (HTTP, database clients), in the form that Prometheus gives
//! them; those of the process are every exporter's; all others begin with `rinha_`. Histograms have no core: they are sums.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use std::time::SystemTime;

use super::board::{Asked, Board, Stage, Watched};
use super::families::Families;
use super::{COMMIT, process, sums};
use crate::limits::{
    COMMIT_QUEUE_MAX, COUNT_QUEUE_MAX, FEED_QUEUE_BYTES_MAX, MESH_QUESTIONS_MAX, READ_QUEUE_MAX,
    SEARCH_QUEUE_MAX,
};
use crate::people::CoreState;
use crate::postgres::Operation;

/// One core, by the text of its number.
type Core<'a> = (String, &'a CoreState);

/// The metrics of the moment, as text. `asked` is what each core said.
pub(super) fn text(board: &Board, asked: &[Asked], started: SystemTime) -> String {
    let mut families = Families::default();
    about_the_process(&mut families, board, asked, started);
    about_requests(&mut families, asked);
    let cores = asked.iter().enumerate();
    let cores: Vec<Core<'_>> =
        cores.filter_map(|(core, asked)| Some((core.to_string(), &asked.now.as_ref()?.state))).collect();
    about_connections(&mut families, &cores);
    about_refusals(&mut families, asked);
    about_memory(&mut families, &cores);
    about_people(&mut families, &cores);
    about_queues(&mut families, &cores);
    board.read(|watched| {
        about_statements(&mut families, watched);
        about_the_feed(&mut families, watched, &cores);
        about_the_database(&mut families, watched, &cores);
    });
    families.text()
}

fn about_the_process(families: &mut Families, board: &Board, asked: &[Asked], started: SystemTime) {
    let stage = board.stage();
    let _ = families
        .gauge("rinha_info", "The version of this server, and the commit that it was built from.")
        .size(&[("version", env!("CARGO_PKG_VERSION")), ("commit", COMMIT.unwrap_or("unknown"))], 1);
    let mut states = families.gauge("rinha_stage", "How far the process is: 1 for the stage of the moment.");
    for each in [Stage::Loading, Stage::Serving, Stage::Draining] {
        states = states.size(&[("stage", each.name())], usize::from(each == stage));
    }
    let mut drivers = families.gauge("rinha_driver_info", "What drives the sockets of each core, and why.");
    for (core, driver) in board.drivers().iter().enumerate() {
        let labels =
            [("core", &*core.to_string()), ("driver", driver.kind.name()), ("reason", &driver.reason)];
        drivers = drivers.size(&labels, 1);
    }
    let _ = families
        .gauge(
            "rinha_cores_silent",
            "Cores that did not say in time what they counted; theirs is missing here.",
        )
        .size(&[], board.silent_of(asked).len());
    let _ = families
        .counter("rinha_log_lines_lost_total", "Log lines that stderr did not take.")
        .count(&[], board.lost_lines());
    process::add(families, started);
}

fn about_requests(families: &mut Families, asked: &[Asked]) {
    let sums = sums::requests(asked);
    let mut family = families.histogram(
        "http_server_request_duration_seconds",
        "From the last byte of a request that was read until its answer is ready to be written.",
    );
    for (series, tally) in &sums {
        let labels = [
            ("http_request_method", series.method),
            ("http_route", series.route),
            ("http_response_status_code", &*series.status.to_string()),
        ];
        family = family.tally(&labels, tally);
    }
}

fn about_connections(families: &mut Families, cores: &[Core<'_>]) {
    let mut open = families.gauge("rinha_connections", "Open connections of clients.");
    for (core, state) in cores {
        open = open.size(&[("core", core)], state.connections.open);
    }
    let mut limit = families.gauge("rinha_connections_limit", "How many connections may be open.");
    for (core, state) in cores {
        limit = limit.size(&[("core", core)], state.connections.limit);
    }
    let mut accepted =
        families.counter("rinha_connections_accepted_total", "Connections that were accepted.");
    for (core, state) in cores {
        accepted = accepted.count(&[("core", core)], state.connections.accepted);
    }
    let mut panics = families
        .counter("rinha_panics_total", "Connections that a panic ended; each is a fault of the server.");
    for (core, state) in cores {
        panics = panics.count(&[("core", core)], state.connections.panics);
    }
}

fn about_refusals(families: &mut Families, asked: &[Asked]) {
    let refusals = sums::refusals(asked);
    if refusals.is_empty() {
        return;
    }
    let mut family = families.counter(
        "rinha_refusals_total",
        "Requests and connections that were told 503, by what there was no room, no database or no time for.",
    );
    for (reason, count) in refusals {
        family = family.count(&[("reason", reason)], count);
    }
}

fn about_memory(families: &mut Families, cores: &[Core<'_>]) {
    let mut held = families.gauge("rinha_ledger_bytes", "Bytes that are held for clients, by what for.");
    for (core, CoreState { ledger, .. }) in cores {
        for (account, bytes) in [
            ("connections", ledger.connections),
            ("received", ledger.received),
            ("waiting", ledger.waiting),
            ("gathered", ledger.gathered),
        ] {
            held = held.size(&[("core", core), ("account", account)], bytes);
        }
    }
    let mut limit = families.gauge("rinha_ledger_limit_bytes", "Bytes that may be held for clients.");
    for (core, state) in cores {
        limit = limit.size(&[("core", core)], state.ledger.limit);
    }
    let mut cache = families.gauge("rinha_cache_bytes", "Bytes of the people in memory, by part.");
    for (core, state) in cores {
        let memory = &state.share.memory;
        for (part, bytes) in [
            ("bodies", memory.bodies),
            ("texts", memory.texts),
            ("index", memory.index),
            ("apelidos", memory.apelidos),
            ("ids", memory.ids),
        ] {
            cache = cache.size(&[("core", core), ("part", part)], bytes);
        }
    }
}

fn about_people(families: &mut Families, cores: &[Core<'_>]) {
    let mut rows = families.gauge("rinha_pessoas", "Rows that memory knows.");
    for (core, state) in cores {
        rows = rows.size(&[("core", core)], state.share.memory.pessoas);
    }
    let mut dropped =
        families.gauge("rinha_bodies_dropped", "Rows whose body memory gave up for want of room.");
    for (core, state) in cores {
        dropped = dropped.size(&[("core", core)], state.share.memory.bodies_dropped);
    }
    let mut complete =
        families.gauge("rinha_search_complete", "1: memory answers searches; 0: the database is asked.");
    for (core, state) in cores {
        complete = complete.size(&[("core", core)], usize::from(state.share.answers_searches()));
    }
    let mut reloading =
        families.gauge("rinha_reloading", "1: the table is read again, as the database has another history.");
    for (core, state) in cores {
        reloading = reloading.size(&[("core", core)], usize::from(state.share.reloading));
    }
    let mut hops =
        families.counter("rinha_mesh_questions_total", "Questions of a core to another one, by what for.");
    for (core, state) in cores {
        for (what, count) in state.mesh.asked {
            hops = hops.count(&[("core", core), ("question", what)], count);
        }
    }
}

fn about_queues(families: &mut Families, cores: &[Core<'_>]) {
    let mut pending = families.gauge(
        "db_client_connection_pending_requests",
        "Requests that wait for a connection to the database, those under way included.",
    );
    for (core, state) in cores {
        let lines = &state.share.lines;
        for (pool, waiting) in
            [("commit", lines.commit), ("read", lines.read), ("count", lines.count), ("search", lines.search)]
        {
            pending = pending.size(&[("db_client_connection_pool_name", pool), ("core", core)], waiting.now);
        }
    }
    let mut limit = families.gauge(
        "rinha_db_pending_requests_limit",
        "How many of one core may wait for a connection to the database.",
    );
    for (pool, most) in [
        ("commit", COMMIT_QUEUE_MAX),
        ("read", READ_QUEUE_MAX),
        ("count", COUNT_QUEUE_MAX),
        ("search", SEARCH_QUEUE_MAX),
    ] {
        limit = limit.size(&[("db_client_connection_pool_name", pool)], most);
    }
    let mut open = families.gauge(
        "rinha_mesh_pending_questions",
        "Questions that another core has not answered; of several cores, the one with the most.",
    );
    for (core, state) in cores {
        open = open.size(&[("core", core)], state.mesh.open_max);
    }
    let _ = families
        .gauge("rinha_mesh_pending_questions_limit", "How many questions another core may owe.")
        .size(&[], MESH_QUESTIONS_MAX);
}

fn about_statements(families: &mut Families, watched: &Watched) {
    let mut family = families.histogram(
        "db_client_operation_duration_seconds",
        "From sending a statement to its answer; insert is that of a batch, and waits for the disk.",
    );
    for operation in Operation::ALL {
        let labels = [("db_system_name", "postgresql"), ("db_operation_name", operation.name())];
        family = family.tally(&labels, &sums::operation(watched, operation));
    }
    let _ = families
        .histogram("rinha_commit_batch_rows", "Rows of each batch that was sent to be committed.")
        .tally(&[], &sums::batches(watched));
}

fn about_the_feed(families: &mut Families, watched: &Watched, cores: &[Core<'_>]) {
    let mut age = families.gauge(
        "rinha_feed_age_seconds",
        "How old memory is: it may lack what others committed within this time. Above 1 searches go to the database.",
    );
    for (core, state) in cores {
        if let Some(time) = state.share.age {
            age = age.value(&[("core", core)], time.as_secs_f64());
        }
    }
    let mut lag = families.gauge(
        "rinha_feed_lag_seconds",
        "From the feed's last question to the moment when the core had all that it brought.",
    );
    for (core, state) in cores {
        if let Some(time) = state.share.lag {
            lag = lag.value(&[("core", core)], time.as_secs_f64());
        }
    }
    let mut queued =
        families.gauge("rinha_feed_queue_bytes", "Bytes of the rows on their way from the feed to a core.");
    for (core, bytes) in watched.queued_bytes.iter().enumerate() {
        queued = queued.size(&[("core", &core.to_string())], bytes.load(Ordering::Relaxed));
    }
    let _ = families
        .gauge(
            "rinha_feed_queue_limit_bytes",
            "The feed waits while so many bytes are on their way to a core.",
        )
        .size(&[], FEED_QUEUE_BYTES_MAX);
    let counted =
        |of: fn(&crate::postgres::Counters) -> u64| watched.counters.iter().map(|each| of(each)).sum();
    let _ = families
        .counter("rinha_feed_rows_total", "Rows that the feed handed to the cores, those of a load included.")
        .count(&[], counted(|counters| counters.rows_fed()));
    let _ = families
        .counter("rinha_feed_loads_total", "How often the whole table was read: at the start, and after each change of the database's history.")
        .count(&[], counted(|counters| counters.loads()));
}

fn about_the_database(families: &mut Families, watched: &Watched, cores: &[Core<'_>]) {
    let _ = families
        .gauge("rinha_cache_budget_bytes", "The budget of each core's memory.")
        .size(&[], watched.cache_bytes);
    let numbers: Vec<String> = (0..watched.nodes.len()).map(|node| node.to_string()).collect();
    let nodes = || numbers.iter().zip(watched.nodes.iter().zip(&watched.servers));
    let mut info = families.gauge(
        "rinha_database_info",
        "The cluster that is followed, its version at the start, and where its primary was last reached.",
    );
    for (node, (source, server)) in nodes() {
        let seen = source.seen();
        if let Some(history) = seen.history {
            let system = history.system.cast_unsigned().to_string();
            let labels = [
                ("node", &**node),
                ("system_identifier", &*system),
                ("version", &*server.version),
                ("address", &*seen.address),
            ];
            info = info.size(&labels, 1);
        }
    }
    let mut timelines = families
        .gauge("rinha_database_timeline", "The timeline that is followed: one more after each failover.");
    for (node, (source, _)) in nodes() {
        if let Some(history) = source.seen().history {
            timelines = timelines.count(&[("node", node)], history.timeline.into());
        }
    }
    let mut durable =
        families.gauge("rinha_database_durable", "1: fsync and full_page_writes were on at the start.");
    for (node, (_, server)) in nodes() {
        durable = durable.size(&[("node", node)], usize::from(server.durable));
    }
    let mut connected = families.gauge(
        "rinha_database_connected",
        "1: the connections of this core to this node and the feed's stand.",
    );
    for (core, state) in cores {
        for (node, seen) in numbers.iter().zip(&state.share.nodes) {
            connected = connected.size(&[("core", core), ("node", node)], usize::from(seen.reachable));
        }
    }
    let mut partitions = families.gauge(
        "rinha_partitions",
        "Partitions at a node, of those that have homes on this core: open ones take pessoas, closed ones move.",
    );
    for (core, state) in cores {
        for (node, seen) in numbers.iter().zip(&state.share.nodes) {
            let closed = seen.closed.len();
            for (state, count) in [("open", seen.partitions.len() - closed), ("closed", closed)] {
                let labels = [("core", &**core), ("node", node), ("state", state)];
                partitions = partitions.size(&labels, count);
            }
        }
    }
    let mut losses: BTreeMap<&str, u64> = BTreeMap::new();
    for (connection, lost) in watched.counters.iter().flat_map(|counters| counters.losses()) {
        *losses.entry(connection).or_default() += lost;
    }
    let mut lost = families.counter(
        "rinha_database_connection_losses_total",
        "Connections to the database that were lost, by what they were for.",
    );
    for (connection, count) in losses {
        lost = lost.count(&[("connection", connection)], count);
    }
    let warnings = watched.counters.iter().map(|counters| counters.warnings()).sum();
    let _ = families
        .counter(
            "rinha_commit_warnings_total",
            "Warnings of the database during a commit, such as that the wait for a standby was cut short.",
        )
        .count(&[], warnings);
}
