//! One question over HTTP/1.0, and its answer.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use crate::Result;

/// Of the connection, and of each write.
const CONNECT_TIME_MAX: Duration = Duration::from_secs(2);

/// What is asked.
#[derive(Clone, Copy, Debug)]
pub struct Question<'a> {
    /// GET, POST, ..
    pub method: &'a str,
    /// The path.
    pub path: &'a str,
    /// JSON, or nothing.
    pub body: &'a str,
    /// User and password.
    pub credentials: Option<(&'a str, &'a str)>,
    /// How long each read may take.
    pub time_max: Duration,
}

/// The status and the body of the answer.
pub fn ask(address: SocketAddr, question: &Question) -> Result<(u16, String)> {
    let Question { method, path, body, credentials, time_max } = question;
    let mut stream = TcpStream::connect_timeout(&address, CONNECT_TIME_MAX)?;
    stream.set_read_timeout(Some(*time_max))?;
    stream.set_write_timeout(Some(CONNECT_TIME_MAX))?;
    let credentials = match credentials {
        Some((user, password)) => {
            format!("Authorization: Basic {}\r\n", base64(&format!("{user}:{password}")))
        }
        None => String::new(),
    };
    let length = body.len();
    stream.write_all(
        format!(
            "{method} {path} HTTP/1.0\r\nHost: {address}\r\nContent-Type: application/json\r\n\
             Content-Length: {length}\r\n{credentials}\r\n{body}"
        )
        .as_bytes(),
    )?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let (head, body) = answer.split_once("\r\n\r\n").ok_or("expected a head and a body")?;
    let status = head.split(' ').nth(1).ok_or("expected a status")?.parse()?;
    Ok((status, body.to_owned()))
}

/// RFC 4648, for the one header that needs it.
fn base64(text: &str) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    text.as_bytes()
        .chunks(3)
        .flat_map(|chunk| {
            let bits = (0..3).fold(0_u32, |bits, at| bits << 8 | u32::from(*chunk.get(at).unwrap_or(&0)));
            let digit = move |at: u32| char::from(DIGITS[(bits >> (18 - 6 * at) & 63) as usize]);
            let padded = move |at: u32| if at as usize <= chunk.len() { digit(at) } else { '=' };
            [digit(0), digit(1), padded(2), padded(3)]
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::base64;

    #[test]
    fn base64_pads_what_is_short() {
        for (text, expected) in
            [("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("patroni:x", "cGF0cm9uaTp4")]
        {
            assert_eq!(base64(text), expected);
        }
    }
}
