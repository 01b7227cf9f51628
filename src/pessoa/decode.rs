//! Turns a request's body into a candidate. It knows the members and their rules, not what a refusal is answered with.
//!
//! The body's encoding and grammar are settled first, so sonic-rs only ever sees text that is JSON. A visitor then
//! takes the members: each accepts its own JSON type and refuses the others before it looks into them. When a rule is
//! broken, decoding notes it and goes on, because a wrong type later in the body wins over it.

use std::{borrow::Cow, collections::HashSet, fmt};

use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};

use super::{
    BirthDate, Candidate, Place, Reason, Refusal,
    grammar::{self, Fault},
};
use crate::limits::{APELIDO_CHARS_MAX, NOME_CHARS_MAX, STACK_ITEM_CHARS_MAX};

/// The longest part of a client's member name that a refusal repeats, in characters.
const NAME_SHOWN_MAX: usize = 32;

/// Reads one JSON object and checks every rule but uniqueness. Reading takes time linear in the body's length, which
/// the caller bounds.
pub fn decode(body: &[u8]) -> Result<Candidate<'_>, Refusal> {
    let text = std::str::from_utf8(body)
        .map_err(|error| Refusal::Malformed(Reason::NotUtf8 { at: error.valid_up_to() }))?;
    grammar::check(text).map_err(|fault| {
        Refusal::Malformed(match fault {
            Fault::NotJson(at) => Reason::NotJson { at },
            Fault::UnpairedSurrogate(at) => Reason::UnpairedSurrogate { at },
            Fault::TooDeep(at) => Reason::TooDeep { at },
        })
    })?;
    let mut draft = Draft::new();
    match sonic_rs::Deserializer::from_str(text).deserialize_map(&mut draft) {
        Ok(()) => draft.finish().map_err(Refusal::Invalid),
        // The text is JSON, so either a name came twice or a type is wrong, and the draft knows whose value was being
        // read.
        Err(_) => Err(Refusal::Malformed(match draft.repeated {
            Some(name) => Reason::Repeated(name),
            None => Reason::WrongType(draft.place),
        })),
    }
}

/// What is known of the candidate so far.
struct Draft<'de> {
    apelido: Option<Cow<'de, str>>,
    nome: Option<Cow<'de, str>>,
    nascimento: Option<BirthDate>,
    stack: Option<Vec<Cow<'de, str>>>,
    seen: Seen<'de>,
    /// The member or item whose value is being read.
    place: Place,
    /// The first rule that was broken.
    broken: Option<Reason>,
    /// The name that came twice, cut to what a refusal repeats.
    repeated: Option<Box<str>>,
}

impl<'de> Draft<'de> {
    fn new() -> Self {
        Draft {
            apelido: None,
            nome: None,
            nascimento: None,
            stack: None,
            seen: Seen::default(),
            place: Place::Body,
            broken: None,
            repeated: None,
        }
    }

    fn breaks(&mut self, reason: Reason) {
        self.broken.get_or_insert(reason);
    }

    /// The string at the current place, unless it is too short, too long or not storable.
    fn bounded(&mut self, text: Cow<'de, str>, chars_max: usize) -> Option<Cow<'de, str>> {
        let chars = text.chars().count();
        if chars == 0 || chars > chars_max {
            self.breaks(Reason::Length { place: self.place, chars });
            return None;
        }
        if memchr::memchr(0, text.as_bytes()).is_some() {
            self.breaks(Reason::Nul(self.place));
            return None;
        }
        Some(text)
    }

    fn required<A: MapAccess<'de>>(&mut self, members: &mut A) -> Result<Option<Cow<'de, str>>, A::Error> {
        let text = members.next_value_seed(Text)?;
        if text.is_none() {
            self.breaks(Reason::Missing(self.place));
        }
        Ok(text)
    }

    fn member<A: MapAccess<'de>>(&mut self, place: Place, members: &mut A) -> Result<(), A::Error> {
        self.place = place;
        match place {
            Place::Apelido => {
                self.apelido = self.required(members)?.and_then(|text| self.bounded(text, APELIDO_CHARS_MAX));
            }
            Place::Nome => {
                self.nome = self.required(members)?.and_then(|text| self.bounded(text, NOME_CHARS_MAX));
            }
            Place::Nascimento => {
                if let Some(text) = self.required(members)? {
                    match BirthDate::parse(text.as_bytes()) {
                        Ok(date) => self.nascimento = Some(date),
                        Err(_) => self.breaks(Reason::NotADate(place)),
                    }
                }
            }
            Place::Stack => members.next_value_seed(Items(self))?,
            Place::Body | Place::StackItem(_) => {
                members.next_value::<IgnoredAny>()?;
            }
        }
        Ok(())
    }

    fn finish(self) -> Result<Candidate<'de>, Reason> {
        match (self.broken, self.apelido, self.nome, self.nascimento) {
            (Some(reason), ..) => Err(reason),
            (None, None, ..) => Err(Reason::Missing(Place::Apelido)),
            (None, _, None, _) => Err(Reason::Missing(Place::Nome)),
            (None, .., None) => Err(Reason::Missing(Place::Nascimento)),
            (None, Some(apelido), Some(nome), Some(nascimento)) => {
                Ok(Candidate { apelido, nome, nascimento, stack: self.stack })
            }
        }
    }
}

/// The names read so far, to find one that comes twice.
#[derive(Default)]
struct Seen<'de> {
    apelido: bool,
    nome: bool,
    nascimento: bool,
    stack: bool,
    /// The unknown names. The set is made when the first one comes, because most bodies have none. It is hashed with a
    /// seed from the operating system, because the client chooses the names and there may be thousands.
    others: Option<HashSet<Cow<'de, str>, ahash::RandomState>>,
}

impl<'de> Seen<'de> {
    /// The member of this name, `Place::Body` for an unknown name; the name itself as an error when it came before.
    fn place(&mut self, name: Cow<'de, str>) -> Result<Place, Cow<'de, str>> {
        let (seen, place) = match &*name {
            "apelido" => (&mut self.apelido, Place::Apelido),
            "nome" => (&mut self.nome, Place::Nome),
            "nascimento" => (&mut self.nascimento, Place::Nascimento),
            "stack" => (&mut self.stack, Place::Stack),
            _ => {
                let others = self.others.get_or_insert_default();
                if others.contains(&name) {
                    return Err(name);
                }
                others.insert(name);
                return Ok(Place::Body);
            }
        };
        if std::mem::replace(seen, true) { Err(name) } else { Ok(place) }
    }
}

/// Accepts an object only: a derived struct would take an array too, its items by position.
impl<'de> Visitor<'de> for &mut Draft<'de> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<(), A::Error> {
        while let Some(name) = members.next_key_seed(Text)?.flatten() {
            match self.seen.place(name) {
                Ok(place) => self.member(place, &mut members)?,
                Err(name) => {
                    self.repeated = Some(name.chars().take(NAME_SHOWN_MAX).collect());
                    return Err(A::Error::custom("repeated"));
                }
            }
        }
        Ok(())
    }
}

/// A string or `null`: a member's value, or a name (which is always a string).
struct Text;

impl<'de> DeserializeSeed<'de> for Text {
    type Value = Option<Cow<'de, str>>;

    fn deserialize<D: Deserializer<'de>>(self, value: D) -> Result<Self::Value, D::Error> {
        value.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Text {
    type Value = Option<Cow<'de, str>>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a string")
    }

    fn visit_unit<E: Error>(self) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_borrowed_str<E: Error>(self, text: &'de str) -> Result<Self::Value, E> {
        Ok(Some(Cow::Borrowed(text)))
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Self::Value, E> {
        Ok(Some(Cow::Owned(text.to_owned())))
    }
}

/// `null` or an array of strings, taken into the draft's stack.
struct Items<'a, 'de>(&'a mut Draft<'de>);

impl<'de> DeserializeSeed<'de> for Items<'_, 'de> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, value: D) -> Result<(), D::Error> {
        value.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Items<'_, 'de> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("null or an array of strings")
    }

    fn visit_unit<E: Error>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<(), A::Error> {
        let draft = self.0;
        let mut stack = Vec::new();
        for index in 0.. {
            draft.place = Place::StackItem(index);
            let Some(item) = items.next_element_seed(Text)? else {
                break;
            };
            let item = item.ok_or_else(|| A::Error::custom("null"))?;
            stack.extend(draft.bounded(item, STACK_ITEM_CHARS_MAX));
        }
        draft.stack = Some(stack);
        Ok(())
    }
}
