//! How the program fails: with one sentence for whoever started it.

/// A value, or the sentence that the program ends with.
pub(crate) type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;
