//! Makes the API's documentation, `openapi.json` and `docs.html`, out of `openapi.yaml`, and finds the version that the
//! program says. It runs before the crate is compiled and knows nothing of it; whether what the documentation says is so
//! is the business of `tests/openapi`.

mod document;
mod page;
mod version;

use std::path::PathBuf;
use std::{env, error, fs};

fn main() -> Result<(), Box<dyn error::Error>> {
    println!("cargo::rerun-if-changed=openapi.yaml");
    println!("cargo::rerun-if-changed=build");
    let document = serde_yaml_ng::from_str(&fs::read_to_string("openapi.yaml")?)?;
    let out = PathBuf::from(env::var_os("OUT_DIR").ok_or("expected OUT_DIR, which cargo sets")?);
    fs::write(out.join("openapi.json"), serde_json::to_string(&document)?)?;
    fs::write(out.join("docs.html"), page::render(&document))?;
    // By which debuggers and profilers find the symbols of a stripped program.
    println!("cargo::rustc-link-arg-bins=-Wl,--build-id=sha1");
    // src/iowait.rs is in its place.
    println!("cargo::rustc-link-arg-bins=-Wl,--wrap=syscall");
    version::set()
}
