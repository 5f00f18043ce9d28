//! The conformance suite on Redis: one server and a cluster, each without a prefix of the user's and with one.

mod support;

use storage_conformance_tests::{Prefixed, conformance_tests};
use support::{CLUSTER, Redis, SINGLE};

conformance_tests!(Redis(SINGLE));

mod with_a_prefix {
    use super::*;
    conformance_tests!(Prefixed::new(Redis(SINGLE), "app_"));
}

mod on_a_cluster {
    use super::*;
    conformance_tests!(Redis(CLUSTER));
}

mod on_a_cluster_with_a_prefix {
    use super::*;
    conformance_tests!(Prefixed::new(Redis(CLUSTER), "app_"));
}
