//! Undoes the `chunked` transfer coding (RFC 9112 section 7.1), from input cut anywhere. It knows no request head, and
//! never looks behind the body's last byte.
//!
//! What one body can make it read is bounded: `BODY_MAX` bytes of body, `CHUNK_OVERHEAD_MAX` of size lines and CRLFs
//! (one size line at most `CHUNK_LINE_MAX`), and `HEADER_SECTION_MAX` of trailers. The decoder refuses the byte that
//! goes over one of these bounds.

use super::{octets, reject::Reject, request::Progress, target::hex};
use crate::limits::{BODY_MAX, CHUNK_LINE_MAX, CHUNK_OVERHEAD_MAX, HEADER_FIELDS_MAX, HEADER_SECTION_MAX};

/// Decodes one chunked body.
#[derive(Debug, Default)]
pub struct ChunkedDecoder {
    state: State,
    /// The size of the current chunk, saturated; within the chunk's data, how many bytes of it are still to come.
    size: usize,
    /// Bytes of body announced by the size lines so far.
    announced: usize,
    /// Bytes of the current size line so far, or of the trailer section.
    line: usize,
    /// Bytes of size lines, and of the CRLFs after chunk data, so far.
    overhead: usize,
    trailers: usize,
}

/// What the next byte belongs to. The names of the size line's states follow the grammar
/// `chunk-size *( BWS ";" BWS chunk-ext-name [ BWS "=" BWS chunk-ext-val ] ) CRLF`.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum State {
    #[default]
    SizeStart,
    Size,
    /// Whitespace where only another extension may follow.
    BeforeSemicolon,
    BeforeName,
    Name,
    BeforeEquals,
    BeforeValue,
    Value,
    Quoted,
    QuotedPair,
    QuotedEnd,
    SizeLineFeed,
    Data,
    DataReturn,
    DataLineFeed,
    TrailerStart,
    TrailerName,
    TrailerValue,
    TrailerLineFeed,
    LastLineFeed,
    Done,
}

impl ChunkedDecoder {
    /// Decodes the next part: appends the body's bytes in `input` to `body`, and returns how many bytes of `input` were
    /// used. With `Partial` all were used; with `Complete` the next request starts after them.
    ///
    /// After `Complete` and after an error the decoder is ready for another body. After an error `body` has what was
    /// decoded before it.
    ///
    /// # Errors
    ///
    /// [`Reject::Chunk`] and [`Reject::ChunkLineTooLong`] (400), [`Reject::BodyTooLong`] and
    /// [`Reject::ChunkOverhead`] (413), and for trailers the errors of header fields.
    pub fn decode(&mut self, input: &[u8], body: &mut Vec<u8>) -> Result<(usize, Progress<()>), Reject> {
        let outcome = self.decode_on(input, body);
        if !matches!(outcome, Ok((_, Progress::Partial))) {
            self.reset();
        }
        outcome
    }

    /// Forgets a body that was begun.
    pub fn reset(&mut self) {
        *self = Self::default();
    }

    fn decode_on(&mut self, input: &[u8], body: &mut Vec<u8>) -> Result<(usize, Progress<()>), Reject> {
        let mut used = 0;
        while let Some(&byte) = input.get(used) {
            if self.state == State::Data {
                let take = self.size.min(input.len() - used);
                body.extend_from_slice(&input[used..used + take]);
                used += take;
                self.size -= take;
                if self.size == 0 {
                    self.state = State::DataReturn;
                }
                continue;
            }
            used += 1;
            self.count()?;
            self.state = self.next(byte)?;
            if self.state == State::Done {
                return Ok((used, Progress::Complete(())));
            }
        }
        Ok((used, Progress::Partial))
    }

    /// Counts one byte that is not body.
    fn count(&mut self) -> Result<(), Reject> {
        use State::*;
        self.line += 1;
        if let TrailerStart | TrailerName | TrailerValue | TrailerLineFeed | LastLineFeed = self.state {
            return check(self.line <= HEADER_SECTION_MAX, Reject::SectionTooLong);
        }
        self.overhead += 1;
        check(self.line <= CHUNK_LINE_MAX, Reject::ChunkLineTooLong)?;
        check(self.overhead <= CHUNK_OVERHEAD_MAX, Reject::ChunkOverhead)
    }

    /// The state after `byte`.
    fn next(&mut self, byte: u8) -> Result<State, Reject> {
        use State::*;
        match self.state {
            SizeStart | Size => self.size_digit(byte),
            SizeLineFeed if byte == b'\n' => self.size_line_end(),
            DataReturn if byte == b'\r' => Ok(DataLineFeed),
            DataLineFeed if byte == b'\n' => {
                self.line = 0;
                Ok(SizeStart)
            }
            SizeLineFeed | DataReturn | DataLineFeed => Err(Reject::Chunk),
            TrailerStart | TrailerName | TrailerValue | TrailerLineFeed | LastLineFeed => self.trailer(byte),
            _ => extension(self.state, byte).ok_or(Reject::Chunk),
        }
    }

    fn size_digit(&mut self, byte: u8) -> Result<State, Reject> {
        if let Some(digit) = hex(byte) {
            // A number too large to hold is still a number: it saturates, and the body is too long, not malformed.
            self.size = self.size.saturating_mul(16).saturating_add(usize::from(digit));
            return Ok(State::Size);
        }
        if self.state == State::SizeStart {
            return Err(Reject::Chunk);
        }
        behind_element(byte, State::BeforeSemicolon).ok_or(Reject::Chunk)
    }

    fn size_line_end(&mut self) -> Result<State, Reject> {
        self.line = 0;
        self.announced = self.announced.saturating_add(self.size);
        check(self.announced <= BODY_MAX, Reject::BodyTooLong)?;
        Ok(if self.size == 0 { State::TrailerStart } else { State::Data })
    }

    /// Trailer fields are checked as header fields are, and dropped (RFC 9110 section 6.5.1).
    fn trailer(&mut self, byte: u8) -> Result<State, Reject> {
        use State::*;
        match (self.state, byte) {
            (TrailerStart, b'\r') => Ok(LastLineFeed),
            (TrailerStart, b' ' | b'\t') => Err(Reject::FoldedLine),
            (TrailerStart, byte) if octets::is_token(byte) => {
                self.trailers += 1;
                check(self.trailers <= HEADER_FIELDS_MAX, Reject::TooManyFields)?;
                Ok(TrailerName)
            }
            (TrailerName, b':') => Ok(TrailerValue),
            (TrailerName, byte) if octets::is_token(byte) => Ok(TrailerName),
            (TrailerValue, b'\r') => Ok(TrailerLineFeed),
            (TrailerValue, byte) if octets::is_field_value(byte) => Ok(TrailerValue),
            (TrailerLineFeed, b'\n') => Ok(TrailerStart),
            (LastLineFeed, b'\n') => Ok(Done),
            (TrailerStart | TrailerName, b'\n') | (TrailerLineFeed | LastLineFeed, _) => Err(Reject::LineEnd),
            (TrailerValue, _) => Err(Reject::FieldValue),
            _ => Err(Reject::FieldName),
        }
    }
}

fn check(holds: bool, otherwise: Reject) -> Result<(), Reject> {
    if holds { Ok(()) } else { Err(otherwise) }
}

/// The state after `byte` of a chunk extension (RFC 9112 section 7.1.1), which is checked and otherwise ignored.
fn extension(state: State, byte: u8) -> Option<State> {
    use State::*;
    let blank = matches!(byte, b' ' | b'\t');
    match state {
        BeforeSemicolon if blank => Some(BeforeSemicolon),
        BeforeSemicolon if byte == b';' => Some(BeforeName),
        BeforeName if blank => Some(BeforeName),
        BeforeName | Name if octets::is_token(byte) => Some(Name),
        Name | BeforeEquals if byte == b'=' => Some(BeforeValue),
        Name => behind_element(byte, BeforeEquals),
        BeforeEquals if blank => Some(BeforeEquals),
        BeforeEquals if byte == b';' => Some(BeforeName),
        BeforeValue if blank => Some(BeforeValue),
        BeforeValue if byte == b'"' => Some(Quoted),
        BeforeValue | Value if octets::is_token(byte) => Some(Value),
        Quoted if byte == b'"' => Some(QuotedEnd),
        Quoted if byte == b'\\' => Some(QuotedPair),
        Quoted | QuotedPair if octets::is_field_value(byte) => Some(Quoted),
        Value | QuotedEnd => behind_element(byte, BeforeSemicolon),
        _ => None,
    }
}

/// The state after `byte`, which follows a complete element of a size line.
fn behind_element(byte: u8, behind_blank: State) -> Option<State> {
    match byte {
        b'\r' => Some(State::SizeLineFeed),
        b';' => Some(State::BeforeName),
        b' ' | b'\t' => Some(behind_blank),
        _ => None,
    }
}

#[cfg(test)]
mod tests;
