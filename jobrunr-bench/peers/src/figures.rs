//! Medians, percentiles and ratios.

use std::time::Duration;

/// Jobs a second.
#[expect(clippy::cast_precision_loss, reason = "a count of jobs is far below 2^52")]
pub(crate) fn per_second(jobs: usize, elapsed: Duration) -> f64 {
    jobs as f64 / elapsed.as_secs_f64()
}

/// The value that half of the others are below.
pub(crate) fn median(values: impl IntoIterator<Item = f64>) -> f64 {
    percentile(values, 50)
}

/// The value that this many per cent of all are not above.
pub(crate) fn percentile(values: impl IntoIterator<Item = f64>, percent: usize) -> f64 {
    let mut sorted: Vec<f64> = values.into_iter().collect();
    sorted.sort_by(f64::total_cmp);
    let index = (sorted.len() * percent).div_ceil(100).saturating_sub(1);
    sorted.get(index).copied().unwrap_or(f64::NAN)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_percentile_is_one_of_the_values() {
        let values: Vec<f64> = (1..=100).map(f64::from).collect();

        assert!((percentile(values.clone(), 50) - 50.0).abs() < f64::EPSILON);
        assert!((percentile(values, 99) - 99.0).abs() < f64::EPSILON);
    }

    #[test]
    fn the_median_of_three_is_the_middle_one() {
        assert!((median([3.0, 1.0, 2.0]) - 2.0).abs() < f64::EPSILON);
    }
}
