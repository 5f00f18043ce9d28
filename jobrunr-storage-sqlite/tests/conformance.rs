//! The SQLite storage keeps the contract, with and without a table prefix.

mod support;

use storage_conformance_tests::{Prefixed, conformance_tests};
use support::Sqlite;

conformance_tests!(Sqlite);

mod with_a_prefix {
    use super::*;
    conformance_tests!(Prefixed::new(Sqlite, "app_"));
}
