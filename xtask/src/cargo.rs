//! Calls cargo.

use std::ffi::{OsStr, OsString};
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

/// A call of the cargo that runs this program, in this folder.
pub(crate) fn command(root: &Path) -> Command {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| OsString::from("cargo"));
    let mut command = Command::new(cargo);
    command.current_dir(root);
    command
}

/// Runs cargo with these arguments.
///
/// # Errors
/// If it does not end well; what it printed has been seen by then.
pub(crate) fn run(root: &Path, arguments: &[&str]) -> Result<()> {
    run_command(command(root).args(arguments))
}

/// Runs a command that was put together elsewhere.
///
/// # Errors
/// As [`run`].
pub(crate) fn run_command(command: &mut Command) -> Result<()> {
    let shown = shown(command);
    println!("    {shown}");
    let status = command.status().with_context(|| format!("`{shown}` could not be started"))?;
    if !status.success() {
        bail!("`{shown}` ended with {status}");
    }
    Ok(())
}

/// What cargo prints to its standard output with these arguments.
///
/// # Errors
/// If it does not end well; its own words have been printed by then.
pub(crate) fn output(root: &Path, arguments: &[&str]) -> Result<String> {
    let mut command = command(root);
    command.args(arguments).stderr(Stdio::inherit());
    let shown = shown(&command);
    let output = command.output().with_context(|| format!("`{shown}` could not be started"))?;
    if !output.status.success() {
        bail!("`{shown}` ended with {}", output.status);
    }
    String::from_utf8(output.stdout).with_context(|| format!("`{shown}` did not print text"))
}

/// Whether a subcommand of cargo is installed.
pub(crate) fn has(root: &Path, subcommand: &str) -> bool {
    let mut command = command(root);
    command.args([subcommand, "--version"]).stdout(Stdio::null()).stderr(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}

fn shown(command: &Command) -> String {
    let program = Path::new(command.get_program()).file_stem().unwrap_or_default();
    let words: Vec<_> =
        std::iter::once(program).chain(command.get_args()).map(OsStr::to_string_lossy).collect();
    words.join(" ")
}
