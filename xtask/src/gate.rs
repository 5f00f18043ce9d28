//! Runs steps one after the other, times them, and says at the end what came of each.

use std::fmt;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::Result;

/// One step of the gate.
#[derive(Debug)]
pub(crate) struct Step {
    /// What it is called on the command line.
    pub(crate) name: &'static str,
    /// What it checks.
    pub(crate) what: &'static str,
    /// Whether it is worth running before every commit.
    pub(crate) is_fast: bool,
    /// Runs it in the folder of the workspace; an error fails it.
    pub(crate) run: fn(&Path) -> Result<Outcome>,
}

/// How a step ended that did not fail.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// Everything it checks holds.
    Passed,
    /// It could not run, for this reason.
    Skipped(String),
}

#[derive(Debug, PartialEq, Eq)]
enum Verdict {
    Passed,
    Skipped(String),
    Failed(String),
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Passed => write!(f, "passed"),
            Self::Skipped(reason) => write!(f, "SKIPPED: {reason}"),
            Self::Failed(why) => write!(f, "FAILED: {why}"),
        }
    }
}

/// Runs every step, also after one failed; tells whether none did.
pub(crate) fn run<'a>(steps: impl IntoIterator<Item = &'a Step>, root: &Path) -> bool {
    let start = Instant::now();
    let mut verdicts = Vec::new();
    for step in steps {
        println!("\n==> {}: {}", step.name, step.what);
        let step_start = Instant::now();
        let verdict = match (step.run)(root) {
            Ok(Outcome::Passed) => Verdict::Passed,
            Ok(Outcome::Skipped(reason)) => Verdict::Skipped(reason),
            Err(error) => Verdict::Failed(format!("{error:#}")),
        };
        let took = step_start.elapsed();
        println!("<== {}: {verdict} ({:.1} s)", step.name, took.as_secs_f64());
        verdicts.push((step.name, verdict, took));
    }
    let (lines, is_good) = summary(&verdicts, start.elapsed());
    println!("\n{lines}");
    is_good
}

fn summary(verdicts: &[(&str, Verdict, Duration)], took: Duration) -> (String, bool) {
    let (mut passed, mut skipped, mut failed) = (0, 0, 0);
    let mut lines = String::new();
    for (name, verdict, took) in verdicts {
        match verdict {
            Verdict::Passed => passed += 1,
            Verdict::Skipped(_) => skipped += 1,
            Verdict::Failed(_) => failed += 1,
        }
        let text = verdict.to_string();
        let first_line = text.lines().next().unwrap_or_default();
        lines += &format!("{name:<10} {:>7.1} s  {first_line}\n", took.as_secs_f64());
    }
    lines += &format!(
        "steps: {passed} passed, {failed} failed, {skipped} skipped, in {:.1} s",
        took.as_secs_f64()
    );
    (lines, failed == 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verdict(name: &'static str, verdict: Verdict) -> (&'static str, Verdict, Duration) {
        (name, verdict, Duration::from_secs(1))
    }

    #[test]
    fn one_failed_step_fails_the_gate_and_is_named() {
        let verdicts =
            [verdict("fmt", Verdict::Passed), verdict("tests", Verdict::Failed("exit code 1".into()))];

        let (lines, is_good) = summary(&verdicts, Duration::from_secs(2));

        assert!(!is_good);
        assert!(lines.contains("tests          1.0 s  FAILED: exit code 1"), "{lines}");
        assert!(lines.ends_with("steps: 1 passed, 1 failed, 0 skipped, in 2.0 s"), "{lines}");
    }

    #[test]
    fn a_skipped_step_is_not_counted_as_passed() {
        let verdicts = [verdict("deny", Verdict::Skipped("not installed".into()))];

        let (lines, is_good) = summary(&verdicts, Duration::ZERO);

        assert!(is_good);
        assert!(lines.contains("SKIPPED: not installed") && lines.contains("0 passed, 0 failed, 1 skipped"));
    }

    #[test]
    fn steps_after_a_failed_one_run_too() {
        use std::sync::atomic::{AtomicUsize, Ordering};
        static RUNS: AtomicUsize = AtomicUsize::new(0);
        let failing = Step {
            name: "first",
            what: "fails",
            is_fast: true,
            run: |_| {
                RUNS.fetch_add(1, Ordering::Relaxed);
                anyhow::bail!("no")
            },
        };
        let passing = Step {
            name: "second",
            what: "passes",
            is_fast: true,
            run: |_| {
                RUNS.fetch_add(1, Ordering::Relaxed);
                Ok(Outcome::Passed)
            },
        };

        assert!(!run([&failing, &passing], Path::new(".")));
        assert_eq!(RUNS.load(Ordering::Relaxed), 2);
    }
}
