//! Places on the earth: checked coordinates in degrees, WGS 84, and the distance between them.

use serde::Serialize;

/// Mean earth radius in metres (IUGG R1), used by every distance in this project and by its SQL models.
pub const EARTH_RADIUS_M: f64 = 6_371_008.8;

/// Latitude in degrees, finite, -90 to 90.
#[derive(Debug, Clone, Copy, PartialEq, PartialOrd, Serialize)]
#[serde(transparent)]
pub struct Latitude(f64);

/// Longitude in degrees, finite, -180 to 180.
#[derive(Debug, Clone, Copy, PartialEq, PartialOrd, Serialize)]
#[serde(transparent)]
pub struct Longitude(f64);

impl Latitude {
    /// Takes degrees; `None` when not finite or outside -90 to 90.
    pub fn from_degrees(degrees: f64) -> Option<Self> {
        (-90.0..=90.0).contains(&degrees).then_some(Self(degrees))
    }

    /// Returns degrees.
    pub fn degrees(self) -> f64 {
        self.0
    }
}

impl Longitude {
    /// Takes degrees; `None` when not finite or outside -180 to 180.
    pub fn from_degrees(degrees: f64) -> Option<Self> {
        (-180.0..=180.0).contains(&degrees).then_some(Self(degrees))
    }

    /// Returns degrees.
    pub fn degrees(self) -> f64 {
        self.0
    }
}

/// Returns the great-circle distance in metres by the haversine formula
/// (R. W. Sinnott, "Virtues of the Haversine", Sky and Telescope 68, 1984).
pub fn haversine_m(from: (Latitude, Longitude), to: (Latitude, Longitude)) -> f64 {
    let (lat1, lat2) = (from.0.0.to_radians(), to.0.0.to_radians());
    let half_dlat = (lat2 - lat1) / 2.0;
    let half_dlon = (to.1.0 - from.1.0).to_radians() / 2.0;
    let h = half_dlat.sin().powi(2) + lat1.cos() * lat2.cos() * half_dlon.sin().powi(2);
    2.0 * EARTH_RADIUS_M * h.sqrt().min(1.0).asin()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(lat: f64, lon: f64) -> (Latitude, Longitude) {
        (
            Latitude::from_degrees(lat).unwrap(),
            Longitude::from_degrees(lon).unwrap(),
        )
    }

    #[test]
    fn coordinates_outside_the_earth_are_refused() {
        for bad in [f64::NAN, f64::INFINITY, 90.000_001, -90.1] {
            assert!(Latitude::from_degrees(bad).is_none(), "{bad}");
        }
        assert!(Longitude::from_degrees(180.1).is_none());
        assert!(Longitude::from_degrees(-180.0).is_some());
    }

    #[test]
    fn a_quarter_meridian_has_its_length() {
        let quarter = EARTH_RADIUS_M * std::f64::consts::FRAC_PI_2;
        assert!((haversine_m(place(0.0, 0.0), place(90.0, 0.0)) - quarter).abs() < 1e-6);
        assert!(haversine_m(place(52.0, 4.0), place(52.0, 4.0)).abs() < f64::EPSILON);
    }
}
