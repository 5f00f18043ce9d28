//! Figures: medians and percentiles, the table on the terminal, the JSON file.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context;

/// Jobs a second.
#[expect(clippy::cast_precision_loss, reason = "a count of jobs is far below 2^52")]
pub(crate) fn per_second(jobs: usize, elapsed: Duration) -> f64 {
    jobs as f64 / elapsed.as_secs_f64()
}

/// How much of `part` there is for each of `whole`.
#[expect(clippy::cast_precision_loss, reason = "counts of statements, bytes and jobs are far below 2^52")]
pub(crate) fn ratio(part: u64, whole: usize) -> f64 {
    part as f64 / whole as f64
}

/// The mean of some values.
#[expect(clippy::cast_precision_loss, reason = "there are few of them")]
pub(crate) fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}

/// The median of the ratios of what was measured by turns: what slows down one turn of a machine slows down the next.
pub(crate) fn median_ratio(ours: &[f64], theirs: &[f64]) -> f64 {
    let ratios: Vec<f64> = ours.iter().zip(theirs).map(|(ours, theirs)| ours / theirs).collect();
    median(&ratios)
}

/// The value that half of the others are below.
pub(crate) fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted.get(sorted.len() / 2).copied().unwrap_or(f64::NAN)
}

/// The value, in milliseconds, that this many per cent of the microseconds are not above.
#[expect(clippy::cast_precision_loss, reason = "latencies in microseconds are far below 2^52")]
pub(crate) fn percentile_ms(micros: &[i64], percent: usize) -> f64 {
    let mut sorted = micros.to_vec();
    sorted.sort_unstable();
    let index = (sorted.len() * percent).div_ceil(100).saturating_sub(1);
    sorted.get(index).map_or(f64::NAN, |value| *value as f64 / 1_000.0)
}

/// The figures of one database, in the order they were measured.
#[derive(Debug)]
pub(crate) struct Report {
    database: &'static str,
    figures: Vec<(String, f64)>,
}

impl Report {
    pub(crate) const fn new(database: &'static str) -> Self {
        Self { database, figures: Vec::new() }
    }

    /// Adds a figure and prints it.
    pub(crate) fn add(&mut self, key: impl Into<String>, value: f64) {
        let key = key.into();
        println!("{key:<36} {}", readable(value));
        self.figures.push((key, value));
    }

    /// Writes all figures to `target/bench/<database>.json` and returns the path.
    pub(crate) fn write(&self, former: Former) -> anyhow::Result<PathBuf> {
        let folder = target_folder()?.join("bench");
        std::fs::create_dir_all(&folder)?;
        let path = folder.join(format!("{}.json", self.database));
        let mut figures: BTreeMap<String, f64> = match former {
            Former::Stay if path.exists() => serde_json::from_slice(&std::fs::read(&path)?)?,
            Former::Stay | Former::Go => BTreeMap::new(),
        };
        figures.extend(self.figures.iter().cloned());
        std::fs::write(&path, serde_json::to_string_pretty(&figures)? + "\n")?;
        Ok(path)
    }
}

/// What becomes of figures that were written before and not measured now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Former {
    Stay,
    Go,
}

fn readable(value: f64) -> String {
    if value.abs() >= 1_000.0 { format!("{value:.0}") } else { format!("{value:.3}") }
}

/// Where cargo builds to: the folder that this program was built into.
pub(crate) fn target_folder() -> anyhow::Result<PathBuf> {
    let program = std::env::current_exe()?;
    let profile = program.parent().context("a program lies in a folder")?;
    Ok(profile.parent().context("cargo builds to target/<profile>")?.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_percentile_is_one_of_the_values() {
        let micros: Vec<i64> = (1..=100).map(|number| number * 1_000).collect();

        assert!((percentile_ms(&micros, 50) - 50.0).abs() < f64::EPSILON);
        assert!((percentile_ms(&micros, 99) - 99.0).abs() < f64::EPSILON);
    }

    #[test]
    fn the_median_of_three_is_the_middle_one() {
        assert!((median(&[3.0, 1.0, 2.0]) - 2.0).abs() < f64::EPSILON);
    }
}
