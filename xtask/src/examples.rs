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

/// What each example must have told when it ends, line by line; only the beginnings, if times or ids follow.
const TELLS: &[(&str, &[&str])] = &[
    (
        "axum_app",
        &[
            "client: ordered a book, it is order 1",
            "client: ordered nothing, and was refused (422); there are 1 order and 1 job",
            "job:    order 1 is confirmed",
            "client: order 1 is confirmed",
            "client: the server is UP (200)",
        ],
    ),
    (
        "custom_storage",
        &["Greet Ada: 3 states since ", "Greet Grace: 3 states since ", "Greet Barbara: 3 states since "],
    ),
    (
        "external_jobs",
        &[
            "approved: a text about Rust",
            "declined: a text about tea, so it is written anew",
            "declined after it was approved: 409",
            "text:  Rust is good, & that's <b>bold</b> to say.",
            "text:  Tea is very good, & that's <b>bold</b> to say.",
            "film:  https://films.example.org/a-cat-on-a-train.mp4",
        ],
    ),
    (
        "graceful_shutdown",
        &[
            "quick      ENQUEUED → PROCESSING by first → SUCCEEDED",
            "polite     ENQUEUED → PROCESSING by first → ENQUEUED (the server stopped) → PROCESSING by second → SUCCEEDED",
            "stubborn   ENQUEUED → PROCESSING by first → ENQUEUED (the server stopped) → PROCESSING by second → SUCCEEDED",
            "waiting 1  ENQUEUED → PROCESSING by first → ENQUEUED (the server stopped) → PROCESSING by second → SUCCEEDED",
            "waiting 6  ENQUEUED → PROCESSING by second → SUCCEEDED",
        ],
    ),
    ("quickstart", &["  SUCCEEDED     5", "  FAILED        1"]),
    (
        "recurring",
        &[
            "  report of sales        tick none, it was triggered",
            "  slow: begins           tick ",
            "  slow: ends             tick ",
            "  beat                   tick ",
            "What is left:",
            "Without the beat:",
        ],
    ),
    (
        "testing",
        &[
            "  Remind ada@example.org (attempt 1) SUCCEEDED",
            "  Welcome busy@example.org (attempt 2) SUCCEEDED",
            "no ENQUEUED job is WelcomeJob { email: \"grace@example.org\" }; of the type `welcome` there are:",
            "  ENQUEUED    welcome  {\"email\":\"ada@example.org\"}",
        ],
    ),
];

/// What the head of each example says, besides how it is run.
const SEEN: &str = "One sees";

/// The variable that says that everything has to run.
const REQUIRE_ALL: &str = "JOBRUNR_TEST_REQUIRE_ALL";

/// What becomes of an example whose database is not there.
#[derive(Clone, Copy)]
enum WithoutDatabase {
    PassedOver,
    Failed,
}

/// Builds the facade's examples, runs each, and looks at what it tells. One whose database is not there is passed over, which
/// is told, or fails where everything is required.
///
/// # Errors
/// If one does not say how it is run and what one sees, does not build, does not end well, does not end, or does not tell what
/// it should.
pub(crate) fn run_all(root: &Path) -> Result<()> {
    for (name, _) in TELLS {
        if let Some(words) = missing_in_head(name, &source(root, name)?) {
            bail!("the head of example {name} does not say `{words}`");
        }
    }
    let arguments = ["build", "--workspace", "--all-features", "--examples"];
    let messages =
        cargo::output(root, &[arguments.as_slice(), &["--message-format=json-render-diagnostics"]].concat())?;
    let mut examples: Vec<_> = messages.lines().filter_map(example).collect();
    examples.sort();
    let built: Vec<&str> = examples.iter().map(|(name, _)| name.as_str()).collect();
    let expected: Vec<&str> = TELLS.iter().map(|(name, _)| *name).collect();
    ensure!(
        built == expected,
        "there are the examples {built:?}, but what they tell is known of {expected:?}"
    );
    let databases = databases::environment(root);
    let is_required = std::env::var(REQUIRE_ALL).is_ok_and(|value| value == "1");
    let without_database = if is_required { WithoutDatabase::Failed } else { WithoutDatabase::PassedOver };
    for (name, program) in examples {
        if let Some(variable) = missing(&name, &databases) {
            pass_over(&name, variable, without_database)?;
            continue;
        }
        println!("    example {name}");
        let told = run(&name, Command::new(program).envs(databases.iter().cloned()), TIME_LIMIT)?;
        if let Some(line) = untold(&name, &told) {
            bail!("example {name} does not tell `{line}`");
        }
    }
    Ok(())
}

/// The first line that an example should have told and has not.
fn untold(example: &str, told: &str) -> Option<&'static str> {
    let expected = TELLS.iter().find(|(name, _)| *name == example).map_or(&[][..], |(_, lines)| *lines);
    expected.iter().copied().find(|line| !told.lines().any(|told| told.starts_with(line)))
}

/// The variable of the database that an example needs and that is not there.
fn missing(example: &str, databases: &[(&str, String)]) -> Option<&'static str> {
    let (_, needed) = NEEDS.iter().find(|(name, _)| *name == example)?;
    let is_there = databases.iter().any(|(variable, _)| variable == needed);
    (!is_there).then_some(*needed)
}

/// Tells that an example does not run because of this variable, or fails.
fn pass_over(example: &str, variable: &str, without_database: WithoutDatabase) -> Result<()> {
    let why = format!("{variable} is not set, and no such database runs");
    match without_database {
        WithoutDatabase::PassedOver => println!("    example {example} SKIPPED: {why}"),
        WithoutDatabase::Failed => bail!("example {example} has to run ({REQUIRE_ALL}=1): {why}"),
    }
    Ok(())
}

/// The text of an example, which is one file or the first of a folder.
fn source(root: &Path, example: &str) -> Result<String> {
    let folder = root.join("jobrunr/examples");
    let one_file = folder.join(format!("{example}.rs"));
    let file = if one_file.exists() { one_file } else { folder.join(example).join("main.rs") };
    std::fs::read_to_string(&file).with_context(|| file.display().to_string())
}

/// What the head of an example should say and does not: how it is run, and what one sees.
fn missing_in_head(example: &str, text: &str) -> Option<String> {
    let head: Vec<&str> = text.lines().take_while(|line| line.starts_with("//!")).collect();
    let said = |words: &String| head.iter().any(|line| line.contains(words.as_str()));
    [format!("--example {example}"), SEEN.to_owned()].into_iter().find(|words| !said(words))
}

/// Name and program of an example, if this is cargo's message that it was built.
fn example(message: &str) -> Option<(String, PathBuf)> {
    let message: Value = serde_json::from_str(message).ok()?;
    let is_example = message["target"]["kind"].as_array()?.iter().any(|kind| kind == "example");
    let name = message["target"]["name"].as_str().filter(|_| is_example)?;
    Some((name.to_owned(), PathBuf::from(message["executable"].as_str()?)))
}

/// What the program tells until it ends well.
fn run(name: &str, program: &mut Command, limit: Duration) -> Result<String> {
    let folder = std::env::temp_dir().join(format!("jobrunr-example-{name}-{}", std::process::id()));
    std::fs::create_dir_all(&folder).with_context(|| format!("no folder {} ", folder.display()))?;
    let end = run_in(&folder, program, limit).with_context(|| format!("example {name}"));
    std::fs::remove_dir_all(&folder).with_context(|| format!("{} could not be removed", folder.display()))?;
    end
}

fn run_in(folder: &Path, program: &mut Command, limit: Duration) -> Result<String> {
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
    Ok(text)
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

    #[test]
    fn a_line_that_an_example_does_not_tell_is_named() {
        assert_eq!(untold("quickstart", "  SUCCEEDED     5\n  FAILED        1"), None);
        assert_eq!(untold("quickstart", "  SUCCEEDED     6"), Some("  SUCCEEDED     5"));
    }

    #[test]
    fn every_example_begins_with_how_it_is_run_and_what_one_sees() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();

        for (name, _) in TELLS {
            assert_eq!(missing_in_head(name, &source(root, name).unwrap()), None, "{name}");
        }
    }

    #[test]
    fn a_head_that_leaves_out_how_or_what_is_found() {
        let whole = "//! Jobs.\n//!\n//! cargo run --example jobs\n//!\n//! One sees jobs.\n\nfn main() {}\n";

        assert_eq!(missing_in_head("jobs", whole), None);
        assert_eq!(missing_in_head("others", whole).as_deref(), Some("--example others"));
        let elsewhere = whole.replace("//! One sees", "/// One sees");
        assert_eq!(missing_in_head("jobs", &elsewhere).as_deref(), Some(SEEN));
    }

    #[test]
    fn an_example_without_its_database_fails_where_everything_is_required() {
        assert!(pass_over("axum_app", "URL", WithoutDatabase::PassedOver).is_ok());
        let failed = pass_over("axum_app", "URL", WithoutDatabase::Failed).unwrap_err();
        assert!(failed.to_string().contains("example axum_app has to run"), "{failed}");
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
