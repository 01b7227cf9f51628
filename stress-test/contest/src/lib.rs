//! The contest's payloads and search terms, made again from a seed. It knows nothing of who uses them.
//!
//! The contest ships two files, 100,000 payloads and 5,000 terms, that a script once drew at random. This crate draws
//! from the same distributions, so that there are as many as wanted and none need be shipped:
//!
//! | member | drawn |
//! |---|---|
//! | `apelido` | 1 to 32 letters; one in 99: 35 letters, too long |
//! | `nome` | 1 to 100 letters and spaces; one in 99: 120, too long |
//! | `nascimento` | year 1940 to 2020, month 1 to 13, day 1 to 29; one in 99: garbage |
//! | `stack` | one in 14: `null`; else 1 to 26 of 25 technologies; one in 99: of a wrong type, or an item of 40 letters |
//!
//! So 88.4 % are valid: a month 13 is the most common fault. Short random `apelido`s collide, one in 30 of the first
//! 54,635. A term is 1 to 50 letters and spaces; about nine in ten match nothing.

/// The technologies that a stack is made of.
pub const TECHNOLOGIES: [&str; 25] = [
    "C",
    "C#",
    "C++",
    "Clojure",
    "Elixir",
    "Go",
    "Haskell",
    "Java",
    "JavaScript",
    "Kotlin",
    "MongoDB",
    "MySQL",
    "NodeJS",
    "Oracle",
    "PHP",
    "Perl",
    "PostgreSQL",
    "Python",
    "R",
    "Ruby",
    "Rust",
    "SQLite",
    "Scala",
    "Swift",
    "TypeScript",
];

/// What an `apelido` is made of.
pub const LETTERS: &[u8] = b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ";
/// What a `nome` and a term are made of.
pub const LETTERS_AND_SPACE: &[u8] = b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ ";

/// One payload in this many has a fault of a given kind.
const FAULT_ONE_IN: usize = 99;
/// What a payload has in place of a date, as JSON.
const NO_DATES: [&str; 4] = [r#""\"12-12-2000\"""#, r#""null""#, r#""10""#, r#""?!?!?""#];

/// splitmix64.
#[derive(Clone, Debug)]
pub struct Random(pub u64);

impl Random {
    /// The next 64 bits.
    #[expect(clippy::should_implement_trait, reason = "it never ends")]
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number from 0 to before `end`.
    pub fn below(&mut self, end: usize) -> usize {
        usize::try_from(self.next() % end as u64).expect("less than a usize")
    }

    /// `length` letters, each drawn from `alphabet`.
    pub fn letters(&mut self, alphabet: &[u8], length: usize) -> String {
        (0..length).map(|_| char::from(alphabet[self.below(alphabet.len())])).collect()
    }

    /// 1 to 32 letters.
    pub fn apelido(&mut self) -> String {
        let length = 1 + self.below(32);
        self.letters(LETTERS, length)
    }

    /// 1 to 100 letters and spaces.
    pub fn nome(&mut self) -> String {
        let length = 1 + self.below(100);
        self.letters(LETTERS_AND_SPACE, length)
    }

    /// None for one in 14, else 1 to 26 technologies, repeats included.
    pub fn stack(&mut self) -> Option<Vec<&'static str>> {
        (self.below(14) != 0)
            .then(|| (0..=self.below(26)).map(|_| TECHNOLOGIES[self.below(TECHNOLOGIES.len())]).collect())
    }

    /// A search term: 1 to 50 letters and spaces, the spaces as a form sends them.
    pub fn term(&mut self) -> String {
        let length = 1 + self.below(50);
        self.letters(LETTERS_AND_SPACE, length).replace(' ', "+")
    }

    /// The body of a create, faults included: one line of JSON.
    pub fn payload(&mut self) -> String {
        let apelido = if self.is_fault() { self.letters(LETTERS, 35) } else { self.apelido() };
        let nome = if self.is_fault() { self.letters(LETTERS_AND_SPACE, 120) } else { self.nome() };
        let nascimento = if self.is_fault() { self.pick(&NO_DATES).to_owned() } else { self.date() };
        let stack = if self.is_fault() { self.no_stack() } else { json(self.stack()) };
        format!(r#"{{"apelido":"{apelido}","nome":"{nome}","nascimento":{nascimento},"stack":{stack}}}"#)
    }

    fn is_fault(&mut self) -> bool {
        self.below(FAULT_ONE_IN) == 0
    }

    fn pick<'a>(&mut self, choices: &[&'a str]) -> &'a str {
        choices[self.below(choices.len())]
    }

    /// A date that need not be one of the calendar: it may have a month 13, or 29 February in any year.
    fn date(&mut self) -> String {
        let (year, month, day) = (1940 + self.below(81), 1 + self.below(13), 1 + self.below(29));
        format!(r#""{year}-{month:02}-{day:02}""#)
    }

    fn no_stack(&mut self) -> String {
        match self.below(3) {
            0 => r#""string""#.to_owned(),
            1 => "1".to_owned(),
            _ => format!(r#"["{}"]"#, self.letters(LETTERS, 40)),
        }
    }
}

/// A stack as JSON: no technology needs an escape.
fn json(stack: Option<Vec<&str>>) -> String {
    match stack {
        None => "null".to_owned(),
        Some(items) => format!(r#"["{}"]"#, items.join(r#"",""#)),
    }
}

#[cfg(test)]
mod tests;
