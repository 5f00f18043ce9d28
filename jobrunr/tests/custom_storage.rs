//! The conformance suite on the storage of the example `custom_storage`, as a third party would run it on its own.

#[path = "../examples/custom_storage.rs"]
#[allow(dead_code, reason = "the suite takes the storage without the program")]
mod custom_storage;

use std::sync::Arc;

use custom_storage::RedbStorage;
use storage_conformance_tests::{Ability, NoDatabase, conformance_tests, harness_from};

conformance_tests!(harness_from(&[Ability::Durability], || async {
    let database = redb::Builder::new().create_with_backend(redb::backends::InMemoryBackend::new());
    let database = Arc::new(database.map_err(NoDatabase::because)?);
    Ok(move |_prefix| std::future::ready(Ok(RedbStorage::new(Arc::clone(&database)))))
}));
