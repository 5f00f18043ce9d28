//! The facade's examples: each is run to its end, in an empty folder.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

use crate::{cargo, databases};

/// How long one example may run.
const TIME_LIMIT: Duration = Duration::from_secs(60);

/// Examples that need a database, and the variable that they read its URL from.
const NEEDS: &[(&str, &str)] = &[("axum_app", "JOBRUNR_TEST_POSTGRES_URL")];

/// Builds the facade's examples and runs each; those whose database is not there are passed over, and that is told.
///
/// # Errors
/// If one does not build, does not end well, or does not end.
pub(crate) fn run_all(root: &Path) -> Result<()> {
    let arguments = ["build", "--workspace", "--all-features", "--examples"];
    let messages =
        cargo::output(root, &[arguments.as_slice(), &["--message-format=json-render-diagnostics"]].concat())?;
    let examples: Vec<_> = messages.lines().filter_map(example).collect();
    ensure!(!examples.is_empty(), "there is no example");
    let databases = databases::environment(root);
    for (name, program) in examples {
        if let Some(variable) = missing(&name, &databases) {
            println!("    example {name} SKIPPED: {variable} is not set, and no such database runs");
            continue;
        }
        println!("    example {name}");
        run(&name, Command::new(program).envs(databases.iter().cloned()), TIME_LIMIT)?;
    }
    Ok(())
}

/// The variable of the database that an example needs and that is not there.
fn missing(example: &str, databases: &[(&str, String)]) -> Option<&'static str> {
    let (_, needed) = NEEDS.iter().find(|(name, _)| *name == example)?;
    let is_there = databases.iter().any(|(variable, _)| variable == needed);
    (!is_there).then_some(*needed)
}

/// Name and program of an example, if this is cargo's message that it was built.
fn example(message: &str) -> Option<(String, PathBuf)> {
    let message: Value = serde_json::from_str(message).ok()?;
    let is_example = message["target"]["kind"].as_array()?.iter().any(|kind| kind == "example");
    let name = message["target"]["name"].as_str().filter(|_| is_example)?;
    Some((name.to_owned(), PathBuf::from(message["executable"].as_str()?)))
}

fn run(name: &str, program: &mut Command, limit: Duration) -> Result<()> {
    let folder = std::env::temp_dir().join(format!("jobrunr-example-{name}-{}", std::process::id()));
    std::fs::create_dir_all(&folder).with_context(|| format!("no folder {} ", folder.display()))?;
    let end = run_in(&folder, program, limit).with_context(|| format!("example {name}"));
    std::fs::remove_dir_all(&folder).with_context(|| format!("{} could not be removed", folder.display()))?;
    end
}

fn run_in(folder: &Path, program: &mut Command, limit: Duration) -> Result<()> {
    let mut child = program.current_dir(folder).stdin(Stdio::null()).stdout(Stdio::piped()).spawn()?;
    let mut output = child.stdout.take().context("no output")?;
    let (ended, end) = mpsc::channel();
    // The output ends when the program does; waiting for that can be given a limit, waiting for the program cannot.
    let reader = std::thread::spawn(move || {
        let mut text = String::new();
        let read = output.read_to_string(&mut text);
        // The receiver is gone only if the time is up.
        let _ = ended.send(());
        read.map(|_| text)
    });
    let is_late = end.recv_timeout(limit).is_err();
    if is_late {
        child.kill()?;
    }
    let status = child.wait()?;
    let text = reader.join().map_err(|_| anyhow::anyhow!("the reader panicked"))??;
    for line in text.lines() {
        println!("      {line}");
    }
    ensure!(!is_late, "still running after {limit:?}");
    if !status.success() {
        bail!("ended with {status}");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_message_about_a_built_example_is_taken() {
        let built = r#"{"reason":"compiler-artifact","target":{"kind":["example"],"name":"quickstart"},"executable":"/t/q"}"#;
        let library =
            r#"{"reason":"compiler-artifact","target":{"kind":["lib"],"name":"a"},"executable":null}"#;

        assert_eq!(example(built), Some(("quickstart".to_owned(), PathBuf::from("/t/q"))));
        assert_eq!(example(library), None);
        assert_eq!(example("warning: not json"), None);
    }

    #[test]
    fn an_example_whose_database_is_not_there_is_told_from_one_that_needs_none() {
        let databases = [("JOBRUNR_TEST_POSTGRES_URL", "postgres://h/d".to_owned())];

        assert_eq!(missing("axum_app", &[]), Some("JOBRUNR_TEST_POSTGRES_URL"));
        assert_eq!(missing("axum_app", &databases), None);
        assert_eq!(missing("quickstart", &[]), None);
    }

    #[cfg(unix)]
    #[test]
    fn a_program_that_fails_is_told_from_one_that_does_not() {
        assert!(run("true", &mut Command::new("true"), TIME_LIMIT).is_ok());
        let failed = run("false", &mut Command::new("false"), TIME_LIMIT).unwrap_err();
        assert!(format!("{failed:#}").contains("example false: ended with"), "{failed:#}");
    }

    #[cfg(unix)]
    #[test]
    fn a_program_that_does_not_end_is_ended() {
        let mut endless = Command::new("tail");
        endless.args(["-f", "/dev/null"]);

        let late = run("endless", &mut endless, Duration::from_millis(100)).unwrap_err();

        assert!(format!("{late:#}").contains("still running after 100ms"), "{late:#}");
    }
}
