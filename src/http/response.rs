//! Writes response heads. It must not know what a status means to the API, nor who sends the bytes.

use super::{date::HttpDate, status::Status};

/// What a client that sent `Expect: 100-continue` waits for (RFC 9110 section 15.2.1).
pub const CONTINUE: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";

/// What the response says about the connection (RFC 9112 section 9.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Persistence {
    /// Nothing: the version's default holds. An HTTP/1.1 connection stays open.
    Default,
    /// `Connection: close`.
    Close,
    /// `Connection: keep-alive`, which an HTTP/1.0 client that asked for it needs to read.
    KeepAlive,
}

/// A response head. The answer to HEAD is written with the `content_length` that GET would have.
#[derive(Debug, Clone, Copy)]
pub struct ResponseHead<'a> {
    /// The status.
    pub status: Status,
    /// `Content-Type`.
    pub content_type: Option<&'static str>,
    /// `Content-Length`, in bytes.
    pub content_length: usize,
    /// One more field, such as `Location`, `Allow` or `Retry-After`: name and value. Both are written as they are, so
    /// that they must hold no control character.
    pub extra: Option<(&'static str, &'a [u8])>,
    /// `Connection`.
    pub persistence: Persistence,
}

/// Appends the head with its final empty line to `out`. It allocates only when `out` has to grow.
pub fn write_head(out: &mut Vec<u8>, head: &ResponseHead<'_>, date: &HttpDate) {
    out.extend_from_slice(head.status.line().as_bytes());
    out.extend_from_slice(b"Date: ");
    out.extend_from_slice(date.as_bytes());
    if let Some(content_type) = head.content_type {
        out.extend_from_slice(b"\r\nContent-Type: ");
        out.extend_from_slice(content_type.as_bytes());
    }
    out.extend_from_slice(b"\r\nContent-Length: ");
    write_decimal(out, head.content_length);
    if let Some((name, value)) = head.extra {
        debug_assert!(
            super::octets::is_all_field_value(value),
            "a control character in {name} could end the head"
        );
        out.extend_from_slice(b"\r\n");
        out.extend_from_slice(name.as_bytes());
        out.extend_from_slice(b": ");
        out.extend_from_slice(value);
    }
    out.extend_from_slice(match head.persistence {
        Persistence::Default => b"\r\n\r\n",
        Persistence::Close => b"\r\nConnection: close\r\n\r\n",
        Persistence::KeepAlive => b"\r\nConnection: keep-alive\r\n\r\n",
    });
}

/// Appends `number` in decimal digits.
fn write_decimal(out: &mut Vec<u8>, mut number: usize) {
    let mut digits = [0; 20];
    let mut start = digits.len();
    loop {
        start -= 1;
        digits[start] = b"0123456789"[number % 10];
        number /= 10;
        if number == 0 {
            break;
        }
    }
    out.extend_from_slice(&digits[start..]);
}

// Twenty digits hold any `usize`.
const _: () = assert!(usize::BITS <= 64);

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const DATE: u64 = 784_111_777;

    fn check(head: &ResponseHead<'_>, expected: &str) {
        let mut out = b"before".to_vec();
        write_head(&mut out, head, &HttpDate::from_unix(DATE));
        assert_eq!(String::from_utf8(out).unwrap(), format!("before{expected}"));
    }

    #[test]
    fn heads() {
        let head = ResponseHead {
            status: Status::CREATED,
            content_type: Some("application/json"),
            content_length: 140,
            extra: Some(("Location", b"/pessoas/1")),
            persistence: Persistence::Default,
        };
        check(
            &head,
            "HTTP/1.1 201 Created\r\nDate: Sun, 06 Nov 1994 08:49:37 GMT\r\nContent-Type: application/json\r\n\
             Content-Length: 140\r\nLocation: /pessoas/1\r\n\r\n",
        );
        check(
            &ResponseHead {
                status: Status::OK,
                content_length: 0,
                extra: None,
                persistence: Persistence::KeepAlive,
                ..head
            },
            "HTTP/1.1 200 OK\r\nDate: Sun, 06 Nov 1994 08:49:37 GMT\r\nContent-Type: application/json\r\n\
             Content-Length: 0\r\nConnection: keep-alive\r\n\r\n",
        );
        check(
            &ResponseHead {
                status: Status::METHOD_NOT_ALLOWED,
                content_type: None,
                content_length: 7,
                extra: Some(("Allow", b"GET, HEAD")),
                persistence: Persistence::Close,
            },
            "HTTP/1.1 405 Method Not Allowed\r\nDate: Sun, 06 Nov 1994 08:49:37 GMT\r\nContent-Length: 7\r\n\
             Allow: GET, HEAD\r\nConnection: close\r\n\r\n",
        );
    }

    proptest! {
        #[test]
        fn decimals(number: usize, shift in 0..usize::BITS) {
            let mut out = Vec::new();
            write_decimal(&mut out, number >> shift);
            prop_assert_eq!(String::from_utf8(out).unwrap(), (number >> shift).to_string());
        }
    }
}
