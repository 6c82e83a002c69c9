//! `--healthcheck`: a second process of the same binary, with the same environment.

use std::net::{Ipv4Addr, TcpListener};

use rustix::process::Signal;

use crate::probe::{Running, output, probe, text};

/// Asks for the health of what listens on `address`; returns the exit code and what was said.
fn ask(address: &str) -> (Option<i32>, String) {
    let mut command = probe(&["--healthcheck"]);
    let end = output(command.env("LASTMILE_PROBE_LISTEN", address));
    (
        end.status.code(),
        format!("{}{}", text(&end.stdout), text(&end.stderr)),
    )
}

#[test]
fn a_ready_process_is_said_to_be_so() {
    let running = Running::start(&[]);
    assert_eq!(ask(&running.address), (Some(0), "ready\n".to_owned()));
    // It listens on every interface, is the usual setting of a container.
    let everywhere = running.address.replace("127.0.0.1", "0.0.0.0");
    assert_eq!(ask(&everywhere).0, Some(0));
}

#[test]
fn an_unready_process_says_why() {
    let running = Running::start(&["--misbehave", "unready"]);
    let (code, said) = ask(&running.address);
    assert_eq!(code, Some(1), "{said}");
    assert!(
        said.contains("not ready: intake: the probe has no battery"),
        "{said}"
    );
}

#[test]
fn a_process_that_is_not_there_is_said_to_be_so() {
    let running = Running::start(&[]);
    let address = running.address.clone();
    running.signal(Signal::TERM);
    running.end();
    let (code, said) = ask(&address);
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("does not answer"), "{said}");
}

#[test]
fn a_process_that_hangs_is_given_three_seconds() {
    // The kernel accepts; nobody answers.
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let (code, said) = ask(&listener.local_addr().unwrap().to_string());
    assert_eq!(code, Some(1));
    assert!(said.contains("did not answer within 3 s"), "{said}");
}

#[test]
fn wrong_settings_are_not_ready_either() {
    let mut command = probe(&["--healthcheck", "--worker-threads", "0"]);
    let end = output(&mut command);
    assert_eq!(end.status.code(), Some(1));
    assert!(text(&end.stderr).contains("worker_threads"));
}
