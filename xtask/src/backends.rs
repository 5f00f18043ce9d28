//! Holds `docs/backends.md` against the code: what each storage is called, needs, is able to, and can be told.
//!
//! What a storage is able to is read from the abilities that its tests declare: a scenario of the suite holds those against
//! the storage itself.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use anyhow::{Context, Result, ensure};

/// One storage: where the page and the code speak of it.
struct Backend {
    /// Its column of the table, and the heading of its section.
    column: &'static str,
    /// Its crate, and the feature of the facade that brings it.
    package: &'static str,
    feature: Option<&'static str>,
    /// Where its options are, and the file whose abilities the suite holds against it.
    options: Option<&'static str>,
    abilities: &'static str,
}

const BACKENDS: [Backend; 6] = [
    Backend {
        column: "in memory",
        package: "jobrunr-core",
        feature: None,
        options: None,
        abilities: "storage-conformance-tests/tests/memory.rs",
    },
    Backend {
        column: "SQLite",
        package: "jobrunr-storage-sqlite",
        feature: Some("sqlite"),
        options: Some("jobrunr-storage-sqlite/src/options.rs"),
        abilities: "jobrunr-storage-sqlite/tests/support/harness.rs",
    },
    Backend {
        column: "PostgreSQL",
        package: "jobrunr-storage-postgres",
        feature: Some("postgres"),
        options: Some("jobrunr-storage-postgres/src/options.rs"),
        abilities: "jobrunr-storage-postgres/tests/support/mod.rs",
    },
    Backend {
        column: "MySQL and MariaDB",
        package: "jobrunr-storage-mysql",
        feature: Some("mysql"),
        options: Some("jobrunr-storage-mysql/src/options.rs"),
        abilities: "jobrunr-storage-mysql/tests/support/mod.rs",
    },
    Backend {
        column: "Redis and Valkey",
        package: "jobrunr-storage-redis",
        feature: Some("redis"),
        options: Some("jobrunr-storage-redis/src/options.rs"),
        abilities: "jobrunr-storage-redis/tests/support/harness.rs",
    },
    Backend {
        column: "MongoDB",
        package: "jobrunr-storage-mongo",
        feature: Some("mongo"),
        options: Some("jobrunr-storage-mongo/src/options.rs"),
        abilities: "jobrunr-storage-mongo/tests/support/mod.rs",
    },
];

/// A row of the table whose cells say "no", or begin with "none", exactly where an ability is missing.
const ABILITIES: [(&str, &str); 4] = [
    ("hints to servers", "ChangeFeed"),
    ("jobs in a transaction of the caller", "CallerTransactions"),
    ("several storages side by side", "Prefixes"),
    ("can be looked at without changing it (`SetUp::Validate`)", "Schema"),
];

/// What the storage refuses that is older, as the code writes it and as the page does.
const OLDEST: [(&str, &str, &str); 5] = [
    ("jobrunr-storage-postgres/src/lib.rs", "const OLDEST_VERSION: i32 = 130_000;", "PostgreSQL 13 or later"),
    ("jobrunr-storage-mysql/src/dialect.rs", "Flavor::MySql => (\"MySQL\", (8, 0)),", "MySQL 8.0"),
    (
        "jobrunr-storage-mysql/src/dialect.rs",
        "Flavor::MariaDb => (\"MariaDB\", (10, 6)),",
        "MariaDB 10.6 or later",
    ),
    (
        "jobrunr-storage-redis/src/schema.rs",
        "const OLDEST_VERSION: (u32, u32) = (6, 2);",
        "Redis 6.2 or later",
    ),
    // Servers number their protocol for drivers: 13 is MongoDB 5.0.
    ("jobrunr-storage-mongo/src/lib.rs", "const OLDEST_WIRE_VERSION: i32 = 13;", "MongoDB 5.0 or later"),
];

/// Everything on the page that is not so, as a sentence each.
///
/// # Errors
/// If a file cannot be read, or the page has no such table.
pub(crate) fn violations(root: &Path) -> Result<Vec<String>> {
    let read = |path: &str| std::fs::read_to_string(root.join(path)).with_context(|| path.to_owned());
    let page = read("docs/backends.md")?;
    let table = table(&page)?;
    let (connect, manifest) = (read("jobrunr/src/connect.rs")?, read("jobrunr/Cargo.toml")?);
    let mut found = Vec::new();
    let mut schemes = BTreeSet::new();
    for (index, backend) in BACKENDS.iter().enumerate() {
        let cell = |row: &str| -> Result<&str> {
            table
                .get(row)
                .map(|cells| cells[index].as_str())
                .with_context(|| format!("there is no row `{row}`"))
        };
        schemes.extend(
            quoted(cell("`connect`")?)
                .filter_map(|url| url.split_once(':'))
                .map(|(scheme, _)| scheme.to_owned()),
        );
        found.extend(names(backend, cell("crate")?, cell("feature")?, &manifest));
        let harness = read(backend.abilities)?;
        let abilities = abilities(&harness);
        for (row, ability) in ABILITIES {
            let is_told = !["no", "none", "nothing"]
                .iter()
                .any(|no| cell(row).is_ok_and(|cell| starts_with_word(cell, no)));
            if is_told != abilities.contains(ability) {
                found.push(format!(
                    "{}: the page says `{}` of {row}, the tests declare {abilities:?}",
                    backend.column,
                    cell(row)?
                ));
            }
        }
        let source = sources(&root.join(backend.package).join("src"))?;
        let calls = quoted(cell("jobs in a transaction of the caller")?);
        let missing = calls.filter(|call| !source.contains(&format!("fn {call}")));
        found.extend(missing.map(|call| format!("{}: there is no `{call}`", backend.column)));
        if let Some(path) = backend.options {
            found.extend(options(backend.column, section(&page, backend.column)?, &read(path)?));
        }
    }
    let known: BTreeSet<String> = known_schemes(&connect);
    if schemes != known {
        found.push(format!("the page has the schemes {schemes:?}, `connect` knows {known:?}"));
    }
    let needs = table.get("needs").context("there is no row `needs`")?.join(" | ");
    for (path, code, words) in OLDEST {
        if !read(path)?.contains(code) {
            found.push(format!("{path} does not say `{code}` any more, and the page says {words}"));
        }
        if !needs.contains(words) {
            found.push(format!("the page does not say {words}, which is what {path} takes"));
        }
    }
    let is_a_mebibyte =
        read("jobrunr-core/src/limits.rs")?.contains("DEFAULT_MAX_PAYLOAD_BYTES: usize = 1024 * 1024;");
    let payload = table.get("longest payload, unless set").context("there is no row of payloads")?;
    if !is_a_mebibyte || payload.iter().any(|cell| cell != "1 MiB") {
        found.push("the longest payload is not what the page says".to_owned());
    }
    Ok(found)
}

/// The first table of the page: its rows by their first cell.
fn table(page: &str) -> Result<BTreeMap<String, Vec<String>>> {
    let mut lines =
        page.lines().skip_while(|line| !line.starts_with('|')).take_while(|line| line.starts_with('|'));
    let columns: Vec<_> = BACKENDS.iter().map(|backend| backend.column.to_owned()).collect();
    let head = cells(lines.next().context("there is no table")?);
    ensure!(head[1..] == columns[..], "the columns are {:?}", &head[1..]);
    let rows: BTreeMap<_, _> =
        lines.skip(1).map(|line| (cells(line).remove(0), cells(line).split_off(1))).collect();
    ensure!(rows.values().all(|cells| cells.len() == columns.len()), "a row has too many or too few cells");
    Ok(rows)
}

fn cells(line: &str) -> Vec<String> {
    let inner = line.trim().trim_start_matches('|').strip_suffix('|').unwrap_or(line);
    inner.split('|').map(|cell| cell.trim().to_owned()).collect()
}

/// What stands between backticks.
fn quoted(text: &str) -> impl Iterator<Item = &str> {
    text.split('`').skip(1).step_by(2)
}

fn starts_with_word(text: &str, word: &str) -> bool {
    text.strip_prefix(word).is_some_and(|rest| !rest.starts_with(char::is_alphanumeric))
}

/// Whether crate and feature of a storage are called like that.
fn names(backend: &Backend, package: &str, feature: &str, manifest: &str) -> Vec<String> {
    let mut found = Vec::new();
    if quoted(package).next() != Some(backend.package) {
        found.push(format!("{}: the crate is {}", backend.column, backend.package));
    }
    if quoted(feature).next() != backend.feature {
        found.push(format!("{}: the feature is {:?}", backend.column, backend.feature));
    }
    let Some(name) = backend.feature else { return found };
    if !manifest.contains(&format!("{name} = [\"dep:{}\"]", backend.package)) {
        found.push(format!("{}: the feature `{name}` does not bring {}", backend.column, backend.package));
    }
    let default = manifest.lines().find(|line| line.starts_with("default = ")).unwrap_or_default();
    if feature.contains("default") != default.contains(&format!("\"{name}\"")) {
        found.push(format!("{}: the defaults are {default}", backend.column));
    }
    found
}

/// The abilities that a file of tests declares.
fn abilities(harness: &str) -> BTreeSet<&str> {
    let named = harness.split("Ability::").skip(1);
    let named: BTreeSet<&str> =
        named.filter_map(|rest| rest.split(|letter: char| !letter.is_alphanumeric()).next()).collect();
    if named.contains("ALL") {
        return [
            "ChangeFeed",
            "Prefixes",
            "Durability",
            "Schema",
            "UnreadableRows",
            "Connections",
            "CallerTransactions",
        ]
        .into();
    }
    named
}

/// The schemes that `connect` takes, from its one table.
fn known_schemes(connect: &str) -> BTreeSet<String> {
    let arms = connect.lines().filter(|line| line.contains("=> Self::") && line.trim().starts_with('"'));
    arms.flat_map(|arm| arm.split('"').skip(1).step_by(2)).map(str::to_owned).collect()
}

/// Everything in the sources below a folder, one file after the other.
fn sources(folder: &Path) -> Result<String> {
    let mut text = String::new();
    for entry in std::fs::read_dir(folder).with_context(|| folder.display().to_string())? {
        let path = entry?.path();
        if path.is_dir() {
            text += &sources(&path)?;
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            text += &std::fs::read_to_string(&path).with_context(|| path.display().to_string())?;
        }
    }
    Ok(text)
}

fn section<'p>(page: &'p str, heading: &str) -> Result<&'p str> {
    let (_, rest) =
        page.split_once(&format!("\n## {heading}\n")).with_context(|| format!("no section {heading}"))?;
    Ok(rest.split("\n## ").next().unwrap_or(rest))
}

/// How the options of a section differ from those of the code.
fn options(backend: &str, section: &str, source: &str) -> Vec<String> {
    let rows = section.lines().filter(|line| line.starts_with("| `"));
    let told: BTreeMap<String, String> = rows
        .filter_map(|line| {
            let cells = cells(line);
            Some((quoted(&cells[0]).next()?.to_owned(), cells.get(1)?.clone()))
        })
        .collect();
    let there = setters(source);
    let mut found = Vec::new();
    if told.keys().cloned().collect::<BTreeSet<_>>() != there {
        found.push(format!("{backend}: the page has the options {:?}, the code {there:?}", told.keys()));
    }
    for (name, default) in &told {
        let code = default_of(source, name);
        if code.as_deref().is_some_and(|code| code != default) {
            found.push(format!("{backend}: the default of `{name}` is {code:?}, the page says {default}"));
        }
    }
    found
}

/// What is set by a call on options: public, and given `mut self`.
fn setters(source: &str) -> BTreeSet<String> {
    let calls = source.lines().filter(|line| line.contains("pub ") && line.contains("(mut self"));
    calls.filter_map(|line| Some(line.split("fn ").nth(1)?.split(['(', '<']).next()?.to_owned())).collect()
}

/// The default of an option as the page would write it, if the code says it in one of the ways that are read here.
fn default_of(source: &str, option: &str) -> Option<String> {
    // Set by calls without a value, or by one that is named as a verb.
    let field = match option {
        "read_only" => return source.contains("access: Access::ReadWrite,").then(|| "off".to_owned()),
        "without_listener" | "without_change_stream" => {
            return source.contains("listens: true,").then(|| "off".to_owned());
        }
        "allow_eviction" => "allows_eviction",
        other => other,
    };
    let value =
        source.lines().find_map(|line| line.trim().strip_prefix(&format!("{field}: ")))?.strip_suffix(',')?;
    Some(match value {
        "None" | "String::new()" | "Vec::new()" => "none".to_owned(),
        "true" => "on".to_owned(),
        "false" => "off".to_owned(),
        "DEFAULT_MAX_PAYLOAD_BYTES" => "1 MiB".to_owned(),
        "Arc::new(SystemClock)" => "this machine's".to_owned(),
        number if number.parse::<u64>().is_ok() => number.to_owned(),
        _ => match value.strip_prefix("Duration::from_secs(").and_then(|rest| rest.strip_suffix(')')) {
            Some(seconds) => format!("{seconds} s"),
            None => format!("`{}`", value.rsplit("::").next()?),
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn root() -> &'static Path {
        Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap()
    }

    #[test]
    fn the_page_of_the_backends_tells_what_the_code_says() {
        assert_eq!(violations(root()).unwrap(), Vec::<String>::new());
    }

    #[test]
    fn every_default_on_the_page_is_read_from_the_code() {
        for backend in BACKENDS.iter().filter_map(|backend| backend.options) {
            let source = std::fs::read_to_string(root().join(backend)).unwrap();
            for setter in setters(&source) {
                assert!(default_of(&source, &setter).is_some(), "`{setter}` of {backend}");
            }
        }
    }

    #[test]
    fn an_option_that_is_missing_or_has_another_default_is_found() {
        let source = "    pub const fn busy_timeout(mut self, t: Duration) -> Self {\n busy_timeout: Duration::from_secs(5),\n";

        let wrong =
            options("X", "| option | default |\n|---|---|\n| `busy_timeout` | 6 s | waits |\n", source);
        let missing = options("X", "", source);

        assert_eq!(wrong, ["X: the default of `busy_timeout` is Some(\"5 s\"), the page says 6 s"]);
        assert_eq!(missing, ["X: the page has the options [], the code {\"busy_timeout\"}"]);
    }

    #[test]
    fn abilities_and_schemes_are_read_from_the_code() {
        assert_eq!(abilities("&[Ability::Schema, Ability::ChangeFeed]"), ["ChangeFeed", "Schema"].into());
        assert!(abilities("&Ability::ALL").contains("CallerTransactions"));
        assert_eq!(
            known_schemes("    \"redis\" | \"valkey\" => Self::Redis,"),
            ["redis", "valkey"].map(str::to_owned).into()
        );
    }
}
