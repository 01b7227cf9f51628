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
fn insert(table: &str, form: Form, batch: usize) -> String {
    let from = match form {
        Form::Unnest => {
            "unnest($1::uuid[], $2::text[], $3::text[], $4::text[], $5::text[], $6::bytea[])".to_owned()
        }
        Form::Values => {
            let mut values = "(VALUES ".to_owned();
            for row in 0..batch {
                let [id, apelido, nome, nascimento, stack, search] =
                    std::array::from_fn(|column| row * 6 + column + 1);
                let comma = if row > 0 { ", " } else { "" };
                let row = format!(
                    "{comma}(${id}::uuid, ${apelido}::text, ${nome}::text, ${nascimento}::text, ${stack}::text, ${search}::bytea)"
                );
                write!(values, "{row}").expect("a string");
            }
            values + ")"
        }
    };
    format!(
        "INSERT INTO {table} (id, apelido, nome, nascimento, stack, search) \
         SELECT id, apelido, nome, nascimento::date, stack::text[], search \
         FROM {from} AS batch (id, apelido, nome, nascimento, stack, search) ON CONFLICT DO NOTHING RETURNING id"
    )
}

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
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let Arguments { url, batch, seconds, table, form } = Arguments::parse();
    let batch = usize::try_from(batch)?;
    let (client, connection) = tokio_postgres::connect(&url, NoTls).await?;
    tokio::spawn(connection);
    // The plan that the server keeps.
    client
        .batch_execute("SET plan_cache_mode = force_generic_plan; SET enable_seqscan = off; SET jit = off")
        .await?;
    let insert = client.prepare(&insert(&table, form, batch)).await?;
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
                client.query(&insert, &[&ids, &apelidos, &nomes, &nascimentos, &stacks, &searches]).await?
            }
            Form::Values => {
                let mut row: Vec<&(dyn ToSql + Sync)> = Vec::with_capacity(batch * 6);
                for (id, apelido) in ids.iter().zip(&apelidos) {
                    row.extend([id as &(dyn ToSql + Sync), apelido, &nome, &"2000-10-01", &stack, &search]);
                }
                client.query(&insert, &row).await?
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
