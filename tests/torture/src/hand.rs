//! Rows that somebody puts in by hand, past every server: found like any other.

use std::sync::Arc;
use std::sync::PoisonError;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use rinha::pessoa::home_of_apelido;

use crate::beside::{ID_AT_HOME, Session};
use crate::clients::Recent;
use crate::history::{Asked, Entry, Told};
use crate::lab::INSTANCES;
use crate::load::Pessoa;

/// Between two rows.
const PAUSE: Duration = Duration::from_millis(300);
/// How long one may take: it may meet a locked table, or a Postgres that is stopped.
const INSERT_TIME_MAX: Duration = Duration::from_secs(5);
/// In the history it is an instance of its own.
const INSTANCE: usize = INSTANCES + 1;

/// The hand at work.
pub(crate) struct Hand {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Vec<Entry>>,
}

impl Hand {
    pub(crate) fn start(session: Session, seed: u64, recent: Recent, epoch: Instant) -> Hand {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = thread::spawn(move || {
            let mut entries = Vec::new();
            for number in 0.. {
                if stopped.load(Ordering::Relaxed) {
                    break;
                }
                let (entry, apelido) = put_in(&session, &format!("{:x}.h{number}.", seed & 0xFFFF), epoch);
                if let Told::Created { id, .. } = &entry.told {
                    let mut recent = recent.lock().unwrap_or_else(PoisonError::into_inner);
                    recent.push((entry.ended, apelido, id.clone()));
                }
                entries.push(entry);
                thread::sleep(PAUSE);
            }
            entries
        });
        Hand { stop, thread }
    }

    /// What it put in, and what became of it.
    pub(crate) fn finish(self) -> Vec<Entry> {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    }
}

/// Puts one row in, of an apelido that begins so.
pub(crate) fn put_in(session: &Session, prefix: &str, epoch: Instant) -> (Entry, String) {
    let mut apelidos =
        std::iter::once(prefix.to_owned()).chain((0..).map(|number| format!("{prefix}{number}.")));
    let fits = |apelido: &String| !session.partitioned || home_of_apelido(apelido).is_multiple_of(2);
    let apelido = apelidos.find(fits).expect("there is always one more");
    let pessoa = Pessoa::named(&apelido);
    let began = epoch.elapsed();
    let told = insert(session, &pessoa);
    let ended = epoch.elapsed();
    (Entry { instance: INSTANCE, began, ended, asked: Asked::Create(pessoa), told }, apelido)
}

/// Whatever Postgres says but that it is done, it may be done.
fn insert(session: &Session, pessoa: &Pessoa) -> Told {
    let Pessoa { apelido, nome, nascimento, .. } = pessoa;
    let id = if session.partitioned { ID_AT_HOME } else { "gen_random_uuid()" };
    let statement = format!(
        "insert into pessoas (id, apelido, nome, nascimento) \
         select {id}, apelido, '{nome}', '{nascimento}' from (values ('{apelido}')) as one (apelido) returning id"
    );
    match session.run(&statement, INSERT_TIME_MAX) {
        Ok(ids) if !ids.is_empty() => Told::Created { body: pessoa.shown(&ids[0]), id: ids[0].clone() },
        _ => Told::Lost,
    }
}
