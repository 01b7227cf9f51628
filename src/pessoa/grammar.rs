//! The grammar of JSON (RFC 8259), checked without recursion and within a depth. It knows no member and keeps no value.
//!
//! The check runs over the whole body before sonic-rs does, for three reasons. First, sonic-rs skips values
//! recursively, and a body of brackets overflows its stack. Second, strings in skipped values may hold unpaired
//! surrogates and escapes such as `\uZZZZ`, because sonic-rs steps over the four bytes without a look. Third, one of
//! those bytes may be the closing quote: a scan that only counts brackets outside strings then disagrees with sonic-rs
//! about what is a string, and accepts `{"x":["\u"abc",[[[[...`. A body that passes this check means the same to every
//! parser.

use crate::limits::JSON_DEPTH_MAX;

/// Where a text stops being what is expected, in bytes from its start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fault {
    /// The byte there fits no rule of the grammar; when the place is the text's length, the text ends too early.
    NotJson(usize),
    /// The escape that ends there is one half of a surrogate pair without the other.
    UnpairedSurrogate(usize),
    /// The array or object that opens there lies below `JSON_DEPTH_MAX`.
    TooDeep(usize),
}

/// Accepts one JSON value with whitespace around it, its strings free of unpaired surrogates, at most
/// `JSON_DEPTH_MAX` arrays and objects deep. A byte order mark is not whitespace.
pub(super) fn check(text: &str) -> Result<(), Fault> {
    let mut scanner = Scanner { bytes: text.as_bytes(), at: 0 };
    let mut open = Containers::default();
    loop {
        if scanner.value(&mut open)? == Next::Value {
            continue;
        }
        while let Some(container) = open.innermost() {
            if scanner.separator(container)? == Next::Value {
                break;
            }
            open.leave();
        }
        if open.innermost().is_none() {
            return scanner.end();
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Container {
    Array,
    Object,
}

#[derive(PartialEq, Eq)]
enum Next {
    /// A value must follow.
    Value,
    /// A comma or the end of what is open must follow.
    Separator,
}

/// The arrays and objects around the scanner's place, as a stack of bits: the lowest is the innermost, and an object's
/// is set.
#[derive(Default)]
struct Containers {
    objects: u64,
    depth: usize,
}

const _: () = assert!(JSON_DEPTH_MAX <= u64::BITS as usize);

impl Containers {
    /// Returns false when the container would lie below `JSON_DEPTH_MAX`.
    fn enter(&mut self, container: Container) -> bool {
        self.objects = self.objects << 1 | u64::from(container == Container::Object);
        self.depth += 1;
        self.depth <= JSON_DEPTH_MAX
    }

    fn leave(&mut self) {
        self.objects >>= 1;
        self.depth -= 1;
    }

    fn innermost(&self) -> Option<Container> {
        match (self.depth, self.objects & 1) {
            (0, _) => None,
            (_, 0) => Some(Container::Array),
            _ => Some(Container::Object),
        }
    }
}

struct Scanner<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl Scanner<'_> {
    /// Reads a scalar, or the opening of an array or object and, in an object, the first name.
    fn value(&mut self, open: &mut Containers) -> Result<Next, Fault> {
        self.skip_whitespace();
        match self.peek() {
            Some(b'{') => return self.open(Container::Object, open),
            Some(b'[') => return self.open(Container::Array, open),
            Some(b'"') => self.string()?,
            Some(b'-' | b'0'..=b'9') => self.number()?,
            Some(b't') => self.literal(b"true")?,
            Some(b'f') => self.literal(b"false")?,
            Some(b'n') => self.literal(b"null")?,
            _ => return Err(self.fault()),
        }
        Ok(Next::Separator)
    }

    fn open(&mut self, container: Container, open: &mut Containers) -> Result<Next, Fault> {
        if !open.enter(container) {
            return Err(Fault::TooDeep(self.at));
        }
        self.at += 1;
        self.skip_whitespace();
        match (container, self.peek()) {
            // The closing byte of an empty container is left for `separator`.
            (Container::Array, Some(b']')) | (Container::Object, Some(b'}')) => Ok(Next::Separator),
            (Container::Array, _) => Ok(Next::Value),
            (Container::Object, _) => self.name(),
        }
    }

    /// Reads what follows a value inside `container`: its end, or a comma and, in an object, the next name.
    fn separator(&mut self, container: Container) -> Result<Next, Fault> {
        self.skip_whitespace();
        match (container, self.peek()) {
            (Container::Array, Some(b']')) | (Container::Object, Some(b'}')) => {
                self.at += 1;
                Ok(Next::Separator)
            }
            (_, Some(b',')) => {
                self.at += 1;
                match container {
                    Container::Array => Ok(Next::Value),
                    Container::Object => self.name(),
                }
            }
            _ => Err(self.fault()),
        }
    }

    /// Reads a member's name and its colon.
    fn name(&mut self) -> Result<Next, Fault> {
        self.skip_whitespace();
        if self.peek() != Some(b'"') {
            return Err(self.fault());
        }
        self.string()?;
        self.skip_whitespace();
        self.expect(|byte| byte == b':')?;
        Ok(Next::Value)
    }

    fn string(&mut self) -> Result<(), Fault> {
        self.at += 1;
        loop {
            match self.peek() {
                Some(b'"') => {
                    self.at += 1;
                    return Ok(());
                }
                Some(b'\\') => self.escape()?,
                Some(b' '..) => self.at += 1,
                _ => return Err(self.fault()),
            }
        }
    }

    fn escape(&mut self) -> Result<(), Fault> {
        self.at += 1;
        if self.peek() != Some(b'u') {
            return self
                .expect(|byte| matches!(byte, b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't'));
        }
        match self.code_unit()? {
            0xd800..0xdc00 => {
                if !self.bytes[self.at..].starts_with(b"\\u") {
                    return Err(Fault::UnpairedSurrogate(self.at));
                }
                self.at += 1;
                match self.code_unit()? {
                    0xdc00..0xe000 => Ok(()),
                    _ => Err(Fault::UnpairedSurrogate(self.at)),
                }
            }
            0xdc00..0xe000 => Err(Fault::UnpairedSurrogate(self.at)),
            _ => Ok(()),
        }
    }

    /// Reads the `u` and the four hexadecimal digits of an escape.
    fn code_unit(&mut self) -> Result<u32, Fault> {
        self.at += 1;
        let mut unit = 0;
        for _ in 0..4 {
            let digit = self.peek().and_then(|byte| char::from(byte).to_digit(16));
            unit = unit << 4 | digit.ok_or_else(|| self.fault())?;
            self.at += 1;
        }
        Ok(unit)
    }

    fn number(&mut self) -> Result<(), Fault> {
        if self.peek() == Some(b'-') {
            self.at += 1;
        }
        if self.peek() == Some(b'0') {
            // Only a fraction or an exponent may follow a leading zero; `separator` or `end` refuses anything else.
            self.at += 1;
        } else {
            self.digits()?;
        }
        if self.peek() == Some(b'.') {
            self.at += 1;
            self.digits()?;
        }
        if let Some(b'e' | b'E') = self.peek() {
            self.at += 1;
            if let Some(b'+' | b'-') = self.peek() {
                self.at += 1;
            }
            self.digits()?;
        }
        Ok(())
    }

    /// Reads one digit or more.
    fn digits(&mut self) -> Result<(), Fault> {
        self.expect(|byte| byte.is_ascii_digit())?;
        while let Some(b'0'..=b'9') = self.peek() {
            self.at += 1;
        }
        Ok(())
    }

    fn literal(&mut self, literal: &[u8]) -> Result<(), Fault> {
        literal.iter().try_for_each(|&letter| self.expect(|byte| byte == letter))
    }

    fn end(&mut self) -> Result<(), Fault> {
        self.skip_whitespace();
        if self.peek().is_none() { Ok(()) } else { Err(self.fault()) }
    }

    fn expect(&mut self, accepts: impl FnOnce(u8) -> bool) -> Result<(), Fault> {
        if !self.peek().is_some_and(accepts) {
            return Err(self.fault());
        }
        self.at += 1;
        Ok(())
    }

    fn skip_whitespace(&mut self) {
        while let Some(b' ' | b'\t' | b'\n' | b'\r') = self.peek() {
            self.at += 1;
        }
    }

    fn peek(&self) -> Option<u8> {
        self.bytes.get(self.at).copied()
    }

    fn fault(&self) -> Fault {
        Fault::NotJson(self.at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accepted() {
        for text in [
            "{}",
            "[]",
            "0",
            "-0",
            "0.0",
            "1e9",
            "1E+9",
            "1e-9",
            "-12.50e+00",
            "1e999",
            "\"\"",
            "null",
            "true",
            "false",
            " \t\r\n{ \"\" : [ ] , \"a\" : { } } \n",
            "[[],[[]],{}]",
            "{\"a\":[1,{\"b\":null}],\"a\":2}",
            "\"\u{7f}\u{10ffff}é\"",
            r#""\"\\\/\b\f\n\r\t\u0000\uD83E\udd80\uFFFF""#,
        ] {
            assert_eq!(check(text), Ok(()), "{text}");
        }
        assert_eq!(check(&"9".repeat(400)), Ok(()));
    }

    #[test]
    fn refused_at() {
        use Fault::{NotJson, UnpairedSurrogate};
        for (text, fault) in [
            ("", NotJson(0)),
            ("  ", NotJson(2)),
            ("\u{feff}{}", NotJson(0)),
            ("\u{a0}{}", NotJson(0)),
            ("{} x", NotJson(3)),
            ("{}{}", NotJson(2)),
            ("{,}", NotJson(1)),
            ("[,]", NotJson(1)),
            ("[1,]", NotJson(3)),
            ("{\"a\":1,}", NotJson(7)),
            ("{\"a\":}", NotJson(5)),
            ("{\"a\"}", NotJson(4)),
            ("{\"a\" 1}", NotJson(5)),
            ("{a:1}", NotJson(1)),
            ("{1:1}", NotJson(1)),
            ("{'a':1}", NotJson(1)),
            ("[1 2]", NotJson(3)),
            ("[1}", NotJson(2)),
            ("{\"a\":1]", NotJson(6)),
            ("[", NotJson(1)),
            ("]", NotJson(0)),
            ("[]]", NotJson(2)),
            ("tru", NotJson(3)),
            ("nulL", NotJson(3)),
            ("truee", NotJson(4)),
            ("NaN", NotJson(0)),
            ("01", NotJson(1)),
            ("-01", NotJson(2)),
            ("-", NotJson(1)),
            ("+1", NotJson(0)),
            (".5", NotJson(0)),
            ("1.", NotJson(2)),
            ("1.e1", NotJson(2)),
            ("1e", NotJson(2)),
            ("1e+", NotJson(3)),
            ("1.5.5", NotJson(3)),
            ("0x10", NotJson(1)),
            ("\"", NotJson(1)),
            ("\"\n\"", NotJson(1)),
            ("\"\u{0}\"", NotJson(1)),
            ("\"\u{1f}\"", NotJson(1)),
            (r#""\x""#, NotJson(2)),
            (r#""\"#, NotJson(2)),
            (r#""\u12"#, NotJson(5)),
            (r#""\u12G4""#, NotJson(5)),
            (r#""\u+123""#, NotJson(3)),
            (r#""\u"aa""#, NotJson(3)),
            (r#""\ud800""#, UnpairedSurrogate(7)),
            (r#""\ud800x""#, UnpairedSurrogate(7)),
            (r#""\ud800\n""#, UnpairedSurrogate(7)),
            (r#""\ud800\ud800""#, UnpairedSurrogate(13)),
            (r#""\ud800\u0041""#, UnpairedSurrogate(13)),
            (r#""\udc00""#, UnpairedSurrogate(7)),
            (r#"{"\udfff":1}"#, UnpairedSurrogate(8)),
            ("// c\n{}", NotJson(0)),
        ] {
            assert_eq!(check(text), Err(fault), "{text}");
        }
    }

    #[test]
    fn depth() {
        for (opening, closing) in [("[", "]"), ("{\"a\":", "}"), ("[{\"a\":", "}]")] {
            let opening_brackets = opening.bytes().filter(|byte| b"[{".contains(byte)).count();
            for depth in [1, 16, 31, 32, 33, 34, 64, 65, 66, 11_000] {
                let repeats = depth / opening_brackets;
                let text = opening.repeat(repeats) + "1" + &closing.repeat(repeats);
                let deep = matches!(check(&text), Err(Fault::TooDeep(_)));
                assert_eq!(deep, repeats * opening_brackets > JSON_DEPTH_MAX, "{opening} {repeats} times");
                assert!(deep || check(&text) == Ok(()));
            }
        }
        // Brackets in strings and beside each other are no depth.
        assert_eq!(
            check(&format!("[{}\"{}\"]", "[],{},".repeat(100), "[".repeat(100)).replace("{}", "{ }")),
            Ok(())
        );
        assert_eq!(check(&("[".repeat(32) + &"]".repeat(32))), Ok(()));
        assert_eq!(check(&"[".repeat(33)), Err(Fault::TooDeep(32)));
    }
}
