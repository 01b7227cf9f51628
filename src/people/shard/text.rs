//! A search text taken apart: its trigrams, none of them across two fields.

use crate::pessoa::SEPARATOR;

/// The length of a trigram in bytes.
pub(super) const TRIGRAM: usize = 3;

/// The trigrams of `text`, in its order; three bytes that hold the separator are none, since no term holds it.
pub(super) fn trigrams_of(text: &[u8]) -> impl Iterator<Item = u32> {
    let (mut trigram, mut run) = (0, 0);
    text.iter().filter_map(move |&byte| {
        trigram = (trigram << 8 | u32::from(byte)) & 0xff_ffff;
        run = if byte == SEPARATOR { 0 } else { run + 1 };
        (run >= TRIGRAM).then_some(trigram)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_trigram_spans_two_fields() {
        for (text, expected) in [
            ("", &[][..]),
            ("ab", &[]),
            ("abc", &["abc"]),
            ("abcd", &["abc", "bcd"]),
            ("ab\0cd\0efgh", &["efg", "fgh"]),
            ("aaaa", &["aaa", "aaa"]),
        ] {
            let expected: Vec<u32> = expected
                .iter()
                .map(|trigram| trigram.bytes().fold(0, |number, byte| number << 8 | u32::from(byte)))
                .collect();
            assert_eq!(trigrams_of(text.as_bytes()).collect::<Vec<_>>(), expected, "{text:?}");
        }
    }
}
