//! The image's build sees all that Cargo wants to see.

use std::fs;

/// Cargo reads the manifest of each member of the workspace, and builds nothing without one.
#[test]
fn every_member_of_the_workspace_is_let_into_the_image() {
    let read = |path: &str| fs::read_to_string(format!("../{path}")).expect(path);
    let (workspace, ignored) = (read("Cargo.toml"), read(".dockerignore"));
    let members = workspace.lines().find_map(|line| line.strip_prefix("members = [")).expect("members");
    let members: Vec<&str> = members.split('"').skip(1).step_by(2).collect();
    assert!(members.contains(&"tools"), "{members:?}");
    for member in members {
        let line = format!("!{member}/Cargo.toml");
        assert!(ignored.lines().any(|known| known == line), ".dockerignore: expected a line {line}");
    }
}
