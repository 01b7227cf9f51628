//! What `/metrics` said, read as a client reads it.

use std::collections::BTreeMap;

/// Samples by their name and labels, as they are written.
#[derive(Debug)]
pub(crate) struct Exposition(BTreeMap<String, f64>);

impl Exposition {
    pub(crate) fn read(text: &str) -> Exposition {
        let lines = text.lines().filter(|line| !line.starts_with('#'));
        let sample = |line: &str| {
            let (name, value) = line.rsplit_once(' ').expect("a name and a value");
            (name.to_owned(), value.parse().expect("a number"))
        };
        let samples: Vec<(String, f64)> = lines.map(sample).collect();
        let exposition = Exposition(samples.iter().cloned().collect());
        assert_eq!(exposition.0.len(), samples.len(), "each sample is there once");
        exposition
    }

    /// The sum of the samples of this name whose labels hold each of `labels`, such as `core="0"`.
    pub(crate) fn sum(&self, name: &str, labels: &[&str]) -> f64 {
        self.of(name, labels).map(|(_, value)| value).sum()
    }

    /// Whether there is such a sample.
    pub(crate) fn has(&self, name: &str, labels: &[&str]) -> bool {
        self.of(name, labels).next().is_some()
    }

    /// The names of the samples, each once, without those of a histogram's parts.
    pub(crate) fn names(&self) -> Vec<&str> {
        let mut names: Vec<&str> = self.0.keys().map(|sample| name_of(sample)).collect();
        names.dedup();
        names
    }

    fn of(&self, name: &str, labels: &[&str]) -> impl Iterator<Item = (&str, f64)> {
        self.0
            .iter()
            .filter(move |(sample, _)| {
                name_of(sample) == name && labels.iter().all(|label| sample.contains(label))
            })
            .map(|(sample, value)| (&**sample, *value))
    }
}

fn name_of(sample: &str) -> &str {
    sample.split('{').next().expect("a split gives one part at least")
}
