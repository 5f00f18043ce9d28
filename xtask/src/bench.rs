//! `cargo xtask bench`: makes the server that a benchmark needs available, and runs the benchmark in release.

use std::ffi::OsString;
use std::path::Path;

use anyhow::{Context, Result, bail};

use crate::{cargo, databases};

/// The benchmarks that need a server, and the name of it among `cargo xtask databases`.
const NEEDED: &[(&str, &str)] = &[
    ("postgres", "postgres"),
    ("mysql", "mariadb"),
    ("peers", "postgres"),
    ("mongo", "mongo"),
    ("redis", "redis"),
];

/// Where the comparison with other libraries is; a package by itself, because of all that they depend on.
const PEERS: &str = "jobrunr-bench/peers/Cargo.toml";

/// Runs the benchmark that is named first; tells whether it went well. A server that was started for it is stopped after it.
///
/// # Errors
/// If the server cannot be started, or cargo.
pub(crate) fn run(root: &Path, arguments: &[OsString]) -> Result<bool> {
    let name = arguments.first().and_then(|name| name.to_str()).unwrap_or_default();
    let needed = NEEDED.iter().find(|(benchmark, _)| *benchmark == name).map(|(_, database)| *database);
    let before = databases::environment(root);
    if let Some(database) = needed
        && !databases::run(root, &words(&["up", database]))?
    {
        bail!("the benchmark needs {database}");
    }
    let environment = databases::environment(root);
    let mut command = cargo::command(root);
    command.envs(environment.clone()).args(["run", "--release"]);
    if name == "peers" {
        command.args(["--manifest-path", PEERS]);
        if std::env::var_os("CARGO_TARGET_DIR").is_none() {
            command.arg("--target-dir").arg(root.join("target"));
        }
        command.arg("--").args(&arguments[1..]);
    } else {
        command.args(["--package", "jobrunr-bench", "--"]).args(arguments);
    }
    let status = command.status().context("cargo could not be started")?;
    if let Some(database) = needed.filter(|_| environment.len() > before.len()) {
        databases::run(root, &words(&["down", database]))?;
    }
    Ok(status.success())
}

fn words(words: &[&str]) -> Vec<OsString> {
    words.iter().map(OsString::from).collect()
}
