//! Records and their frames: how one message lies in a segment, and how batches of them are built.
//!
//! The layout is in the crate's documentation. A frame is built by the caller with its sequence left
//! open and the CRC of its body in place; the writer thread adds the sequence and extends the CRC over
//! it ([`stamp`]), so that the bulk of the checksum work runs on the appending threads.

use std::num::NonZeroU16;

use crate::LogError;
use crate::wire::{array_at, put, u16_at, u32_at, u64_at};

/// Bytes in front of a frame's body: length, CRC, sequence.
pub(crate) const PREFIX_BYTES: usize = 16;
/// Bytes of a body in front of its texts: received time, flags, two lengths.
pub(crate) const BODY_FIXED_BYTES: usize = 13;
/// Largest body, above the largest MQTT packet (256 MiB).
pub(crate) const MAX_BODY_BYTES: usize = 257 << 20;
/// Set in the sequence field of the first record of each group.
pub(crate) const GROUP_START: u64 = 1 << 63;

const QOS_MASK: u8 = 0b11;
const RETAIN: u8 = 0b100;
/// The properties and their length stand between the texts and the payload.
const PROPERTIES: u8 = 0b1000;
/// The packet id stands between the texts and the properties.
const PACKET_ID: u8 = 0b1_0000;
/// Bytes of the packet id.
const PACKET_ID_BYTES: usize = 2;
/// Bytes of the properties' length.
const PROPERTIES_LEN_BYTES: usize = 4;

/// What a record says besides its payload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RecordHead<'a> {
    /// Quality of service of the publish: 0, 1 or 2.
    pub qos: u8,
    /// Whether it was published as retained.
    pub retain: bool,
    /// When it was received, in microseconds since the epoch.
    pub received_us: i64,
    /// Its topic, at most 65,535 bytes.
    pub topic: &'a str,
    /// Who published it, at most 65,535 bytes; may be empty.
    pub client_id: &'a str,
    /// What else is to be passed on with it, in a form that is the caller's; may be empty.
    pub properties: &'a [u8],
}

/// One record as read from the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Record<'a> {
    /// Its place in the log.
    pub seq: u64,
    /// When it was received, in microseconds since the epoch.
    pub received_us: i64,
    /// Quality of service of the publish: 0, 1 or 2.
    pub qos: u8,
    /// Whether it was published as retained.
    pub retain: bool,
    /// Its topic.
    pub topic: &'a str,
    /// Who published it.
    pub client_id: &'a str,
    /// What else is to be passed on with it; empty when there is nothing.
    pub properties: &'a [u8],
    /// The packet id it was published with, where a resend is to be told from a new message; see
    /// [`RecordBatch::push_tracked`].
    pub packet_id: Option<NonZeroU16>,
    /// What was published.
    pub payload: &'a [u8],
}

/// A growable run of records that is appended as a whole: its sequences are consecutive, and it is in
/// one group, so it becomes durable together.
#[derive(Debug, Clone, Default)]
pub struct RecordBatch {
    bytes: Vec<u8>,
    records: usize,
}

impl RecordBatch {
    /// Makes an empty batch.
    pub fn new() -> Self {
        Self::default()
    }

    /// Makes an empty batch with room for that many bytes of frames.
    pub fn with_capacity(bytes: usize) -> Self {
        Self {
            bytes: Vec::with_capacity(bytes),
            records: 0,
        }
    }

    /// Adds a record.
    ///
    /// # Errors
    /// [`LogError::TooLarge`]; the batch is then unchanged.
    ///
    /// # Panics
    /// When `qos` is above 2, which no valid MQTT packet has.
    pub fn push(&mut self, head: &RecordHead<'_>, payload: &[u8]) -> Result<(), LogError> {
        self.push_tracked(head, None, payload)
    }

    /// Adds a record with the packet id it was published with: who reads the log after a crash can tell
    /// by it that the message is there already when its publisher sends it again.
    ///
    /// # Errors
    /// As [`RecordBatch::push`].
    ///
    /// # Panics
    /// As [`RecordBatch::push`].
    pub fn push_tracked(
        &mut self,
        head: &RecordHead<'_>,
        packet_id: Option<NonZeroU16>,
        payload: &[u8],
    ) -> Result<(), LogError> {
        assert!(head.qos <= 2, "a quality of service is 0, 1 or 2");
        let topic_len = text_len("topic", head.topic)?;
        let client_id_len = text_len("client id", head.client_id)?;
        let texts_len = head.topic.len() + head.client_id.len();
        let properties_len = match head.properties.len() {
            0 => 0,
            len => PROPERTIES_LEN_BYTES + len,
        };
        let id_len = packet_id.map_or(0, |_| PACKET_ID_BYTES);
        let body_len = BODY_FIXED_BYTES + texts_len + id_len + properties_len + payload.len();
        let too_large = || LogError::TooLarge {
            what: "a record",
            bytes: body_len,
            limit: MAX_BODY_BYTES,
        };
        if body_len > MAX_BODY_BYTES {
            return Err(too_large());
        }
        let len = u32::try_from(body_len).map_err(|_| too_large())?;

        let start = self.bytes.len();
        let mut fixed = [0; PREFIX_BYTES + BODY_FIXED_BYTES];
        put(&mut fixed, 0, &len.to_le_bytes());
        put(&mut fixed, 16, &head.received_us.to_le_bytes());
        fixed[24] = head.qos
            | if head.retain { RETAIN } else { 0 }
            | if properties_len > 0 { PROPERTIES } else { 0 }
            | if id_len > 0 { PACKET_ID } else { 0 };
        put(&mut fixed, 25, &topic_len.to_le_bytes());
        put(&mut fixed, 27, &client_id_len.to_le_bytes());
        self.bytes.reserve(PREFIX_BYTES + body_len);
        self.bytes.extend_from_slice(&fixed);
        self.bytes.extend_from_slice(head.topic.as_bytes());
        self.bytes.extend_from_slice(head.client_id.as_bytes());
        if let Some(packet_id) = packet_id {
            self.bytes.extend_from_slice(&packet_id.get().to_le_bytes());
        }
        if properties_len > 0 {
            // It fits, because the whole body does.
            let len = u32::try_from(head.properties.len()).map_err(|_| too_large())?;
            self.bytes.extend_from_slice(&len.to_le_bytes());
            self.bytes.extend_from_slice(head.properties);
        }
        self.bytes.extend_from_slice(payload);
        let crc = crc32fast::hash(&self.bytes[start + PREFIX_BYTES..]);
        put(&mut self.bytes, start + 4, &crc.to_le_bytes());
        self.records += 1;
        Ok(())
    }

    /// Returns the number of records.
    pub fn len(&self) -> usize {
        self.records
    }

    /// Tells whether there is no record.
    pub fn is_empty(&self) -> bool {
        self.records == 0
    }

    /// Returns the bytes the batch will take in the log.
    pub fn bytes(&self) -> usize {
        self.bytes.len()
    }

    /// Removes all records and keeps the memory.
    pub fn clear(&mut self) {
        self.bytes.clear();
        self.records = 0;
    }

    pub(crate) fn frames(&self) -> &[u8] {
        &self.bytes
    }
}

fn text_len(what: &'static str, text: &str) -> Result<u16, LogError> {
    u16::try_from(text.len()).map_err(|_| LogError::TooLarge {
        what,
        bytes: text.len(),
        limit: usize::from(u16::MAX),
    })
}

/// Gives consecutive sequences to frames made by [`RecordBatch::push`] and completes their CRCs.
pub(crate) fn stamp(frames: &mut [u8], first_seq: u64, salt: u64) {
    let (mut at, mut field) = (0, first_seq | GROUP_START);
    while at < frames.len() {
        let body_crc = u32_at(frames, at + 4);
        put(
            frames,
            at + 4,
            &extend_crc(body_crc, field, salt).to_le_bytes(),
        );
        put(frames, at + 8, &field.to_le_bytes());
        at += PREFIX_BYTES + u32_at(frames, at) as usize;
        field = (field & !GROUP_START) + 1;
    }
}

fn extend_crc(body_crc: u32, seq_field: u64, salt: u64) -> u32 {
    let mut hasher = crc32fast::Hasher::new_with_initial(body_crc);
    hasher.update(&(seq_field ^ salt).to_le_bytes());
    hasher.finalize()
}

/// A whole frame whose CRC is right.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Frame<'a> {
    pub(crate) record: Record<'a>,
    pub(crate) starts_group: bool,
    /// Bytes of prefix and body.
    pub(crate) size: usize,
}

/// What to say of [`Parsed::Unknown`].
pub(crate) const UNKNOWN: &str = "the record is whole and not of a kind that this program knows; a newer one may have written it";

/// What stands at the beginning of some bytes.
#[derive(Debug)]
pub(crate) enum Parsed<'a> {
    Frame(Frame<'a>),
    /// The frame, if it is one, needs this many bytes in all.
    Short(usize),
    Bad(&'static str),
    /// Its CRC is right, so it was written as it is, and this program cannot read it.
    Unknown,
}

/// Reads the frame at the beginning of `bytes` and checks its CRC.
pub(crate) fn parse(bytes: &[u8], salt: u64) -> Parsed<'_> {
    if bytes.len() < PREFIX_BYTES {
        return Parsed::Short(PREFIX_BYTES);
    }
    let body_len = u32_at(bytes, 0) as usize;
    if !(BODY_FIXED_BYTES..=MAX_BODY_BYTES).contains(&body_len) {
        return Parsed::Bad("no record has such a length");
    }
    let size = PREFIX_BYTES + body_len;
    if bytes.len() < size {
        return Parsed::Short(size);
    }
    let crc = extend_crc(
        crc32fast::hash(&bytes[PREFIX_BYTES..size]),
        u64_at(bytes, 8),
        salt,
    );
    if crc != u32_at(bytes, 4) && !sabotage::crc_is_off() {
        return Parsed::Bad("the record's CRC is wrong");
    }
    match decode(&bytes[..size]) {
        Some(record) => Parsed::Frame(Frame {
            record,
            starts_group: u64_at(bytes, 8) & GROUP_START != 0,
            size,
        }),
        None => Parsed::Unknown,
    }
}

/// Reads the fields of a whole frame without checking its CRC.
pub(crate) fn decode(frame: &[u8]) -> Option<Record<'_>> {
    let body = frame.get(PREFIX_BYTES..)?;
    if body.len() < BODY_FIXED_BYTES {
        return None;
    }
    let flags = body[8];
    let (texts, topic_len) = (&body[BODY_FIXED_BYTES..], usize::from(u16_at(body, 9)));
    let client_id_len = usize::from(u16_at(body, 11));
    let (topic, rest) = texts.split_at_checked(topic_len)?;
    let (client_id, rest) = rest.split_at_checked(client_id_len)?;
    if flags & !(QOS_MASK | RETAIN | PROPERTIES | PACKET_ID) != 0 || flags & QOS_MASK == QOS_MASK {
        return None;
    }
    let (packet_id, rest) = if flags & PACKET_ID == 0 {
        (None, rest)
    } else {
        let (id, rest) = rest.split_at_checked(PACKET_ID_BYTES)?;
        (Some(NonZeroU16::new(u16_at(id, 0))?), rest)
    };
    let (properties, payload) = if flags & PROPERTIES == 0 {
        (&[][..], rest)
    } else {
        let (len, rest) = rest.split_at_checked(PROPERTIES_LEN_BYTES)?;
        rest.split_at_checked(u32_at(len, 0) as usize)?
    };
    Some(Record {
        seq: u64_at(frame, 8) & !GROUP_START,
        received_us: i64::from_le_bytes(array_at(body, 0)),
        qos: flags & QOS_MASK,
        retain: flags & RETAIN != 0,
        topic: str::from_utf8(topic).ok()?,
        client_id: str::from_utf8(client_id).ok()?,
        properties,
        packet_id,
        payload,
    })
}

/// Lets the negative controls of the tests switch the CRC check off; nothing outside tests can.
pub(crate) mod sabotage {
    #[cfg(test)]
    thread_local! {
        pub(crate) static CRC_OFF: std::cell::Cell<bool> = const { std::cell::Cell::new(false) };
    }

    #[cfg(test)]
    pub(super) fn crc_is_off() -> bool {
        CRC_OFF.get()
    }

    #[cfg(not(test))]
    pub(super) const fn crc_is_off() -> bool {
        false
    }
}
