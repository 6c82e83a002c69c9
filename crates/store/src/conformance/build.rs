//! Makes records for the laws and for the stores' own tests, from a seed where chance is wanted.
//!
//! Chance comes from `SplitMix64` (<https://prng.di.unimi.it/splitmix64.c>), so that a failure names
//! its seed and comes back with it.

use model::fleet_event::FleetAction;
use model::reject::{Defect, RejectReason};
use model::{
    DelivererId, DeliveryState, FleetEvent, FleetSubject, Latitude, Longitude, OrderId, Position,
    Record, Reject, Source, UtcMicros,
};

use crate::Batch;

/// Noon of an ordinary day; the laws' times count from here.
pub const NOON_US: i64 = 1_767_355_200_000_000;

/// Returns the instant `micros` after noon.
///
/// # Panics
/// When that is before 1970 or after the year 9999.
pub fn at(micros: i64) -> UtcMicros {
    UtcMicros::new(NOON_US + micros).expect("the laws stay within the calendar")
}

/// Returns a plain position with a device counter, received when it happened, `micros` after noon.
///
/// # Panics
/// When an id is not one.
pub fn position(order: Option<&str>, deliverer: &str, micros: i64, seq: Option<u64>) -> Position {
    Position {
        order_id: order.map(|id| OrderId::new(id).expect("the laws use valid ids")),
        deliverer_id: DelivererId::new(deliverer).expect("the laws use valid ids"),
        delivery_state: Some(DeliveryState::OnTheWay),
        event_time: at(micros),
        received_time: at(micros),
        lat: latitude(52.0),
        lon: longitude(4.0),
        speed_mps: None,
        heading_deg: None,
        accuracy_m: None,
        altitude_m: None,
        battery: None,
        seq,
        source: Source::Native,
    }
}

/// Returns an update of a vehicle, `micros` after noon, with its position.
pub fn update(organization: &str, vehicle: &str, micros: i64) -> Record {
    let mut position = position(None, vehicle, micros, None);
    position.delivery_state = None;
    position.source = Source::Door2door;
    Record::FleetEvent {
        event: FleetEvent {
            data: format!(r#"{{"id":"{vehicle}","location":{{"lat":52.0,"lng":4.0}}}}"#).into(),
            ..event(
                organization,
                FleetSubject::Vehicle,
                FleetAction::Update,
                vehicle,
                micros,
            )
        },
        position: Some(position),
    }
}

/// Returns a fleet event, `micros` after noon.
pub fn event(
    organization: &str,
    on: FleetSubject,
    event: FleetAction,
    entity: &str,
    micros: i64,
) -> FleetEvent {
    FleetEvent {
        organization_id: organization.into(),
        on,
        event,
        entity_id: entity.into(),
        at: at(micros),
        received_time: at(micros),
        data: format!(r#"{{"id":"{entity}"}}"#).into(),
    }
}

/// Returns a dead letter with the given bytes.
pub fn letter(payload: &[u8], item: u32, log_seq: Option<u64>) -> Reject {
    Reject {
        defect: Defect::new(RejectReason::Malformed, "not valid JSON: nothing is here"),
        topic: "deliveries/7/location".into(),
        payload: payload.into(),
        received_time: at(0),
        item,
        log_seq,
    }
}

/// Returns a batch of positions.
pub fn batch(positions: impl IntoIterator<Item = Position>) -> Batch {
    Batch {
        records: positions.into_iter().map(Record::Position).collect(),
        ..Batch::default()
    }
}

/// Takes degrees.
///
/// # Panics
/// When they are out of range.
pub fn latitude(degrees: f64) -> Latitude {
    Latitude::from_degrees(degrees).expect("the laws stay on the earth")
}

/// Takes degrees.
///
/// # Panics
/// When they are out of range.
pub fn longitude(degrees: f64) -> Longitude {
    Longitude::from_degrees(degrees).expect("the laws stay on the earth")
}

/// Chance from a seed.
#[derive(Debug, Clone)]
pub struct Chance(u64);

impl Chance {
    /// Starts from a seed.
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// Returns the next 64 bits.
    pub fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Returns a number below `bound`, which is not 0.
    pub fn below(&mut self, bound: u64) -> u64 {
        self.bits() % bound
    }

    /// Returns one of `choices`, which are not empty.
    ///
    /// # Panics
    /// When there is nothing to choose from.
    pub fn pick<T: Clone>(&mut self, choices: &[T]) -> T {
        let index = self.below(choices.len() as u64);
        choices[usize::try_from(index).expect("an index below a length")].clone()
    }

    /// Shuffles (Fisher and Yates).
    ///
    /// # Panics
    /// Never: the index stays below the length.
    pub fn shuffle<T>(&mut self, items: &mut [T]) {
        for end in (1..items.len()).rev() {
            let other = usize::try_from(self.below(end as u64 + 1)).expect("an index below");
            items.swap(end, other);
        }
    }

    /// Returns a number from 0 to 1, often one of the ends, -0 or the smallest above 0.
    pub fn fraction(&mut self) -> f64 {
        match self.below(8) {
            0 => 0.0,
            1 => -0.0,
            2 => 1.0,
            3 => f64::from_bits(1),
            _ => f64::from_bits(0x3ff0_0000_0000_0000 | (self.bits() >> 12)) - 1.0,
        }
    }

    /// Returns a position with every field drawn by chance, unusual values often.
    pub fn position(&mut self, orders: &[&str], deliverers: &[&str]) -> Position {
        let order = (self.below(4) > 0).then(|| self.pick(orders));
        let deliverer = self.pick(deliverers);
        let micros = i64::try_from(self.below(60_000_000)).unwrap_or(0);
        let seq = match self.below(4) {
            0 => None,
            1 => Some(i64::MAX.unsigned_abs()),
            _ => Some(self.below(1_000)),
        };
        let states = [
            None,
            DeliveryState::new("start"),
            DeliveryState::new("on_the_way"),
            DeliveryState::new("arrived"),
            DeliveryState::new("à la porte \u{1f6b2} '\";--"),
        ];
        let mut point = position(order, deliverer, micros, seq);
        point.delivery_state = self.pick(&states);
        let late = i64::try_from(self.below(5_000_000)).unwrap_or(0);
        point.received_time = at(micros + late);
        point.lat = latitude(self.fraction() * self.pick(&[90.0, -90.0]));
        point.lon = longitude(self.fraction() * self.pick(&[180.0, -180.0]));
        point.speed_mps = self.maybe(f64::MAX);
        point.heading_deg = self.maybe(360.0);
        point.accuracy_m = self.maybe(1e6);
        point.altitude_m = self.maybe(-11_000.0);
        point.battery = self.maybe(1.0);
        point.source = self.pick(&[Source::Native, Source::Door2door]);
        point
    }

    fn maybe(&mut self, scale: f64) -> Option<f64> {
        (self.below(3) > 0).then(|| self.fraction() * scale)
    }
}
