//! What holds for every answer, whatever was asked: checked here once, by the client that all tests use. It knows
//! no endpoint but `/healthz`, whose 503 is a document of its own.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::json;

use crate::server::{Connection, Response};

/// How far `Date` may lie outside of the time between the sending and the reading.
const DATE_OFF_SECONDS_MAX: u64 = 2;

/// A connection that lets no answer pass unchecked.
pub(crate) struct Client {
    connection: Connection,
    /// When something was last sent, in seconds since 1970; the connection's beginning at first.
    sent: u64,
}

impl Client {
    pub(crate) fn new(connection: Connection) -> Client {
        Client { connection, sent: now() }
    }

    /// Sends bytes as they are.
    pub(crate) fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.sent = now();
        self.connection.send(bytes);
    }

    /// Sends bytes to a server that may have answered and stopped reading.
    pub(crate) fn send_unless_closed(&mut self, bytes: impl AsRef<[u8]>) {
        let _the_answer_says_more = self.connection.try_send(bytes);
    }

    /// Sends a well-formed request and reads its answer.
    pub(crate) fn ask(&mut self, method: &str, target: &str, body: impl AsRef<[u8]>) -> Response {
        self.send(request(method, target, body.as_ref()));
        if target != "/healthz" {
            return self.receive_to(method);
        }
        let response = self.connection.try_receive(method == "HEAD").expect("an answer");
        check_head(&response, self.sent);
        response
    }

    /// Reads the answer to a request with this method.
    #[track_caller]
    pub(crate) fn receive_to(&mut self, method: &str) -> Response {
        let response = self.connection.try_receive(method == "HEAD").expect("an answer");
        check(&response, method == "HEAD", self.sent);
        response
    }

    /// Reads one answer to anything but HEAD.
    #[track_caller]
    pub(crate) fn receive(&mut self) -> Response {
        self.receive_to("")
    }

    /// Reads `100 Continue`, which is no answer yet.
    #[track_caller]
    pub(crate) fn receive_continue(&mut self) {
        let interim = self.connection.receive();
        assert_eq!(interim.raw, b"HTTP/1.1 100 Continue\r\n\r\n");
    }

    /// Reads what one `read` gives.
    pub(crate) fn read_once(&mut self) {
        self.connection.read_once().expect("an open connection");
    }

    /// What was read and not yet taken as an answer.
    pub(crate) fn unread(&self) -> &[u8] {
        self.connection.unread()
    }

    /// Whether anything came within `time`.
    pub(crate) fn hears_within(&mut self, time: Duration) -> bool {
        self.connection.hears_within(time)
    }

    /// Says that nothing more will be sent.
    pub(crate) fn finish(&mut self) {
        self.connection.finish();
    }

    /// The server closes, and nothing comes before that.
    #[track_caller]
    pub(crate) fn expect_close(&mut self) {
        assert_eq!(self.unread(), b"", "expected nothing but the close");
        assert!(self.connection.is_closed_by_server(), "expected a close, got {:?}", self.unread());
    }

    /// The connection goes on.
    #[track_caller]
    pub(crate) fn expect_alive(&mut self) {
        assert!(self.connection.is_alive(), "expected a connection that goes on");
    }
}

/// A well-formed request; the body may be any bytes.
pub(crate) fn request(method: &str, target: &str, body: &[u8]) -> Vec<u8> {
    let length = match (method, body.len()) {
        ("GET" | "HEAD", 0) => String::new(),
        (_, length) => format!("Content-Length: {length}\r\n"),
    };
    let head = format!("{method} {target} HTTP/1.1\r\nHost: localhost\r\n{length}\r\n");
    [head.as_bytes(), body].concat()
}

/// The start of what was sent, for messages.
pub(crate) fn shown(sent: impl AsRef<[u8]>) -> String {
    let sent = sent.as_ref();
    String::from_utf8_lossy(&sent[..sent.len().min(200)]).into_owned()
}

/// `expected` is a status, and of a problem also the start of its detail.
#[track_caller]
pub(crate) fn expect(response: &Response, expected: &str) {
    let got = match response.status {
        400.. => format!("{} {}", response.status, response.json()["detail"].as_str().unwrap_or_default()),
        status => status.to_string(),
    };
    assert!(got.starts_with(expected), "\nexpected {expected}\n     got {got}");
}

/// The answer's `Connection` field has this value, or the answer has none.
#[track_caller]
pub(crate) fn expect_persistence(response: &Response, expected: Option<&str>) {
    assert_eq!(response.header("Connection"), expected, "{response:?}");
}

#[track_caller]
fn check(response: &Response, head_only: bool, sent: u64) {
    check_head(response, sent);
    if response.status < 400 {
        return;
    }
    assert_eq!(once(response, "Content-Type"), "application/problem+json");
    if head_only {
        return;
    }
    let problem = response.json();
    let detail = problem["detail"].as_str().unwrap_or_default();
    assert!(!detail.is_empty(), "expected a detail: {problem}");
    let expected = json!({ "title": response.reason, "status": response.status, "detail": detail });
    assert_eq!(problem, expected);
}

/// Every answer has a length, a date and a type. A length that is not the body's shows in the answer that follows.
#[track_caller]
fn check_head(response: &Response, sent: u64) {
    assert!(response.raw.starts_with(b"HTTP/1.1 "), "{response:?}");
    let length: usize = once(response, "Content-Length").parse().expect("a length");
    assert!(response.body.is_empty() || response.body.len() == length, "{response:?}");
    assert!(!once(response, "Content-Type").is_empty());
    let date = seconds_since_1970(once(response, "Date"));
    let read = now();
    let right = sent - DATE_OFF_SECONDS_MAX..=read + DATE_OFF_SECONDS_MAX;
    assert!(right.contains(&date), "{}: sent at {sent}, read at {read}", once(response, "Date"));
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("a time after 1970").as_secs()
}

#[track_caller]
fn once<'a>(response: &'a Response, name: &str) -> &'a str {
    let mut fields = response.headers.iter().filter(|(found, _)| found.eq_ignore_ascii_case(name));
    match (fields.next(), fields.next()) {
        (Some((_, value)), None) => value,
        _ => panic!("expected {name} once: {response:?}"),
    }
}

/// Reads an IMF-fixdate (RFC 9110 section 5.6.7), such as `Sun, 06 Nov 1994 08:49:37 GMT`, without the server's code.
#[track_caller]
fn seconds_since_1970(date: &str) -> u64 {
    let parts: Vec<&str> = date.split([' ', ':']).collect();
    let [weekday, day, month, year, hours, minutes, seconds, "GMT"] = parts[..] else {
        panic!("expected an IMF-fixdate, got {date:?}")
    };
    let number = |text: &str| text.parse::<u64>().expect("digits");
    let months = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let month = months.iter().position(|name| *name == month).expect("a month") as u64;
    // The year begins in March, so that a leap day is its last.
    let (year, month) = if month < 2 { (number(year) - 1, month + 10) } else { (number(year), month - 2) };
    let days_to_month = (153 * month + 2) / 5;
    let days = 365 * year + year / 4 - year / 100 + year / 400 + days_to_month + number(day) - 1 - 719_468;
    let weekdays = ["Thu,", "Fri,", "Sat,", "Sun,", "Mon,", "Tue,", "Wed,"];
    let expected_weekday = weekdays[usize::try_from(days % 7).expect("a small number")];
    assert_eq!((weekday, date.len()), (expected_weekday, "Sun, 06 Nov 1994 08:49:37 GMT".len()), "{date}");
    days * 86_400 + number(hours) * 3_600 + number(minutes) * 60 + number(seconds)
}

#[test]
fn dates_are_read_right() {
    for (date, expected) in [
        ("Thu, 01 Jan 1970 00:00:00 GMT", 0),
        ("Sun, 06 Nov 1994 08:49:37 GMT", 784_111_777),
        ("Tue, 29 Feb 2000 23:59:59 GMT", 951_868_799),
        ("Mon, 01 Mar 2100 00:00:00 GMT", 4_107_542_400),
    ] {
        assert_eq!(seconds_since_1970(date), expected, "{date}");
    }
}
