//! The facade's features, each built alone.

use std::path::Path;

use anyhow::{Context, Result};

use crate::{cargo, workspace};

/// Checks the facade without any feature, then with each feature alone.
///
/// # Errors
/// If one of them does not build, naming it.
pub(crate) fn check_each_feature_alone(root: &Path) -> Result<()> {
    let members = workspace::members(root)?;
    let facade = members.iter().find(|member| member.name == "jobrunr").context("there is no facade")?;
    let alone = ["check", "--package", "jobrunr", "--no-default-features"];
    cargo::run(root, &alone).context("without any feature")?;
    for feature in facade.features.iter().filter(|feature| *feature != "default") {
        let arguments = [alone.as_slice(), &["--features", feature]].concat();
        cargo::run(root, &arguments).with_context(|| format!("with feature {feature} alone"))?;
    }
    Ok(())
}
