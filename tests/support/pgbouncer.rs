//! PgBouncer in front of a test's cluster.

use std::fs;

use crate::cluster::Cluster;
use crate::load::wait_until;
use crate::processes::Child;

/// PgBouncer in front of a cluster, or `None` with a word about it.
pub(crate) fn pooler(cluster: &Cluster, mode: &str, server_sessions: usize) -> Option<(Child, u16)> {
    let Some(binary) = Child::find("pgbouncer") else {
        println!("skipped: expected pgbouncer; install the package of that name");
        return None;
    };
    let port = Child::free_port();
    let path = cluster.directory().join(format!("{mode}{server_sessions}.ini"));
    let socket = cluster.embedded.socket_dir().display().to_string();
    fs::write(
        &path,
        format!(
            "[databases]\npostgres = host={socket} user=rinha\n[pgbouncer]\nlisten_addr = 127.0.0.1\n\
             listen_port = {port}\nunix_socket_dir =\nauth_type = any\npool_mode = {mode}\ndefault_pool_size = {server_sessions}\n"
        ),
    )
    .expect("its configuration");
    let mut command = std::process::Command::new(binary);
    command.arg(&path);
    let child = Child::start_as_owner_of(&cluster.pgdata(), command);
    wait_until("PgBouncer", || std::net::TcpStream::connect(("127.0.0.1", port)).is_ok());
    Some((child, port))
}
