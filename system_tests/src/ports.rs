//! Free ports for processes that must come back on the same ones.
//!
//! Where a process is not restarted, port 0 is better; see [`crate::process::Ready`].

use std::collections::HashSet;
use std::net::TcpListener;
use std::sync::{Mutex, PoisonError};

use anyhow::{Result, bail};
use rand::RngExt as _;

/// Every default port of the pipeline; `--port-base` is added to each.
pub const DEFAULT_PORTS: [u16; 9] = [1883, 8883, 8083, 8080, 5055, 9101, 9102, 9103, 9104];

/// Further ports that belong to a base and that no program takes by itself: for a database, and for
/// second and third processes of one service. The first is [`SPARE_PORTS`]`.start`.
pub const SPARE_PORTS: std::ops::Range<u16> = 9_110..9_118;

/// Bases that put every port into 10000..32768, below the range the kernel gives to outgoing
/// connections, so that no client of another test takes one while its server is dead.
const BASES: std::ops::Range<u16> = 8_200..23_600;

/// Ports handed out by this process: two tests running at once never share one.
static TAKEN: Mutex<Option<HashSet<u16>>> = Mutex::new(None);

/// Returns a base such that every default and spare port shifted by it is free right now.
///
/// # Errors
/// When no such base is found.
pub fn free_base() -> Result<u16> {
    let mut taken = TAKEN.lock().unwrap_or_else(PoisonError::into_inner);
    let taken = taken.get_or_insert_with(HashSet::new);
    for _ in 0..200 {
        let base = rand::rng().random_range(BASES);
        let all = DEFAULT_PORTS.into_iter().chain(SPARE_PORTS);
        let ports: Vec<u16> = all.map(|port| base + port).collect();
        if ports
            .iter()
            .all(|port| !taken.contains(port) && is_free(*port))
        {
            taken.extend(ports);
            return Ok(base);
        }
    }
    bail!("found no free --port-base in {BASES:?}")
}

/// Tells whether a listener could be bound on this port of the loopback interface.
pub fn is_free(port: u16) -> bool {
    TcpListener::bind(("127.0.0.1", port)).is_ok()
}
