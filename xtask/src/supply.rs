//! Licences of what the workspace is built from, and packages that must be there once only, by the lists in `deny.toml`.
//!
//! `cargo deny` reads the same file and does more (advisories, sources); it is not on every machine, this is.

use std::collections::BTreeMap;

use anyhow::{Context, Result};

use crate::workspace::Package;

/// Every package that `deny.toml` does not allow, as a sentence each.
///
/// # Errors
/// If a list is missing in `deny.toml`.
pub(crate) fn violations(deny_toml: &str, packages: &[Package]) -> Result<Vec<String>> {
    let allowed = list(deny_toml, "licenses", "allow")?;
    let once = list(deny_toml, "bans", "deny")?;
    let mut found = licences_not_allowed(&allowed, packages);
    found.extend(duplicates(&once, packages));
    Ok(found)
}

fn licences_not_allowed(allowed: &[String], packages: &[Package]) -> Vec<String> {
    let refused = packages.iter().filter(|package| {
        let licence = package.licence.as_deref().unwrap_or_default();
        !is_allowed(licence, allowed)
    });
    refused
        .map(|package| {
            let licence = package.licence.as_deref().unwrap_or("no licence");
            format!("{} {} has {licence}, which deny.toml does not allow", package.name, package.version)
        })
        .collect()
}

fn duplicates(once: &[String], packages: &[Package]) -> Vec<String> {
    let mut versions: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for package in packages.iter().filter(|package| once.contains(&package.name)) {
        versions.entry(&package.name).or_default().push(&package.version);
    }
    let twice = versions.into_iter().filter(|(_, versions)| versions.len() > 1);
    twice.map(|(name, versions)| format!("{name} is there in versions {}", versions.join(" and "))).collect()
}

/// The strings of an array of strings in a TOML file; all of TOML that is needed here.
fn list(toml: &str, section: &str, key: &str) -> Result<Vec<String>> {
    let header = format!("[{section}]");
    let mut lines = toml.lines().map(without_comment).skip_while(|line| line.trim() != header).skip(1);
    let in_section = lines.by_ref().take_while(|line| !line.starts_with('['));
    let mut from_key = in_section
        .skip_while(|line| line.split_once('=').is_none_or(|(name, _)| name.trim() != key))
        .peekable();
    from_key.peek().with_context(|| format!("deny.toml has no list `{key}` in [{section}]"))?;
    let mut values = Vec::new();
    for line in from_key {
        values.extend(line.split('"').skip(1).step_by(2).map(str::to_owned));
        if line.trim_end().ends_with(']') {
            break;
        }
    }
    Ok(values)
}

fn without_comment(line: &str) -> &str {
    line.split_once('#').map_or(line, |(code, _)| code)
}

/// Whether an SPDX expression can be met with these licences alone; one that cannot be read cannot.
fn is_allowed(expression: &str, allowed: &[String]) -> bool {
    let spaced = expression.replace('/', " OR ").replace('(', " ( ").replace(')', " ) ");
    let mut reader = Reader { words: spaced.split_whitespace().collect(), allowed };
    // Read from the end, so that the next word can be popped.
    reader.words.reverse();
    reader.any() == Some(true) && reader.words.is_empty()
}

struct Reader<'a> {
    words: Vec<&'a str>,
    allowed: &'a [String],
}

impl Reader<'_> {
    fn any(&mut self) -> Option<bool> {
        let mut is_met = self.all()?;
        while self.words.pop_if(|word| *word == "OR").is_some() {
            is_met |= self.all()?;
        }
        Some(is_met)
    }

    fn all(&mut self) -> Option<bool> {
        let mut is_met = self.one()?;
        while self.words.pop_if(|word| *word == "AND").is_some() {
            is_met &= self.one()?;
        }
        Some(is_met)
    }

    fn one(&mut self) -> Option<bool> {
        let word = self.words.pop()?;
        if word == "(" {
            let is_met = self.any()?;
            return (self.words.pop()? == ")").then_some(is_met);
        }
        let mut licence = word.to_owned();
        if self.words.pop_if(|word| *word == "WITH").is_some() {
            licence = format!("{licence} WITH {}", self.words.pop()?);
        }
        Some(self.allowed.contains(&licence))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DENY: &str = r#"
        [graph]
        targets = ["x86_64-unknown-linux-gnu"]
        [licenses]
        confidence-threshold = 0.9
        allow = [
            "MIT", # the usual one
            # "GPL-3.0",
            "Zlib",
        ]
        [bans]
        deny = [
            { crate = "chrono", deny-multiple-versions = true },
            { crate = "serde", deny-multiple-versions = true },
        ]
    "#;

    fn deny() -> String {
        DENY.lines().map(|line| format!("{}\n", line.trim_start())).collect()
    }

    fn package(name: &str, version: &str, licence: &str) -> Package {
        Package { name: name.into(), version: version.into(), licence: Some(licence.into()) }
    }

    #[test]
    fn a_list_is_read_without_its_comments() {
        assert_eq!(list(&deny(), "licenses", "allow").unwrap(), ["MIT", "Zlib"]);
        assert_eq!(list(&deny(), "bans", "deny").unwrap(), ["chrono", "serde"]);
    }

    #[test]
    fn a_list_that_is_not_there_is_an_error_and_not_an_empty_list() {
        assert!(list(&deny(), "bans", "allow").is_err());
        assert!(list(&deny(), "advisories", "ignore").is_err());
    }

    #[test]
    fn a_licence_that_is_not_allowed_is_found() {
        let packages = [package("good", "1.0.0", "MIT"), package("bad", "2.0.0", "GPL-3.0")];

        let found = violations(&deny(), &packages).unwrap();

        assert_eq!(found, ["bad 2.0.0 has GPL-3.0, which deny.toml does not allow"]);
    }

    #[test]
    fn a_package_without_a_licence_is_found() {
        let package = Package { licence: None, ..package("bare", "1.0.0", "") };

        let found = violations(&deny(), &[package]).unwrap();

        assert_eq!(found, ["bare 1.0.0 has no licence, which deny.toml does not allow"]);
    }

    #[test]
    fn an_expression_is_met_as_spdx_means_it() {
        let allowed = ["MIT".to_owned(), "Zlib".to_owned(), "Apache-2.0 WITH LLVM-exception".to_owned()];
        let table = [
            ("MIT", true),
            ("GPL-3.0 OR MIT", true),
            ("GPL-3.0/MIT", true),
            ("GPL-3.0 AND MIT", false),
            ("GPL-3.0 AND MIT OR Zlib", true),
            ("GPL-3.0 AND (MIT OR Zlib)", false),
            ("(MIT OR GPL-3.0) AND Zlib", true),
            ("Apache-2.0 WITH LLVM-exception", true),
            ("Apache-2.0", false),
            ("MIT)", false),
            ("(MIT", false),
            ("MIT MIT", false),
            ("", false),
        ];
        for (expression, expected) in table {
            assert_eq!(is_allowed(expression, &allowed), expected, "{expression:?}");
        }
    }

    #[test]
    fn a_second_version_is_found_where_there_must_be_one() {
        let packages = ["chrono", "serde", "syn"].map(|name| package(name, "1.0.0", "MIT"));
        let mut packages = packages.to_vec();
        packages.push(package("syn", "2.0.0", "MIT"));
        assert_eq!(violations(&deny(), &packages).unwrap(), [""; 0]);

        packages.push(package("chrono", "0.4.0", "MIT"));

        assert_eq!(violations(&deny(), &packages).unwrap(), ["chrono is there in versions 1.0.0 and 0.4.0"]);
    }
}
