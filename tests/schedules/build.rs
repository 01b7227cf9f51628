//! Copies the ring, and what it stands on, as they are and once for each mutation, into modules of their own. The ring's
//! text is the server's; only its imports are others.

use std::fmt::Write;
use std::path::{Path, PathBuf};

#[path = "src/mutations.rs"]
mod mutations;

use mutations::{File, MUTATIONS, Mutation};

const RING: &str = "../../src/channel/ring.rs";

/// The ring's imports, and what stands for them here.
const IMPORTS: [(&str, &str); 3] = [
    (
        "use std::sync::atomic::{AtomicUsize, Ordering, fence};\nuse std::task",
        "use loom::sync::atomic::{AtomicUsize, Ordering, fence};\nuse std::task",
    ),
    ("use futures_util::task::AtomicWaker;", "use super::waker::AtomicWaker;"),
    (
        "use rtrb::{Consumer, Producer, RingBuffer};",
        "use super::queue::{self as rtrb, Consumer, Producer, RingBuffer};",
    ),
];

fn main() {
    let out = PathBuf::from(std::env::var("OUT_DIR").expect("cargo sets it"));
    let files = [RING, "src/queue.rs", "src/waker.rs", "src/scenarios.rs", "src/mutations.rs"];
    for file in files {
        println!("cargo::rerun-if-changed={file}");
    }
    let [mut ring, queue, waker, scenarios, _] =
        files.map(|file| std::fs::read_to_string(file).unwrap_or_else(|error| panic!("{file}: {error}")));
    for (from, to) in IMPORTS {
        ring = replaced("the imports", &ring, from, to);
    }
    // Its own tests run on other runtimes.
    let tests = ring.find("\n#[cfg(test)]\nmod tests").expect("the ring has tests");
    ring.truncate(tests);
    let mut modules = String::new();
    let mut variants = String::from("pub(crate) const VARIANTS: &[(&str, &[Scenario])] = &[\n");
    for mutation in std::iter::once(None).chain(MUTATIONS.iter().map(Some)) {
        let name = mutation.map_or("as_it_is", |mutation| mutation.name);
        let directory = out.join(name);
        std::fs::create_dir_all(&directory).expect("cargo's directory can be written to");
        writeln!(modules, "mod {name} {{").expect("memory");
        for (module, file, text) in [
            ("ring", Some(File::Ring), &ring),
            ("queue", Some(File::Queue), &queue),
            ("waker", Some(File::Waker), &waker),
            ("scenarios", None, &scenarios),
        ] {
            let path = directory.join(module).with_extension("rs");
            write(&path, &mutated(mutation.filter(|mutation| Some(mutation.file) == file), text));
            writeln!(modules, "    #[path = {path:?}]\n    pub mod {module};").expect("memory");
        }
        modules.push_str("}\n");
        writeln!(variants, "    ({name:?}, {name}::scenarios::ALL),").expect("memory");
    }
    variants.push_str("];\n");
    write(&out.join("variants.rs"), &(modules + &variants));
}

fn mutated(mutation: Option<&Mutation>, text: &str) -> String {
    mutation.map_or_else(|| text.to_owned(), |Mutation { name, from, to, .. }| replaced(name, text, from, to))
}

/// A text that was changed must be met here too: else nothing would be shown any more.
fn replaced(what: &str, text: &str, from: &str, to: &str) -> String {
    let times = text.matches(from).count();
    assert!(times == 1, "{what}: the text has this {times} times, expected once:\n{from}");
    text.replace(from, to)
}

fn write(path: &Path, text: &str) {
    std::fs::write(path, text).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
}
