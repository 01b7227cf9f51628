//! What has the power: a disk, a server with its private Postgres on it, and clients, which stand outside.

use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use forgetful::{Disk, Fate, Mounted, Names, own_mounts};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use rinha::embedded::{DATABASE, USER, default_search};
use serde_json::Value;
use tempfile::TempDir;
use tokio_postgres::{Config, NoTls, SimpleQueryMessage};

use crate::clients::Clients;
use crate::cluster;
use crate::history::{Before, Entry, Told, Verdict, judge};
use crate::processes::kill_tree;
use crate::server::{Server, binary};

/// The load before a cut, and how long after its begin a start is cut, in milliseconds; a first start takes longer.
const LOAD_MILLIS: std::ops::Range<u64> = 150..1500;
const START_MILLIS: std::ops::Range<u64> = 0..500;
const FIRST_START_MILLIS: std::ops::Range<u64> = 0..5000;
/// How long a start may take after a cut.
const START_TIME_MAX: Duration = Duration::from_secs(60);
/// Pessoas of before a cut that clients read all the time after it.
const KNOWN_MAX: usize = 50;

/// What keeps the promise from being kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Lie {
    None,
    /// Each commit is made as with `synchronous_commit=off`, out of the server's sight, which would not use such a session.
    AsynchronousCommit,
    /// Postgres runs with `fsync=off`.
    NoSync,
}

/// What of what was not synced is forgotten.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Luck {
    /// What the seed says.
    Any,
    /// All of it, always, and nothing is written back before.
    Worst,
}

/// When the power is cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Moment {
    /// While the server starts: initdb or recovery.
    Start,
    /// While clients are at work.
    Load,
}

/// The machine. The fields are dropped in order: first what uses the disk.
pub(crate) struct Machine {
    server: Option<Server>,
    mounted: Option<Mounted>,
    directory: TempDir,
    lie: Lie,
    luck: Luck,
    pub(crate) random: StdRng,
    epoch: Instant,
    history: Vec<Entry>,
    /// How often the power was cut.
    pub(crate) cuts: usize,
    /// What the last cut was, to be told with what came of it.
    told: String,
}

impl Machine {
    /// A machine with an empty disk; none, with the reason, where a FUSE filesystem cannot be mounted.
    pub(crate) fn build(names: Names, lie: Lie, luck: Luck, seed: u64) -> Option<Machine> {
        let mut random = StdRng::seed_from_u64(seed);
        let directory = cluster::temporary_directory();
        let disk = directory.path().join("disk");
        fs::create_dir(&disk).unwrap();
        // Either is harder: what comes to the disk unasked may be older than what was written last, or may never come.
        let lazy = luck == Luck::Worst || random.random_bool(0.5);
        let new = Disk::new(names, seed);
        let new = if lazy { new.lazy() } else { new };
        let mounted = match own_mounts().and_then(|()| Mounted::mount(new, &disk)) {
            Ok(mounted) => mounted,
            Err(error) => {
                println!("SKIPPED: a FUSE filesystem cannot be mounted here (root, /dev/fuse): {error}");
                let required = std::env::var_os("REQUIRED").is_some_and(|value| value == "yes");
                assert!(!required, "REQUIRED=yes");
                return None;
            }
        };
        let mut settings =
            vec![["fdatasync", "fsync", "open_datasync", "open_sync"][random.random_range(0..4)]]
                .into_iter()
                .map(|method| format!("wal_sync_method={method}"))
                .collect::<Vec<String>>();
        if lie == Lie::NoSync {
            settings.push("fsync=off".to_owned());
        }
        if lie == Lie::AsynchronousCommit {
            // The writer of the WAL comes often enough to hide most of it.
            settings.push("wal_writer_delay=10s".to_owned());
        }
        println!("{names:?}, {luck:?}, lazy: {lazy}, {lie:?}, {settings:?}");
        wrap_postgres(&directory.path().join("bin"), &settings);
        Some(Machine {
            server: None,
            mounted: Some(mounted),
            directory,
            lie,
            luck,
            random,
            epoch: Instant::now(),
            history: Vec::new(),
            cuts: 0,
            told: String::new(),
        })
    }

    fn disk(&self) -> PathBuf {
        self.directory.path().join("disk")
    }

    /// The data directory, which is made by the server, with what is above it.
    fn data(&self) -> PathBuf {
        self.disk().join("deep/data")
    }

    /// How to connect to the private Postgres.
    fn config(&self) -> Config {
        let mut config = Config::new();
        config.host_path(self.data().join("socket")).port(5432).user(USER).dbname(DATABASE);
        config.connect_timeout(START_TIME_MAX);
        config
    }

    /// 201s so far.
    pub(crate) fn acknowledged(&self) -> usize {
        self.history.iter().filter(|entry| matches!(entry.told, Told::Created { .. })).count()
    }

    /// Switches the server on; it may not serve yet.
    fn switch_on(&mut self) {
        let mut command = binary();
        let path = std::env::var_os("PATH").unwrap_or_default();
        let bin = self.directory.path().join("bin");
        let path = std::env::join_paths([bin].into_iter().chain(std::env::split_paths(&path))).unwrap();
        command.env("PATH", path).args(["--log-format", "json", "--listen", "127.0.0.1:0", "--cores", "2"]);
        command.arg("--data-dir").arg(self.data());
        self.server = Some(Server::spawn(command));
    }

    /// Waits until the server serves.
    fn serve(&mut self) -> Result<(), String> {
        let server = self.server.as_mut().expect("it was switched on");
        let began = Instant::now();
        loop {
            if let Some(serving) = server.events().into_iter().find(|event| event["message"] == "serving") {
                server.start = serving;
                return Ok(());
            }
            if server.has_ended() || began.elapsed() > START_TIME_MAX {
                return Err(format!("no server after {:.1?}: {:#?}", began.elapsed(), server.log()));
            }
            thread::sleep(Duration::from_millis(5));
        }
    }

    /// Runs until the power is cut at a random moment, and leaves all that runs dead.
    pub(crate) fn run_until_cut(&mut self, moment: Moment) -> Result<(), String> {
        let first = self.cuts == 0 && moment == Moment::Start;
        let millis = match moment {
            Moment::Start if first => FIRST_START_MILLIS,
            Moment::Start => START_MILLIS,
            Moment::Load => LOAD_MILLIS,
        };
        let pause = Duration::from_millis(self.random.random_range(millis));
        let mut clients = None;
        if moment == Moment::Start {
            if let Some(server) = self.server.take() {
                self.mounted.as_ref().expect("it is mounted").cut();
                // All of it ends at once. The power is cut already: nothing of what it does from now on is kept.
                kill_tree(server.pid());
                self.off();
            }
            self.switch_on();
        } else {
            if self.server.is_none() {
                self.switch_on();
                self.serve()?;
            }
            self.prepare();
            let server = self.server.as_ref().expect("it serves").tcp();
            let created = self.history.iter().rev().filter_map(|entry| match &entry.told {
                Told::Created { id, .. } => Some(id.clone()),
                _ => None,
            });
            let known = created.take(KNOWN_MAX).collect();
            let prefix = format!("k{}.", self.cuts);
            let twice = [server.clone(), server];
            clients = Some(Clients::start(&twice, known, &prefix, self.random.random(), self.epoch));
            if self.random.random_bool(0.5) {
                checkpoint(self.config());
            }
        }
        thread::sleep(pause);
        self.mounted.as_ref().expect("it is mounted").cut();
        let cut = self.epoch.elapsed();
        let server = self.server.take().expect("it was switched on");
        kill_tree(server.pid());
        self.off();
        let mut entries = clients.map(Clients::finish).unwrap_or_default();
        if self.lie != Lie::None {
            // A 201 after the cut is no lie that a power cut can catch.
            for entry in entries.iter_mut().filter(|entry| entry.ended > cut) {
                entry.told = Told::Lost;
            }
        }
        let acknowledged = entries.iter().filter(|entry| matches!(entry.told, Told::Created { .. })).count();
        self.history.append(&mut entries);
        self.told = format!(
            "{moment:?} after {pause:?}, {acknowledged} acknowledged since the last one, {}",
            self.told
        );
        Ok(())
    }

    /// The disk forgets, and is there again. Only what was killed used it.
    fn off(&mut self) {
        let seed = self.random.random();
        let mut disk = self.mounted.take().expect("it is mounted").off().expect("an unused disk");
        let (fate, loss) = match self.luck {
            Luck::Any => disk.cut(seed),
            Luck::Worst => (Fate::Nothing, disk.cut_with(Fate::Nothing, &mut StdRng::seed_from_u64(seed))),
        };
        self.cuts += 1;
        self.told = format!(
            "fate {fate:?}: of {} pages in {} files {} lost, {} torn; of {} names {} lost",
            loss.pages, loss.files, loss.pages_lost, loss.pages_torn, loss.names, loss.names_lost
        );
        self.mounted = Some(Mounted::mount(disk, &self.disk()).expect("a disk that was mounted before"));
    }

    /// Switches the server on after a cut, and judges all that clients were ever told.
    pub(crate) fn come_back(&mut self) -> Result<Verdict, String> {
        let began = Instant::now();
        self.switch_on();
        self.serve()?;
        let back = began.elapsed();
        let table = table(&self.config())?;
        let verdict = judge(&self.history, &table, &Before::default());
        println!(
            "cut {}: {}; serves after {back:.1?}, {} rows, {} lost, {} other lies",
            self.cuts,
            self.told,
            table.len(),
            verdict.lost(),
            verdict.wrong()
        );
        Ok(verdict)
    }

    /// What a lie needs, and what must not matter, is put into the database.
    fn prepare(&mut self) {
        let mut statements = "alter role current_user set synchronous_commit = 'off';".to_owned();
        if self.lie == Lie::AsynchronousCommit {
            statements.push_str(
                "create or replace function hasten() returns trigger language plpgsql as \
                     $$ begin perform set_config('synchronous_commit', 'off', true); return new; end $$; \
                 create or replace trigger hasten before insert on pessoas for each row execute function hasten()",
            );
        }
        cluster::query(&self.config(), &statements);
    }

    /// The table and its indexes agree, page by page.
    pub(crate) fn examine(&mut self) {
        if self.server.is_none() {
            self.switch_on();
            self.serve().expect("a database that starts");
        }
        let config = self.config();
        if cluster::query(&config, "select 1 from pg_available_extensions where name = 'amcheck'").is_empty()
        {
            println!("not examined: this Postgres has no amcheck");
            return;
        }
        cluster::query(&config, "create extension if not exists amcheck");
        let indexes = cluster::query(
            &config,
            "select bt_index_check(indexrelid, true) from pg_index join pg_class on pg_class.oid = indexrelid \
             join pg_am on pg_am.oid = relam where amname = 'btree' and indrelid = 'pessoas'::regclass",
        );
        let broken = cluster::query(&config, "select * from verify_heapam('pessoas')");
        assert!(!indexes.is_empty() && broken.is_empty(), "{broken:#?}");
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        // Whatever the test saw: nothing runs on.
        if let (Some(server), Some(mounted)) = (self.server.take(), &self.mounted) {
            mounted.cut();
            kill_tree(server.pid());
        }
        self.mounted = None;
    }
}

/// A directory of programs in which `postgres` has settings that come last, and so count.
fn wrap_postgres(bin: &Path, settings: &[String]) {
    fs::create_dir(bin).unwrap();
    let search = default_search();
    let real = |name: &str| search.iter().map(|directory| directory.join(name)).find(|path| path.is_file());
    let initdb = real("initdb").expect("an initdb");
    let postgres = initdb.canonicalize().unwrap().with_file_name("postgres");
    symlink(&initdb, bin.join("initdb")).unwrap();
    let settings: String = settings.iter().map(|setting| format!(" -c {setting}")).collect();
    // Only a postmaster has settings: the same program is asked for its version.
    let script = format!(
        "#!/bin/sh\ncase $1 in -D) exec {postgres} \"$@\"{settings};; *) exec {postgres} \"$@\";; esac\n",
        postgres = postgres.display()
    );
    fs::write(bin.join("postgres"), script).unwrap();
    fs::set_permissions(bin.join("postgres"), Permissions::from_mode(0o755)).unwrap();
}

/// Asks for a checkpoint, without waiting for it: the cut comes before, within or after it.
fn checkpoint(config: Config) {
    thread::spawn(move || {
        cluster::block_on(async {
            let Ok((client, connection)) = config.connect(NoTls).await else { return };
            tokio::spawn(connection);
            // A power cut ends it.
            let _ = client.batch_execute("checkpoint").await;
        });
    });
}

/// All rows, as the API would show them.
fn table(config: &Config) -> Result<Vec<Value>, String> {
    let rows = "select json_build_object('id', id, 'apelido', apelido, 'nome', nome, \
                    'nascimento', nascimento::text, 'stack', stack) from pessoas";
    let messages = cluster::block_on(async {
        let (client, connection) = config.connect(NoTls).await?;
        tokio::spawn(connection);
        client.simple_query(rows).await
    });
    let messages = messages.map_err(|error| format!("the table cannot be read: {error}"))?;
    let rows = messages.iter().filter_map(|message| match message {
        SimpleQueryMessage::Row(row) => row.get(0),
        _ => None,
    });
    rows.map(|row| serde_json::from_str(row).map_err(|error| error.to_string())).collect()
}
