//! The SQLite storage keeps the contract, with and without a table prefix.

#[path = "support/folder.rs"]
mod folder;
#[path = "support/harness.rs"]
mod harness;

use harness::Sqlite;
use storage_conformance_tests::{Prefixed, conformance_tests};

conformance_tests!(Sqlite);

mod with_a_prefix {
    use super::*;
    conformance_tests!(Prefixed::new(Sqlite, "app_"));
}
