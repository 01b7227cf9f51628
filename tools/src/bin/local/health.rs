//! Asks the balancer whether an instance behind it is ready.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

/// Limit of each read and write of one question.
const HEALTH_TIME_MAX: Duration = Duration::from_secs(2);

/// Whether `/healthz` answers 200 on this port.
pub(crate) fn is_healthy(port: u16) -> io::Result<bool> {
    let mut stream = TcpStream::connect(("127.0.0.1", port))?;
    stream.set_read_timeout(Some(HEALTH_TIME_MAX))?;
    stream.set_write_timeout(Some(HEALTH_TIME_MAX))?;
    stream.write_all(b"GET /healthz HTTP/1.0\r\n\r\n")?;
    let mut answer = [0; 12];
    stream.read_exact(&mut answer)?;
    Ok(answer.ends_with(b" 200"))
}
