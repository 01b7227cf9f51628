//! What is said of a wait, and how it is fitted into a width. All of it is ASCII, so that a character is a column.

use std::fmt;
use std::time::Duration;

/// The bar takes what is left of the line, within these. The most is so little that it seldom changes its size.
const BAR_COLUMNS_MIN: usize = 12;
const BAR_COLUMNS_MAX: usize = 22;
/// The least of a further text that is worth showing.
const NOTE_COLUMNS_MIN: usize = 12;
/// The most of a further text: it may be a line of some program's output.
const NOTE_BYTES_MAX: usize = 200;
const BETWEEN: &str = ", ";

/// A line of several parts. Where the line is too narrow, the last ones are left out.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Text {
    parts: Vec<String>,
    note: String,
    share: Option<f64>,
}

impl Text {
    /// A line that begins with this part, which is cut rather than left out.
    pub fn new(first: impl Into<String>) -> Self {
        Self { parts: vec![first.into()], ..Self::default() }
    }

    /// One more part.
    #[must_use]
    pub fn and(mut self, part: impl Into<String>) -> Self {
        self.parts.push(part.into());
        self
    }

    /// One more part, if there is one.
    #[must_use]
    pub fn and_if(self, part: Option<String>) -> Self {
        match part {
            Some(part) => self.and(part),
            None => self,
        }
    }

    /// A further text, which is cut to the room that is left.
    #[must_use]
    pub fn note(mut self, note: &str) -> Self {
        self.note = printable(&note[..note.floor_char_boundary(NOTE_BYTES_MAX)]);
        self
    }

    /// How much is done, from 0 to 1: a bar, where there is room.
    #[must_use]
    pub fn share(mut self, share: f64) -> Self {
        self.share = Some(share.clamp(0.0, 1.0));
        self
    }

    /// As much of it as fits into so many columns.
    pub(crate) fn fitted(&self, columns: usize) -> String {
        let mut parts = self.parts.iter().map(|part| printable(part));
        let mut line = parts.next().unwrap_or_default();
        line.truncate(columns);
        for part in parts {
            if line.len() + BETWEEN.len() + part.len() > columns {
                // What is less important must not stand where this is missing.
                return line;
            }
            line = [&*line, BETWEEN, &part].concat();
        }
        let room = columns.saturating_sub(line.len() + ": ".len());
        if !self.note.is_empty() && room >= NOTE_COLUMNS_MIN {
            line = format!("{line}: {:.room$}", self.note);
        }
        let room = columns.saturating_sub(line.len() + " ".len());
        if let Some(share) = self.share.filter(|_| room >= BAR_COLUMNS_MIN) {
            line = format!("{line} {}", bar(share, room.min(BAR_COLUMNS_MAX)));
        }
        line
    }
}

/// All of it but the bar.
impl fmt::Display for Text {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&printable(&self.parts.join(BETWEEN)))?;
        if self.note.is_empty() { Ok(()) } else { write!(formatter, ": {}", self.note) }
    }
}

fn bar(share: f64, columns: usize) -> String {
    let inner = columns - "[]".len();
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a share of some columns")]
    let done = (share * inner as f64).round() as usize;
    format!("[{}{}]", "#".repeat(done), ".".repeat(inner - done))
}

/// Without what could move the cursor, or take another number of columns than it has bytes.
fn printable(text: &str) -> String {
    let plain = |letter: char| if letter == ' ' || letter.is_ascii_graphic() { letter } else { '?' };
    text.chars().map(plain).collect()
}

/// A duration as people say it.
pub fn duration(duration: Duration) -> String {
    let seconds = duration.as_secs();
    match (seconds / 3600, seconds / 60 % 60, seconds % 60) {
        (0, 0, seconds) => format!("{seconds} s"),
        (0, minutes, seconds) => format!("{minutes} min {seconds} s"),
        (hours, minutes, _) => format!("{hours} h {minutes} min"),
    }
}

/// How long the rest takes if it goes on as it went so far; None while that cannot be told.
pub fn left(done: u64, all: u64, spent: Duration) -> Option<Duration> {
    if done == 0 || spent < Duration::from_secs(1) {
        return None;
    }
    let rest = all.saturating_sub(done) as f64 / done as f64;
    Duration::try_from_secs_f64(spent.as_secs_f64() * rest).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_left_out_from_the_end() {
        let text = Text::new("87 of 205 s").and("31204 requests").and("KO 0").share(0.5);
        for (columns, expected) in [
            (80, "87 of 205 s, 31204 requests, KO 0 [##########..........]"),
            (46, "87 of 205 s, 31204 requests, KO 0 [#####.....]"),
            (45, "87 of 205 s, 31204 requests, KO 0"),
            (33, "87 of 205 s, 31204 requests, KO 0"),
            (32, "87 of 205 s, 31204 requests"),
            (26, "87 of 205 s"),
            (5, "87 of"),
            (0, ""),
        ] {
            assert_eq!(text.fitted(columns), expected, "{columns}");
        }
        assert_eq!(text.to_string(), "87 of 205 s, 31204 requests, KO 0");
    }

    #[test]
    fn a_missing_part_hides_what_is_less_important() {
        assert_eq!(Text::new("a").and("a long part").and("b").fitted(8), "a");
    }

    #[test]
    fn a_note_is_cut() {
        let text = Text::new("building").and("3 s").note("Compiling rinha v0.1.0");
        assert_eq!(text.fitted(80), "building, 3 s: Compiling rinha v0.1.0");
        assert_eq!(text.fitted(30), "building, 3 s: Compiling rinha");
        assert_eq!(text.fitted(20), "building, 3 s");
    }

    #[test]
    fn nothing_of_another_program_moves_the_cursor() {
        let text = Text::new("up").note("\u{1b}[31m\tné\r\n");
        assert_eq!(text.to_string(), "up: ?[31m?n???");
        assert_eq!(
            Text::new("up").note(&"é".repeat(500)).to_string().len(),
            "up: ".len() + NOTE_BYTES_MAX / 2
        );
    }

    #[test]
    fn durations_read_well() {
        for (seconds, expected) in [(0, "0 s"), (59, "59 s"), (61, "1 min 1 s"), (3600, "1 h 0 min")] {
            assert_eq!(duration(Duration::from_secs(seconds)), expected);
        }
    }

    #[test]
    fn the_rest_takes_as_long_as_what_was() {
        let left = |done, all, spent| left(done, all, Duration::from_secs(spent)).map(|left| left.as_secs());
        assert_eq!(left(0, 10, 5), None);
        assert_eq!(left(5, 10, 0), None);
        assert_eq!(left(5, 10, 5), Some(5));
        assert_eq!(left(1, 4, 10), Some(30));
        assert_eq!(left(5, 4, 10), Some(0));
    }
}
