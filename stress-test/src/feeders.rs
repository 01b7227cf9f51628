//! The two files that feed the simulation: made from a seed, or the contest's own where they were dropped in.

use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::Path;

use anyhow::Result;
use contest::Random;

use crate::gatling::DROP_IN;

/// The files' names and headers, as the contest has them.
const PAYLOADS: (&str, &str) = ("pessoas-payloads.tsv", "payload");
const TERMS: (&str, &str) = ("termos-busca.tsv", "t");

/// What to make.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// Lines of the first file; the contest has 100,000.
    pub payloads: usize,
    /// Lines of the second file; the contest has 5,000.
    pub terms: usize,
    /// The same seed makes the same files.
    pub seed: u64,
}

impl Plan {
    /// Writes both files, each with a header.
    pub fn write(&self, directory: &Path) -> Result<()> {
        fs::create_dir_all(directory)?;
        let mut random = Random(self.seed);
        write(directory, PAYLOADS, self.payloads, || random.payload())?;
        // A generator of its own, so that the terms do not depend on the number of payloads.
        let mut random = Random(!self.seed);
        write(directory, TERMS, self.terms, || random.term())
    }
}

fn write(
    directory: &Path,
    (name, header): (&str, &str),
    lines: usize,
    mut line: impl FnMut() -> String,
) -> Result<()> {
    let file = directory.join(name);
    let dropped_in = Path::new(DROP_IN).join("resources").join(name);
    if dropped_in.exists() {
        fs::copy(dropped_in, file)?;
        return Ok(());
    }
    let mut out = BufWriter::new(File::create(file)?);
    writeln!(out, "{header}")?;
    for _ in 0..lines {
        writeln!(out, "{}", line())?;
    }
    Ok(out.flush()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_makes_the_same_files() {
        let lines = |seed, payloads| {
            let directory = tempfile::tempdir().expect("a directory");
            Plan { payloads, terms: 3, seed }.write(directory.path()).expect("two files");
            let read = |name| fs::read_to_string(directory.path().join(name)).expect("a file");
            (read(PAYLOADS.0), read(TERMS.0))
        };
        let (payloads, terms) = lines(1, 10);
        assert_eq!((payloads.lines().count(), terms.lines().count()), (11, 4));
        assert!(payloads.starts_with("payload\n{\"apelido\":") && terms.starts_with("t\n"));
        assert_eq!(lines(1, 10), (payloads.clone(), terms.clone()));
        assert_eq!(lines(1, 20).1, terms);
        assert_ne!(lines(2, 10).0, payloads);
    }
}
