//! Gates, and what is let go of.

use super::*;

fn outbound() -> Outbound {
    Outbound::new(Takes {
        version: Version::V311,
        window: 10,
        packet_bytes: 1 << 20,
        aliases: 0,
        clock: Arc::new(service::SystemClock),
        durable: true,
    })
}

#[test]
fn a_gate_at_the_very_end_stays_there() {
    let mut out = outbound();
    out.answers().extend_from_slice(b"connack");
    // As when the journal is to learn something that nobody is told.
    out.hold(Some(7));
    assert_eq!(out.unwritten(), b"connack");
    out.wrote(7);
    assert!(out.unwritten().is_empty() && out.is_written());
    out.answers().extend_from_slice(b"behind");
    assert!(out.unwritten().is_empty(), "it waits for the journal");
    out.hold(None);
    assert_eq!(out.unwritten(), b"behind");
    out.wrote(6);
    assert!(out.is_written() && out.bytes.is_empty());
}

/// As with a stream of QoS 2: when a gate opens, the next is there.
#[test]
fn what_was_written_is_let_go_though_something_always_waits_for_the_journal() {
    const PART: usize = 10_000;
    let mut out = outbound();
    out.answers().extend_from_slice(&[0; PART]);
    for number in 1..200_u8 {
        out.gate();
        let gate = out.turn.gate.take();
        assert_eq!(gate, Some(PART * usize::from(number)));
        out.hold(gate);
        out.answers().extend_from_slice(&[number; PART]);
        assert_eq!(out.unwritten(), [number - 1; PART]);
        out.wrote(PART);
        assert!(out.unwritten().is_empty() && !out.is_written());
        assert!(out.bytes.len() <= OUTPUT_BYTES + PART, "{number}");
    }
}
