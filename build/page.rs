//! The document as one page for people: no script, no font, nothing to fetch. It knows HTML and the shape of an OpenAPI
//! document, and not this API.

use serde_yaml_ng::Value;

use crate::document::Node;

/// What an address in an example begins with.
const HOST: &str = "localhost:9999";
/// A longer answer is spread over several lines.
const LINE_CHARS_MAX: usize = 200;

const METHODS: [&str; 8] = ["get", "put", "post", "delete", "options", "head", "patch", "trace"];

/// The page.
pub(crate) fn render(document: &Value) -> String {
    let root = Node::root(document);
    let info = root.get("info");
    let (title, version) = (escaped(info.text("title")), escaped(info.text("version")));
    let style = include_str!("page.css");
    let summary = escaped(info.text("summary"));
    let mut page = format!(
        r#"<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'; img-src data:">
<link rel="icon" href="data:,">
<title>{title}: the API</title>
<style>
{style}</style>
<main>
<header><h1>{title} <small>{version}</small></h1>
<p class="lead">{summary}</p>
{}<p>For tools: <a href="/openapi.json">openapi.json</a>.</p></header>
"#,
        paragraphs(info.text("description"))
    );
    let operations: Vec<Operation> = operations(root).collect();
    page.push_str("<nav aria-label=\"Routes\"><ul>\n");
    for operation in &operations {
        page.push_str(&operation.entry());
    }
    page.push_str("</ul></nav>\n");
    for tag in root.get("tags").items() {
        let name = tag.text("name");
        page.push_str(&format!("<h2>{}</h2>\n{}", escaped(name), paragraphs(tag.text("description"))));
        for operation in operations.iter().filter(|operation| operation.node.get("tags").strings() == [name])
        {
            page.push_str(&operation.card());
        }
    }
    page.push_str(&everywhere(root, &operations));
    page.push_str(
        "<h2>Shapes</h2>\n<p>Lengths are in characters (Unicode scalar values), not in bytes.</p>\n",
    );
    for (name, schema) in root.get("components").get("schemas").members() {
        page.push_str(&shape(name, schema));
    }
    page.push_str(
        "<footer>Made of <code>openapi.yaml</code> when this server was built.</footer>\n</main>\n</html>\n",
    );
    page
}

struct Operation<'a> {
    path: &'a str,
    method: &'a str,
    node: Node<'a>,
}

fn operations(root: Node<'_>) -> impl Iterator<Item = Operation<'_>> {
    root.get("paths").members().flat_map(|(path, item)| {
        let methods = item.members().filter(|(name, _)| METHODS.contains(name));
        methods.map(move |(method, node)| Operation { path, method, node })
    })
}

impl Operation<'_> {
    fn name(&self) -> String {
        let (class, method) = (self.method, self.method.to_uppercase());
        let path = escaped(self.path);
        format!(r#"<span class="method {class}">{method}</span> <code>{path}</code>"#)
    }

    fn id(&self) -> &str {
        self.node.text("operationId")
    }

    /// Its line in the list of all.
    fn entry(&self) -> String {
        let (id, name, summary) = (self.id(), self.name(), inline(self.node.text("summary")));
        format!("<li><a href=\"#{id}\">{name} <span>{summary}</span></a></li>\n")
    }

    fn card(&self) -> String {
        let node = self.node;
        let (id, name, summary) = (self.id(), self.name(), inline(node.text("summary")));
        let mut card = format!("<section class=\"card\" id=\"{id}\">\n<h3>{name}</h3>\n<p>{summary}</p>\n");
        card.push_str(&paragraphs(node.text("description")));
        let parameters: Vec<Node> = node.find("parameters").into_iter().flat_map(Node::items).collect();
        if !parameters.is_empty() {
            let rows = parameters.iter().map(|parameter| {
                let place = format!("in the {}", parameter.text("in"));
                (parameter.text("name"), place, parameter.text("description"))
            });
            card.push_str(&format!("<h4>Parameters</h4>\n{}", table(rows)));
        }
        if let Some(body) = node.find("requestBody") {
            card.push_str(&format!("<h4>Body</h4>\n{}", paragraphs(body.text("description"))));
            for (media, content) in body.get("content").members() {
                card.push_str(&content_line(media, content));
            }
        }
        card.push_str("<h4>Answers</h4>\n");
        let (common, own): (Vec<_>, Vec<_>) =
            node.get("responses").members().partition(|(_, response)| response.reference().is_some());
        for (status, response) in own {
            card.push_str(&answer(status, response, Some(self)));
        }
        let links: Vec<String> = common
            .iter()
            .map(|(status, response)| {
                let id = response.reference().unwrap_or_default();
                format!("<a href=\"#{id}\">{}</a>", badge(status))
            })
            .collect();
        if !links.is_empty() {
            card.push_str(&format!("<p class=\"faint\">As any request: {}.</p>\n", links.join(", ")));
        }
        card.push_str("</section>\n");
        card
    }
}

/// The answers that many operations have, and those that belong to none.
fn everywhere(root: Node<'_>, operations: &[Operation]) -> String {
    let mut out = "<h2>Answers to any request</h2>\n<section class=\"card\">\n".to_owned();
    let mut all: Vec<(&str, &str, Node)> = root
        .get("x-responses")
        .members()
        .map(|(id, response)| (response.text("status"), id, response))
        .collect();
    for (id, response) in root.get("components").get("responses").members() {
        let mut uses = operations.iter().flat_map(|operation| operation.node.get("responses").members());
        let (status, _) = uses
            .find(|(_, used)| used.reference() == Some(id))
            .unwrap_or_else(|| panic!("openapi.yaml: no operation has the response {id}"));
        all.push((status, id, response));
    }
    all.sort_by_key(|(status, ..)| *status);
    for (status, id, response) in all {
        out.push_str(&format!("<div id=\"{id}\">\n{}</div>\n", answer(status, response, None)));
    }
    out.push_str("</section>\n");
    out
}

fn badge(status: &str) -> String {
    format!("<span class=\"status s{}\">{status}</span>", &status[..1])
}

/// One status: what it means, its fields and its examples.
fn answer(status: &str, response: Node<'_>, operation: Option<&Operation>) -> String {
    let mut out = format!("<h5>{}</h5>\n{}", badge(status), paragraphs(response.text("description")));
    for (name, header) in response.find("headers").into_iter().flat_map(Node::members) {
        out.push_str(&format!(
            "<p><code>{}</code>: {}</p>\n",
            escaped(name),
            inline(header.followed().text("description"))
        ));
    }
    for (media, content) in response.find("content").into_iter().flat_map(Node::members) {
        out.push_str(&content_line(media, content));
        for (_, example) in content.find("examples").into_iter().flat_map(Node::members) {
            let open = if status.starts_with('2') { " open" } else { "" };
            let mut shown = String::new();
            if let Some(request) = example.find("x-request") {
                shown.push_str(&format!("<pre>{}</pre>\n", escaped(&command(request, operation))));
            }
            let value = example.get("value");
            let line = value.sent();
            let text = if line.chars().count() > LINE_CHARS_MAX { value.spread() } else { line };
            shown.push_str(&format!("<pre>{}</pre>\n", escaped(text.trim_end())));
            let summary = inline(example.text("summary"));
            out.push_str(&format!("<details{open}><summary>{summary}</summary>\n{shown}</details>\n"));
        }
    }
    out
}

/// Its media type, and the name of its shape.
fn content_line(media: &str, content: Node<'_>) -> String {
    let media = escaped(media);
    let schema = content.members().find(|(name, _)| *name == "schema").map(|(_, schema)| schema);
    let item = schema.and_then(|schema| schema.members().find(|(name, _)| *name == "items"));
    let link = |name: &str| format!("<a href=\"#{name}\">{name}</a>");
    let shape = match (schema.and_then(Node::reference), item.and_then(|(_, item)| item.reference())) {
        (Some(name), _) => format!(", {}", link(name)),
        (None, Some(name)) => format!(", a list of {}", link(name)),
        (None, None) => String::new(),
    };
    format!("<p class=\"faint\"><code>{media}</code>{shape}</p>\n")
}

/// The request of an example as a command.
fn command(request: Node<'_>, operation: Option<&Operation>) -> String {
    let (mut method, mut target) = (request.text("method").to_owned(), request.text("target"));
    if let Some(operation) = operation {
        method = operation.method.to_uppercase();
        target = if target.is_empty() { operation.path } else { target };
    }
    assert!(
        !method.is_empty() && !target.is_empty(),
        "openapi.yaml: expected a method and a target of an example"
    );
    let body = request.text("body");
    let method = match (&*method, body) {
        ("GET", "") => String::new(),
        ("POST", body) if !body.is_empty() => String::new(),
        (method, _) => format!(" -X {method}"),
    };
    let address = format!("{HOST}{target}");
    let plain = |char: char| char.is_ascii_alphanumeric() || "/:.-".contains(char);
    let address = if address.chars().all(plain) { address } else { quoted(&address) };
    let body = if body.is_empty() { String::new() } else { format!(" -d {}", quoted(body)) };
    format!("$ curl{method} {address}{body}")
}

fn quoted(text: &str) -> String {
    assert!(!text.contains('\''), "openapi.yaml: expected a request that fits in quotes, got {text}");
    format!("'{text}'")
}

/// A schema of an object: each member, what it may be, what it means.
fn shape(name: &str, schema: Node<'_>) -> String {
    let required = schema.find("required").map(Node::strings).unwrap_or_default();
    let rows = schema.get("properties").members().map(|(member, schema)| {
        let mut rule = rule(schema.followed());
        if !required.contains(&member) {
            rule.push_str(", optional");
        }
        (member, rule, schema.followed().text("description"))
    });
    format!(
        "<section class=\"card\" id=\"{name}\">\n<h3>{name}</h3>\n{}{}</section>\n",
        paragraphs(schema.text("description")),
        table(rows)
    )
}

/// What a value may be, in words.
fn rule(schema: Node<'_>) -> String {
    if let Some(values) = schema.find("enum") {
        return values.strings().join(", ");
    }
    let types = schema.find("type").map(Node::strings).unwrap_or_default();
    let mut rule = match (schema.text("format"), schema.find("items")) {
        (_, Some(item)) => format!("list of {}", rule_of_many(item)),
        ("uuid", None) => "UUID".to_owned(),
        ("date", None) => "date".to_owned(),
        _ => types.first().copied().unwrap_or("value").to_owned(),
    };
    if let (Some(least), Some(most)) = (schema.find("minLength"), schema.find("maxLength"))
        && schema.text("format").is_empty()
    {
        rule.push_str(&format!(" of {} to {} characters", least.sent(), most.sent()));
    }
    if types.contains(&"null") {
        rule.push_str(", or null");
    }
    rule
}

fn rule_of_many(item: Node<'_>) -> String {
    let one = rule(item);
    match one.split_once(' ') {
        Some((kind, rest)) => format!("{kind}s {rest}"),
        None => format!("{one}s"),
    }
}

fn table<'a>(rows: impl Iterator<Item = (&'a str, String, &'a str)>) -> String {
    let rows: String = rows
        .map(|(name, rule, description)| {
            let (name, rule, description) = (escaped(name), escaped(&rule), inline(description.trim_end()));
            format!("<tr><td><code>{name}</code><td class=\"faint\">{rule}<td>{description}\n")
        })
        .collect();
    format!("<div class=\"wide\"><table><thead><tr><th>name<th>is<th>means<tbody>\n{rows}</table></div>\n")
}

/// Text whose paragraphs have an empty line between them.
fn paragraphs(text: &str) -> String {
    let paragraphs = text.trim().split("\n\n").filter(|paragraph| !paragraph.is_empty());
    paragraphs.map(|paragraph| format!("<p>{}</p>\n", inline(paragraph))).collect()
}

/// Escapes a text; what stands between backticks is code, what stands between two pairs of asterisks is strong.
fn inline(text: &str) -> String {
    let parts = text.split('`').enumerate().map(|(position, part)| match position % 2 {
        1 => format!("<code>{}</code>", escaped(part)),
        _ => {
            let parts = escaped(part);
            let parts = parts.split("**").enumerate();
            parts
                .map(
                    |(position, part)| {
                        if position % 2 == 1 { format!("<b>{part}</b>") } else { part.to_owned() }
                    },
                )
                .collect()
        }
    });
    parts.collect()
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}
