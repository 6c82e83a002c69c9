//! A deliverer's position, and which of two positions is the newer.

use serde::{Serialize, Serializer};

use crate::content_hash::ContentHash;
use crate::{DelivererId, Latitude, Longitude, OrderId, UtcMicros};

/// How far a delivery is. Words we do not know are kept as given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DeliveryState {
    /// `start`: the order was picked up.
    Start,
    /// `on_the_way`.
    OnTheWay,
    /// `arrived`: the order was handed over.
    Arrived,
    /// Any other word, at most 64 bytes without control characters.
    Other(Box<str>),
}

impl DeliveryState {
    /// Longest word accepted, in bytes.
    pub const MAX_BYTES: usize = 64;

    /// Takes a word; `None` when it is empty, too long or holds control characters.
    pub fn new(word: &str) -> Option<Self> {
        match word {
            "start" => Some(Self::Start),
            "on_the_way" => Some(Self::OnTheWay),
            "arrived" => Some(Self::Arrived),
            other => {
                let fits = !other.is_empty()
                    && other.len() <= Self::MAX_BYTES
                    && !other.chars().any(char::is_control);
                fits.then(|| Self::Other(other.into()))
            }
        }
    }

    /// Returns the word.
    pub fn as_str(&self) -> &str {
        match self {
            Self::Start => "start",
            Self::OnTheWay => "on_the_way",
            Self::Arrived => "arrived",
            Self::Other(word) => word,
        }
    }

    /// Tells whether the word is one of the three this project gives a meaning.
    pub fn is_known(&self) -> bool {
        !matches!(self, Self::Other(_))
    }
}

impl Serialize for DeliveryState {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

/// The wire format a position came in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Source {
    /// This project's own JSON.
    Native,
    /// A door2door `update` event.
    Door2door,
}

impl Source {
    /// Returns the name, as stored and as served.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Native => "native",
            Self::Door2door => "door2door",
        }
    }

    /// Reads a name written by [`Source::as_str`].
    pub fn from_name(name: &str) -> Option<Self> {
        [Self::Native, Self::Door2door]
            .into_iter()
            .find(|source| source.as_str() == name)
    }
}

/// Where a deliverer was at one instant. Field names are those of the native JSON.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Position {
    /// The order being delivered; absent for a vehicle that carries none.
    pub order_id: Option<OrderId>,
    /// Who moves.
    pub deliverer_id: DelivererId,
    /// How far the delivery is.
    pub delivery_state: Option<DeliveryState>,
    /// When the device was there, by the device's clock.
    pub event_time: UtcMicros,
    /// When the broker took the message, by the broker's clock.
    pub received_time: UtcMicros,
    /// Degrees, WGS 84.
    pub lat: Latitude,
    /// Degrees, WGS 84.
    pub lon: Longitude,
    /// Speed over ground in metres per second, 0 or more.
    pub speed_mps: Option<f64>,
    /// Course over ground in degrees clockwise from north, 0 to 360.
    pub heading_deg: Option<f64>,
    /// Horizontal accuracy in metres, 0 or more.
    pub accuracy_m: Option<f64>,
    /// Metres above the ellipsoid or the sea, as the device has it.
    pub altitude_m: Option<f64>,
    /// Charge of the device, 0 to 1.
    pub battery: Option<f64>,
    /// The device's own counter, 0 to 2^63 - 1; tells apart points of the same instant.
    pub seq: Option<u64>,
    /// The wire format it came in.
    pub source: Source,
}

/// Orders positions of one order or deliverer by recency: the greatest is the last.
///
/// Time first, then the device's counter, then the content, so that the outcome never depends on the
/// order of arrival.
pub type RecencyKey = (UtcMicros, i64);

/// Tells apart positions with the same order, deliverer and event time.
///
/// Zero and above: the device's own counter. Below zero: a hash of what was reported. With the same
/// event time, a position that carries a counter is newer than one that does not.
pub type Discriminator = i64;

impl Position {
    /// Returns the last component of this position's identity.
    ///
    /// Two positions with the same order, event time, deliverer and discriminator are one position
    /// delivered twice.
    ///
    /// # Panics
    /// When `seq` is above 2^63 - 1, which no parser lets through.
    pub fn discriminator(&self) -> Discriminator {
        if let Some(seq) = self.seq {
            return i64::try_from(seq).expect("a sequence is at most 2^63 - 1");
        }
        let hash = ContentHash::default()
            .chain(&self.lat.degrees().to_bits().to_le_bytes())
            .chain(&self.lon.degrees().to_bits().to_le_bytes())
            .chain(
                self.delivery_state
                    .as_ref()
                    .map_or("", DeliveryState::as_str)
                    .as_bytes(),
            )
            .finish();
        i64::MIN | (hash >> 1).cast_signed()
    }

    /// Returns what decides which of two positions is the last.
    pub fn recency(&self) -> RecencyKey {
        (self.event_time, self.discriminator())
    }

    /// Tells whether the device dated this point more than `max_skew_us` after the broker received it.
    ///
    /// Such a point is kept in history and may not become the last one: it would freeze it.
    pub fn is_from_the_future(&self, max_skew_us: i64) -> bool {
        self.event_time > self.received_time.saturating_add_micros(max_skew_us)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn position(seq: Option<u64>) -> Position {
        Position {
            order_id: Some(OrderId::new("43").unwrap()),
            deliverer_id: DelivererId::new("1").unwrap(),
            delivery_state: DeliveryState::new("start"),
            event_time: UtcMicros::new(10_000_000).unwrap(),
            received_time: UtcMicros::new(10_000_000).unwrap(),
            lat: Latitude::from_degrees(52.0).unwrap(),
            lon: Longitude::from_degrees(4.0).unwrap(),
            speed_mps: None,
            heading_deg: None,
            accuracy_m: None,
            altitude_m: None,
            battery: None,
            seq,
            source: Source::Native,
        }
    }

    #[test]
    fn a_counter_beats_a_hash_at_the_same_instant() {
        assert_eq!(position(Some(7)).discriminator(), 7);
        assert!(position(None).discriminator() < 0);
        assert!(position(Some(0)).recency() > position(None).recency());
        let mut elsewhere = position(None);
        elsewhere.lat = Latitude::from_degrees(52.000_001).unwrap();
        assert_ne!(elsewhere.discriminator(), position(None).discriminator());
    }

    #[test]
    fn a_point_is_from_the_future_only_beyond_the_skew() {
        let mut point = position(None);
        point.event_time = point.received_time.saturating_add_micros(5);
        assert!(!point.is_from_the_future(5));
        assert!(point.is_from_the_future(4));
    }
}
