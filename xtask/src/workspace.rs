//! What `cargo metadata` tells: the crates of the workspace, and every package they are built from.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde_json::Value;

use crate::cargo;

/// The folder of the workspace.
///
/// # Errors
/// If this program was moved away from it.
pub(crate) fn root() -> Result<PathBuf> {
    // Asked at run time: a build may be used from another clone of the same folder layout.
    let manifest = std::env::var_os("CARGO_MANIFEST_DIR")
        .map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")), PathBuf::from);
    let root = manifest.parent().context("xtask has no folder above it")?;
    Ok(root.to_path_buf())
}

/// A crate of the workspace.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Member {
    pub(crate) name: String,
    pub(crate) features: Vec<String>,
    pub(crate) dependencies: Vec<Dependency>,
}

/// One line in a crate's manifest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Dependency {
    pub(crate) name: String,
    pub(crate) is_dev: bool,
}

/// A package that the workspace is built from and that is not part of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Package {
    pub(crate) name: String,
    pub(crate) version: String,
    pub(crate) licence: Option<String>,
}

/// The crates of the workspace.
///
/// # Errors
/// If cargo fails, above all over a manifest that is wrong.
pub(crate) fn members(root: &Path) -> Result<Vec<Member>> {
    let text = cargo::output(root, &["metadata", "--format-version", "1", "--no-deps"])?;
    let metadata: Value = serde_json::from_str(&text)?;
    Ok(array(&metadata, "packages").iter().map(member).collect())
}

/// The packages that the workspace is built from on this machine.
///
/// # Errors
/// If cargo fails, above all if `Cargo.lock` does not fit the manifests.
pub(crate) fn packages(root: &Path) -> Result<Vec<Package>> {
    let version = cargo::output(root, &["--version", "--verbose"])?;
    let host = version.lines().find_map(|line| line.strip_prefix("host: ")).context("cargo has no host")?;
    let arguments = ["metadata", "--format-version", "1", "--locked", "--filter-platform", host];
    let metadata: Value = serde_json::from_str(&cargo::output(root, &arguments)?)?;
    let used: HashSet<&str> =
        array(&metadata["resolve"], "nodes").iter().map(|node| text(node, "id")).collect();
    Ok(array(&metadata, "packages")
        .iter()
        .filter(|package| used.contains(text(package, "id")) && !package["source"].is_null())
        .map(|package| Package {
            name: text(package, "name").to_owned(),
            version: text(package, "version").to_owned(),
            licence: package["license"].as_str().map(str::to_owned),
        })
        .collect())
}

fn member(package: &Value) -> Member {
    let features = package["features"].as_object();
    Member {
        name: text(package, "name").to_owned(),
        features: features.into_iter().flat_map(|features| features.keys().cloned()).collect(),
        dependencies: array(package, "dependencies")
            .iter()
            .map(|dependency| Dependency {
                name: text(dependency, "name").to_owned(),
                is_dev: dependency["kind"] == "dev",
            })
            .collect(),
    }
}

fn array<'a>(value: &'a Value, key: &str) -> &'a [Value] {
    value[key].as_array().map_or(&[], Vec::as_slice)
}

fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    value[key].as_str().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dependency_of_tests_is_told_from_one_of_the_crate() {
        let package = serde_json::json!({
            "name": "a",
            "features": {"default": ["x"], "x": []},
            "dependencies": [{"name": "b", "kind": null}, {"name": "c", "kind": "dev"}],
        });

        let member = member(&package);

        assert_eq!(member.features, ["default", "x"]);
        let dependencies: Vec<_> =
            member.dependencies.iter().map(|on| (on.name.as_str(), on.is_dev)).collect();
        assert_eq!(dependencies, [("b", false), ("c", true)]);
    }

    #[test]
    fn this_crate_is_a_member_of_the_workspace_it_finds() {
        let members = members(&root().unwrap()).unwrap();

        assert!(members.iter().any(|member| member.name == "xtask"));
    }
}
