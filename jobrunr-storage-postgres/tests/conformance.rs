//! The PostgreSQL storage keeps the contract: plain, with a table prefix, and in a schema that the options name.

mod support;

use storage_conformance_tests::{Prefixed, conformance_tests};
use support::{Place, Postgres};

conformance_tests!(Postgres(Place::SearchPath));

mod with_a_prefix {
    use super::*;
    conformance_tests!(Prefixed::new(Postgres(Place::SearchPath), "app_"));
}

mod in_a_named_schema {
    use super::*;
    conformance_tests!(Postgres(Place::NamedSchema));
}
