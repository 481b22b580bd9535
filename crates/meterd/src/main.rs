//! meterd: counting over HTTP, an archive in SQL, and a live page, for redis-meter.

use std::process::ExitCode;

fn main() -> ExitCode {
    meterd::cli::run()
}
