//! The MySQL and MariaDB storage keeps the contract, with and without a table prefix.

mod support;

use storage_conformance_tests::{Prefixed, conformance_tests};
use support::MySql;

conformance_tests!(MySql);

mod with_a_prefix {
    use super::*;
    conformance_tests!(Prefixed::new(MySql, "app_"));
}
