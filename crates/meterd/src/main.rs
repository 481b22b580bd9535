//! meterd: counting over HTTP, an archive in SQL, and a live page, for redis-meter.

use std::process::ExitCode;

/// Gives memory back to the system, and is quick with the small pieces that requests are made of.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    meterd::cli::run()
}
