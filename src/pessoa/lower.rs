//! Lower-casing, the same for what is stored and for what is searched. It knows neither members nor terms.
//!
//! Each scalar is mapped by itself, without context, so that containment holds: if a text contains a term, the
//! lower-cased text contains the lower-cased term. `str::to_lowercase` would break that: it writes `Σ` as `ς` at the
//! end of a word and as `σ` elsewhere.

/// Appends `input` with each scalar replaced by its `char::to_lowercase`; `Σ` is always `σ`.
pub fn lower(input: &str, out: &mut Vec<u8>) {
    if input.is_ascii() {
        let start = out.len();
        out.extend_from_slice(input.as_bytes());
        out[start..].make_ascii_lowercase();
        return;
    }
    out.reserve(input.len());
    let mut utf8 = [0; 4];
    for scalar in input.chars().flat_map(char::to_lowercase) {
        out.extend_from_slice(scalar.encode_utf8(&mut utf8).as_bytes());
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn lowered(input: &str) -> String {
        let mut out = b"kept ".to_vec();
        lower(input, &mut out);
        String::from_utf8(out).unwrap().strip_prefix("kept ").unwrap().to_owned()
    }

    #[test]
    fn table() {
        for (input, expected) in [
            ("", ""),
            ("ana BETO 123 %_\\ [@`{", "ana beto 123 %_\\ [@`{"),
            ("JOSÉ", "josé"),
            ("ÇÃO", "ção"),
            ("ΟΔΟΣ", "οδοσ"),
            ("ΟΔΟΣ Σ", "οδοσ σ"),
            ("οδος", "οδος"),
            ("İ", "i\u{307}"),
            ("K", "k"),
            ("ẞ ß ŒÆ", "ß ß œæ"),
            ("a\u{0}B\u{0}É", "a\u{0}b\u{0}é"),
            ("🦀𐐀", "🦀𐐨"),
        ] {
            assert_eq!(lowered(input), expected, "{input:?}");
        }
    }

    #[test]
    #[cfg_attr(miri, ignore = "there are 1,112,064")]
    fn every_scalar_as_the_standard_library_maps_it() {
        for scalar in '\u{0}'..=char::MAX {
            let expected: String = scalar.to_lowercase().collect();
            assert_eq!(lowered(scalar.encode_utf8(&mut [0; 4])), expected);
            // No scalar turns into the separator of the search text.
            assert!(scalar == '\u{0}' || !expected.contains('\u{0}'));
        }
    }

    proptest! {
        #[test]
        #[cfg_attr(miri, ignore = "it takes long to draw such texts")]
        fn containment_holds(a in "(\\PC|[aAΣσςİIıéÉ ]){0,20}", b in "(\\PC|[aAΣσςİIıéÉ ]){0,20}") {
            let both = lowered(&format!("{a}{b}"));
            prop_assert_eq!(&both, &(lowered(&a) + &lowered(&b)));
            prop_assert!(both.contains(&lowered(&a)) && both.contains(&lowered(&b)));
        }
    }
}
