//! What is published: its topic, payload and expiry follow from whose it is, its kind and its number.

use crate::protocol::Version;
use crate::simulation::wire::Message;

/// Publishers of a world, and clients with wills.
pub(super) const PUBLISHERS: usize = 3;
/// Seconds after which a fleeting message expires.
pub(super) const FLEETING: u32 = 2;
/// Seconds after which some others do: not before the end of the world.
const LASTING: u32 = 10_000;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Plain,
    Retained,
    /// Expires soon.
    Fleeting,
    Will,
}

const KINDS: [Kind; 4] = [Kind::Plain, Kind::Retained, Kind::Fleeting, Kind::Will];

impl Kind {
    /// Long enough for topic aliases to be worth it.
    pub(super) fn topic(self, whose: usize) -> String {
        match self {
            Self::Plain => format!("t/n{whose}"),
            Self::Retained => format!("t/n{whose}/r"),
            Self::Fleeting => format!("x/n{whose}"),
            Self::Will => format!("w/n{whose}"),
        }
    }

    /// Returns the seconds after which a message expires.
    pub(super) fn expiry(self, version: Version, number: u64) -> Option<u32> {
        match self {
            Self::Fleeting => Some(FLEETING),
            Self::Plain | Self::Retained => number.is_multiple_of(4).then_some(LASTING),
            Self::Will => None,
        }
        .filter(|_| version == Version::V5)
    }

    /// A payload of a length that follows from the number: short ones and some that fill a connection.
    pub(super) fn payload(self, whose: usize, number: u64) -> Vec<u8> {
        let byte = |value: usize| u8::try_from(value).expect("there are few");
        let mut payload = vec![byte(whose), self as u8];
        payload.extend_from_slice(&number.to_le_bytes());
        let long = number.is_multiple_of(7);
        payload.resize(if long { 180 } else { 10 }, 0);
        payload
    }
}

/// Reads the kind of a message, whose it is, and its number.
pub(super) fn parse(payload: &[u8]) -> Option<(Kind, (usize, u64))> {
    let [whose, kind, rest @ ..] = payload else {
        return None;
    };
    let (whose, number) = (
        usize::from(*whose),
        u64::from_le_bytes(*rest.first_chunk()?),
    );
    let kind = *KINDS.get(usize::from(*kind))?;
    (whose < PUBLISHERS && payload == kind.payload(whose, number))
        .then_some((kind, (whose, number)))
}

/// As [`parse`], of a message that was sent to `topic`, which its alias may stand for.
pub(super) fn read(message: &Message, topic: &str) -> Result<(Kind, (usize, u64)), String> {
    let parsed = parse(&message.payload).filter(|(kind, (whose, _))| topic == kind.topic(*whose));
    parsed.ok_or_else(|| format!("a message that nobody sent to \"{topic}\": {message:?}"))
}
