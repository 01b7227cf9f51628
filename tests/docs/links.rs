//! Links: each leads to a file and an anchor that are there. Other hosts are not asked; they are known by name.

use std::path::{Component, Path, PathBuf};

use crate::pages::Page;

/// Where pages may send a reader.
const HOSTS: [&str; 6] =
    ["crates.io", "gatling.io", "github.com", "keepachangelog.com", "patroni.readthedocs.io", "rustup.rs"];

/// Why a link of a page leads nowhere.
fn fault(page: &Page, target: &str) -> Option<String> {
    if let Some((scheme, rest)) = target.split_once("://") {
        let host = rest.split(['/', '?', '#']).next().unwrap_or_default();
        let known = scheme == "https" && HOSTS.contains(&host);
        return (!known).then(|| format!("expected one of {HOSTS:?} by https"));
    }
    let (file, anchor) = match target.split_once('#') {
        Some((file, anchor)) => (file, Some(anchor)),
        None => (target, None),
    };
    let file = match file {
        "" => page.path.clone(),
        _ => normal(&page.path.parent().unwrap_or(Path::new("")).join(file))?,
    };
    if !file.exists() {
        return Some(format!("{} is not there", file.display()));
    }
    let anchor = anchor?;
    if file.extension().is_some_and(|extension| extension == "md") {
        let anchors = Page::read(&file).anchors();
        return (!anchors.contains(anchor)).then(|| format!("no such heading; there are {anchors:?}"));
    }
    // A line of a source file, or from one to another.
    let lines = std::fs::read_to_string(&file).ok()?.lines().count();
    let numbers: Option<Vec<usize>> =
        anchor.split('-').map(|line| line.strip_prefix('L')?.parse().ok()).collect();
    let there = numbers.is_some_and(|numbers| numbers.iter().all(|number| (1..=lines).contains(number)));
    (!there).then(|| format!("expected a line such as L1, up to L{lines}"))
}

/// Without `..`; none that leads out of the repository, which `fault` then reports as missing.
fn normal(path: &Path) -> Option<PathBuf> {
    let mut normal = PathBuf::new();
    for part in path.components() {
        match part {
            Component::ParentDir if !normal.pop() => return Some(PathBuf::from("(out of the repository)")),
            Component::ParentDir | Component::CurDir => {}
            part => normal.push(part),
        }
    }
    Some(if normal == Path::new("") { PathBuf::from(".") } else { normal })
}

#[test]
fn no_link_is_dead() {
    let mut dead = Vec::new();
    for page in Page::all() {
        for link in page.links() {
            if let Some(why) = fault(&page, &link.target) {
                dead.push(format!("{}: {}: {why}", page.path.display(), link.target));
            }
        }
    }
    assert!(dead.is_empty(), "{dead:#?}");
}

#[test]
fn every_picture_has_words() {
    for page in Page::all() {
        for link in page.links() {
            let said = link.picture.as_deref().is_none_or(|words| words.len() > 20);
            assert!(said, "{}: {}: expected words for who cannot see it", page.path.display(), link.target);
        }
    }
}

#[test]
fn every_page_is_in_the_index() {
    let index = Page::read("docs/README.md");
    let links = index.links();
    for page in Page::all().iter().filter(|page| page.path.starts_with("docs") && page.path != index.path) {
        let name = page.path.file_name().expect("a file").to_str().expect("UTF-8");
        assert!(links.iter().any(|link| link.target == name), "docs/README.md: expected a link to {name}");
    }
}

/// What is dead is found, and what is not is not.
#[test]
fn a_dead_link_is_found() {
    let page = Page { path: "docs/x.md".into(), text: String::new() };
    for (target, dead) in [
        ("../src/limits.rs", false),
        ("../src/limits.rs#L1", false),
        ("../src/limits.rs#L1-L3", false),
        ("../src", false),
        ("README.md#documentation", false),
        ("https://crates.io/crates/monoio", false),
        ("../src/nowhere.rs", true),
        ("../src/limits.rs#L99999", true),
        ("../src/limits.rs#limits", true),
        ("README.md#nowhere", true),
        ("../../elsewhere", true),
        ("http://crates.io", true),
        ("https://example.org/", true),
    ] {
        assert_eq!(fault(&page, target).is_some(), dead, "{target}");
    }
}
