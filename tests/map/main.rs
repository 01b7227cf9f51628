//! The map in `lib.rs`, held against the code: a room knows only what is below it, and no file knows, even around some
//! corners, a file that knows it.

mod modules;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use modules::Modules;

/// Each room, and the rooms that it may know; all of them may know `limits`.
const MAY_KNOW: [(&str, &[&str]); 16] = [
    ("main", &["config", "process"]),
    ("process", &["config", "core", "net", "people", "pessoa", "channel", "postgres", "embedded", "admin"]),
    ("config", &["core", "net", "people", "postgres"]),
    ("core", &["net", "api", "people", "channel", "ledger", "metrics", "postgres"]),
    ("net", &["http", "channel", "ledger"]),
    ("http", &[]),
    ("api", &["http", "ledger", "metrics", "people", "pessoa"]),
    ("pessoa", &[]),
    ("people", &["pessoa", "channel", "ledger", "postgres"]),
    ("channel", &[]),
    ("postgres", &["pessoa", "channel", "metrics"]),
    ("embedded", &[]),
    ("admin", &["http", "net", "channel", "api", "core", "metrics", "people", "postgres"]),
    ("metrics", &[]),
    ("ledger", &[]),
    ("limits", &[]),
];

/// The room of a file below `src`.
fn room(file: &Path) -> &str {
    let first = file.iter().next().and_then(|part| part.to_str()).expect("names in UTF-8");
    first.strip_suffix(".rs").unwrap_or(first)
}

#[test]
fn no_room_looks_up() {
    let allowed: BTreeMap<&str, &[&str]> = MAY_KNOW.into_iter().collect();
    let library = Modules::read(Path::new("src/lib.rs"));
    let mut met = BTreeSet::new();
    for (from, targets) in library.edges() {
        for to in targets {
            let (here, there) = (room(from), room(to));
            met.insert((here, there));
            assert!(
                here == there || there == "limits" || allowed[here].contains(&there),
                "{} knows {}: the room {here} may know {:?}",
                from.display(),
                to.display(),
                allowed[here]
            );
        }
    }
    // A line that nobody needs any more would let the next one in.
    for (here, rooms) in MAY_KNOW.iter().filter(|(here, _)| *here != "main") {
        for there in *rooms {
            assert!(met.contains(&(*here, *there)), "{here} may know {there}, and does not");
        }
    }
}

#[test]
fn the_rooms_themselves_are_in_order() {
    let below = |room: &str| MAY_KNOW.iter().find(|(name, _)| *name == room).unwrap().1;
    // Who has nothing left to know leaves first.
    let mut left: Vec<&str> = MAY_KNOW.iter().map(|(name, _)| *name).collect();
    while !left.is_empty() {
        let (stay, leave): (Vec<&str>, Vec<&str>) =
            left.iter().partition(|room| below(room).iter().any(|known| left.contains(known)));
        assert!(!leave.is_empty(), "a circle: {left:?}");
        left = stay;
    }
}

#[test]
fn no_files_know_each_other() {
    for root in ["src/lib.rs", "stress-test/src/lib.rs", "tools/local/src/main.rs"] {
        let modules = Modules::read(Path::new(root));
        assert!(modules.circles().is_empty(), "{root}: {:#?}", modules.circles());
    }
}

#[test]
fn the_map_in_lib_rs_says_the_same() {
    let text = std::fs::read_to_string("src/lib.rs").unwrap();
    let rows: BTreeMap<&str, BTreeSet<&str>> = text
        .lines()
        .filter_map(|line| line.strip_prefix("//! | [`"))
        .map(|row| {
            let (name, rest) = row.split_once('`').expect("a row begins with its room");
            let may_know = rest.trim_end_matches(" |").rsplit("| ").next().unwrap();
            (name, may_know.split_whitespace().filter(|&word| word != "-").collect())
        })
        .collect();
    for (room, may_know) in MAY_KNOW.into_iter().filter(|(room, _)| *room != "main") {
        assert_eq!(rows.get(room), Some(&may_know.iter().copied().collect()), "{room}");
    }
    assert_eq!(rows.len(), MAY_KNOW.len() - 1);
    let rooms: BTreeSet<&str> = text.lines().filter_map(|line| line.strip_prefix("pub mod ")).collect();
    assert_eq!(rooms.len(), rows.len(), "every room is in the map");
}

#[test]
fn the_ways_of_a_request_pass_each_file_once() {
    let text = std::fs::read_to_string("src/lib.rs").unwrap();
    let paragraphs = text.split("//!\n").filter(|paragraph| paragraph.starts_with("//! The way of "));
    let ways: Vec<Vec<&str>> =
        paragraphs.map(|paragraph| paragraph.split('`').skip(1).step_by(2).skip(1).collect()).collect();
    assert_eq!(ways.len(), 2, "of a create and of a lookup");
    for way in ways {
        for (position, file) in way.iter().enumerate() {
            assert!(Path::new("src").join(file).with_extension("rs").exists(), "{file}: no such file");
            assert!(!way[..position].contains(file), "{file} is passed twice");
        }
    }
}

/// A tree made for the purpose: what is to be found is found, and nothing else.
#[test]
fn a_circle_around_a_door_is_found() {
    let directory = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| {
        let path = directory.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    };
    file("lib.rs", "mod a; mod b; mod c; mod d; mod e;");
    file("d.rs", "pub fn d() { use crate::b::Outer; }");
    file("e.rs", "pub fn e() { assert!(crate::c::C::new().is_some(), \"{}\", 1); }");
    file("a/mod.rs", "mod inner; mod other; pub use inner::Inner;");
    file("a/inner.rs", "use crate::b; pub struct Inner(b::Outer);");
    file("a/other.rs", "#[cfg(test)] mod tests { use crate::c::C; }");
    file("b.rs", "use crate::c::C; pub struct Outer(C);");
    file("c.rs", "use crate::a::Inner; use std::fmt::Debug; pub struct C(Option<Box<Inner>>);");
    let modules = Modules::read(&directory.path().join("lib.rs"));
    let circle = ["a/inner.rs", "b.rs", "c.rs"].map(Path::new);
    assert_eq!(modules.circles(), [circle]);
    let edges = modules.edges();
    assert!(edges[Path::new("a/mod.rs")].is_empty(), "a door knows nothing");
    assert!(edges[Path::new("a/other.rs")].is_empty(), "a test may look anywhere");
    for (from, to) in [("a/inner.rs", "b.rs"), ("d.rs", "b.rs"), ("e.rs", "c.rs")] {
        assert_eq!(edges[Path::new(from)], BTreeSet::from([Path::new(to)]), "{from}");
    }
}
