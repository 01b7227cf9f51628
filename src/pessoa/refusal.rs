//! Why a body is no pessoa, in words for the client. It tells malformed bodies from invalid ones, and knows no status
//! codes.

use std::fmt;

use crate::limits::{APELIDO_CHARS_MAX, JSON_DEPTH_MAX, NOME_CHARS_MAX, STACK_ITEM_CHARS_MAX};

/// Why a body is refused. A malformed body is malformed whatever rules it breaks besides.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// Not a JSON object whose members have the right JSON types.
    #[error("{0}")]
    Malformed(Reason),
    /// The right shape, but a rule of the API is broken.
    #[error("{0}")]
    Invalid(Reason),
}

/// What is wrong. Its `Display` is the detail for the client: it names the member and what was expected.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Reason {
    /// Bytes that are no UTF-8.
    #[error("the body: expected UTF-8, got something else at byte {at}")]
    NotUtf8 {
        /// Bytes from the body's start.
        at: usize,
    },
    /// Bytes that fit no rule of RFC 8259.
    #[error("the body: expected one JSON object, got something else at byte {at}")]
    NotJson {
        /// Bytes from the body's start; the body's length when it ends too early.
        at: usize,
    },
    /// `\ud800` to `\udfff` without its other half.
    #[error("the body: expected surrogate escapes in pairs, got half of one before byte {at}")]
    UnpairedSurrogate {
        /// Bytes from the body's start.
        at: usize,
    },
    /// Nested below `JSON_DEPTH_MAX`.
    #[error("the body: expected at most {JSON_DEPTH_MAX} levels of nesting, got more at byte {at}")]
    TooDeep {
        /// Bytes from the body's start.
        at: usize,
    },
    /// A JSON type other than the expected one.
    #[error("{0}: expected {expected}, got another JSON type", expected = .0.expected())]
    WrongType(Place),
    /// The same member twice; the text is its name, cut after the first characters.
    #[error("`{0}`: expected once, got it again")]
    Repeated(Box<str>),
    /// A required member that is absent or `null`.
    #[error("{0}: expected {expected}, got none", expected = .0.expected())]
    Missing(Place),
    /// A string that is empty or too long.
    #[error("{place}: expected {expected}, got {chars}", expected = .place.expected())]
    Length {
        /// The member or item that holds the string.
        place: Place,
        /// The string's length in Unicode scalar values.
        chars: usize,
    },
    /// A string that the database cannot hold.
    #[error("{0}: expected {expected} other than U+0000", expected = .0.expected())]
    Nul(Place),
    /// A string that names no day.
    #[error("{0}: expected {expected}, got no such date", expected = .0.expected())]
    NotADate(Place),
}

/// What a reason speaks of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// The body as a whole.
    Body,
    /// `apelido`
    Apelido,
    /// `nome`
    Nome,
    /// `nascimento`
    Nascimento,
    /// `stack` as a whole
    Stack,
    /// One item of `stack`, counted from 0.
    StackItem(usize),
}

impl Place {
    fn expected(self) -> Expected {
        Expected(self)
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Place::Body => f.write_str("the body"),
            Place::Apelido => f.write_str("`apelido`"),
            Place::Nome => f.write_str("`nome`"),
            Place::Nascimento => f.write_str("`nascimento`"),
            Place::Stack => f.write_str("`stack`"),
            Place::StackItem(index) => write!(f, "`stack[{index}]`"),
        }
    }
}

/// The rule of a place, in the words of a detail.
struct Expected(Place);

impl fmt::Display for Expected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let chars_max = match self.0 {
            Place::Body => return f.write_str("a JSON object"),
            Place::Nascimento => {
                return f.write_str("a string AAAA-MM-DD, a calendar date of the years 0001 to 9999");
            }
            Place::Stack => {
                return write!(f, "null or an array of strings of 1 to {STACK_ITEM_CHARS_MAX} characters");
            }
            Place::Apelido => APELIDO_CHARS_MAX,
            Place::Nome => NOME_CHARS_MAX,
            Place::StackItem(_) => STACK_ITEM_CHARS_MAX,
        };
        write!(f, "a string of 1 to {chars_max} characters")
    }
}

// Refusals travel by value through the request path.
const _: () = assert!(size_of::<Refusal>() <= 32);
