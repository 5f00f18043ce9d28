//! The in-memory storage keeps the contract.

use jobrunr_core::memory::MemoryStorage;
use storage_conformance_tests::{Ability, conformance_tests, harness_from};

conformance_tests!(harness_from(&[Ability::ChangeFeed, Ability::Durability], || async {
    let database = MemoryStorage::new();
    Ok(move |_prefix: Option<String>| std::future::ready(Ok(database.open_again())))
}));
