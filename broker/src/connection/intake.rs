//! From bytes to a batch of records: the hot path.
//!
//! One call takes every complete packet that was read, gathers what is published into one record batch, and answers
//! what needs no waiting. It stops at the first packet that must be handled before what follows it.

use std::num::NonZeroU16;

use bytes::Bytes;
use ingest_log::{RecordBatch, RecordHead};

use super::exactly_once::Unreleased;
use super::outbound::Outbound;
use crate::access::{Permit, Refused};
use crate::protocol::control::{self, Control};
use crate::protocol::frame::{Frame, Split, split};
use crate::protocol::{Version, Violation, publish, topic};
use crate::retained::Retained;
use crate::sabotage::{Step, leaves_out};
use crate::session::window::{Kind, Origin};

/// The quality of service that needs a memory.
const EXACTLY_ONCE: u8 = 2;

/// Bytes that were read and not yet taken.
#[derive(Debug, Default)]
pub(super) struct Input {
    bytes: Vec<u8>,
    taken: usize,
    /// Whether a complete packet may be there.
    fresh: bool,
}

/// An emptied buffer above this size is given back, so that idle connections cost little.
const KEPT_BYTES: usize = 2 << 10;

impl Input {
    /// Adds what was read.
    pub(super) fn add(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
        self.fresh = true;
    }

    /// Tells whether a complete packet may be there.
    pub(super) fn is_fresh(&self) -> bool {
        self.fresh
    }

    pub(super) fn unread(&self) -> &[u8] {
        &self.bytes[self.taken..]
    }

    /// Forgets everything.
    pub(super) fn discard(&mut self) {
        self.took(self.unread().len(), false);
    }

    /// Notes that so many bytes are done with.
    pub(super) fn took(&mut self, count: usize, fresh: bool) {
        self.taken += count;
        self.fresh = fresh;
        if self.taken == self.bytes.len() {
            self.bytes.clear();
            self.bytes.shrink_to(KEPT_BYTES);
            self.taken = 0;
        } else if !fresh {
            // What is left is the beginning of one packet.
            self.bytes.drain(..self.taken);
            self.taken = 0;
        }
    }
}

/// What is kept of a client's packets from one call to the next.
#[derive(Debug)]
pub(super) struct Inbound {
    /// Topics by alias, which begin with 1.
    aliases: Vec<Option<Box<str>>>,
    most_aliases: u16,
    /// Room for the properties of one message.
    kept: Vec<u8>,
    /// What it published with QoS 2 and did not release.
    pub(super) unreleased: Unreleased,
}

impl Inbound {
    /// Begins without aliases; the client may set so many.
    pub(super) fn new(most_aliases: u16, unreleased: Unreleased) -> Self {
        Self {
            aliases: Vec::new(),
            most_aliases,
            kept: Vec::new(),
            unreleased,
        }
    }
}

/// Sets an alias, or returns the topic it was set to.
fn aliased<'a>(
    aliases: &'a mut Vec<Option<Box<str>>>,
    most: u16,
    alias: NonZeroU16,
    topic: &'a str,
) -> Result<&'a str, Violation> {
    if alias.get() > most {
        return Err(Violation::TopicAlias);
    }
    let place = usize::from(alias.get()) - 1;
    if topic.is_empty() {
        let known = aliases.get(place).and_then(Option::as_deref);
        return known.ok_or(Violation::Protocol);
    }
    if aliases.len() <= place {
        aliases.resize(place + 1, None);
    }
    if leaves_out(Step::AliasSet) && aliases[place].is_some() {
        return Ok(topic);
    }
    aliases[place] = Some(topic.into());
    Ok(topic)
}

/// What holds for every message of one call.
#[derive(Debug, Clone, Copy)]
pub(super) struct Terms<'a> {
    pub(super) version: Version,
    pub(super) client_id: &'a str,
    pub(super) received_us: i64,
    pub(super) max_packet_bytes: usize,
    pub(super) permit: &'a Permit,
    /// How many more messages with QoS 1 or 2 the client may have on their way.
    pub(super) room: usize,
    /// The negative control: PUBACK at once.
    pub(super) ack_before_commit: bool,
}

/// What one call took.
#[derive(Debug, Default)]
pub(super) struct Taken {
    pub(super) batch: RecordBatch,
    /// Packet ids to acknowledge, in order.
    pub(super) packet_ids: Vec<u16>,
    /// Which of them are of QoS 2, by place.
    pub(super) exact: Vec<usize>,
    /// Messages taken with QoS 2 whose ids are to be remembered, with their places in the batch.
    pub(super) tracked: Vec<(u64, NonZeroU16)>,
    /// Messages that count against the client's quota.
    pub(super) counted: usize,
    /// Packet ids that were released.
    pub(super) released: Vec<NonZeroU16>,
    /// Retained messages with their places in the batch.
    pub(super) retained: Vec<(u64, Retained)>,
    /// Messages by QoS.
    pub(super) received: [u64; 3],
    /// Messages that were refused: denied by the rules, and for their topic.
    pub(super) refused: [u64; 2],
    /// Why, for those among the packet ids: places and reasons.
    pub(super) reasons: Vec<(usize, Refused)>,
    /// What a subscriber acknowledged.
    pub(super) acknowledged: Vec<Origin>,
    /// The packet at which it stopped.
    pub(super) control: Option<Control>,
    /// The rule that was broken, after all that was taken.
    pub(super) violation: Option<Violation>,
}

/// Takes packets from `input`.
pub(super) fn take(
    input: &mut Input,
    inbound: &mut Inbound,
    terms: &Terms<'_>,
    out: &mut Outbound,
) -> Taken {
    let unread = input.unread();
    let mut taken = Taken {
        batch: RecordBatch::with_capacity(unread.len() + unread.len() / 4),
        ..Taken::default()
    };
    let mut at = 0;
    let mut fresh = true;
    while taken.control.is_none() && taken.violation.is_none() {
        match split(&unread[at..], terms.max_packet_bytes) {
            Ok(Split::Frame(frame)) => {
                at += frame.size;
                taken.violation = one(&frame, inbound, terms, out, &mut taken).err();
            }
            Ok(Split::Incomplete(_)) => {
                fresh = false;
                break;
            }
            Err(violation) => taken.violation = Some(violation),
        }
    }
    input.took(at, fresh);
    taken
}

fn one(
    frame: &Frame<'_>,
    inbound: &mut Inbound,
    terms: &Terms<'_>,
    out: &mut Outbound,
    taken: &mut Taken,
) -> Result<(), Violation> {
    if frame.first & 0xf0 == publish::TYPE {
        return message(frame, inbound, terms, out, taken);
    }
    match frame.first {
        control::PUBACK => {
            // An unknown id is an acknowledgement of something sent on an earlier connection.
            let id = control::puback(terms.version, frame)?;
            expected(out, id, Kind::Puback)?;
            taken.acknowledged.extend(out.window.acknowledge(id));
        }
        control::PUBREC => {
            let (id, refused) = control::pubrec(terms.version, frame)?;
            expected(out, id, Kind::Pubrec)?;
            taken.acknowledged.extend(out.take_pubrec(id, refused));
        }
        control::PUBREL => taken.released.push(control::pubrel(terms.version, frame)?),
        control::PUBCOMP => {
            let id = control::pubrel(terms.version, frame)?;
            expected(out, id, Kind::Pubcomp)?;
            out.take_pubcomp(id);
        }
        control::PINGREQ if frame.body.is_empty() => {
            out.answers().extend_from_slice(&control::PINGRESP);
        }
        _ => taken.control = Some(control::control(terms.version, frame)?),
    }
    Ok(())
}

/// Refuses an acknowledgement that is another one than the message with this id waits for.
fn expected(out: &mut Outbound, id: NonZeroU16, kind: Kind) -> Result<(), Violation> {
    if out.window.waits_for_other(id, kind) {
        return Err(Violation::Protocol);
    }
    Ok(())
}

fn message(
    frame: &Frame<'_>,
    inbound: &mut Inbound,
    terms: &Terms<'_>,
    out: &mut Outbound,
    taken: &mut Taken,
) -> Result<(), Violation> {
    let Inbound {
        aliases,
        most_aliases,
        kept,
        unreleased,
    } = inbound;
    let publish = match terms.version {
        Version::V311 => publish::decode(frame.first, frame.body)?,
        Version::V5 => {
            let (mut publish, alias) = publish::decode_v5(frame.first, frame.body, kept)?;
            if let Some(alias) = alias {
                publish.topic = aliased(aliases, *most_aliases, alias, publish.topic)?;
            }
            publish
        }
    };
    let exact = NonZeroU16::new(publish.packet_id).filter(|_| publish.qos == EXACTLY_ONCE);
    let is_new = exact.is_none_or(|id| unreleased.take(id));
    taken.received[usize::from(publish.qos)] += u64::from(is_new);
    if publish.qos > 0 {
        if is_new && taken.counted >= terms.room {
            return Err(Violation::ReceiveMaximum);
        }
        taken.counted += usize::from(is_new);
        if terms.ack_before_commit && exact.is_none() {
            publish::encode_ack(out.answers(), publish.packet_id);
        } else {
            taken.exact.extend(exact.map(|_| taken.packet_ids.len()));
            taken.packet_ids.push(publish.packet_id);
        }
    }
    if !is_new {
        return Ok(());
    }
    // Nobody may publish below `$`, and who tries is refused as if a rule said so.
    let permitted = if topic::is_own(publish.topic) {
        Err(Refused::NotAuthorized)
    } else {
        terms.permit.may_publish(publish.topic)
    };
    if let Err(refused) = permitted {
        taken.refused[usize::from(refused == Refused::TopicName)] += 1;
        if publish.qos > 0 && !(terms.ack_before_commit && exact.is_none()) {
            taken.reasons.push((taken.packet_ids.len() - 1, refused));
        }
        if let Some(id) = exact {
            // Nothing is there to be released.
            unreleased.release(id);
        }
        return Ok(());
    }
    let head = RecordHead {
        qos: publish.qos,
        retain: publish.retain,
        received_us: terms.received_us,
        topic: publish.topic,
        client_id: terms.client_id,
        properties: publish.properties,
    };
    let place = taken.batch.len() as u64;
    let tracked = exact.filter(|_| unreleased.is_durable());
    taken.tracked.extend(exact.map(|id| (place, id)));
    let pushed = taken.batch.push_tracked(&head, tracked, publish.payload);
    pushed.map_err(|_| Violation::TooLarge)?;
    if publish.retain {
        let retained = Retained {
            topic: publish.topic.into(),
            payload: Bytes::copy_from_slice(publish.payload),
            qos: publish.qos,
            client_id: terms.client_id.into(),
            properties: Bytes::copy_from_slice(publish.properties),
            received_us: terms.received_us,
            seq: 0,
        };
        taken.retained.push((place, retained));
    }
    Ok(())
}
