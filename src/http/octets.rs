//! Which bytes may stand where in an HTTP/1.1 message. It knows single bytes only, never lines or fields.

/// `tchar` (RFC 9110 section 5.6.2): methods, field names, chunk extensions.
const TOKEN: u8 = 1;
/// What a request target may hold: visible ASCII except `#`, which starts a fragment and is never sent
/// (RFC 9112 section 3.2). Wider than RFC 3986: clients do send `|` or `{` unescaped, and neither frames anything.
const TARGET: u8 = 2;
/// What a registered name may hold (RFC 3986 section 3.2.2), without the comma: with it two joined `Host`
/// fields would pass for one name.
const NAME: u8 = 4;

static CLASSES: [u8; 256] = classes();

const fn classes() -> [u8; 256] {
    let mut table = [0; 256];
    let mut byte = 0u8;
    while byte < 0x80 {
        let mut class = 0;
        if byte.is_ascii_alphanumeric() {
            class |= TOKEN | NAME;
        }
        if matches!(
            byte,
            b'!' | b'#'
                | b'$'
                | b'%'
                | b'&'
                | b'\''
                | b'*'
                | b'+'
                | b'-'
                | b'.'
                | b'^'
                | b'_'
                | b'`'
                | b'|'
                | b'~'
        ) {
            class |= TOKEN;
        }
        if matches!(
            byte,
            b'-' | b'.'
                | b'_'
                | b'~'
                | b'%'
                | b'!'
                | b'$'
                | b'&'
                | b'\''
                | b'('
                | b')'
                | b'*'
                | b'+'
                | b';'
                | b'='
        ) {
            class |= NAME;
        }
        if byte.is_ascii_graphic() && byte != b'#' {
            class |= TARGET;
        }
        table[byte as usize] = class;
        byte += 1;
    }
    table
}

fn is(byte: u8, class: u8) -> bool {
    CLASSES[usize::from(byte)] & class != 0
}

fn run(bytes: &[u8], class: u8) -> usize {
    bytes.iter().position(|&byte| !is(byte, class)).unwrap_or(bytes.len())
}

/// Whether `byte` may stand in a token.
pub(super) fn is_token(byte: u8) -> bool {
    is(byte, TOKEN)
}

/// Length of the token at the start of `bytes`; 0 = none.
pub(super) fn token_len(bytes: &[u8]) -> usize {
    run(bytes, TOKEN)
}

/// Length of the request target at the start of `bytes`; 0 = none.
pub(super) fn target_len(bytes: &[u8]) -> usize {
    run(bytes, TARGET)
}

/// Length of the registered name at the start of `bytes`; 0 = none.
pub(super) fn name_len(bytes: &[u8]) -> usize {
    run(bytes, NAME)
}

/// Whether `byte` may stand in a field value: HTAB, SP, visible ASCII or obs-text (RFC 9110 section 5.5).
pub(super) fn is_field_value(byte: u8) -> bool {
    byte == b'\t' || (byte >= b' ' && byte != 0x7F)
}

/// Whether all of `value` may stand in a field value.
pub(super) fn is_all_field_value(value: &[u8]) -> bool {
    // No early exit: nearly every value is good, and without the branch the compiler checks many bytes at once.
    value.iter().fold(true, |good, &byte| good & is_field_value(byte))
}

/// `bytes` without the optional whitespace around it (`OWS`, RFC 9110 section 5.6.3).
pub(super) fn trim(bytes: &[u8]) -> &[u8] {
    let blank = |byte: &u8| matches!(byte, b' ' | b'\t');
    let start = bytes.iter().position(|b| !blank(b)).unwrap_or(bytes.len());
    let end = bytes.iter().rposition(|b| !blank(b)).map_or(start, |at| at + 1);
    &bytes[start..end]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn classes_agree_with_the_grammar() {
        for byte in 0..=u8::MAX {
            let token = byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
            assert_eq!(is_token(byte), token, "{byte:#x}");
            let target = (0x21..0x7F).contains(&byte) && byte != b'#';
            assert_eq!(target_len(&[byte]) == 1, target, "{byte:#x}");
            let name = byte.is_ascii_alphanumeric() || b"-._~%!$&'()*+;=".contains(&byte);
            assert_eq!(name_len(&[byte]) == 1, name, "{byte:#x}");
            let value = byte == 9 || (32..127).contains(&byte) || byte >= 128;
            assert_eq!(is_all_field_value(&[b'a', byte]), value, "{byte:#x}");
        }
    }

    #[test]
    fn whitespace_is_trimmed_at_both_ends_only() {
        for (input, expected) in
            [("", ""), (" \t ", ""), ("a", "a"), (" a b\t", "a b"), ("\ta", "a"), ("a ", "a")]
        {
            assert_eq!(trim(input.as_bytes()), expected.as_bytes(), "{input:?}");
        }
    }
}
