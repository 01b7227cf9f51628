//! A pessoa as JSON and as search text. It knows the shapes of both, not who reads them.

use uuid::Uuid;

use super::{Pessoa, Stack, lower};

/// Stands between the fields of a search text, because no field can hold this scalar.
pub const SEPARATOR: u8 = 0;

impl Pessoa {
    /// Appends `{"id","apelido","nome","nascimento","stack"}` in that order as compact JSON; `stack` is `null` or an
    /// array.
    pub fn render(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(br#"{"id":""#);
        out.extend_from_slice(self.id.hyphenated().encode_lower(&mut Uuid::encode_buffer()).as_bytes());
        out.extend_from_slice(br#"","apelido":"#);
        render_string(&self.apelido, out);
        out.extend_from_slice(br#","nome":"#);
        render_string(&self.nome, out);
        out.extend_from_slice(br#","nascimento":""#);
        self.nascimento.write(out);
        out.extend_from_slice(br#"","stack":"#);
        match &self.stack {
            None => out.extend_from_slice(b"null"),
            Some(stack) => {
                out.push(b'[');
                for (index, item) in stack.items().enumerate() {
                    if index > 0 {
                        out.push(b',');
                    }
                    render_string(item, out);
                }
                out.push(b']');
            }
        }
        out.push(b'}');
    }

    /// Appends `lower(apelido) 00 lower(nome)` and, for each item of `stack`, `00 lower(item)`. The separator stands
    /// between fields only: none leads, none trails, and n items make n + 1 separators. No field holds a separator, so
    /// a term without U+0000 that is found in the text lies within one field.
    pub fn search_text(&self, out: &mut Vec<u8>) {
        lower(&self.apelido, out);
        out.push(SEPARATOR);
        lower(&self.nome, out);
        if let Some(items) = self.stack.as_ref().and_then(Stack::joined) {
            out.push(SEPARATOR);
            // Lower-casing goes scalar by scalar and keeps U+0000, so all items may be lower-cased at once.
            lower(items, out);
        }
    }
}

fn render_string(text: &str, out: &mut Vec<u8>) {
    sonic_rs::to_writer(out, text).expect("a Vec takes every write");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pessoa::BirthDate;

    fn pessoa(apelido: &str, nome: &str, stack: Option<&[&str]>) -> Pessoa {
        Pessoa {
            id: Uuid::from_u128(0x0195_71AB_CDEF_7000_8000_0000_0000_00FF),
            apelido: apelido.into(),
            nome: nome.into(),
            nascimento: BirthDate::parse(b"0085-09-23").unwrap(),
            stack: stack.map(|items| Stack::from_items(items).unwrap()),
        }
    }

    #[test]
    fn rendered() {
        for (pessoa, members) in [
            (
                pessoa("josé", "José Roberto", None),
                r#""apelido":"josé","nome":"José Roberto","nascimento":"0085-09-23","stack":null"#,
            ),
            (pessoa("a", " ", Some(&[])), r#""apelido":"a","nome":" ","nascimento":"0085-09-23","stack":[]"#),
            (
                pessoa(
                    "\"\\/",
                    "\u{8}\u{c}\n\r\t\u{1f}\u{7f}",
                    Some(&["C#", "", "C#", "🦀</script>\u{2028}"]),
                ),
                "\"apelido\":\"\\\"\\\\/\",\"nome\":\"\\b\\f\\n\\r\\t\\u001f\u{7f}\",\"nascimento\":\"0085-09-23\",\
                 \"stack\":[\"C#\",\"\",\"C#\",\"🦀</script>\u{2028}\"]",
            ),
        ] {
            let mut out = b"[".to_vec();
            pessoa.render(&mut out);
            let expected = format!("[{{\"id\":\"019571ab-cdef-7000-8000-0000000000ff\",{members}}}");
            assert_eq!(String::from_utf8(out).unwrap(), expected);
        }
    }

    #[test]
    fn searched() {
        for (pessoa, expected) in [
            (pessoa("JOSÉ", "Zé Ninguém", None), "josé\0zé ninguém"),
            (pessoa("A", "B", Some(&[])), "a\0b"),
            (pessoa("A", "B", Some(&[""])), "a\0b\0"),
            (pessoa("A", "B", Some(&["", "É", ""])), "a\0b\0\0é\0"),
            (pessoa("A", "B", Some(&["C#", "Ada", "C#"])), "a\0b\0c#\0ada\0c#"),
        ] {
            let mut out = b"kept".to_vec();
            pessoa.search_text(&mut out);
            assert_eq!(String::from_utf8(out).unwrap(), format!("kept{expected}"));
        }
    }
}
