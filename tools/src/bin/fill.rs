//! Puts many realistic pessoas into the table, by `COPY`, as fast as Postgres takes them.
//!
//! `cargo run --release -p tools --bin fill -- DATABASE_URL PESSOAS [SEED]`
//!
//! For a server's private Postgres the URL is `host=DATA_DIR/socket user=rinha dbname=postgres`, and the table is there
//! once the server has run. A running server finds the rows by its feed. It is for an empty table: the
//! same seed makes the same pessoas, and others share the shortest apelidos. Ctrl-C ends it, and so does an error: it says how many rows are there.

use std::collections::HashSet;
use std::error::Error;
use std::io;
use std::iter;
use std::pin::pin;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use bytes::{BufMut, BytesMut};
use clap::Parser;
use contest::Random;
use progress::{Count, Text, Wait, duration, say, show};
use rinha::people::Minter;
use rinha::pessoa::{Pessoa, Record};
use tokio_postgres::NoTls;
use tokio_postgres::binary_copy::BinaryCopyInWriter;
use tokio_postgres::types::{IsNull, ToSql, Type, accepts, to_sql_checked};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Rows of one `COPY`, which is one transaction.
const COPY_ROWS: usize = 50_000;
/// How often a signal is looked for.
const SIGNAL_PERIOD: Duration = Duration::from_millis(50);
/// The first of 1940 and the last of 2020, in days since 2000-01-01.
const BIRTH_DAYS: std::ops::Range<i32> = -21_914..7_671;

/// Puts many realistic pessoas into the table.
#[derive(Parser)]
struct Arguments {
    /// Where Postgres is, as a URL or as key=value pairs
    url: String,
    /// How many pessoas
    #[arg(value_parser = clap::value_parser!(u64).range(1..=1_000_000_000))]
    count: u64,
    /// Another seed makes other pessoas
    #[arg(default_value_t = 1)]
    seed: u64,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let there = Count::default();
    let ended = match stopped() {
        // What was dropped halfway rolls back: its connection ends with this process.
        Ok(stopped) => tokio::select! {
            filled = fill(&arguments, &there) => filled,
            () = stopped => Err("stopped by a signal".into()),
        },
        Err(error) => Err(error.into()),
    };
    let Err(error) = ended else { return ExitCode::SUCCESS };
    // What the database said is below what its client says.
    let chain = iter::successors(Some(&*error as &dyn Error), |&error| error.source());
    let error = chain.map(ToString::to_string).collect::<Vec<_>>().join(": ").replace('\n', ", ");
    say("fill", &format!("{} of {} pessoas were stored: {error}", there.get(), arguments.count));
    ExitCode::FAILURE
}

/// Ends when SIGINT or SIGTERM came.
fn stopped() -> io::Result<impl Future<Output = ()>> {
    let signalled = Arc::new(AtomicBool::new(false));
    for signal in [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM] {
        signal_hook::flag::register(signal, Arc::clone(&signalled))?;
    }
    Ok(async move {
        while !signalled.load(Ordering::Relaxed) {
            tokio::time::sleep(SIGNAL_PERIOD).await;
        }
    })
}

/// Fills the table, and counts in `there` what is committed.
async fn fill(arguments: &Arguments, there: &Count) -> Result<(), Box<dyn Error>> {
    let Arguments { url, count, seed } = arguments;
    let (all, count) = (*count, usize::try_from(*count)?);
    let (client, connection) = tokio_postgres::connect(url, NoTls).await?;
    tokio::spawn(connection);
    let mut generator =
        Generator { random: Random(*seed), minter: Minter::new()?, seen: HashSet::with_capacity(count) };
    let sent = Count::default();
    let (mut filled, began) = (0, Instant::now());
    let wait = Wait::count("fill", "pessoas", all, &sent);
    while filled < count {
        let rows = COPY_ROWS.min(count - filled);
        let sink = client
            .copy_in("COPY pessoas (id, apelido, nome, nascimento, stack, search) FROM STDIN (FORMAT binary)")
            .await?;
        let types = [Type::UUID, Type::VARCHAR, Type::VARCHAR, Type::DATE, Type::TEXT_ARRAY, Type::BYTEA];
        let mut copy = pin!(BinaryCopyInWriter::new(sink, &types));
        for _ in 0..rows {
            let record = generator.next();
            let pessoa = &record.pessoa;
            let stack: Option<Vec<&str>> = pessoa.stack.as_ref().map(|stack| stack.items().collect());
            copy.as_mut()
                .write(&[
                    &pessoa.id,
                    &&*pessoa.apelido,
                    &&*pessoa.nome,
                    &Days(pessoa.nascimento.days_since_2000()),
                    &stack,
                    &&*record.search_text,
                ])
                .await?;
            sent.add(1);
        }
        copy.finish().await?;
        filled += rows;
        there.add(rows as u64);
    }
    drop(wait);
    show(&format!("fill: {filled} pessoas in {:.1?}\n", began.elapsed()));
    let _wait = Wait::new("fill", |spent| Text::new("ANALYZE").and(duration(spent)));
    client.batch_execute("ANALYZE pessoas").await?;
    Ok(())
}

struct Generator {
    random: Random,
    minter: Minter,
    /// The apelidos so far, as short random ones repeat.
    seen: HashSet<String>,
}

impl Generator {
    fn next(&mut self) -> Record {
        let apelido = loop {
            let apelido = self.random.apelido();
            if self.seen.insert(apelido.clone()) {
                break apelido;
            }
        };
        let span = usize::try_from(BIRTH_DAYS.end - BIRTH_DAYS.start).expect("an ascending range");
        let days = BIRTH_DAYS.start + i32::try_from(self.random.below(span)).expect("fits the range");
        let (nome, stack) = (self.random.nome(), self.random.stack());
        let id = self.minter.mint(&apelido);
        let pessoa = Pessoa::from_columns(id, &apelido, &nome, days, stack).expect("a valid pessoa");
        Record::new(pessoa)
    }
}

/// A `date` on the wire: days since 2000-01-01.
#[derive(Debug)]
struct Days(i32);

impl ToSql for Days {
    fn to_sql(&self, _: &Type, out: &mut BytesMut) -> Result<IsNull, Box<dyn Error + Sync + Send>> {
        out.put_i32(self.0);
        Ok(IsNull::No)
    }

    accepts!(DATE);
    to_sql_checked!();
}
