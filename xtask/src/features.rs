//! Holds the table of features in the README against the tests: a feature without a test has no tick.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use anyhow::{Context, Result};

use crate::pages;

/// What our column says of a feature that is there, and of one that is not.
const THERE: &str = "✓";
const NOT_YET: &str = "planned";

/// Every tick that no test holds, as a sentence each.
///
/// # Errors
/// If a page cannot be read, or the README has no such table.
pub(crate) fn violations(root: &Path) -> Result<Vec<String>> {
    let read = |path: &str| std::fs::read_to_string(root.join(path)).with_context(|| path.to_owned());
    let readme = read("README.md")?;
    let (_, table) =
        readme.split_once("\n## What there is\n").context("README.md has no table of features")?;
    let table = table.split("\n## ").next().unwrap_or(table);
    let evidence = rows(&read("docs/features.md")?);
    let tests = tests(root)?;
    let mut found = unheld(&rows(table), &evidence);
    for (feature, cells) in &evidence {
        let named = cells.first().map(String::as_str).unwrap_or_default();
        let quoted: Vec<&str> = named.split('`').skip(1).step_by(2).collect();
        if quoted.is_empty() {
            found.push(format!("docs/features.md names no test of `{feature}`"));
        }
        let missing = quoted.iter().filter(|name| !is_held(root, name, &tests));
        found.extend(missing.map(|name| format!("`{feature}`: `{name}` is no test")));
    }
    Ok(found)
}

/// What is wrong with the features of the README beside those that docs/features.md has tests of.
fn unheld(features: &BTreeMap<String, Vec<String>>, evidence: &BTreeMap<String, Vec<String>>) -> Vec<String> {
    let mut found = Vec::new();
    for (feature, cells) in features {
        match cells.first().map(String::as_str) {
            Some(THERE) if evidence.contains_key(feature) => {}
            Some(THERE) => {
                found.push(format!("README.md ticks `{feature}`, of which docs/features.md has no test"))
            }
            Some(NOT_YET) => {}
            other => {
                found.push(format!("README.md says neither {THERE} nor {NOT_YET} of `{feature}`: {other:?}"))
            }
        }
    }
    let ticked = |feature: &String| features.get(feature).is_some_and(|cells| cells[0] == THERE);
    let unused = evidence.keys().filter(|feature| !ticked(feature));
    found.extend(
        unused.map(|feature| {
            format!("docs/features.md has tests of `{feature}`, which README.md does not tick")
        }),
    );
    found
}

/// The rows of the tables of a page by their first cell, without heads.
fn rows(page: &str) -> BTreeMap<String, Vec<String>> {
    let lines: Vec<&str> = page.lines().collect();
    let is_ruled = |index: usize| lines.get(index).is_some_and(|line| line.starts_with("|--"));
    let rows = lines
        .iter()
        .enumerate()
        .filter(|(index, line)| line.starts_with('|') && !is_ruled(*index) && !is_ruled(index + 1));
    rows.map(|(_, line)| {
        let mut cells = line.trim_matches('|').split(" | ").map(|cell| cell.trim().to_owned());
        (cells.next().unwrap_or_default(), cells.collect())
    })
    .collect()
}

/// Whether a test is called like that, or the suite is run in a file of that name.
fn is_held(root: &Path, name: &str, tests: &BTreeSet<String>) -> bool {
    if name.ends_with(".rs") {
        let runs_the_suite = |text: String| text.contains("conformance_tests!(");
        return std::fs::read_to_string(root.join(name)).is_ok_and(runs_the_suite);
    }
    tests.contains(name)
}

/// The names of all tests and scenarios: functions with an attribute that ends in `test`, and what the suite lists.
fn tests(root: &Path) -> Result<BTreeSet<String>> {
    let mut tests = BTreeSet::new();
    for file in pages::files(root)? {
        if file.extension().is_none_or(|extension| extension != "rs") {
            continue;
        }
        let text = std::fs::read_to_string(&file).with_context(|| file.display().to_string())?;
        tests.extend(tests_of(&text));
    }
    let list =
        std::fs::read_to_string(root.join("storage-conformance-tests/src/list.rs")).context("list.rs")?;
    tests.extend(list.split(|letter: char| !letter.is_alphanumeric() && letter != '_').map(str::to_owned));
    Ok(tests)
}

/// The functions of a file that have the attribute of a test.
fn tests_of(text: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut is_test = false;
    for line in text.lines().map(str::trim) {
        if line.starts_with("#[") {
            let path = line.trim_start_matches("#[").split([']', '(']).next().unwrap_or_default();
            is_test |= path == "test" || path.ends_with("::test");
        } else if let Some((_, rest)) = line.split_once("fn ") {
            if is_test {
                found.extend(rest.split(['(', '<']).next().map(str::to_owned));
            }
            is_test = false;
        } else if line.is_empty() {
            is_test = false;
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn root() -> &'static Path {
        Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap()
    }

    #[test]
    fn every_tick_of_the_readme_is_held_by_a_test() {
        assert_eq!(violations(root()).unwrap(), Vec::<String>::new());
    }

    #[test]
    fn a_tick_without_a_test_and_a_test_without_a_tick_are_found() {
        let readme =
            rows("| | ours | theirs |\n|---|---|---|\n| A | ✓ | – |\n| B | planned | ✓ |\n| C | yes | ✓ |\n");
        let evidence = rows("| feature | held by |\n|---|---|\n| B | `a_test_of_b` |\n");

        let found = unheld(&readme, &evidence);

        assert_eq!(
            found,
            [
                "README.md ticks `A`, of which docs/features.md has no test",
                "README.md says neither ✓ nor planned of `C`: Some(\"yes\")",
                "docs/features.md has tests of `B`, which README.md does not tick",
            ]
        );
    }

    #[test]
    fn a_test_is_a_function_with_the_attribute_and_not_any_word() {
        let text = "#[tokio::test(start_paused = true)]\nasync fn one_of_them() {\n    other();\n}\n\n// not_this_one\nfn nor_this_one() {}\n#[test]\n#[cfg(unix)]\nfn another() {}\n";

        assert_eq!(tests_of(text), ["one_of_them", "another"]);
    }

    #[test]
    fn a_file_holds_a_storage_only_if_it_runs_the_suite() {
        let none = BTreeSet::new();

        assert!(is_held(root(), "storage-conformance-tests/tests/memory.rs", &none));
        assert!(!is_held(root(), "xtask/src/main.rs", &none));
        assert!(!is_held(root(), "no/such/file.rs", &none));
    }
}
