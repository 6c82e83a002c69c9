//! The way of one deliverer through the streets.
//!
//! A deliverer rides from crossing to crossing of a street grid at 15 to 25 km/h, waits at some lights,
//! and turns at least at every second crossing, so that no delivery is one straight line. Everything is
//! drawn from the seed and the deliverer's number: the same seed gives the same way.
//!
//! Invariant: what [`Route::advance`] reports is consistent. The distance between two successive points
//! is the reported speed times the time between them, and the heading points from one to the other.

use std::f64::consts::{FRAC_PI_2, TAU};

use model::geo::EARTH_RADIUS_M;
use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};

/// Where deliveries begin, by and large: Amsterdam, latitude and longitude in degrees.
pub(crate) const DEPOT: (f64, f64) = (52.335_817_302_448_6, 4.889_250_798_264_9);
/// How far from the depot a deliverer's first order begins, at most, in metres along each axis.
const START_SPREAD_M: f64 = 1_500.0;
/// Beyond this a new order leads back towards the depot, in metres.
const FAR_M: f64 = 4_000.0;
/// Riding speeds in metres per second: 15 and 25 km/h.
const CRUISE_MPS: (f64, f64) = (15.0 / 3.6, 25.0 / 3.6);
/// Distances between crossings in metres.
const LEG_M: (f64, f64) = (40.0, 120.0);
/// Chance that a crossing's light is red, and how long it stays so, in seconds.
const RED_LIGHT: (f64, (f64, f64)) = (0.25, (5.0, 35.0));
/// How far streets deviate from the grid, in radians.
const BEND: f64 = 0.12;

/// A deliverer under way.
#[derive(Debug, Clone)]
pub(crate) struct Route {
    rng: SmallRng,
    /// Metres north and east of the depot.
    north_m: f64,
    east_m: f64,
    /// The two directions of the grid this order zigzags between, radians clockwise from north.
    directions: [f64; 2],
    along: usize,
    /// The direction of the present leg, what is left of it, and how fast it is ridden.
    leg: f64,
    leg_left_m: f64,
    cruise_mps: f64,
    went_straight: bool,
    stop_left_s: f64,
    heading: f64,
    accuracy_m: f64,
    battery: f64,
}

/// What the device reports after a step.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Step {
    /// Degrees.
    pub(crate) lat: f64,
    /// Degrees.
    pub(crate) lon: f64,
    /// Mean speed since the point before, metres per second.
    pub(crate) speed_mps: f64,
    /// Degrees clockwise from north, 0 to below 360: from the point before to this one.
    pub(crate) heading_deg: f64,
    /// Metres.
    pub(crate) accuracy_m: f64,
    /// 0 to 1.
    pub(crate) battery: f64,
}

impl Route {
    /// Places a deliverer somewhere around the depot.
    pub(crate) fn new(seed: u64, deliverer: u64) -> Self {
        // Neighbouring numbers must not give neighbouring ways.
        let mixed = seed
            ^ deliverer
                .wrapping_mul(0x9e37_79b9_7f4a_7c15)
                .rotate_left(17);
        let mut rng = SmallRng::seed_from_u64(mixed);
        let north_m = rng.random_range(-START_SPREAD_M..START_SPREAD_M);
        let east_m = rng.random_range(-START_SPREAD_M..START_SPREAD_M);
        let accuracy_m = rng.random_range(3.0..8.0);
        let battery = rng.random_range(0.6..1.0);
        let mut route = Self {
            rng,
            north_m,
            east_m,
            directions: [0.0; 2],
            along: 0,
            leg: 0.0,
            leg_left_m: 0.0,
            cruise_mps: 0.0,
            went_straight: false,
            stop_left_s: 0.0,
            heading: 0.0,
            accuracy_m,
            battery,
        };
        route.begin_order();
        route
    }

    /// Chooses where the next order leads; the deliverer stays where they are.
    pub(crate) fn begin_order(&mut self) {
        let far = self.north_m.hypot(self.east_m) > FAR_M;
        let towards = if far {
            // Halfway between the two directions lies the way home.
            (-self.east_m).atan2(-self.north_m) - FRAC_PI_2 / 2.0
        } else {
            self.rng.random_range(0.0..TAU)
        };
        self.directions = [towards, towards + FRAC_PI_2];
        self.along = usize::from(self.rng.random_bool(0.5));
        self.begin_leg();
        self.heading = self.leg;
    }

    /// Returns where the deliverer stands, without moving.
    pub(crate) fn here(&self) -> Step {
        let (lat, lon) = self.place();
        Step {
            lat,
            lon,
            speed_mps: 0.0,
            heading_deg: degrees(self.heading),
            accuracy_m: self.accuracy_m,
            battery: self.battery,
        }
    }

    /// Rides for `seconds` and returns what the device reports then.
    pub(crate) fn advance(&mut self, seconds: f64) -> Step {
        let (from_north, from_east) = (self.north_m, self.east_m);
        self.ride(seconds);
        let (north, east) = (self.north_m - from_north, self.east_m - from_east);
        let distance_m = north.hypot(east);
        // A standing device keeps its last heading.
        if distance_m > 0.5 {
            self.heading = east.atan2(north);
        }
        self.accuracy_m = (self.accuracy_m + self.rng.random_range(-0.5..0.5)).clamp(3.0, 15.0);
        self.battery = (self.battery - seconds * 2e-5).max(0.05);
        let speed_mps = if seconds > 0.0 {
            distance_m / seconds
        } else {
            0.0
        };
        Step {
            speed_mps,
            ..self.here()
        }
    }

    fn ride(&mut self, seconds: f64) {
        let mut left_s = seconds;
        while left_s > 0.0 {
            let waiting_s = self.stop_left_s.min(left_s);
            self.stop_left_s -= waiting_s;
            left_s -= waiting_s;
            let ridden_m = (self.cruise_mps * left_s).min(self.leg_left_m);
            self.north_m += ridden_m * self.leg.cos();
            self.east_m += ridden_m * self.leg.sin();
            self.leg_left_m -= ridden_m;
            left_s -= ridden_m / self.cruise_mps;
            if self.leg_left_m > 0.0 {
                return;
            }
            self.cross();
        }
    }

    /// Goes over a crossing: waits at a red light, then turns or rides on.
    fn cross(&mut self) {
        let (chance, (shortest, longest)) = RED_LIGHT;
        if self.rng.random_bool(chance) {
            self.stop_left_s = self.rng.random_range(shortest..longest);
        }
        let turn = self.went_straight || self.rng.random_bool(0.5);
        self.went_straight = !turn;
        if turn {
            self.along = 1 - self.along;
        }
        self.begin_leg();
    }

    fn begin_leg(&mut self) {
        let [first, second] = self.directions;
        let direction = if self.along == 0 { first } else { second };
        self.leg = direction + self.rng.random_range(-BEND..BEND);
        self.leg_left_m = self.rng.random_range(LEG_M.0..LEG_M.1);
        self.cruise_mps = self.rng.random_range(CRUISE_MPS.0..CRUISE_MPS.1);
    }

    /// Latitude and longitude in degrees. Over the few kilometres of a delivery area a flat map is
    /// right to centimetres per step.
    fn place(&self) -> (f64, f64) {
        let lat = DEPOT.0 + (self.north_m / EARTH_RADIUS_M).to_degrees();
        let shrink = DEPOT.0.to_radians().cos();
        (
            lat,
            DEPOT.1 + (self.east_m / (EARTH_RADIUS_M * shrink)).to_degrees(),
        )
    }
}

fn degrees(heading: f64) -> f64 {
    heading.to_degrees().rem_euclid(360.0)
}

#[cfg(test)]
mod tests {
    use model::geo::haversine_m;
    use model::{Latitude, Longitude};
    use proptest::prelude::*;

    use super::*;

    fn place(step: &Step) -> (Latitude, Longitude) {
        (
            Latitude::from_degrees(step.lat).unwrap(),
            Longitude::from_degrees(step.lon).unwrap(),
        )
    }

    fn way(seed: u64, deliverer: u64, steps: usize, seconds: f64) -> Vec<Step> {
        let mut route = Route::new(seed, deliverer);
        let first = route.here();
        std::iter::once(first)
            .chain((1..steps).map(|_| route.advance(seconds)))
            .collect()
    }

    /// How far the points lie from the straight line between the first and the last, at most, in metres.
    fn bulge_m(way: &[Step]) -> f64 {
        let flat = |step: &Step| {
            let shrink = DEPOT.0.to_radians().cos();
            (step.lat * 111_195.0, step.lon * 111_195.0 * shrink)
        };
        let (a, b) = (flat(&way[0]), flat(&way[way.len() - 1]));
        let length = (b.0 - a.0).hypot(b.1 - a.1).max(1e-9);
        let off =
            |p: (f64, f64)| ((b.0 - a.0) * (p.1 - a.1) - (b.1 - a.1) * (p.0 - a.0)).abs() / length;
        way.iter().map(|step| off(flat(step))).fold(0.0, f64::max)
    }

    proptest! {
        #[test]
        fn points_speeds_and_headings_agree(
            seed: u64, deliverer in 1_u64..1_000_000, seconds in 0.5_f64..60.0,
        ) {
            for pair in way(seed, deliverer, 30, seconds).windows(2) {
                let distance_m = haversine_m(place(&pair[0]), place(&pair[1]));
                // A flat map at the depot's latitude: 2 per mille at the far end of the area.
                let tolerance = 0.02 + distance_m * 2e-3;
                prop_assert!((distance_m - pair[1].speed_mps * seconds).abs() < tolerance);
                prop_assert!(pair[1].speed_mps <= CRUISE_MPS.1 + 1e-9);
                prop_assert!((0.0..360.0).contains(&pair[1].heading_deg));
                prop_assert!((0.0..=1.0).contains(&pair[1].battery) && pair[1].accuracy_m > 0.0);
            }
        }

        #[test]
        fn a_default_delivery_is_never_one_straight_line(seed: u64, deliverer in 1_u64..100_000) {
            let way = way(seed, deliverer, 15, 10.0);
            prop_assert!(bulge_m(&way) > 1.0, "{}", bulge_m(&way));
            let far = haversine_m(place(&way[0]), place(&way[14]));
            prop_assert!(far > 30.0, "{far}");
        }

        #[test]
        fn a_long_day_stays_in_town(seed: u64) {
            let mut route = Route::new(seed, 1);
            for _ in 0..300 {
                route.begin_order();
                let step = (0..15).map(|_| route.advance(10.0)).last().unwrap();
                prop_assert!(route.north_m.hypot(route.east_m) < FAR_M + 2_000.0, "{step:?}");
            }
        }
    }

    #[test]
    fn the_same_seed_gives_the_same_way_and_another_another() {
        assert_eq!(way(7, 3, 20, 10.0), way(7, 3, 20, 10.0));
        assert_ne!(way(7, 3, 20, 10.0), way(8, 3, 20, 10.0));
        assert_ne!(way(7, 3, 20, 10.0), way(7, 4, 20, 10.0));
    }
}
