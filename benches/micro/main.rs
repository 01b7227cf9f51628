//! The parts of a request by themselves, each beside the crate that one would take instead: `cargo bench`.
//!
//! Every bench checks its answer before it is timed, and `cargo test --bench micro` checks only. All but those of the
//! mesh run on one CPU, the last one, because interrupts prefer the first. MICRO_PESSOAS (1,000,000) bounds the largest
//! shard.

mod mesh;
mod parser;
mod pessoa;
mod shard;

use criterion::Criterion;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() {
    let cpus = std::thread::available_parallelism().map_or(1, usize::from);
    if let Err(errno) = rinha::core::topology::pin(cpus - 1) {
        eprintln!("not pinned: {errno}");
    }
    let mut criterion = Criterion::default().configure_from_args();
    parser::bench(&mut criterion);
    pessoa::bench(&mut criterion);
    shard::bench(&mut criterion);
    mesh::bench(&mut criterion, cpus);
    criterion.final_summary();
}

/// Whether this run only checks answers, as `cargo test` does.
fn checks_only() -> bool {
    !std::env::args().any(|argument| argument == "--bench")
}
