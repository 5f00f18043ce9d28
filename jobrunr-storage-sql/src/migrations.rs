//! Migrations: which there are, which were applied, and what follows from comparing the two.

use std::fmt;

use uuid::Uuid;

/// The namespace of checksums.
const CHECKSUMS: Uuid = Uuid::from_u128(0x1c3f_7c58_0e0e_5c43_9d57_2b7b_6f5a_90d4);

/// One step of a schema: SQL text with `{p}` where the table prefix goes. Once released, it never changes.
#[derive(Debug, Clone, Copy)]
pub struct Migration {
    /// Its number, counted from 1 without gaps.
    pub number: u32,
    /// What it does, in a few words.
    pub name: &'static str,
    /// The statements, each ended by a semicolon.
    pub sql: &'static str,
}

impl Migration {
    /// What tells whether the text is the one that was applied; the same under every prefix.
    #[must_use]
    pub fn checksum(&self) -> String {
        Uuid::new_v5(&CHECKSUMS, self.sql.as_bytes()).simple().to_string()
    }
}

/// A migration as the database remembers it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AppliedMigration {
    /// Its number.
    pub number: u32,
    /// What it was called.
    pub name: String,
    /// The checksum of its text.
    pub checksum: String,
}

/// All migrations of a backend, in order.
#[derive(Debug, Clone, Copy)]
pub struct Migrations(&'static [Migration]);

/// What is left to be done.
#[derive(Debug)]
pub struct MigrationPlan {
    /// The migrations to apply, in order.
    pub pending: &'static [Migration],
}

/// Why a schema cannot be used as it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SchemaProblem {
    /// A later version of the library was here.
    Newer {
        /// The latest migration in the database.
        found: u32,
        /// The latest migration this version knows.
        known: u32,
    },
    /// A migration was applied with another text.
    Changed {
        /// Which one.
        number: u32,
        /// What it is called here.
        name: &'static str,
    },
    /// A migration before the latest applied one is not there.
    Gap {
        /// Which one.
        number: u32,
        /// What it is called.
        name: &'static str,
    },
    /// Migrations were not applied yet.
    Missing {
        /// Their numbers and names.
        migrations: Vec<(u32, &'static str)>,
    },
}

impl fmt::Display for SchemaProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Newer { found, known } => write!(
                f,
                "it has migration {found}, this version knows only those up to {known}; use the later version of the library"
            ),
            Self::Changed { number, name } => write!(
                f,
                "migration {number} ({name}) was applied with another text than this version has; restore the original schema"
            ),
            Self::Gap { number, name } => {
                write!(f, "migration {number} ({name}) is missing, though later ones were applied")
            }
            Self::Missing { migrations } => {
                f.write_str("not applied yet:")?;
                for (number, name) in migrations {
                    write!(f, " migration {number} ({name}),")?;
                }
                f.write_str(" set the storage up with SetUp::Migrate or apply the exported SQL")
            }
        }
    }
}

impl Migrations {
    /// The migrations of a backend.
    ///
    /// # Panics
    /// If they are not numbered from 1 without gaps.
    #[must_use]
    pub fn new(migrations: &'static [Migration]) -> Self {
        let numbers = migrations.iter().map(|migration| migration.number);
        assert!(numbers.eq((1..).take(migrations.len())), "migrations are numbered from 1 without gaps");
        Self(migrations)
    }

    /// The number of the latest one.
    #[must_use]
    pub fn latest(&self) -> u32 {
        self.0.last().map_or(0, |migration| migration.number)
    }

    /// The migrations in order.
    #[must_use]
    pub const fn all(&self) -> &'static [Migration] {
        self.0
    }

    /// Compares with what was applied, sorted by number.
    ///
    /// # Errors
    /// [`SchemaProblem`] if the schema is newer, or is not what these migrations make.
    pub fn plan(&self, applied: &[AppliedMigration]) -> Result<MigrationPlan, SchemaProblem> {
        let known = self.latest();
        if let Some(found) =
            applied.iter().map(|migration| migration.number).max().filter(|found| *found > known)
        {
            return Err(SchemaProblem::Newer { found, known });
        }
        for (index, migration) in self.0.iter().enumerate().take(applied.len()) {
            let Migration { number, name, .. } = *migration;
            match &applied[index] {
                found if found.number != number => return Err(SchemaProblem::Gap { number, name }),
                found if found.checksum != migration.checksum() => {
                    return Err(SchemaProblem::Changed { number, name });
                }
                _ => {}
            }
        }
        Ok(MigrationPlan { pending: &self.0[applied.len()..] })
    }

    /// Checks that nothing is left to be done.
    ///
    /// # Errors
    /// [`SchemaProblem`] as of [`plan`](Self::plan), or [`SchemaProblem::Missing`].
    pub fn validate(&self, applied: &[AppliedMigration]) -> Result<(), SchemaProblem> {
        let pending = self.plan(applied)?.pending;
        if pending.is_empty() {
            return Ok(());
        }
        let migrations = pending.iter().map(|migration| (migration.number, migration.name)).collect();
        Err(SchemaProblem::Missing { migrations })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    static THREE: [Migration; 3] = [
        Migration { number: 1, name: "jobs", sql: "CREATE TABLE {p}a(x);" },
        Migration { number: 2, name: "servers", sql: "CREATE TABLE {p}b(x);" },
        Migration { number: 3, name: "metadata", sql: "CREATE TABLE {p}c(x);" },
    ];

    fn applied(numbers: &[u32]) -> Vec<AppliedMigration> {
        let of = |number: &u32| {
            let migration = THREE.iter().find(|migration| migration.number == *number);
            AppliedMigration {
                number: *number,
                name: String::new(),
                checksum: migration.map(Migration::checksum).unwrap_or_default(),
            }
        };
        numbers.iter().map(of).collect()
    }

    #[test]
    fn what_was_not_applied_is_pending_in_order() {
        let pending = |numbers: &[u32]| {
            let plan = Migrations::new(&THREE).plan(&applied(numbers)).unwrap();
            plan.pending.iter().map(|migration| migration.number).collect::<Vec<_>>()
        };

        assert_eq!(pending(&[]), [1, 2, 3]);
        assert_eq!(pending(&[1]), [2, 3]);
        assert_eq!(pending(&[1, 2, 3]), [0_u32; 0]);
    }

    #[test]
    fn a_newer_schema_a_gap_and_a_changed_text_are_told_apart() {
        let migrations = Migrations::new(&THREE);
        let mut changed = applied(&[1, 2]);
        changed[1].checksum = "other".to_owned();

        assert_eq!(
            migrations.plan(&applied(&[1, 2, 3, 9])).unwrap_err(),
            SchemaProblem::Newer { found: 9, known: 3 }
        );
        assert_eq!(
            migrations.plan(&applied(&[1, 3])).unwrap_err(),
            SchemaProblem::Gap { number: 2, name: "servers" }
        );
        assert_eq!(
            migrations.plan(&changed).unwrap_err(),
            SchemaProblem::Changed { number: 2, name: "servers" }
        );
    }

    #[test]
    fn validation_names_what_is_missing() {
        let problem = Migrations::new(&THREE).validate(&applied(&[1])).unwrap_err();

        assert!(problem.to_string().contains("migration 2 (servers), migration 3 (metadata)"), "{problem}");
        assert!(Migrations::new(&THREE).validate(&applied(&[1, 2, 3])).is_ok());
    }

    #[test]
    fn a_checksum_depends_on_the_text_and_never_changes() {
        assert_eq!(THREE[0].checksum(), THREE[0].checksum());
        assert_ne!(THREE[0].checksum(), THREE[1].checksum());
    }
}
