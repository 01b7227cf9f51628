//! Asks this topology's own balancer whether an instance behind it is ready: an answer of somebody else on the port is
//! none.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

/// Limit of each read and write of one question.
const HEALTH_TIME_MAX: Duration = Duration::from_secs(2);

/// Whether the balancer runs with this pid, by its admin socket, and `/healthz` answers 200 at this address. The balancer
/// shares its port with nobody (`noreuseport`), and it ends if it does not get it: so the port is its own.
pub(crate) fn is_healthy(address: SocketAddr, admin: &Path, pid: u32) -> io::Result<bool> {
    if balancer_pid(admin)? != Some(pid) {
        return Ok(false);
    }
    let mut stream = TcpStream::connect_timeout(&address, HEALTH_TIME_MAX)?;
    stream.set_read_timeout(Some(HEALTH_TIME_MAX))?;
    stream.set_write_timeout(Some(HEALTH_TIME_MAX))?;
    stream.write_all(b"GET /healthz HTTP/1.0\r\n\r\n")?;
    let mut answer = [0; 12];
    stream.read_exact(&mut answer)?;
    Ok(answer.ends_with(b" 200"))
}

/// What the balancer says its pid is.
fn balancer_pid(admin: &Path) -> io::Result<Option<u32>> {
    let mut socket = UnixStream::connect(admin)?;
    socket.set_read_timeout(Some(HEALTH_TIME_MAX))?;
    socket.set_write_timeout(Some(HEALTH_TIME_MAX))?;
    socket.write_all(b"show info\n")?;
    let mut answer = String::new();
    socket.read_to_string(&mut answer)?;
    Ok(answer.lines().find_map(|line| line.strip_prefix("Pid: ")?.trim().parse().ok()))
}
