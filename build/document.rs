//! Ways through an OpenAPI document. What the page needs and the document lacks ends the build, with its name.

use serde_yaml_ng::Value;

/// A place in a document whose references can be followed.
#[derive(Clone, Copy)]
pub(crate) struct Node<'a> {
    root: &'a Value,
    value: &'a Value,
}

impl<'a> Node<'a> {
    pub(crate) fn root(root: &'a Value) -> Node<'a> {
        Node { root, value: root }
    }

    /// The member of this name, its reference followed.
    pub(crate) fn find(self, name: &str) -> Option<Node<'a>> {
        self.value.get(name).map(|value| Node { root: self.root, value }.followed())
    }

    /// The member of this name, which must be there.
    pub(crate) fn get(self, name: &str) -> Node<'a> {
        self.find(name).unwrap_or_else(|| panic!("openapi.yaml: expected `{name}` in {:?}", self.value))
    }

    /// The text of a member; empty when there is none.
    pub(crate) fn text(self, name: &str) -> &'a str {
        self.value.get(name).and_then(Value::as_str).unwrap_or_default()
    }

    /// The members of this object and their names, in order; none when it is no object. References are not followed.
    pub(crate) fn members(self) -> impl Iterator<Item = (&'a str, Node<'a>)> {
        let members = self.value.as_mapping().into_iter().flatten();
        members.map(move |(name, value)| {
            let name = name
                .as_str()
                .unwrap_or_else(|| panic!("openapi.yaml: expected a name in quotes, got {name:?}"));
            (name, Node { root: self.root, value })
        })
    }

    /// The items of this array, their references followed; none when it is no array.
    pub(crate) fn items(self) -> impl Iterator<Item = Node<'a>> {
        let items = self.value.as_sequence().into_iter().flatten();
        items.map(move |value| Node { root: self.root, value }.followed())
    }

    /// The last part of this node's reference, if it is one.
    pub(crate) fn reference(self) -> Option<&'a str> {
        self.value.get("$ref")?.as_str()?.rsplit('/').next()
    }

    /// What it refers to, or itself.
    pub(crate) fn followed(self) -> Node<'a> {
        let Some(reference) = self.value.get("$ref").and_then(Value::as_str) else { return self };
        let path = reference
            .strip_prefix("#/")
            .unwrap_or_else(|| panic!("openapi.yaml: expected #/.., got {reference}"));
        path.split('/').fold(Node::root(self.root), Node::get)
    }

    /// As the server would send it: a text as it is, all else as JSON.
    pub(crate) fn sent(self) -> String {
        match self.value {
            Value::String(text) => text.clone(),
            value => serde_json::to_string(value).expect("YAML with names in quotes is always JSON"),
        }
    }

    /// The same over several lines.
    pub(crate) fn spread(self) -> String {
        match self.value {
            Value::String(text) => text.clone(),
            value => serde_json::to_string_pretty(value).expect("YAML with names in quotes is always JSON"),
        }
    }

    pub(crate) fn strings(self) -> Vec<&'a str> {
        match self.value {
            Value::String(one) => vec![one],
            value => value.as_sequence().into_iter().flatten().filter_map(Value::as_str).collect(),
        }
    }
}
