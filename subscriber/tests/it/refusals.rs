//! Brokers that do not grant what is asked for, by a broker of a page.

use std::io::{Read as _, Write as _};
use std::net::TcpListener;

use system_tests::ports;
use system_tests::process::Launch;

use crate::world::PATIENCE;

/// Answers CONNECT, and every SUBSCRIBE with `code` for each of the three filters; returns the port.
fn broker(code: u8) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for socket in listener.incoming() {
            let mut socket = socket.unwrap();
            let mut buffer = [0; 4096];
            assert!(socket.read(&mut buffer).unwrap() > 0, "CONNECT");
            socket.write_all(&[0x20, 2, 0, 0]).unwrap();
            // Until the client goes.
            while let Ok(read @ 1..) = socket.read(&mut buffer) {
                let [_, _, id_high, id_low, ..] = buffer;
                if buffer[0] == 0x82 && read > 4 {
                    let answer = [0x90, 5, id_high, id_low, code, code, code];
                    // The client may be gone by now.
                    drop(socket.write_all(&answer));
                }
            }
        }
    });
    port
}

fn what_it_says(code: u8, arguments: &[&str]) -> String {
    let folder = tempfile::tempdir().unwrap();
    let finished = Launch::of(
        "subscriber",
        env!("CARGO_BIN_EXE_subscriber"),
        folder.path(),
    )
    .arg("--data")
    .arg(folder.path())
    .args(["--port-base", &ports::free_base().unwrap().to_string()])
    .args(["--broker", &format!("mqtt://127.0.0.1:{}", broker(code))])
    .args(arguments)
    .run(PATIENCE)
    .unwrap();
    assert_eq!(finished.status.code(), Some(1), "{}", finished.stderr);
    finished.stderr
}

#[test]
fn a_refused_shared_subscription_ends_it_with_what_to_do() {
    let said = what_it_says(0x80, &["--connections", "2"]);
    assert!(said.contains("--connections 1"), "{said}");
    assert!(
        said.contains("$share/lastmile-subscriber/deliveries"),
        "{said}"
    );
}

#[test]
fn a_refused_plain_subscription_ends_it() {
    let said = what_it_says(0x80, &[]);
    assert!(said.contains("let this client read these topics"), "{said}");
    assert!(said.contains("refuses the shared subscription"), "{said}");
    let said = what_it_says(0x80, &["--subscription", "plain"]);
    assert!(said.contains("let this client read these topics"), "{said}");
    assert!(!said.contains("$share"), "{said}");
}

#[test]
fn a_grant_of_qos_0_ends_it() {
    let said = what_it_says(0, &[]);
    assert!(said.contains("only QoS 0"), "{said}");
}
