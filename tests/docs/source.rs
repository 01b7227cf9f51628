//! The server's source as tokens: what it logs, and every text in it. Tokens, not expressions, because macros hold more
//! macros.

use std::path::Path;

use syn::LitStr;
use syn::buffer::{Cursor, TokenBuffer};

use crate::pages::files;

/// What the server's source says to people.
#[derive(Default)]
pub(crate) struct Texts {
    /// Level and message of each `error!`, `warn!` and `info!`.
    pub(crate) logged: Vec<(String, String)>,
    /// The texts of `#[error("..")]`, each with its file.
    pub(crate) errors: Vec<(String, String)>,
    /// Every text.
    pub(crate) all: Vec<String>,
}

impl Texts {
    /// Of all files below `src`.
    pub(crate) fn of_the_server() -> Texts {
        let mut texts = Texts::default();
        let sources = files(Path::new("src"));
        assert!(sources.len() > 100, "expected the server's source");
        for file in sources.into_iter().filter(|file| file.extension().is_some_and(|kind| kind == "rs")) {
            let source = std::fs::read_to_string(&file).unwrap();
            texts.read(file.to_str().expect("names in UTF-8"), &source);
        }
        texts
    }

    fn read(&mut self, file: &str, source: &str) {
        let tokens = TokenBuffer::new2(source.parse().unwrap_or_else(|error| panic!("{file}: {error}")));
        self.walk(file, tokens.begin());
    }

    fn walk(&mut self, file: &str, mut at: Cursor<'_>) {
        while !at.eof() {
            if let Some((literal, next)) = at.literal() {
                self.all.extend(text(&literal.to_string()));
                at = next;
                continue;
            }
            if let Some((inside, _, _, after)) = at.any_group() {
                self.walk(file, inside);
                at = after;
                continue;
            }
            let Some((word, next)) = at.ident() else {
                at = at.token_tree().expect("not at the end").1;
                continue;
            };
            at = next;
            let level = word.to_string();
            let arguments = match next.punct() {
                Some((sign, after)) if sign.as_char() == '!' => after.any_group(),
                _ => None,
            };
            if let Some((inside, ..)) = arguments
                && ["error", "warn", "info"].contains(&level.as_str())
            {
                let message = message(inside).unwrap_or_else(|| panic!("{file}: {level}! without a message"));
                self.logged.push((level, message));
            } else if level == "error"
                && let Some((inside, ..)) = next.any_group()
                && let Some(message) = message(inside)
            {
                self.errors.push((file.to_owned(), message));
            }
        }
    }
}

/// The first argument that is a text by itself.
fn message(mut at: Cursor<'_>) -> Option<String> {
    let mut first = true;
    while !at.eof() {
        if let Some((literal, next)) = at.literal()
            && std::mem::take(&mut first)
            && let Some(text) = text(&literal.to_string())
        {
            let ends = next.eof() || next.punct().is_some_and(|(sign, _)| sign.as_char() == ',');
            if ends {
                return Some(text);
            }
        }
        let (token, next) = at.token_tree()?;
        first = token.to_string() == ",";
        at = next;
    }
    None
}

/// A text as it is read, with `..` for what changes in it.
fn text(literal: &str) -> Option<String> {
    let value = syn::parse_str::<LitStr>(literal).ok()?.value();
    let mut text = String::new();
    let mut rest = value.as_str();
    while let Some((before, after)) = rest.split_once('{') {
        text.push_str(before);
        match after.split_once('}') {
            Some((_, after)) => {
                text.push_str("..");
                rest = after;
            }
            None => {
                text.push('{');
                rest = after;
            }
        }
    }
    Some(text + rest)
}

#[test]
fn messages_are_found_wherever_they_are() {
    let mut texts = Texts::default();
    let source = r##"
        #[error("no {what} in {}", .0.display())]
        fn f() {
            tokio::select! { () = g() => { warn!(%why, x = "y", "the first {n:?}") } }
            tracing::error!("one \
                             line");
            info!(a, b = c("d", "e"), "the last", );
            error(1);
            debug!("not this");
        }
    "##;
    texts.read("x.rs", source);
    let pair = |level: &str, message: &str| (level.to_owned(), message.to_owned());
    assert_eq!(
        texts.logged,
        [pair("warn", "the first .."), pair("error", "one line"), pair("info", "the last")]
    );
    assert_eq!(texts.errors, [pair("x.rs", "no .. in ..")]);
    assert!(texts.all.contains(&"not this".to_owned()));
}
