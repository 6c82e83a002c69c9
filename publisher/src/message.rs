//! What is published: a simulated position or a replayed event, its topic, its payload, and its line in
//! the ledger.
//!
//! A position is kept as numbers and written out when it goes to the wire, the first time and every
//! other: that is cheaper than keeping the bytes, and gives the same bytes.

use std::io::Write;
use std::sync::Arc;

use bytes::Bytes;
use jiff::Timestamp;

use crate::route::Step;

/// One message.
#[derive(Debug, Clone)]
pub(crate) enum Message {
    Position(Sample),
    Event(Event),
}

/// How far a delivery is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum State {
    Start,
    OnTheWay,
    Arrived,
}

impl State {
    fn as_str(self) -> &'static str {
        match self {
            Self::Start => "start",
            Self::OnTheWay => "on_the_way",
            Self::Arrived => "arrived",
        }
    }
}

/// A simulated position.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Sample {
    /// The deliverer's number, from 1; also the deliverer's id.
    pub(crate) worker: u64,
    /// Which order of this deliverer, from 1.
    pub(crate) order: u64,
    pub(crate) state: State,
    /// Milliseconds since the epoch.
    pub(crate) event_time_ms: i64,
    pub(crate) step: Step,
    /// The device's counter, from 0.
    pub(crate) seq: u64,
}

/// A replayed event.
#[derive(Debug, Clone)]
pub(crate) struct Event {
    pub(crate) topic: Arc<str>,
    pub(crate) payload: Bytes,
    /// Its line in the ledger, without the line's end; empty for an invalid event sent on request.
    pub(crate) ledger_line: Box<str>,
}

impl Message {
    pub(crate) fn write_topic(&self, out: &mut Vec<u8>) {
        match self {
            Self::Position(sample) => {
                out.extend_from_slice(b"deliveries/");
                write_integer(out, sample.worker);
                out.extend_from_slice(b"/location");
            }
            Self::Event(event) => out.extend_from_slice(event.topic.as_bytes()),
        }
    }

    pub(crate) fn write_payload(&self, out: &mut Vec<u8>, times: &mut TimeText) {
        match self {
            Self::Position(sample) => sample.write_json(out, times),
            Self::Event(event) => out.extend_from_slice(&event.payload),
        }
    }

    /// Writes the message's line in the ledger, if it has one.
    pub(crate) fn write_ledger_line(&self, out: &mut Vec<u8>) {
        match self {
            Self::Position(sample) => {
                out.extend_from_slice(b"{\"deliverer_id\":\"");
                write_integer(out, sample.worker);
                out.extend_from_slice(b"\",\"order_id\":\"");
                sample.write_order_id(out);
                out.extend_from_slice(b"\",\"event_time_us\":");
                write_integer(out, sample.event_time_ms.unsigned_abs() * 1_000);
                out.extend_from_slice(b",\"seq\":");
                write_integer(out, sample.seq);
                out.extend_from_slice(b"}\n");
            }
            Self::Event(event) if event.ledger_line.is_empty() => {}
            Self::Event(event) => {
                out.extend_from_slice(event.ledger_line.as_bytes());
                out.push(b'\n');
            }
        }
    }
}

impl Sample {
    /// A deliverer's first order is the original simulator's, deliverer times 43; the later ones add
    /// their number, so that no two of one run are the same.
    fn write_order_id(&self, out: &mut Vec<u8>) {
        write_integer(out, self.worker * 43);
        if self.order > 1 {
            out.push(b'-');
            write_integer(out, self.order);
        }
    }

    fn write_json(&self, out: &mut Vec<u8>, times: &mut TimeText) {
        out.extend_from_slice(b"{\"order_id\":\"");
        self.write_order_id(out);
        out.extend_from_slice(b"\",\"deliverer_id\":\"");
        write_integer(out, self.worker);
        out.extend_from_slice(b"\",\"delivery_state\":\"");
        out.extend_from_slice(self.state.as_str().as_bytes());
        out.extend_from_slice(b"\",\"event_time\":\"");
        times.write(out, self.event_time_ms);
        out.extend_from_slice(b"\",\"lat\":");
        write_decimal::<7>(out, self.step.lat);
        out.extend_from_slice(b",\"lon\":");
        write_decimal::<7>(out, self.step.lon);
        out.extend_from_slice(b",\"speed_mps\":");
        write_decimal::<2>(out, self.step.speed_mps);
        out.extend_from_slice(b",\"heading_deg\":");
        // Rounding may give 360.0, which is in range.
        write_decimal::<1>(out, self.step.heading_deg);
        out.extend_from_slice(b",\"accuracy_m\":");
        write_decimal::<1>(out, self.step.accuracy_m);
        out.extend_from_slice(b",\"battery\":");
        write_decimal::<2>(out, self.step.battery);
        out.extend_from_slice(b",\"seq\":");
        write_integer(out, self.seq);
        out.push(b'}');
    }
}

/// Writes times; remembers the last second, because most messages share it with the one before.
#[derive(Debug, Default)]
pub(crate) struct TimeText {
    second: i64,
    text: Vec<u8>,
}

impl TimeText {
    /// Writes RFC 3339 in UTC with milliseconds.
    fn write(&mut self, out: &mut Vec<u8>, millis: i64) {
        let second = millis.div_euclid(1_000);
        if self.text.is_empty() || second != self.second {
            self.second = second;
            self.text.clear();
            let civil = Timestamp::from_second(second).unwrap_or_default();
            // Writing to a vector does not fail.
            drop(write!(self.text, "{}", civil.strftime("%Y-%m-%dT%H:%M:%S")));
        }
        out.extend_from_slice(&self.text);
        out.push(b'.');
        write_padded::<3>(out, millis.rem_euclid(1_000).unsigned_abs());
        out.push(b'Z');
    }
}

/// Writes an integer in decimal.
pub(crate) fn write_integer(out: &mut Vec<u8>, mut value: u64) {
    let mut digits = [0_u8; 20];
    let mut at = digits.len();
    loop {
        at -= 1;
        digits[at] = b'0' + u8::try_from(value % 10).unwrap_or_default();
        value /= 10;
        if value == 0 {
            break;
        }
    }
    out.extend_from_slice(&digits[at..]);
}

/// Writes an integer with leading zeros to `DIGITS` digits.
fn write_padded<const DIGITS: usize>(out: &mut Vec<u8>, mut value: u64) {
    let mut digits = [b'0'; DIGITS];
    for digit in digits.iter_mut().rev() {
        *digit = b'0' + u8::try_from(value % 10).unwrap_or_default();
        value /= 10;
    }
    out.extend_from_slice(&digits);
}

/// Writes a number rounded to `DIGITS` digits after the point.
fn write_decimal<const DIGITS: usize>(out: &mut Vec<u8>, value: f64) {
    let unit = 10_u64.pow(u32::try_from(DIGITS).unwrap_or_default());
    #[expect(clippy::cast_precision_loss, reason = "the unit is at most 10^7")]
    let scaled = model::time::round_to_i64(value * unit as f64).unwrap_or_default();
    if scaled < 0 {
        out.push(b'-');
    }
    let scaled = scaled.unsigned_abs();
    write_integer(out, scaled / unit);
    out.push(b'.');
    write_padded::<DIGITS>(out, scaled % unit);
}

#[cfg(test)]
mod tests {
    use model::{DeliveryState, UtcMicros, native};
    use proptest::prelude::*;

    use super::*;

    fn text(write: impl FnOnce(&mut Vec<u8>)) -> String {
        let mut out = Vec::new();
        write(&mut out);
        String::from_utf8(out).unwrap()
    }

    proptest! {
        #[test]
        fn the_payload_is_what_the_pipeline_reads(
            worker in 1_u64..1_000_000, order in 1_u64..1_000, seq in 0..u64::MAX >> 1,
            millis in 0_i64..250_000_000_000_000, lat in -90.0..90.0_f64, lon in -180.0..180.0_f64,
            speed in 0.0..30.0_f64, heading in 0.0..360.0_f64,
        ) {
            let step = Step {
                lat, lon, speed_mps: speed, heading_deg: heading, accuracy_m: 4.5, battery: 0.55,
            };
            let sample = Sample {
                worker, order, state: State::OnTheWay, event_time_ms: millis, step, seq,
            };
            let message = Message::Position(sample);
            let payload = text(|out| message.write_payload(out, &mut TimeText::default()));
            let topic = text(|out| message.write_topic(out));
            let deliverer = worker.to_string();
            prop_assert_eq!(
                model::topic::classify(&topic),
                Some(model::topic::TopicKind::Delivery { deliverer_id: &deliverer })
            );
            let read = native::parse(&payload, Some(&deliverer), UtcMicros::default()).unwrap();
            prop_assert_eq!(read.event_time.as_micros(), millis * 1_000);
            prop_assert!((read.lat.degrees() - lat).abs() < 1e-7);
            prop_assert!((read.lon.degrees() - lon).abs() < 1e-7);
            prop_assert!((read.speed_mps.unwrap() - speed).abs() < 0.0051);
            prop_assert!((read.heading_deg.unwrap() - heading).abs() < 0.051);
            prop_assert_eq!(read.seq, Some(seq));
            prop_assert_eq!(read.delivery_state, Some(DeliveryState::OnTheWay));
        }

        #[test]
        fn integers_are_written_as_the_library_does(value: u64) {
            prop_assert_eq!(text(|out| write_integer(out, value)), value.to_string());
        }
    }

    #[test]
    fn order_ids_are_the_originals_and_never_repeat() {
        let step = crate::route::Route::new(1, 1).here();
        let sample = |worker, order| Sample {
            worker,
            order,
            state: State::Start,
            event_time_ms: 0,
            step,
            seq: 0,
        };
        assert_eq!(text(|out| sample(3, 1).write_order_id(out)), "129");
        assert_eq!(text(|out| sample(3, 2).write_order_id(out)), "129-2");
    }
}
