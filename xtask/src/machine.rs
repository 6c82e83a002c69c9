//! Where and of what a figure was taken: without it no figure means anything.

use std::process::Command;

use serde::Serialize;
use system_tests::binaries::workspace_root;

/// The machine and the source.
#[derive(Debug, Serialize)]
pub(crate) struct Machine {
    /// Processor model.
    cpu: String,
    /// Processors this process may use.
    cores: usize,
    /// Memory in MiB.
    memory_mib: u64,
    /// Kernel release.
    kernel: String,
    /// Commit, with `-dirty` when the tree differs from it.
    commit: String,
    /// Compiler.
    rustc: String,
}

impl Machine {
    /// Asks the system.
    pub(crate) fn read() -> Self {
        let cpuinfo = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let meminfo = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
        let kib = field(&meminfo, "MemTotal").trim_end_matches(" kB").parse();
        Self {
            cpu: field(&cpuinfo, "model name"),
            cores: std::thread::available_parallelism().map_or(0, usize::from),
            memory_mib: kib.unwrap_or(0_u64) / 1024,
            kernel: first_line("uname", &["-r"]),
            commit: first_line("git", &["describe", "--always", "--dirty", "--abbrev=12"]),
            rustc: first_line("rustc", &["--version"]),
        }
    }
}

fn field(text: &str, name: &str) -> String {
    text.lines()
        .find_map(|line| line.strip_prefix(name)?.trim_start().strip_prefix(':'))
        .map_or_else(|| "unknown".to_owned(), |value| value.trim().to_owned())
}

fn first_line(program: &str, args: &[&str]) -> String {
    Command::new(program)
        .args(args)
        .current_dir(workspace_root())
        .output()
        .ok()
        .filter(|output| output.status.success())
        .and_then(|output| String::from_utf8(output.stdout).ok())
        .and_then(|text| text.lines().next().map(str::to_owned))
        .unwrap_or_else(|| "unknown".to_owned())
}
