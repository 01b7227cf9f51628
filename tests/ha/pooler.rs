//! A PgBouncer before the database.

use std::fs;
use std::net::TcpStream;
use std::path::Path;
use std::process::Child;

use ha::cluster::Cluster;
use ha::process::{account, start};
use ha::programs::on_path;
use nix::unistd::chown;

use crate::load::wait_until;

/// Starts a PgBouncer on `port` of loopback that takes its sessions from `database`, a port of loopback too; `mode` is its
/// `pool_mode`. None if it is not installed.
pub(crate) fn start_pooler(
    cluster: &Cluster,
    directory: &Path,
    mode: &str,
    port: u16,
    database: u16,
) -> Option<Child> {
    let program = on_path("pgbouncer")?;
    let users = directory.join("pgbouncer-users");
    fs::write(&users, format!("\"rinha\" \"{}\"\n", cluster.password())).expect("a file");
    let file = directory.join(format!("pgbouncer-{mode}.ini"));
    let text = format!(
        "[databases]\n\
         rinha = host=127.0.0.1 port={database}\n\
         [pgbouncer]\n\
         listen_addr = 127.0.0.1\n\
         listen_port = {port}\n\
         unix_socket_dir =\n\
         auth_type = scram-sha-256\n\
         auth_file = {}\n\
         pool_mode = {mode}\n\
         default_pool_size = 50\n\
         server_login_retry = 0.1\n\
         server_connect_timeout = 1\n",
        users.display()
    );
    fs::write(&file, text).expect("a file");
    if let Some(account) = account().expect("an account") {
        chown(&users, Some(account.uid), Some(account.gid)).expect("a file of the account");
    }
    let words = [program.display().to_string(), file.display().to_string()];
    let log = directory.join(format!("pgbouncer-{mode}.log"));
    let pooler = start(&[], &words, &[], &log).expect("PgBouncer");
    wait_until("PgBouncer's port", || TcpStream::connect(("127.0.0.1", port)).is_ok());
    Some(pooler)
}
