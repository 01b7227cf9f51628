//! The floor under every durable create: a bare tokio-postgres loop that inserts batches, one connection, one
//! batch after the other, fsync on.
//!
//! `cargo run --release -p tools --bin bare_inserts -- DATABASE_URL ROWS_PER_BATCH SECONDS`
//!
//! Prints rows per second. The table is the server's (`schema.sql`); its rows stay.

use std::time::{Duration, Instant};

use clap::Parser;
use tokio_postgres::NoTls;
use uuid::Uuid;

use rinha::people::Minter;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const INSERT: &str = "\
    INSERT INTO pessoas (id, apelido, nome, nascimento, stack, search) \
    SELECT id, apelido, nome, nascimento::date, stack::text[], search \
    FROM unnest($1::uuid[], $2::text[], $3::text[], $4::text[], $5::text[], $6::bytea[]) \
        AS batch (id, apelido, nome, nascimento, stack, search) \
    ON CONFLICT DO NOTHING RETURNING id";

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
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let Arguments { url, batch, seconds } = Arguments::parse();
    let batch = usize::try_from(batch)?;
    let (client, connection) = tokio_postgres::connect(&url, NoTls).await?;
    tokio::spawn(connection);
    let insert = client.prepare(INSERT).await?;
    let mut minter = Minter::new()?;
    // Random, so that a second run meets none of the first one's rows.
    let run = &minter.mint("").simple().to_string()[20..];

    let nome = "Ana Beatriz Carvalho de Albuquerque e Silva Moreira".to_owned();
    let stack = r#"{"C#","Node","Oracle","Postgres","Rust","Python","Java","Kotlin","Elixir","Ruby","Go","PHP","Scala"}"#;
    let search = vec![b'x'; 180];
    let (mut rows, began) = (0, Instant::now());
    while began.elapsed() < Duration::from_secs(seconds) {
        let apelidos: Vec<String> = (0..batch).map(|position| format!("{run}{}", rows + position)).collect();
        let ids: Vec<Uuid> = apelidos.iter().map(|apelido| minter.mint(apelido)).collect();
        let nomes = vec![&nome; batch];
        let nascimentos = vec!["2000-10-01"; batch];
        let stacks = vec![stack; batch];
        let searches = vec![&search; batch];
        let inserted =
            client.query(&insert, &[&ids, &apelidos, &nomes, &nascimentos, &stacks, &searches]).await?;
        assert_eq!(inserted.len(), batch, "every row is new");
        rows += batch;
    }
    #[allow(clippy::cast_precision_loss, reason = "for people")]
    let rate = rows as f64 / began.elapsed().as_secs_f64();
    println!("bare: {rows} rows in batches of {batch}, {rate:.0} rows/s");
    Ok(())
}
