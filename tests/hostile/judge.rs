//! Reads what passed between a balancer and the servers, and says what must not have: a request that nobody sent, or not
//! so often; one that two readers could read differently; more answers than requests. It shares no code with the server.

use std::collections::HashMap;

use crate::recorder::Record;

/// A request as a server reads it: method, target and body, without its coding.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Said {
    pub(crate) method: String,
    pub(crate) target: String,
    pub(crate) body: Vec<u8>,
}

impl Said {
    pub(crate) fn new(method: &str, target: &str, body: impl Into<Vec<u8>>) -> Said {
        Said { method: method.to_owned(), target: target.to_owned(), body: body.into() }
    }
}

/// How often each request was sent.
pub(crate) type Sent = HashMap<Said, usize>;

/// What is wrong with what passed. The balancer's own checks are requests too, which the judge knows.
pub(crate) fn judge(records: &[Record], sent: &Sent) -> Vec<String> {
    let mut wrong = Vec::new();
    let mut left = sent.clone();
    for record in records {
        let Read { requests, rest, refused } = read(&record.to_server);
        for said in &requests {
            if said.target == "/healthz" && said.body.is_empty() {
                continue;
            }
            match left.get_mut(said) {
                Some(times @ 1..) => *times -= 1,
                Some(_) => wrong.push(format!("passed on more often than it was sent: {said:?}")),
                None => wrong.push(format!("nobody sent {said:?}")),
            }
        }
        // A request that broke off may have been answered too: that it is wrong, or too late.
        let most = requests.len() + usize::from(!rest.is_empty());
        match answers(&record.to_balancer, &requests) {
            Ok((answers, closes)) if answers <= most => {
                // What two readers could read differently is the last request of its connection, and was told so.
                if let Some(why) = refused
                    && !(answers == most && closes && request_lines(rest) <= 1)
                {
                    wrong.push(format!(
                        "passed on, and not the end of its connection ({why}): {}",
                        shown(rest)
                    ));
                }
            }
            Ok((answers, _)) => {
                wrong.push(format!("{answers} answers to {most} requests: {}", shown(&record.to_balancer)))
            }
            Err(why) => wrong.push(format!("{why}: {}", shown(&record.to_balancer))),
        }
    }
    wrong
}

/// What a strict reader makes of a stream.
pub(crate) struct Read<'a> {
    pub(crate) requests: Vec<Said>,
    /// What comes behind them.
    rest: &'a [u8],
    /// Why the reader stopped there, if it is not that the rest is no whole request yet.
    refused: Option<String>,
}

/// Reads the whole requests of a stream.
pub(crate) fn read(stream: &[u8]) -> Read<'_> {
    let mut all = Read { requests: Vec::new(), rest: stream, refused: None };
    loop {
        match next(all.rest) {
            Ok(Some((said, length))) => {
                all.requests.push(said);
                all.rest = &all.rest[length..];
            }
            Ok(None) => return all,
            Err(why) => {
                all.refused = Some(why);
                return all;
            }
        }
    }
}

/// The first request of a stream and its length; `None` when it is not whole.
fn next(stream: &[u8]) -> Result<Option<(Said, usize)>, String> {
    let mut fields = [httparse::EMPTY_HEADER; 128];
    let mut head = httparse::Request::new(&mut fields);
    let length = match head.parse(stream) {
        Ok(httparse::Status::Complete(length)) => length,
        Ok(httparse::Status::Partial) => return Ok(None),
        Err(error) => return Err(format!("no request: {error}")),
    };
    let all = |name: &str| -> Vec<&[u8]> {
        let named = head.headers.iter().filter(|field| field.name.eq_ignore_ascii_case(name));
        named.map(|field| field.value).collect()
    };
    let rest = &stream[length..];
    let body = match (&all("Content-Length")[..], &all("Transfer-Encoding")[..]) {
        ([], []) => Some((Vec::new(), 0)),
        ([number], []) if number.iter().all(u8::is_ascii_digit) => {
            let number = std::str::from_utf8(number).ok().and_then(|text| text.parse::<usize>().ok());
            let number = number.ok_or("a length that nobody can hold")?;
            rest.get(..number).map(|body| (body.to_vec(), number))
        }
        ([], [coding]) if coding.eq_ignore_ascii_case(b"chunked") => chunks(rest)?,
        (lengths, codings) => return Err(format!("{} lengths, {} codings", lengths.len(), codings.len())),
    };
    let said = |body| Said::new(head.method.unwrap_or_default(), head.path.unwrap_or_default(), body);
    Ok(body.map(|(body, used)| (said(body), length + used)))
}

/// Lines that look like those of requests, but for those within a body of our own making: they say so.
fn request_lines(bytes: &[u8]) -> usize {
    let lines = bytes.split(|&byte| byte == b'\n').filter(|line| {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        let ends = [&b" HTTP/1.1"[..], b" HTTP/1.0"].iter().any(|version| line.ends_with(version));
        ends && !line.windows(8).any(|part| part == b"x=hidden")
    });
    lines.count()
}

/// A chunked body, and how many bytes it takes; `None` when it is not whole.
fn chunks(stream: &[u8]) -> Result<Option<(Vec<u8>, usize)>, String> {
    let (mut body, mut at) = (Vec::new(), 0);
    loop {
        let Some(end) = stream[at..].windows(2).position(|pair| pair == b"\r\n") else { return Ok(None) };
        let line = &stream[at..at + end];
        let size = line.split(|&byte| matches!(byte, b';' | b' ' | b'\t')).next().unwrap_or_default();
        let size =
            std::str::from_utf8(size).ok().filter(|text| text.bytes().all(|byte| byte.is_ascii_hexdigit()));
        let size = size.and_then(|text| usize::from_str_radix(text, 16).ok()).ok_or("no chunk size")?;
        at += end + 2;
        if size == 0 {
            break;
        }
        let Some(chunk) = stream.get(at..at + size + 2) else { return Ok(None) };
        if !chunk.ends_with(b"\r\n") {
            return Err("a chunk that does not end in CRLF".to_owned());
        }
        body.extend_from_slice(&chunk[..size]);
        at += size + 2;
    }
    // Trailers, and the empty line.
    loop {
        let Some(end) = stream[at..].windows(2).position(|pair| pair == b"\r\n") else { return Ok(None) };
        at += end + 2;
        if end == 0 {
            return Ok(Some((body, at)));
        }
    }
}

/// How many answers a stream has, those before the last one of them whole, and whether the last one says that it is the
/// last. `100 Continue` is none.
fn answers(mut stream: &[u8], requests: &[Said]) -> Result<(usize, bool), String> {
    let (mut found, mut closes) = (0, false);
    while !stream.is_empty() {
        let mut fields = [httparse::EMPTY_HEADER; 32];
        let mut head = httparse::Response::new(&mut fields);
        let length = match head.parse(stream) {
            Ok(httparse::Status::Complete(length)) => length,
            Ok(httparse::Status::Partial) => break,
            Err(error) => return Err(format!("no answer: {error}")),
        };
        if head.code.is_some_and(|status| status < 200) {
            stream = &stream[length..];
            continue;
        }
        let field = head.headers.iter().find(|field| field.name.eq_ignore_ascii_case("Content-Length"));
        let number = field.and_then(|field| std::str::from_utf8(field.value).ok()?.parse::<usize>().ok());
        let body = match requests.get(found) {
            Some(said) if said.method == "HEAD" => 0,
            _ => number.ok_or("an answer without a length")?,
        };
        found += 1;
        closes = head.headers.iter().any(|field| {
            field.name.eq_ignore_ascii_case("Connection") && field.value.eq_ignore_ascii_case(b"close")
        });
        // A client that left may have had its answer cut short.
        stream = stream.get(length + body..).unwrap_or_default();
    }
    Ok((found, closes))
}

fn shown(bytes: &[u8]) -> String {
    String::from_utf8_lossy(&bytes[bytes.len().saturating_sub(600)..]).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    const ASK: &str = "GET /a HTTP/1.1\r\nHost: a\r\n\r\n";
    const ANSWER: &str = "HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nx";

    fn closing(status: &str) -> String {
        format!("HTTP/1.1 {status} X\r\nConnection: close\r\nContent-Length: 0\r\n\r\n")
    }

    fn wrong(to_server: &str, to_balancer: &str) -> String {
        let record = Record { to_server: to_server.into(), to_balancer: to_balancer.into() };
        let sent = Sent::from([(Said::new("GET", "/a", ""), 1), (Said::new("POST", "/b", "body"), 1)]);
        judge(&[record], &sent).join("; ")
    }

    #[test]
    fn honest_streams_pass() {
        let refused = format!("{ANSWER}{}", closing("400"));
        for (to_server, to_balancer) in [
            ("", ""),
            // What the server refused, and closed.
            (&format!("{ASK}POST /c HTTP/1.1\r\nX: \0\r\n\r\nbody"), &refused),
            (ASK, ANSWER),
            ("GET /healthz HTTP/1.1\r\nHost: rinha\r\n\r\n", ANSWER),
            ("POST /b HTTP/1.1\r\nContent-Length: 4\r\n\r\nbody", ANSWER),
            (
                "POST /b HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n1;x\r\nb\r\n3\r\nody\r\n0\r\nT: x\r\n\r\n",
                ANSWER,
            ),
            // One that broke off, and was told so.
            (
                "POST /b HTTP/1.1\r\nContent-Length: 4\r\n\r\nbo",
                "HTTP/1.1 408 X\r\nContent-Length: 0\r\n\r\n",
            ),
            (ASK, "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nx"),
        ] {
            assert_eq!(wrong(to_server, to_balancer), "");
        }
    }

    #[test]
    fn each_lie_is_seen() {
        let twice = |text: &str| text.repeat(2);
        let post = |fields: &str, body: &str| format!("POST /b HTTP/1.1\r\n{fields}\r\n\r\n{body}");
        for (to_server, to_balancer, expected) in [
            (ASK.replace("/a", "/hidden"), ANSWER.to_owned(), "nobody sent"),
            (ASK.replace("GET", "POST"), ANSWER.to_owned(), "nobody sent"),
            ("POST /b HTTP/1.1\r\nContent-Length: 3\r\n\r\nbod".to_owned(), ANSWER.to_owned(), "nobody sent"),
            (twice(ASK), twice(ANSWER), "more often"),
            (ASK.to_owned(), twice(ANSWER), "2 answers to 1"),
            (String::new(), ANSWER.to_owned(), "1 answers to 0"),
            (ASK.to_owned(), format!("junk{ANSWER}"), "no answer"),
            // Ambiguous ones, after which the connection goes on, or may.
            (format!("{ASK}\0\0"), ANSWER.to_owned(), "no request"),
            (format!("{ASK}\0\0"), twice(ANSWER), "no request"),
            (format!("\0\r\n{ASK}{ASK}"), closing("400"), "no request"),
            (
                post("Content-Length: 4\r\nTransfer-Encoding: chunked", "0\r\n\r\n"),
                ANSWER.to_owned(),
                "1 lengths, 1 codings",
            ),
            (post("Content-Length: 4\r\nContent-Length: 4", "body"), ANSWER.to_owned(), "2 lengths"),
            (post("Content-Length: 18446744073709551616", ""), ANSWER.to_owned(), "nobody can hold"),
            (post("Transfer-Encoding: x", ""), String::new(), "0 lengths, 1 codings"),
            (post("Transfer-Encoding: chunked", "1\r\nbX\r\n"), ANSWER.to_owned(), "CRLF"),
        ] {
            let wrong = wrong(&to_server, &to_balancer);
            assert!(
                wrong.contains(expected),
                "{to_server:?} {to_balancer:?}: expected {expected}, got {wrong:?}"
            );
        }
    }
}
