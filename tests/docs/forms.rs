//! The forms of `.github`: as the forge reads them.

use std::collections::BTreeSet;
use std::path::Path;

use serde_json::Value;

use crate::pages::files;

/// What a field of a form may be.
const FIELDS: [&str; 5] = ["markdown", "textarea", "input", "dropdown", "checkboxes"];

fn yaml(path: &Path) -> Value {
    let text = std::fs::read_to_string(path).unwrap();
    serde_yaml_ng::from_str(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

#[test]
fn every_issue_form_is_one() {
    let forms = files(Path::new(".github/ISSUE_TEMPLATE"));
    let names: BTreeSet<&str> =
        forms.iter().map(|form| form.file_name().unwrap().to_str().unwrap()).collect();
    assert_eq!(names, BTreeSet::from(["bug.yml", "config.yml", "entry.yml", "performance.yml"]));
    for path in forms.iter().filter(|form| !form.ends_with("config.yml")) {
        let form = yaml(path);
        let path = path.display();
        for member in ["name", "description"] {
            assert!(form[member].as_str().is_some_and(|text| text.len() > 3), "{path}: expected a {member}");
        }
        let members: Vec<&String> = form.as_object().expect("an object").keys().collect();
        let known = ["name", "description", "title", "labels", "body", "assignees"];
        assert!(members.iter().all(|member| known.contains(&member.as_str())), "{path}: {members:?}");
        let fields = form["body"].as_array().expect("fields");
        let mut ids = BTreeSet::new();
        for field in fields {
            let kind = field["type"].as_str().expect("a type");
            assert!(FIELDS.contains(&kind), "{path}: {kind}: expected one of {FIELDS:?}");
            let attributes = &field["attributes"];
            if kind == "markdown" {
                assert!(attributes["value"].is_string(), "{path}: a text");
                continue;
            }
            let id = field["id"].as_str().expect("an id");
            assert!(ids.insert(id), "{path}: {id} comes twice");
            assert!(attributes["label"].is_string(), "{path}: {id}: expected a label");
            if ["dropdown", "checkboxes"].contains(&kind) {
                assert!(
                    attributes["options"].as_array().is_some_and(|some| !some.is_empty()),
                    "{path}: {id}"
                );
            }
        }
        let required = |field: &&Value| field["validations"]["required"] == true;
        assert!(fields.iter().any(|field| required(&field)), "{path}: expected a field that is required");
    }
    assert_eq!(yaml(Path::new(".github/ISSUE_TEMPLATE/config.yml"))["blank_issues_enabled"], true);
}

#[test]
fn there_is_a_form_for_changes() {
    let text = std::fs::read_to_string(".github/PULL_REQUEST_TEMPLATE.md").unwrap();
    assert!(text.contains("area: change"), "the form of a commit");
}
