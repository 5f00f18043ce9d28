//! The list of steps that make up the gate.

use std::path::Path;

use anyhow::{Context, Result, bail};

use crate::gate::{Outcome, Step};
use crate::{arrows, backends, cargo, databases, examples, facade, features, pages, supply, workspace};

/// Every step, cheap ones first. All that build the workspace do it with the same features, so that they share their work.
pub(crate) const ALL: &[Step] = &[
    Step { name: "fmt", what: "the code is formatted", is_fast: true, run: fmt },
    Step { name: "arrows", what: "crates depend only on those they may", is_fast: true, run: arrows },
    Step {
        name: "supply",
        what: "licences, and packages that must be there once",
        is_fast: true,
        run: supply,
    },
    Step { name: "pages", what: "what the pages name is there", is_fast: true, run: pages },
    Step {
        name: "backends",
        what: "docs/backends.md tells what the code says",
        is_fast: true,
        run: backends,
    },
    Step {
        name: "ticks",
        what: "a feature without a test has no tick in the README",
        is_fast: true,
        run: ticks,
    },
    Step { name: "clippy", what: "no lint complains", is_fast: true, run: clippy },
    Step { name: "tests", what: "every test passes", is_fast: true, run: tests },
    Step { name: "doctests", what: "every example in the documentation runs", is_fast: false, run: doctests },
    Step {
        name: "examples",
        what: "every example of the facade runs to its end",
        is_fast: false,
        run: examples,
    },
    Step { name: "docs", what: "the documentation builds without a warning", is_fast: false, run: docs },
    Step { name: "features", what: "each feature of the facade builds alone", is_fast: false, run: features },
    Step { name: "deny", what: "advisories and sources, by cargo-deny", is_fast: false, run: deny },
];

const WORKSPACE: [&str; 2] = ["--workspace", "--all-features"];

fn fmt(root: &Path) -> Result<Outcome> {
    // The names of the files are enough: `cargo fmt --all` mends them.
    cargo::run(root, &["fmt", "--all", "--check", "--", "-l"])?;
    Ok(Outcome::Passed)
}

fn clippy(root: &Path) -> Result<Outcome> {
    let arguments = [["clippy"].as_slice(), &WORKSPACE, &["--all-targets", "--", "-D", "warnings"]].concat();
    cargo::run(root, &arguments)?;
    Ok(Outcome::Passed)
}

fn docs(root: &Path) -> Result<Outcome> {
    let mut command = cargo::command(root);
    command.env("RUSTDOCFLAGS", "-D warnings").arg("doc").args(WORKSPACE).arg("--no-deps");
    cargo::run_command(&mut command)?;
    Ok(Outcome::Passed)
}

fn arrows(root: &Path) -> Result<Outcome> {
    pass_without(&arrows::violations(&workspace::members(root)?))
}

fn supply(root: &Path) -> Result<Outcome> {
    let deny_toml = std::fs::read_to_string(root.join("deny.toml")).context("deny.toml")?;
    pass_without(&supply::violations(&deny_toml, &workspace::packages(root)?)?)
}

fn pages(root: &Path) -> Result<Outcome> {
    pass_without(&pages::violations(root)?)
}

fn backends(root: &Path) -> Result<Outcome> {
    pass_without(&backends::violations(root)?)
}

fn ticks(root: &Path) -> Result<Outcome> {
    pass_without(&features::violations(root)?)
}

fn features(root: &Path) -> Result<Outcome> {
    facade::check_each_feature_alone(root)?;
    Ok(Outcome::Passed)
}

fn tests(root: &Path) -> Result<Outcome> {
    // Tests whose database is not there skip loudly, or fail where that is asked for: they decide, not this step.
    databases::with_all(root, || run_tests(root))
}

fn run_tests(root: &Path) -> Result<Outcome> {
    let mut command = cargo::command(root);
    command.envs(databases::environment(root));
    if cargo::has(root, "nextest") {
        command.args(["nextest", "run", "--no-fail-fast"]).args(WORKSPACE);
    } else {
        println!("    cargo-nextest is not installed; `cargo test` does it, more slowly");
        command.arg("test").args(WORKSPACE).args(["--no-fail-fast", "--lib", "--bins", "--tests"]);
    }
    cargo::run_command(&mut command)?;
    Ok(Outcome::Passed)
}

fn doctests(root: &Path) -> Result<Outcome> {
    cargo::run(root, &[["test", "--doc"].as_slice(), &WORKSPACE].concat())?;
    Ok(Outcome::Passed)
}

fn examples(root: &Path) -> Result<Outcome> {
    databases::with_all(root, || examples::run_all(root))?;
    Ok(Outcome::Passed)
}

fn deny(root: &Path) -> Result<Outcome> {
    if !cargo::has(root, "deny") {
        return Ok(Outcome::Skipped(
            "cargo-deny is not installed, so nobody looked for advisories; `cargo install cargo-deny` does it"
                .to_owned(),
        ));
    }
    cargo::run(root, &["deny", "--workspace", "check"])?;
    Ok(Outcome::Passed)
}

fn pass_without(violations: &[String]) -> Result<Outcome> {
    for violation in violations {
        println!("    {violation}");
    }
    match violations {
        [] => Ok(Outcome::Passed),
        [only] => bail!("{only}"),
        [first, rest @ ..] => bail!("{first}, and {} more", rest.len()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_step_has_a_name_of_its_own() {
        let mut names: Vec<_> = ALL.iter().map(|step| step.name).collect();
        names.sort_unstable();
        names.dedup();

        assert_eq!(names.len(), ALL.len());
    }

    #[test]
    fn violations_fail_a_step_and_the_first_is_named() {
        assert_eq!(pass_without(&[]).unwrap(), Outcome::Passed);
        let error = pass_without(&["a".to_owned(), "b".to_owned()]).unwrap_err();
        assert_eq!(error.to_string(), "a, and 1 more");
    }
}
