//! Which crate may depend on which: one table, compared with the manifests.

use crate::workspace::Member;

/// What one crate of the workspace may name in its manifest. Tests may use what the crate itself may.
struct Arrows {
    from: &'static str,
    to: &'static [&'static str],
    tests_to: &'static [&'static str],
}

const fn arrows(
    from: &'static str,
    to: &'static [&'static str],
    tests_to: &'static [&'static str],
) -> Arrows {
    Arrows { from, to, tests_to }
}

/// Every allowed arrow between crates of the workspace, and the only place that knows one.
const ALLOWED: &[Arrows] = &[
    arrows(
        "jobrunr",
        &[
            "jobrunr-core",
            "jobrunr-macros",
            "jobrunr-server",
            "jobrunr-storage-mongo",
            "jobrunr-storage-mysql",
            "jobrunr-storage-postgres",
            "jobrunr-storage-redis",
            "jobrunr-storage-sqlite",
        ],
        &["storage-conformance-tests"],
    ),
    arrows(
        "jobrunr-bench",
        &[
            "jobrunr",
            "jobrunr-core",
            "jobrunr-server",
            "jobrunr-storage-mongo",
            "jobrunr-storage-mysql",
            "jobrunr-storage-postgres",
            "jobrunr-storage-redis",
            "jobrunr-storage-sqlite",
        ],
        &[],
    ),
    arrows("jobrunr-core", &[], &["storage-conformance-tests"]),
    arrows("jobrunr-macros", &[], &["jobrunr", "jobrunr-core"]),
    arrows("jobrunr-server", &["jobrunr-core"], &["jobrunr-macros"]),
    arrows("jobrunr-storage-mongo", &["jobrunr-core"], &["jobrunr-server", "storage-conformance-tests"]),
    arrows(
        "jobrunr-storage-mysql",
        &["jobrunr-core", "jobrunr-storage-sql"],
        &["jobrunr-server", "storage-conformance-tests"],
    ),
    arrows(
        "jobrunr-storage-postgres",
        &["jobrunr-core", "jobrunr-storage-sql"],
        &["jobrunr-server", "storage-conformance-tests"],
    ),
    arrows("jobrunr-storage-redis", &["jobrunr-core"], &["jobrunr-server", "storage-conformance-tests"]),
    arrows("jobrunr-storage-sql", &["jobrunr-core"], &[]),
    arrows(
        "jobrunr-storage-sqlite",
        &["jobrunr-core", "jobrunr-storage-sql"],
        &["storage-conformance-tests"],
    ),
    arrows("storage-conformance-tests", &["jobrunr-core"], &[]),
    arrows("xtask", &[], &[]),
];

/// Packages from outside that only certain crates may name: a driver belongs to its backend, and nothing speaks HTTP but
/// the facade's examples.
const HOMES: &[(&str, &[&str])] = &[
    ("mongodb", &["jobrunr-bench", "jobrunr-storage-mongo"]),
    ("redis", &["jobrunr-bench", "jobrunr-storage-redis"]),
    ("rusqlite", &["jobrunr-bench", "jobrunr-storage-sqlite"]),
    ("sqlx", &["jobrunr-bench", "jobrunr-storage-postgres", "jobrunr-storage-mysql"]),
    ("axum", &[]),
    ("hyper", &[]),
    ("reqwest", &[]),
];

/// Packages from outside that the tests and examples of certain crates may name, though the crates may not.
const HOMES_OF_TESTS: &[(&str, &[&str])] = &[("axum", &["jobrunr"]), ("sqlx", &["jobrunr"])];

/// Every dependency that the tables do not allow, as a sentence each.
pub(crate) fn violations(members: &[Member]) -> Vec<String> {
    let mut found: Vec<String> = ALLOWED
        .iter()
        .filter(|row| members.iter().all(|member| member.name != row.from))
        .map(|row| format!("the table of arrows names {}, which is no crate of the workspace", row.from))
        .collect();
    for member in members {
        match ALLOWED.iter().find(|row| row.from == member.name) {
            Some(row) => found.extend(forbidden_arrows(member, row, members)),
            None => found.push(format!("{} is missing in the table of arrows", member.name)),
        }
        found.extend(packages_away_from_home(member));
    }
    found
}

fn forbidden_arrows(member: &Member, row: &Arrows, members: &[Member]) -> Vec<String> {
    let inside = |name: &str| members.iter().any(|member| member.name == name);
    let dependencies = member.dependencies.iter().filter(|on| inside(&on.name));
    dependencies
        .filter(|on| {
            let name = on.name.as_str();
            // A crate's tests may name the crate itself, to switch a feature of it on.
            let for_tests = on.is_dev && (name == row.from || row.tests_to.contains(&name));
            !for_tests && !row.to.contains(&name)
        })
        .map(|on| {
            let tests = if on.is_dev { "the tests of " } else { "" };
            format!("{tests}{} must not depend on {}", row.from, on.name)
        })
        .collect()
}

fn packages_away_from_home(member: &Member) -> Vec<String> {
    let own = member.name.as_str();
    let is_listed = |table: &[(&str, &[&str])], on: &str| {
        table.iter().any(|(package, homes)| *package == on && homes.contains(&own))
    };
    let away = |on: &str, is_dev: bool| {
        let is_restricted = HOMES.iter().any(|(package, _)| *package == on);
        is_restricted && !is_listed(HOMES, on) && !(is_dev && is_listed(HOMES_OF_TESTS, on))
    };
    let dependencies = member.dependencies.iter().filter(|on| away(&on.name, on.is_dev));
    dependencies.map(|on| format!("{} must not name {}", member.name, on.name)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workspace::Dependency;

    /// A workspace that has every crate of the table and no dependency at all.
    fn without_arrows() -> Vec<Member> {
        ALLOWED.iter().map(|row| Member { name: row.from.to_owned(), ..Member::default() }).collect()
    }

    fn with_arrow(from: &str, to: &str, is_dev: bool) -> Vec<Member> {
        let mut members = without_arrows();
        let member = members.iter_mut().find(|member| member.name == from).unwrap();
        member.dependencies.push(Dependency { name: to.to_owned(), is_dev });
        members
    }

    #[test]
    fn an_allowed_arrow_is_no_violation() {
        assert_eq!(violations(&with_arrow("jobrunr-server", "jobrunr-core", false)), [""; 0]);
        assert_eq!(violations(&with_arrow("jobrunr-core", "serde", false)), [""; 0]);
    }

    #[test]
    fn a_forbidden_arrow_is_found() {
        let found = violations(&with_arrow("jobrunr-server", "jobrunr-storage-sqlite", false));

        assert_eq!(found, ["jobrunr-server must not depend on jobrunr-storage-sqlite"]);
    }

    #[test]
    fn what_tests_may_use_the_crate_may_not() {
        let suite = "storage-conformance-tests";

        assert_eq!(violations(&with_arrow("jobrunr-storage-sqlite", suite, true)), [""; 0]);
        let found = violations(&with_arrow("jobrunr-storage-sqlite", suite, false));
        assert_eq!(found, ["jobrunr-storage-sqlite must not depend on storage-conformance-tests"]);
    }

    #[test]
    fn a_forbidden_arrow_of_tests_is_found() {
        let found = violations(&with_arrow("storage-conformance-tests", "jobrunr-storage-sqlite", true));

        assert_eq!(
            found,
            ["the tests of storage-conformance-tests must not depend on jobrunr-storage-sqlite"]
        );
    }

    #[test]
    fn a_driver_outside_of_its_backend_is_found() {
        assert_eq!(
            violations(&with_arrow("jobrunr-core", "rusqlite", false)),
            ["jobrunr-core must not name rusqlite"]
        );
    }

    #[test]
    fn an_example_may_speak_http_where_its_crate_may_not() {
        assert_eq!(violations(&with_arrow("jobrunr", "axum", true)), [""; 0]);
        assert_eq!(violations(&with_arrow("jobrunr", "axum", false)), ["jobrunr must not name axum"]);
        let tests_of_others = violations(&with_arrow("jobrunr-server", "axum", true));
        assert_eq!(tests_of_others, ["jobrunr-server must not name axum"]);
    }

    #[test]
    fn a_crate_that_the_table_does_not_know_is_found() {
        let mut members = without_arrows();
        members.push(Member { name: "jobrunr-new".into(), ..Member::default() });

        assert_eq!(violations(&members), ["jobrunr-new is missing in the table of arrows"]);
    }

    #[test]
    fn a_row_without_a_crate_is_found() {
        let members: Vec<_> =
            without_arrows().into_iter().filter(|member| member.name != "jobrunr-bench").collect();

        assert_eq!(
            violations(&members),
            ["the table of arrows names jobrunr-bench, which is no crate of the workspace"]
        );
    }

    #[test]
    fn the_table_has_no_circle() {
        let mut rest: Vec<&Arrows> = ALLOWED.iter().collect();
        while !rest.is_empty() {
            let before = rest.len();
            let names: Vec<_> = rest.iter().map(|row| row.from).collect();
            rest.retain(|row| row.to.iter().any(|to| names.contains(to)));
            assert!(rest.len() < before, "a circle among {names:?}");
        }
    }
}
