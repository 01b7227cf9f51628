//! Pessoas as the contest's payload generator makes them, but only the valid ones, from a fixed seed. It knows
//! nothing of who uses them.

#![allow(dead_code, reason = "each example uses its own part of this")]

/// The technologies that a stack is made of.
pub(crate) const TECHNOLOGIES: [&str; 25] = [
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

pub(crate) const LETTERS: &[u8] = b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ";
pub(crate) const LETTERS_AND_SPACE: &[u8] = b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ ";

/// splitmix64.
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub(crate) fn below(&mut self, end: usize) -> usize {
        usize::try_from(self.next() % end as u64).expect("less than a usize")
    }

    pub(crate) fn letters(&mut self, alphabet: &[u8], length: usize) -> String {
        (0..length).map(|_| char::from(alphabet[self.below(alphabet.len())])).collect()
    }

    /// 1 to 32 letters.
    pub(crate) fn apelido(&mut self) -> String {
        let length = 1 + self.below(32);
        self.letters(LETTERS, length)
    }

    /// 1 to 100 letters and spaces.
    pub(crate) fn nome(&mut self) -> String {
        let length = 1 + self.below(100);
        self.letters(LETTERS_AND_SPACE, length)
    }

    /// None for one in 14, else 1 to 26 technologies, repeats included.
    pub(crate) fn stack(&mut self) -> Option<Vec<&'static str>> {
        (self.below(14) != 0)
            .then(|| (0..=self.below(26)).map(|_| TECHNOLOGIES[self.below(TECHNOLOGIES.len())]).collect())
    }
}
