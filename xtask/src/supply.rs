//! Licences of what the workspace is built from, and packages that must be there once only, by the lists in `deny.toml`.
//!
//! `cargo deny` reads the same file and does more (advisories, sources); it is not on every machine, this is.

use std::collections::BTreeMap;

use anyhow::{Context, Result};
use spdx::{Expression, ParseMode};

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

/// The names in an array of a TOML file: its strings, and the `crate` of its tables.
fn list(toml: &str, section: &str, key: &str) -> Result<Vec<String>> {
    let toml: toml::Table = toml.parse().context("deny.toml is no TOML")?;
    let values = toml.get(section).and_then(|section| section.get(key)).and_then(toml::Value::as_array);
    let values = values.with_context(|| format!("deny.toml has no list `{key}` in [{section}]"))?;
    let name = |value: &toml::Value| value.get("crate").unwrap_or(value).as_str().map(str::to_owned);
    Ok(values.iter().filter_map(name).collect())
}

/// Whether an SPDX expression can be met with these licences alone; one that cannot be read cannot.
fn is_allowed(expression: &str, allowed: &[String]) -> bool {
    let Ok(expression) = Expression::parse_mode(expression, ParseMode::LAX) else { return false };
    expression.evaluate(|requirement| allowed.contains(&requirement.to_string()))
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

    fn package(name: &str, version: &str, licence: &str) -> Package {
        Package { name: name.into(), version: version.into(), licence: Some(licence.into()) }
    }

    #[test]
    fn a_list_is_read_without_its_comments() {
        assert_eq!(list(DENY, "licenses", "allow").unwrap(), ["MIT", "Zlib"]);
        assert_eq!(list(DENY, "bans", "deny").unwrap(), ["chrono", "serde"]);
    }

    #[test]
    fn a_list_that_is_not_there_is_an_error_and_not_an_empty_list() {
        assert!(list(DENY, "bans", "allow").is_err());
        assert!(list(DENY, "advisories", "ignore").is_err());
    }

    #[test]
    fn a_licence_that_is_not_allowed_is_found() {
        let packages = [package("good", "1.0.0", "MIT"), package("bad", "2.0.0", "GPL-3.0")];

        let found = violations(DENY, &packages).unwrap();

        assert_eq!(found, ["bad 2.0.0 has GPL-3.0, which deny.toml does not allow"]);
    }

    #[test]
    fn a_package_without_a_licence_is_found() {
        let package = Package { licence: None, ..package("bare", "1.0.0", "") };

        let found = violations(DENY, &[package]).unwrap();

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
        assert_eq!(violations(DENY, &packages).unwrap(), [""; 0]);

        packages.push(package("chrono", "0.4.0", "MIT"));

        assert_eq!(violations(DENY, &packages).unwrap(), ["chrono is there in versions 1.0.0 and 0.4.0"]);
    }
}
