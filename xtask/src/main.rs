#![doc = include_str!("../README.md")]

mod arrows;
mod backends;
mod bench;
mod cargo;
mod databases;
mod examples;
mod facade;
mod features;
mod gate;
mod pages;
mod steps;
mod supply;
mod workspace;

use std::ffi::OsString;
use std::process::ExitCode;

use anyhow::{Result, bail};

const USAGE: &str = "\
Development tasks of JobRunr for Rust.

  cargo xtask test [--fast] [STEP…]   run the gate, or its fast steps, or the steps named
  cargo xtask bench DATABASE …        run a benchmark in release; see `cargo xtask bench --help`
  cargo xtask --help                  show this
";

const VARIABLES: &str = "\
JOBRUNR_TEST_REQUIRE_ALL=1 makes a test or an example fail whose database is not there, instead of skipping it.
";

fn main() -> ExitCode {
    match run(std::env::args_os().skip(1).collect()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::from(2)
        }
    }
}

/// Does what the command line says; tells whether it went well.
fn run(mut arguments: Vec<OsString>) -> Result<bool> {
    if arguments.is_empty() {
        print_help();
        return Ok(false);
    }
    match arguments.remove(0).to_str() {
        Some("--help" | "-h" | "help") => {
            print_help();
            Ok(true)
        }
        Some("test") => test(&arguments),
        Some("databases") => databases::run(&workspace::root()?, &arguments),
        Some("bench") => bench::run(&workspace::root()?, &arguments),
        _ => bail!("no such command; see `cargo xtask --help`"),
    }
}

fn test(arguments: &[OsString]) -> Result<bool> {
    let mut fast = false;
    let mut named = Vec::new();
    for argument in arguments {
        match argument.to_str() {
            Some("--help" | "-h") => {
                print_help();
                return Ok(true);
            }
            Some("--fast") => fast = true,
            Some(name) if steps::ALL.iter().any(|step| step.name == name) => named.push(name),
            _ => bail!("there is no step {argument:?}; see `cargo xtask --help`"),
        }
    }
    let chosen = steps::ALL
        .iter()
        .filter(|step| if named.is_empty() { !fast || step.is_fast } else { named.contains(&step.name) });
    Ok(gate::run(chosen, &workspace::root()?))
}

fn print_help() {
    println!(
        "{USAGE}{}\n{VARIABLES}\nThe steps of `test` (those with a * are the fast ones):\n",
        databases::USAGE
    );
    for step in steps::ALL {
        let mark = if step.is_fast { '*' } else { ' ' };
        println!("  {mark} {:<10} {}", step.name, step.what);
    }
}
