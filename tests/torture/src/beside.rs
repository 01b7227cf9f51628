//! What others do to the database while the servers use it: each in a session of its own, past the proxies, and within its
//! time. Postgres may be away; then nothing is done, and that is said.

use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use tokio_postgres::{Client, Config, NoTls, SimpleQueryMessage};

use crate::cluster::block_on;
use crate::plan::Step;
use crate::processes::send;

/// How long a session is waited for, and a statement of no length of its own.
const SESSION_TIME_MAX: Duration = Duration::from_secs(2);
/// Between two attempts to undo what must be undone.
const RETRY_PAUSE: Duration = Duration::from_millis(200);
/// Until then Postgres is back and takes it.
const UNDO_TIME_MAX: Duration = Duration::from_secs(60);
/// Between two rounds of cancelled statements.
const CANCEL_PERIOD: Duration = Duration::from_millis(50);
/// Apelidos that are taken before the clients race for them: those of some seconds.
const NEXT_NAMES: usize = 200;
/// An id for an `apelido` of a partition.
pub(crate) const ID_AT_HOME: &str =
    "encode(set_byte(uuid_send(gen_random_uuid()), 9, home_of_apelido(apelido)), 'hex')::uuid";
/// More than Postgres has.
const CONNECTIONS_MAX: usize = 200;
/// The servers' sessions.
const SERVERS: &str = "application_name like 'rinha%' and backend_type = 'client backend'";

/// How a session is made.
#[derive(Clone)]
pub(crate) struct Session {
    pub(crate) config: Config,
    /// Its table is the first of two partitions.
    pub(crate) partitioned: bool,
}

impl Session {
    /// Runs statements in a session of their own, within `time`; the first column of each row.
    pub(crate) fn run(&self, statements: &str, time: Duration) -> Result<Vec<String>, String> {
        block_on(async {
            let run = async {
                let client = self.connect().await?;
                rows(&client, statements).await
            };
            match tokio::time::timeout(time, run).await {
                Ok(done) => done,
                Err(_) => Err(format!("not done within {time:?}")),
            }
        })
    }

    async fn connect(&self) -> Result<Client, String> {
        let (client, connection) = self.config.connect(NoTls).await.map_err(|error| text(&error))?;
        tokio::spawn(async move {
            // An end by force is what happens here.
            let _ = connection.await;
        });
        Ok(client)
    }

    /// Runs statements one by one, again and again until they are done.
    fn insist(&self, statements: &[&str]) {
        let began = Instant::now();
        for statement in statements {
            while let Err(why) = self.run(statement, SESSION_TIME_MAX) {
                assert!(began.elapsed() < UNDO_TIME_MAX, "{statement}: {why}");
                std::thread::sleep(RETRY_PAUSE);
            }
        }
    }

    /// Takes every change of a setting back.
    pub(crate) fn reset_settings(&self) {
        self.insist(&["alter system reset all", "select pg_reload_conf()"]);
    }

    /// A changed setting for a time, `meanwhile` included.
    fn with_setting(&self, setting: &str, time: Duration, meanwhile: Option<&str>) -> Result<String, String> {
        self.run(&format!("alter system set {setting}"), SESSION_TIME_MAX)?;
        let mut reloaded = self.run("select pg_reload_conf()", SESSION_TIME_MAX);
        if let (Ok(_), Some(statement)) = (&reloaded, meanwhile) {
            reloaded = self.run(statement, SESSION_TIME_MAX);
        }
        std::thread::sleep(time);
        self.reset_settings();
        reloaded.map(|_| setting.to_owned())
    }
}

/// What Postgres said, if it was Postgres.
fn text(error: &tokio_postgres::Error) -> String {
    error.as_db_error().map_or_else(|| error.to_string(), |error| error.message().to_owned())
}

async fn rows(client: &Client, statements: &str) -> Result<Vec<String>, String> {
    let messages = client.simple_query(statements).await.map_err(|error| text(&error))?;
    let rows = messages.into_iter().filter_map(|message| match message {
        SimpleQueryMessage::Row(row) => Some(row.get(0).unwrap_or("NULL").to_owned()),
        _ => None,
    });
    Ok(rows.collect())
}

/// Holds the lock that nobody can share.
pub(crate) fn lock_table(session: &Session, step: &Step) -> Result<String, String> {
    block_on(async {
        let client = tokio::time::timeout(SESSION_TIME_MAX, session.connect())
            .await
            .map_err(|_| "no session".to_owned())??;
        let lock = "begin; set local lock_timeout = '2s'; lock table pessoas in access exclusive mode";
        rows(&client, lock).await?;
        tokio::time::sleep(step.time()).await;
        Ok("held".to_owned())
    })
}

/// A deadlock with a batch of a server: it waits for an apelido that this session has put in, and this session for the
/// table that the batch is writing to. Either Postgres finds that in this session, or the batch gives up its lock first.
pub(crate) fn deadlock(session: &Session, step: &Step) -> Result<String, String> {
    block_on(async {
        let work = async {
            let client = session.connect().await?;
            // Whoever looks first is ended.
            let look_after = if step.at.is_multiple_of(2) { "10ms" } else { "10s" };
            rows(&client, &format!("set deadlock_timeout = '{look_after}'")).await?;
            // The apelidos that the servers' clients will race for next.
            let last = "select substring(apelido from '^(.*[.])[0-9]+[.]$') || ' ' || substring(apelido from '([0-9]+)[.]$') \
                        from pessoas where apelido ~ '[.]r[.][0-9]+[.]$' \
                        order by substring(apelido from '([0-9]+)[.]$')::int desc limit 1";
            let last = rows(&client, last).await?;
            let (prefix, number) =
                last.first().and_then(|last| last.split_once(' ')).ok_or("nobody raced yet")?;
            let apelidos = format!(
                "(select '{prefix}' || number || '.' as apelido \
                  from generate_series({number} + 1, {number} + {NEXT_NAMES}) number) as next"
            );
            let (id, condition) = match session.partitioned {
                false => ("gen_random_uuid()", "true"),
                true => (ID_AT_HOME, "home_of_apelido(apelido) % 2 = 0"),
            };
            let take = format!(
                "begin; insert into pessoas (id, apelido, nome, nascimento) \
                 select {id}, apelido, 'deadlock', '2000-01-01' from {apelidos} where {condition} on conflict do nothing"
            );
            rows(&client, &take).await?;
            let waiting = format!(
                "select pid from pg_stat_activity where {SERVERS} and pg_backend_pid() = any(pg_blocking_pids(pid))"
            );
            while rows(&client, &waiting).await?.is_empty() {
                tokio::time::sleep(CANCEL_PERIOD).await;
            }
            // Dropped afterwards: nothing of this is kept.
            Ok(match rows(&client, "lock table pessoas in share mode").await {
                Ok(_) => "the batch gave up".to_owned(),
                Err(why) => format!("this session was ended: {why}"),
            })
        };
        tokio::time::timeout(step.time(), work).await.unwrap_or(Ok("nobody was ended in time".to_owned()))
    })
}

/// Makes all indexes anew under the inserts. What a broken one leaves behind stays, as it would for an operator.
pub(crate) fn reindex(session: &Session, step: &Step) -> Result<String, String> {
    session.run("reindex table concurrently pessoas", step.time()).map(|_| "done".to_owned())
}

/// Makes one more index under the inserts.
pub(crate) fn create_index(session: &Session, step: &Step) -> Result<String, String> {
    let create = format!("create index concurrently torture_{} on pessoas (nome)", step.at);
    session.run(&create, step.time()).map(|_| "done".to_owned())
}

/// One of the servers' backends, the same for the same step if the servers have as many: its process and its name.
fn a_backend(session: &Session, step: &Step) -> Result<(i32, String), String> {
    let all =
        format!("select pid || ' ' || application_name from pg_stat_activity where {SERVERS} order by pid");
    let all = session.run(&all, SESSION_TIME_MAX)?;
    let count = u64::try_from(all.len()).expect("few backends");
    let chosen = step.at.checked_rem(count).and_then(|chosen| all.get(usize::try_from(chosen).ok()?));
    let (pid, name) = chosen.and_then(|backend| backend.split_once(' ')).ok_or("there was none")?;
    Ok((pid.parse().map_err(|_| format!("{pid} is no process"))?, name.to_owned()))
}

/// SIGKILL to one of the servers' backends: Postgres ends all the others, and recovers.
pub(crate) fn kill_a_backend(session: &Session, step: &Step) -> Result<String, String> {
    let (pid, name) = a_backend(session, step)?;
    send(pid, Signal::SIGKILL);
    Ok(format!("of {name}"))
}

/// SIGSTOP to one of the servers' backends, and SIGCONT: whoever waits for it must not wait for ever.
pub(crate) fn stop_a_backend(session: &Session, step: &Step) -> Result<String, String> {
    let (pid, name) = a_backend(session, step)?;
    send(pid, Signal::SIGSTOP);
    std::thread::sleep(step.time());
    send(pid, Signal::SIGCONT);
    Ok(format!("of {name}"))
}

/// Ends one of the servers' backends.
pub(crate) fn terminate_a_backend(session: &Session, step: &Step) -> Result<String, String> {
    let (pid, name) = a_backend(session, step)?;
    session.run(&format!("select pg_terminate_backend({pid})"), SESSION_TIME_MAX)?;
    Ok(format!("of {name}"))
}

/// Cancels what the servers' sessions do, again and again.
pub(crate) fn cancel_statements(session: &Session, step: &Step) -> Result<String, String> {
    let began = Instant::now();
    let cancel =
        format!("select pg_cancel_backend(pid) from pg_stat_activity where {SERVERS} and state = 'active'");
    let mut cancelled = 0;
    while began.elapsed() < step.time() {
        cancelled += session.run(&cancel, SESSION_TIME_MAX)?.len();
        std::thread::sleep(CANCEL_PERIOD);
    }
    Ok(format!("{cancelled} statements"))
}

/// Takes every connection that Postgres has left: whoever loses one gets no other.
pub(crate) fn take_connections(session: &Session, step: &Step) -> Result<String, String> {
    block_on(async {
        let mut taken = Vec::new();
        let why = loop {
            match tokio::time::timeout(SESSION_TIME_MAX, session.connect()).await {
                Ok(Ok(client)) if taken.len() < CONNECTIONS_MAX => taken.push(client),
                Ok(Ok(_)) => break "there are more than any test has".to_owned(),
                Ok(Err(why)) => break why,
                Err(_) => break "no session".to_owned(),
            }
        };
        tokio::time::sleep(step.time()).await;
        Ok(format!("{} taken, then: {why}", taken.len()))
    })
}

/// Postgres takes no change.
pub(crate) fn read_only(session: &Session, step: &Step) -> Result<String, String> {
    session.with_setting("default_transaction_read_only = on", step.time(), None)
}

/// Every statement must end at once. The servers' sessions have a limit of their own, so they are ended, and the new ones meet
/// this one before theirs.
pub(crate) fn statement_timeout(session: &Session, step: &Step) -> Result<String, String> {
    let end = format!(
        "set statement_timeout = 0; select pg_terminate_backend(pid) from pg_stat_activity where {SERVERS}"
    );
    session.with_setting("statement_timeout = '2ms'", step.time(), Some(&end))
}
