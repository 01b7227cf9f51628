//! The items of a `stack` in one allocation. It knows how to hold them apart, not what they may be.

use std::fmt;

/// A list of strings. Each item is followed by U+0000, which no item can hold; so no items and one
/// empty item are different texts.
#[derive(Clone, PartialEq, Eq)]
pub struct Stack(Box<str>);

const TERMINATOR: char = '\u{0}';

/// Room for the items of most stacks while they are gathered.
const TYPICAL_BYTES: usize = 128;

impl Stack {
    /// Keeps the items, their order and their repeats; `None` when one of them holds U+0000.
    pub fn from_items(items: impl IntoIterator<Item: AsRef<str>>) -> Option<Stack> {
        let mut text = String::with_capacity(TYPICAL_BYTES);
        let mut terminators = 0;
        for item in items {
            text.push_str(item.as_ref());
            text.push(TERMINATOR);
            terminators += 1;
        }
        // Looking through all items at once is cheaper than through each.
        let found = memchr::memchr_iter(0, text.as_bytes()).count();
        (found == terminators).then(|| Stack(text.into_boxed_str()))
    }

    /// The items with U+0000 between them; `None` when there is no item.
    pub(super) fn joined(&self) -> Option<&str> {
        self.0.strip_suffix(TERMINATOR)
    }

    /// The items in their order.
    pub fn items(&self) -> impl Iterator<Item = &str> {
        self.0.split_terminator(TERMINATOR)
    }

    /// The bytes of all items and what holds them apart.
    pub fn bytes(&self) -> usize {
        self.0.len()
    }

    /// The number of items, which takes a pass over them.
    pub fn len(&self) -> usize {
        self.items().count()
    }

    /// Whether there is no item.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl fmt::Debug for Stack {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.items()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn items_come_back() {
        for items in [vec![], vec![""], vec!["", ""], vec!["Rust"], vec!["Rust", "", "C++", "Rust", "é"]] {
            let stack = Stack::from_items(&items).unwrap();
            assert_eq!(stack.items().collect::<Vec<_>>(), items);
            assert_eq!(stack.len(), items.len());
            assert_eq!(stack.is_empty(), items.is_empty());
            assert_eq!(stack.joined(), (!items.is_empty()).then(|| items.join("\u{0}")).as_deref());
        }
        assert_eq!(Stack::from_items(["a\u{0}b"]), None);
        assert_eq!(Stack::from_items(["", "\u{0}"]), None);
    }
}
