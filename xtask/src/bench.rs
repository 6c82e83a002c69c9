//! Measurements of whole processes from outside.

pub(crate) mod ingest;
pub(crate) mod lake;
mod measure;
pub(crate) mod mongo;
pub(crate) mod mqtt;
pub(crate) mod reads;
mod subject;

/// Returns the middle value, the mean of the two middle ones of an even number, 0 of none.
fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    match (values.get(middle), values.len() % 2) {
        (None, _) => 0.0,
        (Some(value), 1) => *value,
        (Some(value), _) => f64::midpoint(values[middle - 1], *value),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_the_middle() {
        for (values, expected) in [
            (vec![], 0.0),
            (vec![3.0], 3.0),
            (vec![9.0, 1.0, 2.0], 2.0),
            (vec![4.0, 1.0, 2.0, 9.0], 3.0),
        ] {
            assert!(
                (median(values.iter().copied()) - expected).abs() < 1e-12,
                "{values:?}"
            );
        }
    }
}
