//! Copies the server's source, with every lie of the table in its place. What the copy is not asked for, its documentation and
//! its version, are a word each.

use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::{env, fs};

#[path = "src/table.rs"]
mod table;

const SOURCE: &str = "../../../src";
const SCHEMA: &str = "../../../schema.sql";

fn main() {
    for file in [SOURCE, SCHEMA, "src/table.rs", "build.rs"] {
        println!("cargo::rerun-if-changed={file}");
    }
    println!("cargo::rustc-env=RINHA_VERSION=lies");
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets it"));
    let copy = out.join("src");
    // What was removed from the source must not stay here.
    if copy.exists() {
        fs::remove_dir_all(&copy).expect("cargo's directory can be written to");
    }
    copy_all(Path::new(SOURCE), &copy);
    write(&out.join("schema.sql"), &read(Path::new(SCHEMA)));
    for page in ["openapi.json", "docs.html"] {
        write(&out.join(page), "lies");
    }
    for lie in table::LIES {
        let path = copy.join(lie.file);
        let text = read(&path);
        let times = text.matches(lie.from).count();
        assert!(
            times == 1,
            "{}: {} has this {times} times, expected once:\n{}",
            lie.name,
            lie.file,
            lie.from
        );
        write(&path, &text.replace(lie.from, lie.to));
    }
    // The library and the program become one crate, whose root is another file. What the linker puts below the program stays
    // away: no lie is there.
    let library = without_its_documentation(&read(&copy.join("lib.rs")));
    let program = without_its_documentation(&read(&copy.join("main.rs")));
    let program =
        program.replace("use rinha::", "use crate::").replace("\nfn main()", "\npub(crate) fn main()");
    let program = program.replace("mod iowait;\n", "");
    let mut root = library;
    write!(root, "\nmod server {{\n{program}\n}}\n").expect("memory");
    write(&copy.join("lib.rs"), &root);
}

/// Documentation of a root cannot be included elsewhere.
fn without_its_documentation(text: &str) -> String {
    text.lines().filter(|line| !line.starts_with("//!")).map(|line| format!("{line}\n")).collect()
}

fn copy_all(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("cargo's directory can be written to");
    for entry in fs::read_dir(from).expect("the source").flatten() {
        let (path, to) = (entry.path(), to.join(entry.file_name()));
        if path.is_dir() {
            copy_all(&path, &to);
        } else {
            // Its tests are those of the original, and use crates that this one has not.
            write(&to, &read(&path).replace("cfg(test)", "cfg(any())"));
        }
    }
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn write(path: &Path, text: &str) {
    fs::write(path, text).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
}
