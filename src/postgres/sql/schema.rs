//! `schema.sql`, whether the table that is there is the one that the statements expect, and what a server says of itself.

use tokio_postgres::{Client, SimpleQueryMessage, SimpleQueryRow};

use crate::limits::SCHEMA_LOCK_TIME_MAX;
use crate::postgres::failure::Failure;
use crate::postgres::layout::Partition;
use crate::postgres::placement::{self, AT_HOME};
use crate::postgres::session::TOKEN;

const SCHEMA: &str = include_str!("../../../schema.sql");

/// Serialises concurrent starts on one database: "rinha" in ASCII.
const SCHEMA_LOCK: i64 = 0x72_69_6e_68_61;

/// The columns that the statements name, and the types that they may have.
const COLUMNS: [(&str, &[&str]); 7] = [
    ("id", &["uuid"]),
    ("apelido", &["character varying", "text"]),
    ("nome", &["character varying", "text"]),
    ("nascimento", &["date"]),
    ("stack", &["text[]", "character varying[]"]),
    ("search", &["bytea"]),
    ("tx", &["xid8"]),
];

/// Of each column: its name, its type without a length, and whether an insert that does not name it fails.
const TABLE: &str = "\
    SELECT attname, format_type(atttypid, NULL), attnotnull AND NOT atthasdef AND attidentity = '' \
    FROM pg_attribute WHERE attrelid = 'pessoas'::regclass AND attnum > 0 AND NOT attisdropped";

/// The columns by which alone a valid index knows each row, comparing bytes.
const UNIQUE: &str = "\
    SELECT attname FROM pg_index \
    JOIN pg_attribute ON attrelid = indrelid AND attnum = indkey[0] \
    LEFT JOIN pg_collation ON pg_collation.oid = indcollation[0] \
    WHERE indrelid = 'pessoas'::regclass AND indisunique AND indisvalid AND indimmediate \
      AND indnkeyatts = 1 AND indpred IS NULL AND indexprs IS NULL AND coalesce(collisdeterministic, true)";

/// What a statement needs that this user may not do.
const RIGHTS: &str = "\
    SELECT kind FROM unnest(ARRAY['SELECT', 'INSERT']) AS kind \
    WHERE NOT has_table_privilege('pessoas', kind)";

/// Which parts of `schema.sql` are there, in the order of [`PARTS`].
const THERE: &str = "\
    SELECT to_regclass('pessoas') IS NOT NULL, to_regclass('pessoas_tx') IS NOT NULL, \
           to_regclass('pessoas_unlowered') IS NOT NULL, \
           EXISTS (SELECT FROM pg_trigger \
                   WHERE tgrelid = to_regclass('pessoas') AND tgname = 'pessoas_tx_is_now')";

/// The parts of `schema.sql`: the table and what belongs to it.
const PARTS: [&str; 4] = ["pessoas", "pessoas_tx", "pessoas_unlowered", "pessoas_tx_is_now"];

/// Whether this user may change the table that is there.
const OWNS: &str = "SELECT pg_has_role(relowner, 'USAGE') FROM pg_class WHERE oid = to_regclass('pessoas')";

/// What `prepare_database` asks.
pub(in crate::postgres) struct Facts {
    pub(in crate::postgres) version: String,
    pub(in crate::postgres) encoding: String,
    pub(in crate::postgres) fsync: bool,
    pub(in crate::postgres) full_page_writes: bool,
}

/// What a start would do to the schema.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Schema {
    /// It is there: nothing.
    There,
    /// An earlier version made it: these parts would be added.
    Older(Vec<&'static str>),
    /// It would be made.
    Missing,
}

/// Why a database cannot be worked with.
pub(in crate::postgres) enum Unfit {
    /// It did not do what it was asked.
    Failed(Failure),
    /// It is not what is expected; one line that says what is missing.
    Lacks(String),
}

impl From<tokio_postgres::Error> for Unfit {
    fn from(error: tokio_postgres::Error) -> Unfit {
        Unfit::Failed(error.into())
    }
}

/// Looks at the table that is there, applies `schema.sql`, one start at a time, and asks what the server is.
pub(in crate::postgres) async fn apply(client: &Client) -> Result<Facts, Unfit> {
    check(client).await?;
    is_not_distributed(client).await?;
    make(client, "COMMIT").await?;
    facts(client).await
}

/// What [`apply`] would do. A schema that is not there is made in a transaction that is undone, as nobody can be in its way;
/// of one that is there nothing is touched.
pub(in crate::postgres) async fn try_out(client: &Client) -> Result<Schema, Unfit> {
    check(client).await?;
    is_not_distributed(client).await?;
    let missing = missing(client).await?;
    if missing.is_empty() {
        return Ok(Schema::There);
    }
    if missing.len() == PARTS.len() {
        make(client, "ROLLBACK").await?;
        return Ok(Schema::Missing);
    }
    Ok(Schema::Older(missing))
}

/// The parts that the table lacks, which this user may add.
async fn missing(client: &Client) -> Result<Vec<&'static str>, Unfit> {
    let there = rows(client, THERE).await?;
    let is_there = |part: usize| there.first().and_then(|row| row.get(part)) == Some("t");
    let missing = PARTS.into_iter().enumerate().filter(|(part, _)| !is_there(*part));
    let missing: Vec<&str> = missing.map(|(_, name)| name).collect();
    let is_older = !missing.is_empty() && missing.len() < PARTS.len();
    if is_older && rows(client, OWNS).await?.first().and_then(|row| row.get(0)) != Some("t") {
        return Err(Unfit::Lacks(format!(
            "its table pessoas belongs to another user, and lacks {}; {RIGHTS_EXPECTED}",
            missing.join(", ")
        )));
    }
    Ok(missing)
}

const RIGHTS_EXPECTED: &str = "expected the rights to make what schema.sql makes";

/// Runs `schema.sql` in a transaction that ends as told.
async fn make(client: &Client, end: &str) -> Result<(), Unfit> {
    // One transaction: the lock ends with it, whatever happens, and whatever is between here and the server.
    let schema = format!(
        "BEGIN; SET LOCAL lock_timeout = {}; SET LOCAL client_min_messages = warning; \
         SELECT pg_advisory_xact_lock({SCHEMA_LOCK}); {SCHEMA}; {end}",
        SCHEMA_LOCK_TIME_MAX.as_millis()
    );
    if let Err(error) = client.batch_execute(&schema).await {
        let failure = Failure::from(error);
        // The session may be used again: the transaction that failed is still open.
        client.batch_execute("ROLLBACK").await?;
        return Err(refused(failure));
    }
    Ok(())
}

/// What is in a database, before a start with several partitions.
pub(in crate::postgres) struct There {
    /// The table of an only partition.
    pub(in crate::postgres) table: bool,
    /// The schemas of partitions, those that are closed with a mark.
    pub(in crate::postgres) partitions: Vec<String>,
    /// The schemas that partitions have left, or arrive in.
    pub(in crate::postgres) traces: Vec<String>,
    /// It belongs to a Citus cluster.
    pub(in crate::postgres) citus: bool,
}

/// Begins a transaction that keeps out other starts, until it [ends](commit) or its connection does.
pub(in crate::postgres) async fn lock(client: &Client) -> Result<(), Unfit> {
    let begin = format!(
        "BEGIN; SET LOCAL lock_timeout = {}; SET LOCAL client_min_messages = warning; \
         SELECT pg_advisory_xact_lock({SCHEMA_LOCK})",
        SCHEMA_LOCK_TIME_MAX.as_millis()
    );
    Ok(client.batch_execute(&begin).await?)
}

/// Which layout a database has.
pub(in crate::postgres) async fn there(client: &Client) -> Result<There, Unfit> {
    let table = !rows(client, "SELECT FROM pg_class WHERE oid = to_regclass('pessoas')").await?.is_empty();
    let question = format!("{} WHERE nspname ~ '^partition_[0-9]+_of_[0-9]+$' ORDER BY 1", placement::all());
    let partitions = rows(client, &question).await?;
    let partitions = partitions.iter().filter_map(|row| row.get(0).map(str::to_owned)).collect();
    let traces =
        "SELECT nspname FROM pg_namespace WHERE nspname ~ '^(left|arriving)_[0-9]+_of_[0-9]+' ORDER BY 1";
    let traces = rows(client, traces).await?;
    let traces = traces.iter().filter_map(|row| row.get(0).map(str::to_owned)).collect();
    let citus = citus_nodes(client).await?.is_some();
    Ok(There { table, partitions, traces, citus })
}

/// Makes or completes a partition, within the transaction that [locks](lock).
pub(in crate::postgres) async fn make_partition(
    client: &Client,
    partition: Partition,
    is_new: bool,
) -> Result<(), Unfit> {
    let schema = partition.schema().expect("one of several has a schema");
    let create = if is_new { format!("CREATE SCHEMA {schema}; ") } else { String::new() };
    let made =
        async { client.batch_execute(&format!("{create}SET LOCAL search_path = {schema}; {SCHEMA}")).await };
    if let Err(error) = made.await {
        return Err(of_partition(partition, refused(error.into())));
    }
    is_fit(client, partition).await
}

/// Looks at a partition that is there as [`make_partition`] does, and touches nothing.
pub(in crate::postgres) async fn look_at_partition(
    client: &Client,
    partition: Partition,
) -> Result<(), Unfit> {
    let schema = partition.schema().expect("one of several has a schema");
    client.batch_execute(&format!("BEGIN READ ONLY; SET LOCAL search_path = {schema}")).await?;
    let looked = async {
        is_fit(client, partition).await?;
        missing(client).await
    };
    let looked = looked.await;
    client.batch_execute("ROLLBACK").await?;
    looked.map(drop).map_err(|unfit| of_partition(partition, unfit))
}

/// Says which partition it is about.
fn of_partition(partition: Partition, unfit: Unfit) -> Unfit {
    match unfit {
        Unfit::Lacks(what) => Unfit::Lacks(format!("partition {partition}: {what}")),
        Unfit::Failed(failure) => Unfit::Failed(failure),
    }
}

/// A node of a Citus cluster.
pub(in crate::postgres) struct CitusNode {
    pub(in crate::postgres) host: String,
    pub(in crate::postgres) port: u16,
    /// It is the one that was asked.
    pub(in crate::postgres) is_this: bool,
    pub(in crate::postgres) is_coordinator: bool,
    /// It is a primary, knows where the shards are, and may have some.
    pub(in crate::postgres) takes_shards: bool,
}

/// Whether this database is one of a Citus cluster.
const HAS_CITUS: &str =
    "SELECT FROM pg_extension WHERE extname = 'citus' AND to_regclass('pg_dist_node') IS NOT NULL";

const CITUS_NODES: &str = "\
    SELECT nodename, nodeport, groupid = (SELECT groupid FROM pg_dist_local_group), groupid = 0, \
           isactive AND shouldhaveshards AND hasmetadata AND metadatasynced \
    FROM pg_dist_node WHERE noderole = 'primary' ORDER BY groupid, nodeid";

/// The primaries of the Citus cluster that this database belongs to; `None` where there is none.
pub(in crate::postgres) async fn citus_nodes(client: &Client) -> Result<Option<Vec<CitusNode>>, Unfit> {
    if rows(client, HAS_CITUS).await?.is_empty() {
        return Ok(None);
    }
    let mut nodes = Vec::new();
    for row in rows(client, CITUS_NODES).await? {
        let is = |column| row.get(column) == Some("t");
        nodes.push(CitusNode {
            host: row.get(0).unwrap_or_default().to_owned(),
            port: row.get(1).and_then(|port| port.parse().ok()).unwrap_or_default(),
            is_this: is(2),
            is_coordinator: is(3),
            takes_shards: is(4),
        });
    }
    // The extension alone, as it comes with some servers, makes no cluster.
    Ok((!nodes.is_empty()).then_some(nodes))
}

/// Makes a partition that Citus shards by its schema, within the transaction that [locks](lock).
pub(in crate::postgres) async fn make_citus_partition(
    client: &Client,
    partition: Partition,
) -> Result<(), Unfit> {
    // The trigger is what puts the transaction into a row where the row is stored, wherever Citus sends it.
    let whole =
        "SET LOCAL citus.enable_schema_based_sharding = off; SET LOCAL citus.enable_unsafe_triggers = on";
    client.batch_execute(whole).await?;
    make_partition(client, partition, true).await?;
    let schema = partition.schema().expect("one of several has a schema");
    let shard = format!("SELECT citus_schema_distribute('{schema}')");
    client.batch_execute(&shard).await.map_err(|error| refused(error.into()))
}

/// Looks at a partition that is there, within the transaction that [locks](lock), and touches nothing.
pub(in crate::postgres) async fn is_sharded(client: &Client, partition: Partition) -> Result<(), Unfit> {
    let schema = partition.schema().expect("one of several has a schema");
    client.batch_execute(&format!("SET LOCAL search_path = {schema}")).await?;
    if !is_distributed(client).await? {
        return Err(Unfit::Lacks(format!(
            "its table {} is at the coordinator alone; expected its schema sharded by citus_schema_distribute",
            partition.table()
        )));
    }
    is_fit(client, partition).await
}

/// Whether Citus has the rows of the table pessoas elsewhere.
async fn is_distributed(client: &Client) -> Result<bool, Unfit> {
    if rows(client, HAS_CITUS).await?.is_empty() {
        return Ok(false);
    }
    let found = "SELECT FROM pg_dist_partition WHERE logicalrelid = to_regclass('pessoas')";
    Ok(!rows(client, found).await?.is_empty())
}

/// As the only table it is the judge of uniqueness, which one that Citus has spread is not.
async fn is_not_distributed(client: &Client) -> Result<(), Unfit> {
    match is_distributed(client).await? {
        false => Ok(()),
        true => Err(Unfit::Lacks(
            "its table pessoas is distributed by Citus; expected a table of this database alone, or --partitions with \
             the coordinator's URL (docs/scale.md)"
                .to_owned(),
        )),
    }
}

/// Whether the partition that is first in the search path is what the statements expect.
async fn is_fit(client: &Client, partition: Partition) -> Result<(), Unfit> {
    check(client).await?;
    if rows(client, &format!("{AT_HOME_CHECK} AND conname = '{AT_HOME}'")).await?.is_empty() {
        return Err(Unfit::Lacks(format!(
            "its table {} lacks the check {AT_HOME}, which keeps out what belongs to another partition",
            partition.table()
        )));
    }
    Ok(())
}

/// A check of the table that holds for all of its rows.
const AT_HOME_CHECK: &str =
    "SELECT FROM pg_constraint WHERE conrelid = 'pessoas'::regclass AND contype = 'c' AND convalidated";

/// Ends a transaction that [locks](lock).
pub(in crate::postgres) async fn commit(client: &Client) -> Result<(), Unfit> {
    Ok(client.batch_execute("COMMIT").await?)
}

/// A schema that could not be made.
fn refused(failure: Failure) -> Unfit {
    match failure.sqlstate() {
        Some("42501") => Unfit::Lacks(format!("{failure}; {RIGHTS_EXPECTED}")),
        _ => Unfit::Failed(failure),
    }
}

/// What the server says of itself.
pub(in crate::postgres) async fn facts(client: &Client) -> Result<Facts, Unfit> {
    Ok(Facts {
        version: show(client, "server_version").await?,
        encoding: show(client, "server_encoding").await?,
        fsync: show(client, "fsync").await? == "on",
        full_page_writes: show(client, "full_page_writes").await? == "on",
    })
}

/// What a server says beside [`Facts`] of how it would serve.
pub(in crate::postgres) struct Manners {
    pub(in crate::postgres) synchronous_commit: String,
    /// `synchronous_standby_names`.
    pub(in crate::postgres) standby_names: String,
    /// Standbys that commits may wait for; `None`: this user may not see them.
    pub(in crate::postgres) standbys: Option<usize>,
    /// Transactions are read-only by default.
    pub(in crate::postgres) read_only: bool,
    pub(in crate::postgres) connections_max: usize,
    /// Connections that a user without privileges may still open.
    pub(in crate::postgres) connections_free: usize,
}

/// The numbers of connections are those of all users, whom everybody may count. Of a standby others than a monitor see only
/// that it is there.
const MANNERS: &str = "\
    SELECT current_setting('synchronous_commit'), current_setting('synchronous_standby_names'), \
           (SELECT CASE WHEN count(*) = 0 OR count(sync_state) > 0 \
                        THEN count(*) FILTER (WHERE sync_state IN ('sync', 'quorum')) END FROM pg_stat_replication), \
           current_setting('default_transaction_read_only'), \
           current_setting('max_connections'), \
           current_setting('max_connections')::int8 - current_setting('superuser_reserved_connections')::int8 \
               - (SELECT sum(numbackends) FROM pg_stat_database)::int8";

/// Asks a server how it would serve.
pub(in crate::postgres) async fn manners(client: &Client) -> Result<Manners, Unfit> {
    let answer = rows(client, MANNERS).await?;
    let cell = |column: usize| answer.first().and_then(|row| row.get(column));
    let number = |column: usize| cell(column).and_then(|text| text.parse::<i64>().ok());
    let size = |column: usize| usize::try_from(number(column).unwrap_or(0)).unwrap_or(0);
    Ok(Manners {
        synchronous_commit: cell(0).unwrap_or_default().to_owned(),
        standby_names: cell(1).unwrap_or_default().to_owned(),
        standbys: number(2).and_then(|count| usize::try_from(count).ok()),
        read_only: cell(3) == Some("on"),
        connections_max: size(4),
        connections_free: size(5),
    })
}

/// Whether the table, if it is there, is the one that the statements expect: somebody else may have made it.
async fn check(client: &Client) -> Result<(), Unfit> {
    if rows(client, "SELECT FROM pg_class WHERE oid = to_regclass('pessoas')").await?.is_empty() {
        return Ok(());
    }
    let lacks = |what: String| Err(Unfit::Lacks(format!("its table pessoas {what}")));
    let cell = |row: &SimpleQueryRow, column| row.get(column).unwrap_or_default().to_owned();
    let rights = rows(client, RIGHTS).await?;
    if let Some(row) = rights.first() {
        return lacks(format!("does not allow {} to this user", cell(row, 0)));
    }
    let table = rows(client, TABLE).await?;
    for (column, types) in COLUMNS {
        match table.iter().find(|row| row.get(0) == Some(column)).map(|row| cell(row, 1)) {
            None => return lacks(format!("has no column {column}, expected one of type {}", types[0])),
            Some(found) if !types.contains(&found.as_str()) => {
                return lacks(format!("has a column {column} of type {found}, expected {}", types[0]));
            }
            Some(_) => {}
        }
    }
    // All but `tx` are named by the insert.
    let named = |name: &str| COLUMNS.iter().any(|(column, _)| *column == name) && name != "tx";
    if let Some(row) =
        table.iter().find(|row| row.get(2) == Some("t") && !named(row.get(0).unwrap_or_default()))
    {
        return lacks(format!("has a column {} that must be given and has no default", cell(row, 0)));
    }
    let unique: Vec<String> = rows(client, UNIQUE).await?.iter().map(|row| cell(row, 0)).collect();
    for column in ["id", "apelido"] {
        if !unique.iter().any(|found| found == column) {
            return lacks(format!("has no valid unique index on {column} alone"));
        }
    }
    Ok(())
}

const SESSION_MODE: &str = "expected a connection pooler in session mode, or none";

/// Whether each connection has a server session of its own. A pooler in transaction mode lends one session to many: what
/// one of them sets, another one meets.
pub(in crate::postgres) async fn sessions_are_own(client: &Client, another: &Client) -> Result<(), Unfit> {
    let ours = "of the start that looks";
    let own = format!("SELECT current_setting('{TOKEN}', true)");
    client.batch_execute(&format!("SELECT set_config('{TOKEN}', '{ours}', false)")).await?;
    // The other connection holds its session, so that the first one would be given a third.
    if let Err(error) = another.batch_execute("BEGIN").await {
        // In statement mode.
        return Err(Unfit::Lacks(format!("{}; {SESSION_MODE}", Failure::from(error))));
    }
    let of = |rows: Vec<SimpleQueryRow>| rows.first().and_then(|row| row.get(0)).map(str::to_owned);
    let theirs = of(rows(another, &own).await?);
    // A pooler with one server session has lent it to the other connection: the first one would wait for it.
    let shared = theirs.as_deref() == Some(ours) || of(rows(client, &own).await?).as_deref() != Some(ours);
    another.batch_execute("ROLLBACK").await?;
    if shared {
        return Err(Unfit::Lacks(format!("a connection has no server session of its own; {SESSION_MODE}")));
    }
    Ok(())
}

async fn rows(client: &Client, question: &str) -> Result<Vec<SimpleQueryRow>, tokio_postgres::Error> {
    let messages = client.simple_query(question).await?;
    let rows = messages.into_iter().filter_map(|message| match message {
        SimpleQueryMessage::Row(row) => Some(row),
        _ => None,
    });
    Ok(rows.collect())
}

async fn show(client: &Client, setting: &str) -> Result<String, tokio_postgres::Error> {
    let shown = rows(client, &format!("SHOW {setting}")).await?;
    Ok(shown.first().and_then(|row| row.get(0)).unwrap_or_default().to_owned())
}
