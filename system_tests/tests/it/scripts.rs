//! `start.sh` and `stop.sh` as a user runs them, on a data folder and ports of their own.

use std::net::TcpListener;
use std::path::PathBuf;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use system_tests::http::Http;
use system_tests::process::{Finished, Launch};
use system_tests::{binaries, pipeline, poll, ports, proc_stat};
use tempfile::TempDir;

const PATIENCE: Duration = Duration::from_mins(3);

/// A place of its own for the scripts; stops what they started when it is dropped.
struct Place {
    folder: TempDir,
    base: u16,
    binaries: PathBuf,
}

impl Place {
    fn new() -> Self {
        let lastmile = binaries::path("lastmile").unwrap();
        binaries::path("publisher").unwrap();
        Self {
            folder: TempDir::with_prefix("lastmile-scripts-").unwrap(),
            base: ports::free_base().unwrap(),
            binaries: lastmile.parent().unwrap().to_path_buf(),
        }
    }

    fn run(&self, script: &str, args: &[&str]) -> Finished {
        Launch::of(
            script,
            binaries::workspace_root().join(script),
            self.folder.path(),
        )
        .env("LASTMILE_BIN_DIR", &self.binaries)
        .env("LASTMILE_BUILD_PROFILE", "dev")
        .arg("--data")
        .arg(self.folder.path().join("data"))
        .args(args)
        .run(PATIENCE)
        .unwrap()
    }

    fn start(&self, args: &[&str]) -> Finished {
        let base = self.base.to_string();
        self.run("start.sh", &[&["--port-base", &base], args].concat())
    }

    fn stop(&self) -> Finished {
        self.run("stop.sh", &[])
    }

    /// Returns the process that the scripts think runs.
    fn pid(&self) -> Option<Pid> {
        let file = self.folder.path().join("data/run/lastmile.pid");
        let text = std::fs::read_to_string(file).ok()?;
        Pid::from_raw(text.trim().parse().ok()?)
    }

    fn positions(&self) -> u64 {
        let http = Http::new(&format!("127.0.0.1:{}", 8080 + self.base)).unwrap();
        pipeline::counts(&http).unwrap().positions
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if let Some(pid) = self.pid() {
            let _gone_already = kill_process(pid, Signal::KILL).is_err();
        }
    }
}

/// A process that ended but was not reaped, by whoever inherited it from the script, does not run.
fn is_running(pid: Pid) -> bool {
    let id = u32::try_from(pid.as_raw_nonzero().get()).unwrap();
    proc_stat::read(id).is_ok_and(|stat| !stat.is_zombie)
}

#[test]
fn start_and_stop_may_be_repeated_and_a_kill_loses_nothing() {
    let place = Place::new();
    let demo = ["-n", "5", "-l", "4", "-d", "0"];
    let first = place.start(&demo).success().unwrap();
    let pid = place.pid().unwrap();
    assert!(is_running(pid), "{}", first.stdout);
    assert!(
        first.stdout.contains("acknowledged  20"),
        "{}",
        first.stdout
    );
    assert_eq!(place.positions(), 20);

    let second = place.start(&demo).success().unwrap();
    assert!(
        second.stdout.contains("already running"),
        "{}",
        second.stdout
    );
    assert_eq!(place.pid(), Some(pid));
    assert_eq!(place.positions(), 20, "a second start sends nothing");

    kill_process(pid, Signal::KILL).unwrap();
    poll::until(
        "the kill",
        PATIENCE,
        || Ok((!is_running(pid)).then_some(())),
    )
    .unwrap();
    let third = place.start(&["--no-demo"]).success().unwrap();
    assert!(third.stdout.contains("recovers"), "{}", third.stdout);
    let pid = place.pid().unwrap();
    assert_eq!(place.positions(), 20);

    let stopped = place.stop().success().unwrap();
    assert!(stopped.stdout.contains("Stopped"), "{}", stopped.stdout);
    assert!(!is_running(pid));
    let again = place.stop().success().unwrap();
    assert!(again.stdout.contains("not running"), "{}", again.stdout);
}

#[test]
fn a_busy_port_is_named_and_nothing_is_left_running() {
    let place = Place::new();
    for default in [1883, 8080] {
        let port = place.base + default;
        let _busy = TcpListener::bind(("127.0.0.1", port)).unwrap();
        let refused = place.start(&["--no-demo"]);
        assert!(!refused.status.success(), "{}", refused.stdout);
        let said = format!("Port {port} is in use");
        assert!(refused.stderr.contains(&said), "{}", refused.stderr);
        assert_eq!(place.pid(), None);
    }
    place.start(&["--no-demo"]).success().unwrap();
    place.stop().success().unwrap();
}
