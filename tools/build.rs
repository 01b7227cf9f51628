//! Puts the server's `src/iowait.rs` in the place of libc's `syscall`, in the programs that are held against the server.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    for program in ["constant", "limit"] {
        println!("cargo::rustc-link-arg-bin={program}=-Wl,--wrap=syscall");
    }
}
