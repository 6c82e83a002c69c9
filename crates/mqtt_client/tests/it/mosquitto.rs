//! A Mosquitto of the test's own, on a free port, without persistence.

use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

/// A running Mosquitto; killed when dropped.
pub(crate) struct Mosquitto {
    pub(crate) port: u16,
    child: Child,
    directory: TempDir,
}

impl Mosquitto {
    /// Starts one, or says which test is skipped because none is installed.
    pub(crate) fn start(test: &str) -> Option<Self> {
        Self::start_with(test, "")
    }

    /// The same with more lines of configuration for its listener.
    pub(crate) fn start_with(test: &str, listener: &str) -> Option<Self> {
        let directory = tempfile::tempdir().unwrap();
        let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
            .unwrap()
            .local_addr()
            .unwrap()
            .port();
        let config = format!(
            "listener {port} 127.0.0.1\n{listener}allow_anonymous true\npersistence false\n\
             max_queued_messages 0\nmax_inflight_messages 20\n"
        );
        std::fs::write(directory.path().join("mosquitto.conf"), config).unwrap();
        let Some(child) = spawn(&directory) else {
            println!("SKIPPED {test}: mosquitto is not installed");
            return None;
        };
        let mosquitto = Self {
            port,
            child,
            directory,
        };
        mosquitto.wait_until_it_listens();
        Some(mosquitto)
    }

    /// Kills it as `kill -9` does.
    pub(crate) fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Starts it again on the same port; it remembers nothing.
    pub(crate) fn restart(&mut self) {
        self.child = spawn(&self.directory).unwrap();
        self.wait_until_it_listens();
    }

    fn wait_until_it_listens(&self) {
        let deadline = Instant::now() + Duration::from_secs(30);
        while TcpStream::connect((Ipv4Addr::LOCALHOST, self.port)).is_err() {
            assert!(Instant::now() < deadline, "mosquitto does not listen");
            std::thread::yield_now();
        }
    }
}

impl Drop for Mosquitto {
    fn drop(&mut self) {
        // It may be dead already, which is what is wanted.
        if self.child.kill().is_ok() {
            self.child.wait().unwrap();
        }
    }
}

fn spawn(directory: &TempDir) -> Option<Child> {
    // Debian keeps it where an ordinary user's PATH does not reach.
    ["mosquitto", "/usr/sbin/mosquitto"]
        .iter()
        .find_map(|program| {
            Command::new(program)
                .arg("-c")
                .arg(directory.path().join("mosquitto.conf"))
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .spawn()
                .ok()
        })
}
