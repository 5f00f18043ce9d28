//! The list of scenarios, the functions, and the numbers of the table of scenarios agree.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use storage_conformance_tests::SCENARIOS;

/// How many scenarios the table of the suite's design has.
const NUMBERS: u8 = 76;

fn source_files(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).expect("the sources are there");
    let paths = entries.map(|entry| entry.expect("the sources can be listed").path());
    paths.flat_map(|path| if path.is_dir() { source_files(&path) } else { vec![path] }).collect()
}

/// The names of public functions that take a fixture.
fn written_scenarios() -> Vec<String> {
    let mut names = Vec::new();
    for file in source_files(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src")) {
        let text = std::fs::read_to_string(&file).expect("a source file is text");
        for rest in text.split("\npub async fn ").skip(1) {
            let (name, parameters) = rest.split_once('(').expect("a function has parameters");
            if parameters.trim_start().starts_with("fixture: &Fixture<'_>") {
                names.push(name.to_owned());
            }
        }
    }
    names
}

#[test]
fn every_scenario_that_is_written_is_listed_once() {
    let mut written = written_scenarios();
    let mut listed: Vec<&str> = SCENARIOS.iter().map(|scenario| scenario.name).collect();
    written.sort();
    listed.sort_unstable();

    assert_eq!(listed, written);
    assert!(listed.windows(2).all(|pair| pair[0] != pair[1]), "a name is used twice");
}

#[test]
fn every_number_of_the_table_is_covered() {
    let covered: BTreeSet<u8> = SCENARIOS.iter().flat_map(|scenario| scenario.numbers).copied().collect();

    assert_eq!(covered, (1..=NUMBERS).collect());
}
