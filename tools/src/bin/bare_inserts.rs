//! The floor under every durable create: a bare tokio-postgres loop that inserts batches, one connection, one
//! batch after the other, fsync on.
//!
//! `cargo run --release -p tools --bin bare_inserts -- DATABASE_URL ROWS_PER_BATCH SECONDS`
//!
//! Prints rows per second, and the CPU time of its backend for each. The table is the server's (`schema.sql`), or a
//! partition's; its rows stay.

use std::fmt::Write;
use std::time::{Duration, Instant};

use clap::{Parser, ValueEnum};
use tokio_postgres::NoTls;
use tokio_postgres::types::ToSql;
use uuid::Uuid;

use rinha::people::Minter;
use rinha::pessoa::home_of_apelido;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// The statement; the parameters of `Values` are those of each row, one after the other.
fn insert(table: &str, form: Form, batch: usize, citus: bool) -> String {
    let from = match form {
        Form::Unnest => {
            "unnest($1::uuid[], $2::text[], $3::text[], $4::text[], $5::text[], $6::bytea[])".to_owned()
        }
        Form::Values if citus => {
            let values = values(batch, "text::date", "text::text[]");
            return format!(
                "INSERT INTO {table} (id, apelido, nome, nascimento, stack, search) {values} \
                 ON CONFLICT DO NOTHING RETURNING id"
            );
        }
        Form::Values => format!("({})", values(batch, "text", "text")),
    };
    format!(
        "INSERT INTO {table} (id, apelido, nome, nascimento, stack, search) \
         SELECT id, apelido, nome, nascimento::date, stack::text[], search \
         FROM {from} AS batch (id, apelido, nome, nascimento, stack, search) ON CONFLICT DO NOTHING RETURNING id"
    )
}

fn values(batch: usize, date: &str, stacks: &str) -> String {
    let mut values = "VALUES ".to_owned();
    for row in 0..batch {
        let [id, apelido, nome, nascimento, stack, search] =
            std::array::from_fn(|column| row * 6 + column + 1);
        let comma = if row > 0 { ", " } else { "" };
        write!(
            values,
            "{comma}(${id}::uuid, ${apelido}::text, ${nome}::text, ${nascimento}::{date}, ${stack}::{stacks}, \
             ${search}::bytea)"
        )
        .expect("a string");
    }
    values
}

/// What the server looks at behind each insert, where Citus shards the table.
const LOOK: &str = "SELECT (SELECT count(*) FROM pg_dist_placement \
                            WHERE shardid = $1 AND groupid = (SELECT groupid FROM pg_dist_local_group)) = 1 \
                       AND to_regclass($2) IS NOT NULL";

const SHARD: &str = "SELECT shardid FROM pg_dist_shard WHERE logicalrelid = $1::text::regclass";

/// How a batch travels.
#[derive(Clone, Copy, ValueEnum)]
enum Form {
    /// An array for each column
    Unnest,
    /// Six parameters a row
    Values,
}

/// What of the 256 homes is in this table: those with this remainder.
fn homes(table: &str) -> Option<(u8, u8)> {
    let (number, of) = table.strip_prefix("partition_")?.split_once('.')?.0.split_once("_of_")?;
    Some((number.parse().ok()?, of.parse().ok()?))
}

/// Microseconds of CPU of a process of this machine.
fn cpu(pid: i32) -> std::io::Result<u64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/schedstat"))?;
    let first = stat.split(' ').next().and_then(|nanoseconds| nanoseconds.parse::<u64>().ok());
    Ok(first.unwrap_or_default() / 1_000)
}

/// The floor under every durable create: batches of rows, one connection, one after the other.
#[derive(Parser)]
struct Arguments {
    /// Where Postgres is, as a URL or as key=value pairs
    url: String,
    /// Rows of a batch
    #[arg(value_parser = clap::value_parser!(u64).range(1..=100_000))]
    batch: u64,
    /// How long
    #[arg(value_parser = clap::value_parser!(u64).range(1..=86_400))]
    seconds: u64,
    /// The table, such as partition_1_of_2.pessoas
    #[arg(long, default_value = "pessoas")]
    table: String,
    /// How a batch travels
    #[arg(long, value_enum, default_value = "unnest")]
    form: Form,
    /// Citus shards the table, and its rows are at this server: as the server writes there
    #[arg(long)]
    citus: bool,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let Arguments { url, batch, seconds, table, form, citus } = Arguments::parse();
    let batch = usize::try_from(batch)?;
    let (client, connection) = tokio_postgres::connect(&url, NoTls).await?;
    tokio::spawn(connection);
    // The plan that the server keeps; Citus makes none for what is selected.
    let plan = if citus && matches!(form, Form::Unnest) { "force_custom_plan" } else { "force_generic_plan" };
    client
        .batch_execute(&format!("SET plan_cache_mode = {plan}; SET enable_seqscan = off; SET jit = off"))
        .await?;
    let insert = client.prepare(&insert(&table, form, batch, citus)).await?;
    let look = match citus {
        true => {
            let shard: i64 = client.query_one(SHARD, &[&table]).await?.get(0);
            Some((client.prepare(LOOK).await?, shard, format!("{table}_{shard}")))
        }
        false => None,
    };
    // In one round trip, with what the server sends behind it.
    let send = async |parameters: &[&(dyn ToSql + Sync)]| {
        let Some((look, shard, name)) = &look else { return client.query(&insert, parameters).await };
        let shard: [&(dyn ToSql + Sync); 2] = [shard, name];
        let (inserted, looked) =
            tokio::try_join!(biased; client.query(&insert, parameters), client.query_one(look, &shard))?;
        assert!(looked.get::<_, bool>(0), "the table is at this server");
        Ok(inserted)
    };
    let pid: i32 = client.query_one("SELECT pg_backend_pid()", &[]).await?.get(0);
    let (number, of) = homes(&table).unwrap_or((0, 1));
    let mut minter = Minter::new()?;
    // Random, so that a second run meets none of the first one's rows.
    let run = &minter.mint("").simple().to_string()[20..];

    let nome = "Ana Beatriz Carvalho de Albuquerque e Silva Moreira".to_owned();
    let stack = r#"{"C#","Node","Oracle","Postgres","Rust","Python","Java","Kotlin","Elixir","Ruby","Go","PHP","Scala"}"#;
    let search = vec![b'x'; 180];
    let (mut rows, began, cpu_before) = (0, Instant::now(), cpu(pid)?);
    let mut names =
        (0_u64..).map(|number| format!("{run}{number}")).filter(|name| home_of_apelido(name) % of == number);
    while began.elapsed() < Duration::from_secs(seconds) {
        let apelidos: Vec<String> = names.by_ref().take(batch).collect();
        let ids: Vec<Uuid> = apelidos.iter().map(|apelido| minter.mint(apelido)).collect();
        let inserted = match form {
            Form::Unnest => {
                let nomes = vec![&nome; batch];
                let nascimentos = vec!["2000-10-01"; batch];
                let stacks = vec![stack; batch];
                let searches = vec![&search; batch];
                send(&[&ids, &apelidos, &nomes, &nascimentos, &stacks, &searches]).await?
            }
            Form::Values => {
                let mut row: Vec<&(dyn ToSql + Sync)> = Vec::with_capacity(batch * 6);
                for (id, apelido) in ids.iter().zip(&apelidos) {
                    row.extend([id as &(dyn ToSql + Sync), apelido, &nome, &"2000-10-01", &stack, &search]);
                }
                send(&row).await?
            }
        };
        assert_eq!(inserted.len(), batch, "every row is new");
        rows += batch;
    }
    #[allow(clippy::cast_precision_loss, reason = "for people")]
    let (rate, each) =
        (rows as f64 / began.elapsed().as_secs_f64(), (cpu(pid)? - cpu_before) as f64 / rows as f64);
    println!("bare: {rows} rows in batches of {batch}, {each:.1} us of CPU each, {rate:.0} rows/s");
    Ok(())
}
