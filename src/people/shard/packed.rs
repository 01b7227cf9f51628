//! Bodies as they are kept: without what every body has, and each stack item as a number. It knows what a rendered
//! pessoa looks like, and gives back the bytes that it was given, whatever they are.
//!
//! As it is shown, a body is nearly half of what memory holds of a pessoa. A third of it are the names of its members and
//! its id, which is kept beside it anyway, and few stack items differ. So a rendered pessoa is taken apart, and put
//! together where it is read (perf/results/2026-11-29-memory.md says what that saves and costs). Anything else is kept as
//! it is.

use ahash::RandomState;
use uuid::Uuid;

use super::arena::{Arena, length_prefix, read_length};
use super::table::{Column, Slots};

/// What stands between the parts of a rendered pessoa.
const BEFORE_ID: &[u8] = br#"{"id":""#;
const BEFORE_APELIDO: &[u8] = br#"","apelido":""#;
const BEFORE_NOME: &[u8] = br#"","nome":""#;
const BEFORE_NASCIMENTO: &[u8] = br#"","nascimento":""#;
const NO_STACK: &[u8] = br#"","stack":null}"#;
const BEFORE_STACK: &[u8] = br#"","stack":[""#;
const EMPTY_STACK: &[u8] = br#"","stack":[]}"#;
const BETWEEN_ITEMS: &[u8] = br#"",""#;
const AFTER_STACK: &[u8] = br#""]}"#;

/// A date: `2000-10-01`.
const DATE_BYTES: usize = 10;

/// The first byte of what is kept. [`PLAIN`]: the body itself follows. The others: its length, so that nobody has to add it
/// up; apelido, [`END`], nome, [`END`], date, stack.
const PLAIN: u8 = 0;
const WITHOUT_STACK: u8 = 1;
const WITH_STACK: u8 = 2;

/// Ends a text. JSON shows no such byte.
const END: u8 = 0;

/// Items below this number take one byte.
const SHORT_NUMBERS: u16 = 240;
/// From [`SHORT_NUMBERS`] to below this byte: the high part of a number in two bytes. This byte: an item that has no number
/// follows, and [`END`].
const UNNUMBERED: u8 = 255;
/// Items that get a number at most. The first ones do: those that many pessoas list come early.
const ITEMS_MAX: u16 = SHORT_NUMBERS + (UNNUMBERED as u16 - SHORT_NUMBERS) * 256;
/// A longer item gets none.
const ITEM_BYTES_MAX: usize = 64;

/// The stack items that have a number, as JSON shows them between its quotes.
pub(super) struct Items {
    texts: Arena,
    addresses: Column<u32>,
    slots: Slots,
    hasher: RandomState,
    /// How many there may be.
    max: usize,
}

impl Items {
    /// None yet. They are never given up, so there are the fewer of them the smaller `chunk_bytes`, a part of the budget, is:
    /// all together take about as much as a chunk.
    pub(super) fn new(chunk_bytes: usize) -> Items {
        Items {
            max: (chunk_bytes / ITEM_BYTES_MAX).min(usize::from(ITEMS_MAX)),
            texts: Arena::new(chunk_bytes),
            addresses: Column::new(),
            slots: Slots::new(1),
            hasher: RandomState::new(),
        }
    }

    /// The number of this item; a new item gets the next one, while there are some.
    fn number(&mut self, item: &[u8]) -> Option<u16> {
        if item.len() > ITEM_BYTES_MAX {
            return None;
        }
        let Items { texts, addresses, slots, hasher, max } = self;
        let text = |number: u32| text_at(texts, *addresses.get(number));
        let hash = hasher.hash_one(item);
        if let Some(number) = slots.find(hash, |number| text(number) == item) {
            return u16::try_from(number).ok();
        }
        if addresses.len() >= *max {
            return None;
        }
        let number = addresses.push(texts.append(item)?);
        slots.insert(hash, number, |number| hasher.hash_one(text_at(texts, *addresses.get(number))));
        u16::try_from(number).ok()
    }

    fn text(&self, number: u16) -> &[u8] {
        text_at(&self.texts, *self.addresses.get(u32::from(number)))
    }

    pub(super) fn bytes(&self) -> usize {
        self.texts.bytes() + self.addresses.bytes() + self.slots.bytes()
    }
}

fn text_at(texts: &Arena, address: u32) -> &[u8] {
    texts.get(address).expect("items are dropped all at once")
}

/// Appends what is kept of the `body` of the pessoa `id`.
pub(super) fn pack(body: &[u8], id: &Uuid, items: &mut Items, out: &mut Vec<u8>) {
    let start = out.len();
    if pack_pessoa(body, id, items, out).is_none() {
        out.truncate(start);
        out.push(PLAIN);
        out.extend_from_slice(body);
    }
}

/// `None`: it is no rendered pessoa with this id.
fn pack_pessoa(body: &[u8], id: &Uuid, items: &mut Items, out: &mut Vec<u8>) -> Option<()> {
    let rest = body.strip_prefix(BEFORE_ID)?;
    let rest = rest.strip_prefix(id.hyphenated().encode_lower(&mut Uuid::encode_buffer()).as_bytes())?;
    let (apelido, rest) = text(rest.strip_prefix(BEFORE_APELIDO)?)?;
    let (nome, rest) = text(rest.strip_prefix(BEFORE_NOME)?)?;
    let (date, rest) = rest.strip_prefix(BEFORE_NASCIMENTO)?.split_at_checked(DATE_BYTES)?;
    let kind = if rest == NO_STACK { WITHOUT_STACK } else { WITH_STACK };
    out.push(kind);
    let (length, bytes) = length_prefix(body.len());
    out.extend_from_slice(&length[..bytes]);
    for text in [apelido, nome] {
        out.extend_from_slice(text);
        out.push(END);
    }
    out.extend_from_slice(date);
    if kind == WITHOUT_STACK || rest == EMPTY_STACK {
        return Some(());
    }
    let mut rest = rest.strip_prefix(BEFORE_STACK)?;
    loop {
        let (item, after) = text(rest)?;
        match items.number(item).map(u16::to_be_bytes) {
            Some([0, low]) if u16::from(low) < SHORT_NUMBERS => out.push(low),
            Some(number) => {
                let [high, low] = (u16::from_be_bytes(number) - SHORT_NUMBERS).to_be_bytes();
                out.extend_from_slice(&[SHORT_NUMBERS.to_be_bytes()[1] + high, low]);
            }
            None => {
                out.push(UNNUMBERED);
                out.extend_from_slice(item);
                out.push(END);
            }
        }
        if after == AFTER_STACK {
            return Some(());
        }
        rest = after.strip_prefix(BETWEEN_ITEMS)?;
    }
}

/// The text up to the quote that ends it, and what follows from that quote on. `None`: it does not end, or holds what JSON
/// does not.
fn text(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let mut at = 0;
    loop {
        at += memchr::memchr3(b'"', b'\\', END, &bytes[at..])?;
        match bytes[at] {
            b'"' => return Some(bytes.split_at(at)),
            // Whatever stands behind it, but for what would end the text where it is kept.
            b'\\' if bytes.get(at + 1).is_some_and(|&byte| byte != END) => at += 2,
            _ => return None,
        }
    }
}

/// A body that is kept, as it is read.
#[derive(Clone, Copy)]
pub struct Body<'a>(Form<'a>);

#[derive(Clone, Copy)]
enum Form<'a> {
    Plain(&'a [u8]),
    Pessoa {
        length: usize,
        id: Uuid,
        apelido: &'a [u8],
        nome: &'a [u8],
        date: &'a [u8],
        stack: Option<&'a [u8]>,
        items: Ref<'a>,
    },
}

/// What the numbers of a stack mean.
#[derive(Clone, Copy)]
struct Ref<'a>(&'a Items);

impl<'a> Body<'a> {
    /// A body that is not packed.
    pub fn plain(body: &'a [u8]) -> Body<'a> {
        Body(Form::Plain(body))
    }

    /// What [`pack`] made.
    pub(super) fn unpack(packed: &'a [u8], id: Uuid, items: &'a Items) -> Body<'a> {
        let (&kind, packed) = packed.split_first().expect("it begins with its kind");
        if kind == PLAIN {
            return Body::plain(packed);
        }
        let (length, rest) = read_length(packed);
        let (apelido, rest) = ended(rest);
        let (nome, rest) = ended(rest);
        let (date, stack) = rest.split_at(DATE_BYTES);
        let stack = (kind == WITH_STACK).then_some(stack);
        Body(Form::Pessoa { length, id, apelido, nome, date, stack, items: Ref(items) })
    }

    /// Bytes of the body.
    pub fn len(&self) -> usize {
        match self.0 {
            Form::Plain(body) => body.len(),
            Form::Pessoa { length, .. } => length,
        }
    }

    /// Whether it has no byte: no pessoa's has none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Appends the body.
    pub fn write(&self, out: &mut Vec<u8>) {
        out.reserve(self.len());
        self.each_part(|part| out.extend_from_slice(part));
    }

    /// The body.
    pub fn to_vec(&self) -> Vec<u8> {
        let mut body = Vec::with_capacity(self.len());
        self.write(&mut body);
        body
    }

    fn each_part(&self, mut part: impl FnMut(&[u8])) {
        match self.0 {
            Form::Plain(body) => part(body),
            Form::Pessoa { length: _, id, apelido, nome, date, stack, items } => {
                part(BEFORE_ID);
                part(id.hyphenated().encode_lower(&mut Uuid::encode_buffer()).as_bytes());
                for text in [BEFORE_APELIDO, apelido, BEFORE_NOME, nome, BEFORE_NASCIMENTO, date] {
                    part(text);
                }
                match stack {
                    None => part(NO_STACK),
                    Some([]) => part(EMPTY_STACK),
                    Some(stack) => {
                        part(BEFORE_STACK);
                        items.each(stack, part);
                    }
                }
            }
        }
    }
}

impl Ref<'_> {
    /// The items of a stack that has some, and what stands between and behind them.
    fn each(self, mut stack: &[u8], mut part: impl FnMut(&[u8])) {
        loop {
            let item;
            (item, stack) = match *stack {
                [UNNUMBERED, ref rest @ ..] => ended(rest),
                [low, ref rest @ ..] if u16::from(low) < SHORT_NUMBERS => (self.0.text(u16::from(low)), rest),
                [high, low, ref rest @ ..] => {
                    let high = u16::from(high) - SHORT_NUMBERS;
                    (self.0.text(SHORT_NUMBERS + high * 256 + u16::from(low)), rest)
                }
                _ => unreachable!("a stack ends with an item"),
            };
            part(item);
            if stack.is_empty() {
                part(AFTER_STACK);
                return;
            }
            part(BETWEEN_ITEMS);
        }
    }
}

impl PartialEq for Body<'_> {
    fn eq(&self, other: &Body<'_>) -> bool {
        self.to_vec() == other.to_vec()
    }
}

impl Eq for Body<'_> {}

impl PartialEq<[u8]> for Body<'_> {
    fn eq(&self, other: &[u8]) -> bool {
        *self == Body::plain(other)
    }
}

impl std::fmt::Debug for Body<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&String::from_utf8_lossy(&self.to_vec()))
    }
}

/// A text and what follows its [`END`].
fn ended(bytes: &[u8]) -> (&[u8], &[u8]) {
    let end = memchr::memchr(END, bytes).expect("a text has an end");
    (&bytes[..end], &bytes[end + 1..])
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::pessoa::Pessoa;

    const ID: Uuid = Uuid::from_u128(0x0195_71AB_CDEF_7000_8000_0000_0000_00FF);

    /// How many bytes are kept of a body, which comes back as it was.
    fn kept(body: &[u8], items: &mut Items) -> usize {
        let mut packed = b"before".to_vec();
        pack(body, &ID, items, &mut packed);
        let packed = &packed[6..];
        let back = Body::unpack(packed, ID, items);
        assert_eq!(String::from_utf8_lossy(&back.to_vec()), String::from_utf8_lossy(body));
        assert!(back.to_vec() == body && back.len() == body.len());
        packed.len()
    }

    fn rendered(apelido: &str, nome: &str, stack: Option<Vec<String>>) -> Vec<u8> {
        let mut body = Vec::new();
        Pessoa::from_columns(ID, apelido, nome, 274, stack).unwrap().render(&mut body);
        body
    }

    #[test]
    fn a_rendered_pessoa_takes_its_texts_and_a_byte_an_item() {
        let mut items = Items::new(4096);
        let stack = |items: &[&str]| Some(items.iter().map(|item| (*item).to_owned()).collect());
        // Below 128 bytes a length takes one byte, below 16,384 two.
        let fixed = |body: &[u8]| 1 + (1 + usize::from(body.len() >= 128)) + 2 + DATE_BYTES;
        for (stack, bytes) in [
            (None, 0),
            (stack(&[]), 0),
            (stack(&["C#", "Go", "", "Go", "a\"b\\"]), 5),
            (stack(&[&"x".repeat(ITEM_BYTES_MAX)]), 1),
            (stack(&[&"x".repeat(ITEM_BYTES_MAX + 1), "Go"]), ITEM_BYTES_MAX + 1 + 2 + 1),
        ] {
            let body = rendered("josé", "Ana", stack);
            assert_eq!(kept(&body, &mut items), fixed(&body) + 5 + 3 + bytes);
        }
        // JSON shows an escape as more than one byte.
        let body = rendered("\"\\\n", "\u{1f}", None);
        assert_eq!(kept(&body, &mut items), fixed(&body) + 6 + 6);
    }

    #[test]
    #[cfg_attr(miri, ignore = "it takes thousands of items")]
    fn numbers_run_out_and_nothing_is_lost() {
        let mut items = Items::new(1 << 20);
        let count = usize::from(ITEMS_MAX) + 100;
        for first in (0..count).step_by(40) {
            kept(
                &rendered("a", "b", Some((first..first + 40).map(|item| item.to_string()).collect())),
                &mut items,
            );
        }
        let all: Vec<String> = (0..count).map(|item| item.to_string()).collect();
        kept(&rendered("a", "b", Some(all)), &mut items);
        assert_eq!(items.addresses.len(), usize::from(ITEMS_MAX));
        let few = Items::new(4096);
        assert_eq!(few.max, 64);
        for (item, bytes) in [("0", 1), ("239", 1), ("240", 2), ("4079", 2), ("4080", 6)] {
            let body = rendered("a", "b", Some(vec![item.to_owned()]));
            assert_eq!(kept(&body, &mut items), 1 + 1 + 2 + 2 + DATE_BYTES + bytes, "{item}");
        }
    }

    #[test]
    fn anything_else_is_kept_as_it_is() {
        let mut items = Items::new(4096);
        let body = rendered("josé", "Ana", Some(vec!["Go".to_owned(), "C#".to_owned()]));
        // Every beginning, every end, and every byte replaced by some that matter.
        for at in (0..body.len()).step_by(if cfg!(miri) { 8 } else { 1 }) {
            kept(&body[..at], &mut items);
            kept(&body[at..], &mut items);
            for byte in [b'"', b'\\', 0, b'x', b'}', 0xff] {
                let mut other = body.clone();
                other[at] = byte;
                kept(&other, &mut items);
                for next in [b'"', b'\\', 0] {
                    other[(at + 1).min(body.len() - 1)] = next;
                    kept(&other, &mut items);
                }
            }
        }
        let other_id = [&b"{\"id\":\"01"[..], &body[9..]].concat();
        assert_eq!(kept(&other_id, &mut items), kept(&body, &mut items));
        kept(&[body.clone(), body.clone()].concat(), &mut items);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(if cfg!(miri) { 2 } else { 256 }))]

        #[test]
        fn whatever_goes_in_comes_out(
            texts in prop::collection::vec("[^\0]{0,12}", 2..3),
            stack in prop::option::of(prop::collection::vec("[^\0]{0,6}|Go|C#", 0..20)),
            bytes in prop::collection::vec(any::<u8>(), 0..300),
        ) {
            let mut items = Items::new(4096);
            kept(&rendered(&texts[0], &texts[1], stack), &mut items);
            kept(&bytes, &mut items);
        }
    }
}
