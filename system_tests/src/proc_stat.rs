//! What the kernel says about a process: the processor time it has used, its memory.

use anyhow::{Context as _, Result};

/// Ticks per second of the times in `/proc/PID/stat`; Linux has fixed it at 100 for programs.
const TICKS_PER_SECOND: f64 = 100.0;

/// A reading of `/proc/PID/stat`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ProcStat {
    /// Seconds of processor time in user and kernel mode, all threads.
    pub cpu_s: f64,
    /// Whether the process has ended and only waits to be reaped; its times are then final.
    pub is_zombie: bool,
}

/// Reads what the kernel says about a process that has not been reaped.
///
/// # Errors
/// When there is no such process.
pub fn read(pid: u32) -> Result<ProcStat> {
    let path = format!("/proc/{pid}/stat");
    let text = std::fs::read_to_string(&path).with_context(|| format!("cannot read {path}"))?;
    parse(&text).with_context(|| format!("{path} is not understood: {text}"))
}

/// The second field is the program's name in parentheses and may hold anything, so the rest is counted
/// from the last closing one: state, then ten more, then the two times.
fn parse(text: &str) -> Option<ProcStat> {
    let (_, rest) = text.rsplit_once(')')?;
    let fields: Vec<&str> = rest.split_whitespace().collect();
    let ticks = |index: usize| fields.get(index)?.parse::<u32>().ok().map(f64::from);
    Some(ProcStat {
        cpu_s: (ticks(11)? + ticks(12)?) / TICKS_PER_SECOND,
        is_zombie: *fields.first()? == "Z",
    })
}

/// Reads the peak resident memory of a running process in bytes.
///
/// # Errors
/// When there is no such process.
pub fn peak_memory_bytes(pid: u32) -> Result<u64> {
    memory(pid, "VmHWM:")
}

/// Reads the present resident memory of a running process in bytes.
///
/// # Errors
/// When there is no such process.
pub fn resident_bytes(pid: u32) -> Result<u64> {
    memory(pid, "VmRSS:")
}

/// Reads the present resident memory of a running process that is its own, in bytes: pages of no file.
///
/// # Errors
/// When there is no such process.
pub fn own_bytes(pid: u32) -> Result<u64> {
    memory(pid, "RssAnon:")
}

/// Reads the present resident memory of a running process that is pages of files it maps, in bytes: its program, and
/// what it reads that way. The system takes them back when it needs them.
///
/// # Errors
/// When there is no such process.
pub fn mapped_bytes(pid: u32) -> Result<u64> {
    memory(pid, "RssFile:")
}

fn memory(pid: u32, field: &str) -> Result<u64> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let kib = text
        .lines()
        .find_map(|line| line.strip_prefix(field))
        .and_then(|value| {
            value
                .trim()
                .trim_end_matches("kB")
                .trim()
                .parse::<u64>()
                .ok()
        })
        .with_context(|| format!("no {field} in the status of {pid}"))?;
    Ok(kib * 1024)
}

/// Returns the load averages as the kernel writes them, for example `0.52 0.58 0.59`.
pub fn load_average() -> String {
    let text = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split_whitespace()
        .take(3)
        .collect::<Vec<_>>()
        .join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_spaces_and_parentheses_does_not_shift_the_fields() {
        let text = "7 (a) b (c) Z 1 2 3 4 5 6 7 8 9 10 150 50 0 0";
        let expected = ProcStat {
            cpu_s: 2.0,
            is_zombie: true,
        };
        assert_eq!(parse(text), Some(expected));
    }

    #[test]
    fn this_process_is_read() {
        let stat = read(std::process::id()).unwrap();
        assert!(!stat.is_zombie);
        let resident = resident_bytes(std::process::id()).unwrap();
        assert!(resident > 0 && resident <= peak_memory_bytes(std::process::id()).unwrap());
        let (own, mapped) = (
            own_bytes(std::process::id()),
            mapped_bytes(std::process::id()),
        );
        assert!(own.unwrap() > 0 && mapped.unwrap() > 0);
    }
}
