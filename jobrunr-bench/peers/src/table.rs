//! The outcomes as a table, and as a file. Ratios say how many times better the first one, ours, is.

use std::path::PathBuf;

use anyhow::{Context, Result};
use serde_json::{Map, Value, json};

use crate::contest::Outcome;

/// How many times better ours is than another one: 1 = level, 2 = twice as fast.
struct Ratios {
    drain: f64,
    bulk: f64,
    latency: f64,
}

impl Ratios {
    fn of(ours: &Outcome, other: &Outcome) -> Self {
        Self {
            drain: ours.drain_jobs_per_s / other.drain_jobs_per_s,
            bulk: ours.enqueue_bulk_per_s / other.enqueue_bulk_per_s,
            latency: other.idle_latency_p50_ms / ours.idle_latency_p50_ms,
        }
    }
}

/// Prints the table, in the form that pages show it in.
pub(crate) fn print(outcomes: &[Outcome]) {
    println!(
        "\n| library | finished jobs | drain, jobs/s | ours is | bulk, jobs/s | ours is | latency p50 / p99, ms | ours is |"
    );
    println!("|---|---|---:|---:|---:|---:|---:|---:|");
    for outcome in outcomes {
        let ratios = Ratios::of(&outcomes[0], outcome);
        println!(
            "| {} {} | {} | {} | {:.1} × | {} | {:.1} × | {:.1} / {:.1} | {:.1} × |",
            outcome.name,
            outcome.version,
            outcome.rows.word(),
            thousands(outcome.drain_jobs_per_s),
            ratios.drain,
            thousands(outcome.enqueue_bulk_per_s),
            ratios.bulk,
            outcome.idle_latency_p50_ms,
            outcome.idle_latency_p99_ms,
            ratios.latency,
        );
    }
    println!();
    for outcome in outcomes {
        println!("{}: {}", outcome.name, outcome.settings);
    }
}

/// Writes the figures to `target/bench/peers.json` and returns the path.
pub(crate) fn write(outcomes: &[Outcome]) -> Result<PathBuf> {
    let program = std::env::current_exe()?;
    let profile = program.parent().context("a program lies in a folder")?;
    let folder = profile.parent().context("cargo builds to target/<profile>")?.join("bench");
    std::fs::create_dir_all(&folder)?;
    let path = folder.join("peers.json");
    std::fs::write(&path, serde_json::to_string_pretty(&json(outcomes))? + "\n")?;
    Ok(path)
}

fn json(outcomes: &[Outcome]) -> Value {
    let of_one = |outcome: &Outcome| {
        let ratios = Ratios::of(&outcomes[0], outcome);
        json!({
            "version": outcome.version,
            "finished_jobs": outcome.rows.word(),
            "settings": outcome.settings,
            "drain_jobs_per_s": outcome.drain_jobs_per_s,
            "enqueue_bulk_per_s": outcome.enqueue_bulk_per_s,
            "idle_latency_p50_ms": outcome.idle_latency_p50_ms,
            "idle_latency_p99_ms": outcome.idle_latency_p99_ms,
            "ours_drain_ratio": ratios.drain,
            "ours_enqueue_bulk_ratio": ratios.bulk,
            "ours_idle_latency_ratio": ratios.latency,
        })
    };
    Value::Object(
        outcomes.iter().map(|outcome| (outcome.name.to_owned(), of_one(outcome))).collect::<Map<_, _>>(),
    )
}

/// A whole number with a space between its thousands.
fn thousands(value: f64) -> String {
    let digits = format!("{value:.0}");
    let mut shown = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            shown.push(' ');
        }
        shown.push(digit);
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::peer::Rows;

    fn outcome(name: &'static str, speed: f64, latency: f64) -> Outcome {
        Outcome {
            name,
            version: "1.0.0",
            rows: Rows::Kept,
            settings: "",
            drain_jobs_per_s: speed,
            enqueue_bulk_per_s: speed,
            idle_latency_p50_ms: latency,
            idle_latency_p99_ms: latency,
        }
    }

    #[test]
    fn a_ratio_above_one_means_that_ours_is_better() {
        let ratios = Ratios::of(&outcome("ours", 20.0, 3.0), &outcome("other", 10.0, 9.0));

        assert!((ratios.drain - 2.0).abs() < f64::EPSILON);
        assert!((ratios.bulk - 2.0).abs() < f64::EPSILON);
        assert!((ratios.latency - 3.0).abs() < f64::EPSILON);
    }

    #[test]
    fn thousands_are_parted() {
        assert_eq!(thousands(1_234_567.4), "1 234 567");
        assert_eq!(thousands(999.6), "1 000");
        assert_eq!(thousands(12.0), "12");
    }
}
