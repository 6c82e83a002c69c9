//! Asking a running process whether it is ready, from a second process of the same binary.
//!
//! A container has the binary and no curl. What is sent is one HTTP/1.0 request over plain TCP; nothing else
//! of the running process is touched: no lock, no port, no file.

use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use serde_json::Value;

/// Longest time to the whole answer; shorter than the shortest time-out people give a health check.
const LIMIT: Duration = Duration::from_secs(3);
/// Most bytes of an answer that are read; ours has some hundred.
const MOST: u64 = 64 * 1024;

/// Returns `Ok` when the process that listens on `address` is ready, else what it or the system says.
pub(crate) fn ask(address: SocketAddr) -> Result<(), String> {
    ask_within(address, LIMIT)
}

fn ask_within(address: SocketAddr, limit: Duration) -> Result<(), String> {
    if address.port() == 0 {
        let what = "listens on a port of the system's choice, which only it knows";
        return Err(format!(
            "{what}; give a port to be able to ask for its health"
        ));
    }
    let address = reachable(address);
    let answer = exchange(address, Instant::now() + limit).map_err(|error| {
        if matches!(
            error.kind(),
            io::ErrorKind::TimedOut | io::ErrorKind::WouldBlock
        ) {
            format!("{address} did not answer within {} s", limit.as_secs_f32())
        } else {
            format!("{address} does not answer: {error}")
        }
    })?;
    judge(&answer).map_err(|reason| format!("not ready: {reason}"))
}

/// Replaces "every interface" by this machine.
fn reachable(address: SocketAddr) -> SocketAddr {
    let ip = match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpAddr::V6(ip) if ip.is_unspecified() => IpAddr::V6(Ipv6Addr::LOCALHOST),
        ip => ip,
    };
    SocketAddr::new(ip, address.port())
}

/// Sends the request and reads until the end, all before `deadline`.
fn exchange(address: SocketAddr, deadline: Instant) -> io::Result<Vec<u8>> {
    let left = || {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(io::Error::from(io::ErrorKind::TimedOut));
        }
        Ok(left)
    };
    let mut stream = TcpStream::connect_timeout(&address, left()?)?;
    stream.set_write_timeout(Some(left()?))?;
    write!(stream, "GET /readyz HTTP/1.0\r\nHost: {address}\r\n\r\n")?;
    let mut answer = Vec::new();
    let mut chunk = [0; 4096];
    loop {
        stream.set_read_timeout(Some(left()?))?;
        let read = stream.read(&mut chunk)?;
        answer.extend(chunk.iter().take(read));
        if read == 0 || answer.len() as u64 >= MOST {
            return Ok(answer);
        }
    }
}

/// Reads the answer of `/readyz`.
fn judge(answer: &[u8]) -> Result<(), String> {
    let text = String::from_utf8_lossy(answer);
    let (head, body) = text.split_once("\r\n\r\n").unwrap_or((&text, ""));
    let line = head.lines().next().unwrap_or_default();
    let mut words = line.split_whitespace();
    if !words.next().is_some_and(|word| word.starts_with("HTTP/1.")) {
        return Err("what listens there speaks no HTTP".to_owned());
    }
    let status = words.next().unwrap_or_default();
    if status == "200" {
        return Ok(());
    }
    let report: Value = serde_json::from_str(body).unwrap_or_default();
    let mut reasons: Vec<String> = report["components"]
        .as_object()
        .into_iter()
        .flatten()
        .filter_map(|(name, state)| Some((name, state.as_str()?)))
        .filter(|(_, state)| *state != "ready")
        .map(|(name, state)| format!("{name}: {state}"))
        .collect();
    if reasons.is_empty() {
        let status = report["status"].as_str().unwrap_or(line);
        reasons.push(status.to_owned());
    }
    Err(reasons.join("; "))
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    #[test]
    fn every_interface_is_asked_on_this_machine() {
        let asked = |text: &str| reachable(text.parse().unwrap()).to_string();
        assert_eq!(asked("0.0.0.0:9101"), "127.0.0.1:9101");
        assert_eq!(asked("[::]:9101"), "[::1]:9101");
        assert_eq!(asked("10.0.0.7:9101"), "10.0.0.7:9101");
    }

    #[test]
    fn answers_are_read() {
        assert_eq!(judge(b"HTTP/1.0 200 OK\r\n\r\n{}"), Ok(()));
        let not_ready = b"HTTP/1.1 503 x\r\nA: b\r\n\r\n{\"status\":\"not ready\",\"components\":\
            {\"api\":\"ready\",\"store\":\"it is away\"}}";
        assert_eq!(judge(not_ready), Err("store: it is away".to_owned()));
        let stopping =
            b"HTTP/1.1 503 x\r\n\r\n{\"status\":\"stopping\",\"components\":{\"api\":\"ready\"}}";
        assert_eq!(judge(stopping), Err("stopping".to_owned()));
        for odd in [&b""[..], b"SSH-2.0-x\r\n", b"\xff\xfe"] {
            assert!(judge(odd).unwrap_err().contains("no HTTP"));
        }
        assert!(judge(b"HTTP/1.1 404 Not Found\r\n\r\n<p>").is_err());
    }

    #[test]
    fn silence_and_absence_are_told_apart() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let address = listener.local_addr().unwrap();
        // It accepts, in the kernel, and says nothing.
        let silent = ask_within(address, Duration::from_millis(50)).unwrap_err();
        assert!(silent.contains("did not answer within"), "{silent}");
        drop(listener);
        let absent = ask_within(address, Duration::from_secs(1)).unwrap_err();
        assert!(absent.contains("does not answer"), "{absent}");
        let unknown = ask(SocketAddr::from((Ipv4Addr::LOCALHOST, 0))).unwrap_err();
        assert!(unknown.contains("give a port"), "{unknown}");
    }
}
