//! The head parser against httparse. This module lists where the two differ; every other difference is a fault.
//!
//! Every input is judged three times: by the parser, by httparse, and by a naive re-reading of the fields that
//! httparse found ([`Reading`]). The parser must refuse exactly where httparse does or where [`Difference`] says so.

use rinha::{
    http::{Framing, Head, Progress, Reject, Version},
    limits,
};

use crate::parse;

/// Where the parser is stricter than httparse, on purpose. There is no class for the other direction: what httparse
/// refuses, the parser refuses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Difference {
    /// httparse takes a bare LF for a line end (RFC 9112 section 2.2: MAY). Two readers that disagree about it see
    /// different requests.
    BareLineFeed,
    /// httparse skips any number of empty lines before the request line; the parser one CRLF.
    EmptyLines,
    /// httparse takes any run of visible bytes, and UTF-8, for a target. The parser wants visible ASCII without `#`, in
    /// one of the four forms of RFC 9112 section 3.2, and that form for that method.
    Target,
    /// httparse does not interpret fields: RFC 9112 section 3.2 on `Host`.
    Host,
    /// httparse does not interpret fields: RFC 9110 section 8.6 on `Content-Length`.
    Length,
    /// httparse does not interpret fields: RFC 9112 section 6 on `Transfer-Encoding`.
    Coding,
    /// httparse has no limits but the number of fields it was given room for.
    Limit,
}

impl Difference {
    /// The class of a refusal; `None` when httparse must refuse the same input.
    fn of(reject: Reject) -> Option<Self> {
        Some(match reject {
            Reject::LineEnd => Self::BareLineFeed,
            Reject::RequestLine => Self::EmptyLines,
            Reject::Target => Self::Target,
            Reject::HostMissing | Reject::HostRepeated | Reject::Host => Self::Host,
            Reject::ContentLength => Self::Length,
            Reject::LengthAndCoding | Reject::TransferCoding => Self::Coding,
            Reject::RequestLineTooLong | Reject::SectionTooLong | Reject::TooManyFields => Self::Limit,
            _ => return None,
        })
    }
}

/// A request as httparse reads it.
#[derive(Debug)]
pub(super) struct Reading {
    pub(super) method: String,
    pub(super) target: String,
    minor: u8,
    fields: Vec<(String, Vec<u8>)>,
    pub(super) length: usize,
}

pub(super) fn read(input: &[u8]) -> Result<Option<Reading>, ::httparse::Error> {
    let mut headers = [::httparse::EMPTY_HEADER; 256];
    let mut request = ::httparse::Request::new(&mut headers);
    let ::httparse::Status::Complete(length) = request.parse(input)? else {
        return Ok(None);
    };
    Ok(Some(Reading {
        method: request.method.unwrap().to_owned(),
        target: request.path.unwrap().to_owned(),
        minor: request.version.unwrap(),
        fields: request
            .headers
            .iter()
            .map(|field| (field.name.to_ascii_lowercase(), field.value.to_vec()))
            .collect(),
        length,
    }))
}

impl Reading {
    fn all(&self, name: &str) -> Vec<&[u8]> {
        self.fields.iter().filter(|(found, _)| found == name).map(|(_, value)| value.as_slice()).collect()
    }

    /// The lower-cased members of all fields of that name.
    fn members(&self, name: &str) -> Vec<String> {
        self.all(name)
            .iter()
            .flat_map(|value| {
                let text = String::from_utf8_lossy(value).to_ascii_lowercase();
                text.split(',').map(|member| member.trim_matches([' ', '\t']).to_owned()).collect::<Vec<_>>()
            })
            .collect()
    }

    pub(super) fn keep_alive(&self) -> bool {
        let options = self.members("connection");
        let has = |option: &str| options.iter().any(|found| found == option);
        !has("close") && (self.minor == 1 || has("keep-alive"))
    }

    pub(super) fn framing(&self) -> Framing {
        if !self.all("transfer-encoding").is_empty() {
            return Framing::Chunked;
        }
        let digits = self
            .all("content-length")
            .first()
            .map_or("0".into(), |value| String::from_utf8_lossy(value).into_owned());
        Framing::Length(digits.parse().unwrap_or(usize::MAX))
    }

    pub(super) fn expect_continue(&self) -> bool {
        let expected = self.members("expect").iter().any(|m| m == "100-continue");
        expected && self.minor == 1 && self.framing() != Framing::Length(0)
    }

    /// The differences that the fields and the target justify.
    pub(super) fn differences(&self) -> Vec<Difference> {
        let mut found = Vec::new();
        let hosts = self.all("host");
        let wanted = if self.minor == 1 { 1..=1 } else { 0..=1 };
        if !wanted.contains(&hosts.len()) || !hosts.iter().all(|host| is_host(host)) {
            found.push(Difference::Host);
        }
        let lengths = self.all("content-length");
        let decimal = |value: &&[u8]| !value.is_empty() && value.iter().all(u8::is_ascii_digit);
        if lengths.len() > 1 || !lengths.iter().all(decimal) {
            found.push(Difference::Length);
        }
        let codings = self.all("transfer-encoding");
        let wrong = codings.len() > 1
            || self.minor == 0
            || !lengths.is_empty()
            || codings.first().map(|value| value.to_ascii_lowercase()) != Some(b"chunked".to_vec());
        if !codings.is_empty() && wrong {
            found.push(Difference::Coding);
        }
        if !self.is_target_right() {
            found.push(Difference::Target);
        }
        if self.fields.len() > limits::HEADER_FIELDS_MAX {
            found.push(Difference::Limit);
        }
        found
    }

    fn is_target_right(&self) -> bool {
        let target = self.target.as_str();
        if !target.is_ascii() || target.contains('#') {
            return false;
        }
        if self.method == "CONNECT" {
            let port = target.rsplit_once(':').filter(|(host, _)| !host.is_empty());
            return is_host(target.as_bytes())
                && port.is_some_and(|(_, port)| !port.is_empty() && !port.ends_with(']'));
        }
        let lower = target.to_ascii_lowercase();
        let url = lower.strip_prefix("http://").or(lower.strip_prefix("https://"));
        let authority = url.map(|rest| rest.split(['/', '?']).next().unwrap_or(""));
        target.starts_with('/')
            || (target == "*" && self.method == "OPTIONS")
            || authority.is_some_and(|a| !a.is_empty() && !a.starts_with(':') && is_host(a.as_bytes()))
    }
}

/// `name[:port]` or `[address][:port]`, by splitting text.
fn is_host(value: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(value) else {
        return false;
    };
    let (host, port) = match text.rsplit_once(':') {
        Some((host, port)) if !port.contains(']') => (host, port),
        _ => (text, ""),
    };
    let address = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
    let (name, allowed) = match address {
        Some("") => return false,
        Some(address) => (address, "-._~%:"),
        None => (host, "-._~%!$&'()*+;="),
    };
    port.bytes().all(|byte| byte.is_ascii_digit())
        && name.chars().all(|c| c.is_ascii_alphanumeric() || allowed.contains(c))
}

/// The differences that the bytes of a head justify, be it complete or only a part.
pub(super) fn differences_of_bytes(input: &[u8], complete: bool) -> Vec<Difference> {
    let mut found = Vec::new();
    if input.starts_with(b"\n") || input.starts_with(b"\r\n\r") || input.starts_with(b"\r\n\n") {
        found.push(Difference::EmptyLines);
    }
    if (0..input.len()).any(|at| input[at] == b'\n' && (at == 0 || input[at - 1] != b'\r')) {
        found.push(Difference::BareLineFeed);
    }
    let rest = input.strip_prefix(b"\r\n").unwrap_or(input);
    let line_end = rest.iter().position(|&byte| byte == b'\n');
    let (line, section) = rest.split_at(line_end.map_or(rest.len(), |at| at + 1));
    let line_length = line.len() - line.iter().rev().take_while(|b| b"\r\n".contains(b)).count();
    // A section that is not complete will have at least one byte more.
    let section_length = section.len() + usize::from(!complete);
    if line_length > limits::REQUEST_LINE_MAX || section_length > limits::HEADER_SECTION_MAX {
        found.push(Difference::Limit);
    }
    found
}

/// What is known of a head that is not complete: its whole lines, closed by an empty one.
fn read_whole_lines(input: &[u8]) -> Option<Reading> {
    let end = input.iter().rposition(|&byte| byte == b'\n')? + 1;
    read(&[&input[..end], b"\r\n"].concat()).ok().flatten()
}

/// Holds the parser's outcome against httparse and the naive reading; panics on a difference that is not listed.
pub(super) fn compare(input: &[u8]) {
    let ours = parse(input);
    let theirs = read(input);
    let context = || {
        let outcomes = format!("{ours:?} against {theirs:?}");
        let shown = String::from_utf8_lossy(&input[..input.len().min(400)]);
        format!("{shown:?}: {outcomes:.800}")
    };
    match (&ours, &theirs) {
        (Err(_), Err(_)) | (Ok(Progress::Partial), Ok(None)) => {}
        // The parser looks at a line when it is complete, httparse at every byte.
        (Ok(Progress::Partial), Err(_)) => {
            assert!(parse(&[input, b"\r\n\r\n"].concat()).is_err(), "{}", context());
        }
        (Ok(Progress::Complete(head)), Ok(Some(reading))) => {
            let mut differences = differences_of_bytes(&input[..reading.length], true);
            differences.extend(reading.differences());
            assert_eq!(differences, [], "{}", context());
            agree(head, reading, input);
        }
        (Err(reject), Ok(reading)) => {
            let mut justified = match reading {
                Some(reading) => differences_of_bytes(&input[..reading.length], true),
                None => differences_of_bytes(input, false),
            };
            let lines = read_whole_lines(input);
            let fields = reading.as_ref().or(lines.as_ref());
            justified.extend(fields.map(Reading::differences).unwrap_or_default());
            let class = Difference::of(*reject);
            let listed = class.is_some_and(|class| justified.contains(&class));
            assert!(listed, "{}: {justified:?}", context());
        }
        _ => panic!("{}", context()),
    }
}

fn agree(head: &Head, reading: &Reading, input: &[u8]) {
    let known = format!("{:?}", head.method).to_ascii_uppercase();
    assert!(known == reading.method || known == "UNKNOWN", "{head:?} {reading:?}");
    assert_eq!(&input[head.target.clone()], reading.target.as_bytes());
    assert_eq!(head.version == Version::Http11, reading.minor == 1);
    assert_eq!(head.length, reading.length);
    // What follows a CONNECT is no request of ours.
    assert_eq!(head.keep_alive, reading.keep_alive() && reading.method != "CONNECT");
    assert_eq!(head.framing, reading.framing());
    assert_eq!(head.expect_continue, reading.expect_continue());
}

#[test]
fn every_class_of_difference_occurs() {
    use Difference::*;
    for class in [BareLineFeed, EmptyLines, Target, Host, Length, Coding, Limit] {
        let shown = crate::cases::cases().iter().any(|(input, _)| {
            parse(input).is_err_and(|reject| Difference::of(reject) == Some(class)) && read(input).is_ok()
        });
        assert!(shown, "no case shows {class:?}: is it still a difference?");
    }
}
