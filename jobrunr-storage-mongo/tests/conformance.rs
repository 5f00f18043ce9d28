//! The MongoDB storage keeps the contract: on a replica set and on a server alone, plain and with a prefix.

mod support;

use storage_conformance_tests::{Prefixed, conformance_tests};
use support::Mongo;

conformance_tests!(Mongo::ReplicaSet);

mod with_a_prefix {
    use super::*;
    conformance_tests!(Prefixed::new(Mongo::ReplicaSet, "app_"));
}

mod stand_alone {
    use super::*;
    conformance_tests!(Mongo::StandAlone);
}

mod stand_alone_with_a_prefix {
    use super::*;
    conformance_tests!(Prefixed::new(Mongo::StandAlone, "app_"));
}
