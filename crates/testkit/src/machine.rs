//! The machine on which is measured.

use std::num::NonZero;
use std::process::{Command, Stdio};
use std::sync::LazyLock;
use std::{fs, thread};

/// Its processor, cores and kernel, in one line.
pub fn describe() -> String {
    let cpu = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let cpu = cpu.lines().find(|line| line.starts_with("model name")).and_then(|line| line.split(": ").nth(1));
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    // The text after the version names a build.
    let version = kernel.trim().split('-').next().unwrap_or_default();
    format!("{}, {} cores, Linux {version}", cpu.unwrap_or("unknown processor"), cores())
}

/// Keeps a process with all its threads on one core, if there are two cores and the program taskset. Returns whether it
/// did.
pub fn pin(process: u32, core: usize) -> bool {
    cores() >= 2
        && Command::new("taskset")
            .args(["--all-tasks", "--cpu-list", "--pid", &core.to_string(), &process.to_string()])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status()
            .is_ok_and(|status| status.success())
}

/// The number of cores, determined before this process was kept on one.
fn cores() -> usize {
    static CORES: LazyLock<usize> = LazyLock::new(|| thread::available_parallelism().map_or(1, NonZero::get));
    *CORES
}
