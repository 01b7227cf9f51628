//! As good as it gets with these parts: a constant answer to everything, and for each create one bare insert, behind the
//! server's own net and HTTP code and its rings, in batches by its rule. What the server takes beyond this is its own.
//!
//! `LISTEN=.. CORES=.. DATABASE_URL=.. target/release/limit`, or `target/release/local --api target/release/limit`
//!
//! It takes what compose.yml gives an instance. It answers as the contest expects, with what the contest's creates come
//! to: 85 of 100 are stored (201), the others are refused (422); it reads no body, keeps nothing, checks nothing and
//! tells no other instance. Its rows have random apelidos, and the server's table and indexes. With NO_INSERTS=1 it inserts
//! none, and says 201 all the same: the floor of everything but the database.

use std::cell::{Cell, RefCell};
use std::error::Error;
use std::rc::Rc;
use std::time::{Duration, Instant};

use clap::Parser;
use clap::builder::FalseyValueParser;
use rinha::channel::ring::{self, SharedSender};
use rinha::channel::{Ticket, Tickets};
use rinha::core::Wanted;
use rinha::http::reply::{JSON, TEXT};
use rinha::http::{Answered, Method, Reply, Request, Service, Status, first_value, path_and_query};
use rinha::limits::{COMMIT_BATCH_ENOUGH, COMMIT_BATCH_MAX, COMMIT_GAP, START_TIME_MAX};
use rinha::net::Listen;
use rinha::people::Minter;
use tokio_postgres::types::ToSql;
use tokio_postgres::{Client, Config, NoTls, Statement};
use tools::serve::serve;
use uuid::Uuid;

// The server's own, so that the waits of both cost the kernel the same; build.rs puts it in its place.
#[path = "../../../src/iowait.rs"]
mod iowait;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// As the mean of the contest's pessoas.
const NOME: &str = "Ana Beatriz Carvalho de Albuquerque e Silva Moreira";
const STACK: &str =
    r#"{"C#","Node","Oracle","Postgres","Rust","Python","Java","Kotlin","Elixir","Ruby","Go","PHP","Scala"}"#;
const NASCIMENTO: &str = "2000-10-01";
const SEARCH_BYTES: usize = 180;
const BODY_BYTES: usize = 300;
/// Of a hundred creates: the contest's 46,576 of 54,635.
const STORED_PERCENT: u64 = 85;
/// Creates that wait.
const QUEUE_MAX: usize = 16_384;
/// Between two attempts to reach a database that is not there yet.
const PAUSE: Duration = Duration::from_millis(100);

/// Batches of up to so many rows go as `VALUES`, as the server's.
const FEW_ROWS: usize = 3;
/// Columns of a row.
const COLUMNS: usize = 6;

/// The insert of a few rows.
fn few(rows: usize) -> String {
    let row = |row: usize| {
        let [id, apelido, nome, nascimento, stack, search] =
            std::array::from_fn::<_, COLUMNS, _>(|column| row * COLUMNS + column + 1);
        format!("(${id}, ${apelido}, ${nome}, ${nascimento}::text::date, ${stack}::text::text[], ${search})")
    };
    let values: Vec<String> = (0..rows).map(row).collect();
    format!(
        "INSERT INTO pessoas (id, apelido, nome, nascimento, stack, search) VALUES {} ON CONFLICT DO NOTHING",
        values.join(", ")
    )
}

const MANY: &str = "\
    INSERT INTO pessoas (id, apelido, nome, nascimento, stack, search) \
    SELECT id, apelido, nome, nascimento::date, stack::text[], search \
    FROM unnest($1::uuid[], $2::text[], $3::text[], $4::text[], $5::text[], $6::bytea[]) \
        AS batch (id, apelido, nome, nascimento, stack, search) ON CONFLICT DO NOTHING";

/// The server's own, so that the tables are alike; two instances may apply it at the same time.
const SCHEMA: &str = concat!(
    "BEGIN; SELECT pg_advisory_xact_lock(1); ",
    include_str!("../../../schema.sql"),
    "; COMMIT; SET synchronous_commit = on; SET plan_cache_mode = force_generic_plan"
);

/// A constant answer to everything, and a bare insert for each create.
#[derive(Parser)]
struct Arguments {
    /// A TCP address, or unix:PATH
    #[arg(long, env = "LISTEN", default_value = "127.0.0.1:9998")]
    listen: Listen,
    /// What drives the sockets
    #[arg(long, env = "DRIVER", value_enum, default_value = "auto")]
    driver: Wanted,
    /// Where Postgres is
    #[arg(long, env = "DATABASE_URL")]
    database_url: String,
    /// Inserts nothing
    #[arg(long, env = "NO_INSERTS", value_parser = FalseyValueParser::new())]
    no_inserts: bool,
}

fn main() -> Result<(), Box<dyn Error>> {
    let Arguments { listen, driver, database_url, no_inserts } = Arguments::parse();
    let (jobs, mut asked) = ring::channel(QUEUE_MAX);
    let (mut done, mut answers) = ring::channel(QUEUE_MAX);
    let (ready, is_ready) = std::sync::mpsc::channel();
    let mut database = move || -> Result<(), Box<dyn Error>> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(async {
            let mut database = Database::reach(&database_url).await?;
            ready.send(())?;
            let (mut began, mut rows) = (Instant::now(), 0);
            loop {
                // The server's rule: a batch waits for company, until COMMIT_GAP after the last one began.
                let enough = COMMIT_BATCH_ENOUGH.min(rows + asked.queued());
                if (1..enough).contains(&asked.queued()) {
                    let _ = tokio::time::timeout_at((began + COMMIT_GAP).into(), asked.holds(enough)).await;
                }
                let Some(first) = asked.pop().await else { return Ok(()) };
                let mut batch = vec![first];
                while batch.len() < COMMIT_BATCH_MAX
                    && let Some(next) = asked.try_pop()
                {
                    batch.push(next);
                }
                (began, rows) = (Instant::now(), batch.len());
                database.insert(&batch).await?;
                batch.into_iter().for_each(|job| done.push(job).expect("as many places as jobs"));
                done.wake();
            }
        })
    };
    std::thread::Builder::new().name("postgres-0".to_owned()).spawn(move || {
        if let Err(error) = database() {
            eprintln!("limit: {error}");
            std::process::exit(1);
        }
    })?;
    // As the server, which listens once it is ready to answer.
    is_ready.recv().unwrap_or_else(|_| std::process::exit(1));

    let service = async || {
        let limit = Rc::new(Limit {
            body: vec![b'x'; BODY_BYTES],
            answered: Cell::new(0),
            creates: Cell::new(0),
            inserts: !no_inserts,
            minter: RefCell::new(Minter::new().expect("random bytes")),
            jobs: SharedSender::new(jobs),
            tickets: Tickets::with_capacity(QUEUE_MAX),
        });
        let flushing = Rc::clone(&limit);
        monoio::spawn(async move { flushing.jobs.flush().await });
        let answering = Rc::clone(&limit);
        monoio::spawn(async move {
            while let Some(Job { ticket, .. }) = answers.pop().await {
                answering.tickets.answer(ticket, ());
            }
        });
        limit
    };
    serve("limit", &listen, driver, None, service, |limit: &Limit| limit.answered.get());
    Ok(())
}

/// A create that waits for its insert.
#[derive(Debug)]
struct Job {
    ticket: Ticket,
    id: Uuid,
}

struct Limit {
    body: Vec<u8>,
    answered: Cell<u64>,
    creates: Cell<u64>,
    inserts: bool,
    minter: RefCell<Minter>,
    jobs: SharedSender<Job>,
    tickets: Tickets<(), ()>,
}

impl Service for Limit {
    async fn respond(&self, request: Request<'_>, reply: Reply<'_>) -> Answered {
        self.answered.set(self.answered.get() + 1);
        let (path, query) = path_and_query(request.target);
        match path {
            b"/pessoas" if request.method == Method::Post => self.create(reply).await,
            b"/pessoas" if first_value(query.unwrap_or_default(), b"t").is_none() => {
                reply.problem(Status::BAD_REQUEST, "expected a term `t`", None)
            }
            b"/contagem-pessoas" => reply.body(Status::OK, TEXT, None, b"0"),
            _ => reply.json(Status::OK, &self.body),
        }
    }
}

impl Limit {
    async fn create(&self, reply: Reply<'_>) -> Answered {
        let number = self.creates.get();
        self.creates.set(number + 1);
        // The others are spread evenly.
        if (number + 1) * STORED_PERCENT / 100 == number * STORED_PERCENT / 100 {
            return reply.problem(Status::UNPROCESSABLE_CONTENT, "one of those that are not stored", None);
        }
        let id = self.minter.borrow_mut().mint("");
        if self.inserts {
            let waiting = self.tickets.take(());
            let job = Job { ticket: waiting.ticket(), id };
            if self.jobs.push(job).is_err() {
                return reply.unavailable("too many creates wait");
            }
            waiting.await;
        }
        let location = format!("/pessoas/{id}");
        reply.body(Status::CREATED, JSON, Some(("Location", location.as_bytes())), &self.body)
    }
}

/// A connection, and its statements.
struct Database {
    client: Client,
    /// For 1 to [`FEW_ROWS`] rows.
    few: Vec<Statement>,
    many: Statement,
    search: Vec<u8>,
}

impl Database {
    /// When the database is there, with its table.
    async fn reach(url: &str) -> Result<Database, Box<dyn Error>> {
        let config: Config = url.parse().map_err(|error| {
            let cause =
                std::error::Error::source(&error).map(|cause| format!(": {cause}")).unwrap_or_default();
            format!(
                "--database-url: {error}{cause}; expected postgres://USER@HOST/DATABASE or key=value pairs"
            )
        })?;
        let began = Instant::now();
        let (client, connection) = loop {
            match config.connect(NoTls).await {
                Ok(connected) => break connected,
                // As the server, which is started beside its database.
                Err(_) if began.elapsed() < START_TIME_MAX => tokio::time::sleep(PAUSE).await,
                Err(error) => {
                    return Err(
                        format!("the database did not answer within {START_TIME_MAX:?}: {error}").into()
                    );
                }
            }
        };
        tokio::spawn(connection);
        client.batch_execute(SCHEMA).await?;
        let mut statements = Vec::new();
        for rows in 1..=FEW_ROWS {
            statements.push(client.prepare(&few(rows)).await?);
        }
        let many = client.prepare(MANY).await?;
        Ok(Database { client, few: statements, many, search: vec![b'x'; SEARCH_BYTES] })
    }

    async fn insert(&mut self, batch: &[Job]) -> Result<(), Box<dyn Error>> {
        // Backwards: else they would come in the order of time, and cost their index less than others do.
        let apelido = |job: &Job| format!("{:032x}", job.id.as_u128().reverse_bits());
        let apelidos: Vec<String> = batch.iter().map(apelido).collect();
        let inserted = if let Some(statement) = self.few.get(batch.len() - 1) {
            let mut columns: Vec<&(dyn ToSql + Sync)> = Vec::new();
            for (job, apelido) in batch.iter().zip(&apelidos) {
                let row: [&(dyn ToSql + Sync); COLUMNS] =
                    [&job.id, apelido, &NOME, &NASCIMENTO, &STACK, &self.search];
                columns.extend(row);
            }
            self.client.execute(statement, &columns).await?
        } else {
            let count = batch.len();
            let ids: Vec<Uuid> = batch.iter().map(|job| job.id).collect();
            let (nomes, stacks) = (vec![NOME; count], vec![STACK; count]);
            let (nascimentos, searches) = (vec![NASCIMENTO; count], vec![&self.search; count]);
            let rows: [&(dyn ToSql + Sync); COLUMNS] =
                [&ids, &apelidos, &nomes, &nascimentos, &stacks, &searches];
            self.client.execute(&self.many, &rows).await?
        };
        assert_eq!(inserted, batch.len() as u64, "every row is new");
        Ok(())
    }
}
