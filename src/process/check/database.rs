//! The database: somebody's by its URL, or a private one. It asks what a start asks, and makes nothing.

use super::finding::{Finding, Findings};
use crate::config::Serve;
use crate::embedded::{self, Directory, Programs};
use crate::limits::{SESSIONS_BESIDES, SESSIONS_PER_CORE};
use crate::postgres::{self, Partition, Partitions, Prospect, Protection, Schema, Source};
use crate::process::database::settings;

/// The lines of the database that a start would use.
pub(super) fn ask(serve: &Serve, cores: usize, findings: &mut Findings) {
    match serve.sources() {
        Ok(Some(nodes)) => {
            nodes.iter().for_each(|node| remote(node, cores, findings));
            if serve.partitions != Partitions::ONE {
                layout(&nodes, findings);
            }
        }
        Ok(None) => private(serve, cores, findings),
        Err(why) => findings.add(Finding::error("database", why, "a URL, or key=value pairs")),
    }
}

/// Which partitions are where.
fn layout(nodes: &[Source], findings: &mut Findings) {
    const EXPECTED: &str = "every partition at one of the databases, or none yet";
    let numbers = |partitions: &[Partition]| {
        let numbers: Vec<String> =
            partitions.iter().map(|partition| partition.number().to_string()).collect();
        numbers.join(", ")
    };
    let (nodes, dealt) = match postgres::look_at_layout(nodes) {
        Ok(found) => found,
        Err(why) => return findings.add(Finding::error("partitions", why, EXPECTED)),
    };
    let found = nodes.iter().zip(&dealt).map(|(node, dealt)| {
        let (there, new) = (numbers(&dealt.there), numbers(&dealt.new));
        let at = match (there.is_empty(), new.is_empty()) {
            (true, true) => "none".to_owned(),
            (false, true) => there,
            (true, false) => format!("{new} would be made"),
            (false, false) => format!("{there}; {new} would be made"),
        };
        format!("{}: {at}", node.seen().address)
    });
    let found = format!("of {}: {}", nodes[0].partitions(), found.collect::<Vec<_>>().join("; "));
    findings.add(Finding::ok("partitions", found, EXPECTED));
}

fn remote(source: &Source, cores: usize, findings: &mut Findings) {
    const EXPECTED: &str = "a primary that answers, with a user and a database that it knows";
    let prospect = match postgres::look(source) {
        Ok(prospect) => prospect,
        Err(why) => return findings.add(Finding::error("database", why, EXPECTED)),
    };
    let found = format!(
        "{}: PostgreSQL {}, primary of cluster {}",
        prospect.address, prospect.version, prospect.identity
    );
    findings.add(Finding::ok("database", found, EXPECTED));
    protection(&prospect, findings);
    sessions(&prospect, cores, findings);
    encoding(&prospect, findings);
    schema(&prospect, findings);
    durability(&prospect, source.partitions() != Partitions::ONE, findings);
    standbys(&prospect, findings);
}

fn protection(prospect: &Prospect, findings: &mut Findings) {
    const EXPECTED: &str = "a socket of this machine, or sslmode=verify-full";
    findings.add(match prospect.protection {
        Protection::Socket => {
            Finding::ok("encryption", "none needed: a socket of this machine".to_owned(), EXPECTED)
        }
        Protection::Plain { local: true } => {
            Finding::ok("encryption", "none needed: it does not leave this machine".to_owned(), EXPECTED)
        }
        Protection::Plain { local: false } => Finding::warn(
            "encryption",
            "none: whoever is between reads and writes along".to_owned(),
            EXPECTED,
        ),
        Protection::Encrypted(trust) => Finding::ok("encryption", format!("TLS; {trust}"), EXPECTED),
    });
}

fn sessions(prospect: &Prospect, cores: usize, findings: &mut Findings) {
    const POOLER: &str = "no connection pooler, or one in session mode";
    findings.add(match &prospect.sessions {
        Ok(()) => {
            Finding::ok("sessions", "each connection has a server session of its own".to_owned(), POOLER)
        }
        Err(why) => Finding::error("sessions", why.clone(), POOLER),
    });
    const ROOM: &str = "connections that are free for every core and the feed";
    let (needed, free) = (cores * SESSIONS_PER_CORE + SESSIONS_BESIDES, prospect.connections_free);
    let found = format!("{free} of {} are free, up to {needed} are used", prospect.connections_max);
    findings.add(match free < needed {
        true => Finding::warn("connections", found + " (raise max_connections)", ROOM),
        false => Finding::ok("connections", found, ROOM),
    });
}

fn encoding(prospect: &Prospect, findings: &mut Findings) {
    findings.add(match &prospect.encoding {
        Ok(()) => Finding::ok("encoding", "UTF8".to_owned(), "UTF8"),
        Err(why) => Finding::error("encoding", why.clone(), "UTF8"),
    });
}

fn schema(prospect: &Prospect, findings: &mut Findings) {
    const EXPECTED: &str = "the table as schema.sql makes it, or the rights to make it";
    let made = prospect.schema.as_ref().map(|schema| match schema {
        Ok(Schema::There) => Finding::ok("schema", "it is there".to_owned(), EXPECTED),
        Ok(Schema::Missing) => {
            Finding::ok("schema", "it is not there, and would be made".to_owned(), EXPECTED)
        }
        Ok(Schema::Older(missing)) => {
            let found = format!("it is there, of an earlier version: {} would be added", missing.join(", "));
            Finding::ok("schema", found, EXPECTED)
        }
        Err(why) => Finding::error("schema", why.clone(), EXPECTED),
    });
    made.into_iter().for_each(|finding| findings.add(finding));
    const WRITES: &str = "transactions that write";
    findings.add(match prospect.read_only {
        true => Finding::error(
            "writes",
            "default_transaction_read_only is on: nothing can be inserted".to_owned(),
            WRITES,
        ),
        false => Finding::ok("writes", "allowed".to_owned(), WRITES),
    });
}

/// A start with several partitions refuses a server that is not durable.
fn durability(prospect: &Prospect, required: bool, findings: &mut Findings) {
    const EXPECTED: &str = "fsync and full_page_writes on: a 201 survives a crash of the machine";
    let on = |is_on: bool| if is_on { "on" } else { "off" };
    let (fsync, full_page_writes) = prospect.durable;
    let found = format!(
        "fsync {}, full_page_writes {}, synchronous_commit {} by default and at least on for this server",
        on(fsync),
        on(full_page_writes),
        prospect.synchronous_commit
    );
    findings.add(match fsync && full_page_writes {
        true => Finding::ok("durability", found, EXPECTED),
        false if required => Finding::error("durability", found, EXPECTED),
        false => Finding::warn("durability", found, EXPECTED),
    });
}

fn standbys(prospect: &Prospect, findings: &mut Findings) {
    const EXPECTED: &str = "as many synchronous standbys as commits wait for";
    let names = &prospect.standby_names;
    findings.add(match prospect.standbys {
        _ if names.is_empty() => Finding::ok("standbys", "commits wait for none".to_owned(), EXPECTED),
        Some(0) => {
            let found = format!(
                "commits wait for \"{names}\", and no such standby is connected: no 201 until one is"
            );
            Finding::warn("standbys", found, EXPECTED)
        }
        Some(count) => {
            Finding::ok("standbys", format!("commits wait for \"{names}\"; {count} connected"), EXPECTED)
        }
        None => {
            let found = format!("commits wait for \"{names}\"; this user may not see which are connected");
            Finding::ok("standbys", found, EXPECTED)
        }
    });
}

fn private(serve: &Serve, cores: usize, findings: &mut Findings) {
    let prospect = embedded::look(&settings(serve, cores));
    let new_cluster = prospect.programs.as_ref().is_ok_and(|programs| programs.cluster.is_none());
    const DIRECTORY: &str = "a directory that this user may write and no other server uses";
    match &prospect.directory {
        Ok(directory) => disk(directory, new_cluster, findings),
        Err(why) => findings.add(Finding::error("data", why.to_string(), DIRECTORY)),
    }
    const PROGRAMS: &str =
        "PostgreSQL 13 or newer, of the cluster's version, and a user other than root to run it";
    match &prospect.programs {
        Ok(programs) => postgres(programs, findings),
        Err(why) => findings.add(Finding::error("postgres", why.to_string(), PROGRAMS)),
    }
    let found = "fsync, full_page_writes and synchronous_commit are on, whatever its files say";
    findings.add(Finding::ok("durability", found.to_owned(), "a 201 that survives a crash of the machine"));
}

fn disk(directory: &Directory, new_cluster: bool, findings: &mut Findings) {
    const EXPECTED: &str = "a disk of this machine with room for the cluster and its write-ahead log";
    let found = format!(
        "{}{} ({}{})",
        directory.path.display(),
        if directory.exists { "" } else { " would be made" },
        directory.filesystem.unwrap_or("another filesystem"),
        directory.free_mib.map(|free| format!(", {free} MiB free")).unwrap_or_default(),
    );
    findings.add(match directory.room(new_cluster) {
        Err((true, why)) => Finding::error("data", format!("{found}: {why}"), EXPECTED),
        Err((false, why)) => Finding::warn("data", format!("{found}: {why}"), EXPECTED),
        Ok(()) if directory.is_in_memory() => Finding::warn(
            "data",
            format!("{found}: kept in memory, gone after a restart of the machine"),
            EXPECTED,
        ),
        Ok(()) => Finding::ok("data", found, EXPECTED),
    });
}

fn postgres(programs: &Programs, findings: &mut Findings) {
    const EXPECTED: &str = "PostgreSQL 13 or newer, of the cluster's version";
    let found = format!("{} {}, run as {}", programs.postgres.display(), programs.version, programs.user);
    findings.add(Finding::ok("postgres", found, EXPECTED));
    let found = match (&programs.cluster, programs.orphan) {
        (None, _) => "there is none: it would be made".to_owned(),
        (Some(pgdata), None) => pgdata.display().to_string(),
        (Some(pgdata), Some(pid)) => format!(
            "{}; the Postgres of a server that was killed runs on it (process {pid}), and would be taken over",
            pgdata.display()
        ),
    };
    findings.add(Finding::ok("cluster", found, "a cluster of this program, or none"));
}
