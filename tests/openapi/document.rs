//! `openapi.yaml`, as the server gives it out in `/openapi.json`, and ways through it. It knows no endpoint.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::server::Server;

/// The document.
pub(crate) struct Document {
    root: Value,
}

/// What the document says of one answer.
pub(crate) struct Documented {
    /// The operation that answers so, or the name of the answer when many do, or none.
    pub(crate) of: String,
    /// The operation's method and path; empty for an answer that belongs to none.
    pub(crate) method: String,
    pub(crate) path: String,
    pub(crate) status: String,
    /// The fields that the answer must have.
    pub(crate) headers: Vec<String>,
    pub(crate) examples: Vec<Example>,
}

/// One example of an answer.
pub(crate) struct Example {
    pub(crate) name: String,
    pub(crate) media: String,
    pub(crate) value: Value,
    /// What it answers; `null` where no single request leads to it.
    pub(crate) request: Value,
}

impl Document {
    pub(crate) fn read(server: &Server) -> Document {
        Document { root: server.ask("GET", "/openapi.json", "").json() }
    }

    pub(crate) fn validate_version(&self) {
        assert_eq!(self.root["openapi"], "3.1.1");
        assert_eq!(self.root["info"]["version"], env!("CARGO_PKG_VERSION"));
    }

    /// Calls `see` with each value and its path (RFC 6901).
    pub(crate) fn visit(&self, see: &mut impl FnMut(&str, &Value)) {
        visit(&self.root, String::new(), see);
    }

    /// The text at a path (RFC 6901).
    pub(crate) fn text(&self, path: &str) -> &str {
        self.root.pointer(path).and_then(Value::as_str).unwrap_or_else(|| panic!("{path}: expected a text"))
    }

    pub(crate) fn paths(&self) -> Vec<&str> {
        members(&self.root["paths"]).map(|(path, _)| path).collect()
    }

    /// The methods of a path, HEAD beside GET.
    pub(crate) fn methods(&self, path: &str) -> BTreeSet<String> {
        let mut methods: BTreeSet<String> =
            members(&self.root["paths"][path]).map(|(method, _)| method.to_uppercase()).collect();
        if methods.contains("GET") {
            methods.insert("HEAD".to_owned());
        }
        methods
    }

    /// What has a place of its own on the page: operations, answers to any request, shapes.
    pub(crate) fn names(&self) -> Vec<String> {
        let operations = members(&self.root["paths"]).flat_map(|(_, item)| members(item));
        let operations =
            operations.map(|(_, operation)| operation["operationId"].as_str().unwrap().to_owned());
        let rest = ["/components/responses", "/components/schemas", "/x-responses"];
        let rest = rest.iter().flat_map(|path| members(self.root.pointer(path).unwrap()));
        operations.chain(rest.map(|(name, _)| name.to_owned())).collect()
    }

    /// Every answer, once, in the order of paths, methods and statuses; POST first, as it makes what is asked for then.
    pub(crate) fn responses(&self) -> Vec<Documented> {
        let mut responses = Vec::new();
        for (path, item) in members(&self.root["paths"]) {
            for (method, operation) in members(item) {
                let id = operation["operationId"].as_str().unwrap();
                for (status, response) in members(&operation["responses"]) {
                    let (of, response) = match response["$ref"].as_str() {
                        Some(reference) => (reference.rsplit('/').next().unwrap(), self.at(reference)),
                        None => (id, response),
                    };
                    if responses.iter().all(|known: &Documented| (&*known.of, &*known.status) != (of, status))
                    {
                        responses.push(documented(of, &method.to_uppercase(), path, status, response));
                    }
                }
            }
        }
        for (of, response) in members(&self.root["x-responses"]) {
            responses.push(documented(of, "", "", response["status"].as_str().unwrap(), response));
        }
        responses.sort_by_key(|response| response.method != "POST");
        responses
    }

    fn at(&self, reference: &str) -> &Value {
        self.root
            .pointer(reference.strip_prefix('#').unwrap())
            .unwrap_or_else(|| panic!("{reference}: not there"))
    }
}

fn documented(of: &str, method: &str, path: &str, status: &str, response: &Value) -> Documented {
    let examples = members(&response["content"]).flat_map(|(media, content)| {
        members(&content["examples"]).map(|(name, example)| Example {
            name: name.to_owned(),
            media: media.to_owned(),
            value: example["value"].clone(),
            request: example["x-request"].clone(),
        })
    });
    Documented {
        of: of.to_owned(),
        method: method.to_owned(),
        path: path.to_owned(),
        status: status.to_owned(),
        headers: members(&response["headers"]).map(|(name, _)| name.to_owned()).collect(),
        examples: examples.collect(),
    }
}

/// The members of an object; none of what is no object.
fn members(value: &Value) -> impl Iterator<Item = (&str, &Value)> {
    value.as_object().into_iter().flatten().map(|(name, value)| (name.as_str(), value))
}

fn visit(value: &Value, path: String, see: &mut impl FnMut(&str, &Value)) {
    see(&path, value);
    for (name, value) in members(value) {
        visit(value, format!("{path}/{}", name.replace('~', "~0").replace('/', "~1")), see);
    }
    for (position, value) in value.as_array().into_iter().flatten().enumerate() {
        visit(value, format!("{path}/{position}"), see);
    }
}
