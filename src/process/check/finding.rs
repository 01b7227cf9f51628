//! What was found, what was expected, and whether a start would succeed. It looks at nothing itself.

use std::fmt::Write as _;

use serde::Serialize;

/// Columns of a finding's name.
const NAME_WIDTH: usize = 11;

/// How something is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Verdict {
    /// As expected.
    Ok,
    /// The server would start, and somebody should know.
    Warn,
    /// The server would not start, or not serve.
    Error,
}

/// One line.
#[derive(Serialize)]
pub(super) struct Finding {
    name: &'static str,
    verdict: Verdict,
    found: String,
    expected: &'static str,
}

impl Finding {
    pub(super) fn ok(name: &'static str, found: String, expected: &'static str) -> Finding {
        Finding { name, verdict: Verdict::Ok, found, expected }
    }

    pub(super) fn warn(name: &'static str, found: String, expected: &'static str) -> Finding {
        Finding { name, verdict: Verdict::Warn, found, expected }
    }

    pub(super) fn error(name: &'static str, found: String, expected: &'static str) -> Finding {
        Finding { name, verdict: Verdict::Error, found, expected }
    }
}

/// The lines so far.
#[derive(Default)]
pub(super) struct Findings(Vec<Finding>);

impl Findings {
    pub(super) fn add(&mut self, finding: Finding) {
        self.0.push(finding);
    }

    pub(super) fn report(self) -> Report {
        let would_start = self.0.iter().all(|finding| finding.verdict != Verdict::Error);
        Report { version: env!("CARGO_PKG_VERSION"), would_start, findings: self.0 }
    }
}

/// What a start would do.
#[derive(Serialize)]
pub struct Report {
    version: &'static str,
    would_start: bool,
    findings: Vec<Finding>,
}

impl Report {
    /// Whether a start would succeed.
    pub fn would_start(&self) -> bool {
        self.would_start
    }

    /// A line for each finding, and one for all of them. What was expected is said where it is not so.
    pub fn text(&self) -> String {
        let mut text = String::new();
        for Finding { name, verdict, found, expected } in &self.findings {
            let (verdict, expected) = match verdict {
                Verdict::Ok => ("ok", String::new()),
                Verdict::Warn => ("warn", format!(" (expected: {expected})")),
                Verdict::Error => ("error", format!(" (expected: {expected})")),
            };
            let found = found.replace('\n', " ");
            let _ = writeln!(text, "{verdict:<5}  {name:<NAME_WIDTH$}  {found}{expected}");
        }
        let count =
            |verdict: Verdict| self.findings.iter().filter(|finding| finding.verdict == verdict).count();
        let of = |count: usize, what: &str| format!("{count} {what}{}", if count == 1 { "" } else { "s" });
        let (errors, warnings) = (of(count(Verdict::Error), "error"), of(count(Verdict::Warn), "warning"));
        let _ = match self.would_start {
            true => writeln!(text, "a start would succeed: {warnings}"),
            false => writeln!(text, "a start would fail: {errors}, {warnings}"),
        };
        text
    }

    /// The same as one JSON object, on one line.
    ///
    /// # Errors
    ///
    /// One line: it cannot be written as JSON.
    pub fn json(&self) -> Result<String, String> {
        let text = sonic_rs::to_string(self).map_err(|error| format!("cannot write JSON: {error}"))?;
        Ok(text + "\n")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_error_is_enough() {
        let report = |findings: Vec<Finding>| Findings(findings).report();
        let ok = || Finding::ok("a", "b\nc".to_owned(), "d");
        let warn = || Finding::warn("e", "f".to_owned(), "g");
        let good = report(vec![ok(), warn()]);
        assert!(good.would_start());
        assert_eq!(
            good.text(),
            "ok     a            b c\nwarn   e            f (expected: g)\na start would succeed: 1 warning\n"
        );
        let bad = report(vec![ok(), Finding::error("h", "i".to_owned(), "j"), warn(), warn()]);
        assert!(!bad.would_start());
        assert!(bad.text().ends_with("a start would fail: 1 error, 2 warnings\n"), "{}", bad.text());
        assert!(bad.json().is_ok_and(|json| {
            json.contains(r#"{"name":"h","verdict":"error","found":"i","expected":"j"}"#)
                && json.contains(r#""would_start":false"#)
        }));
    }
}
