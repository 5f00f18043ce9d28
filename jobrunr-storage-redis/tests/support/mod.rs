//! Key spaces of a test's own on servers that tests share, servers of a test's own, and what can be done to both.

#![allow(dead_code, unused_imports, reason = "not every test file needs everything")]

mod harness;
mod private_server;
mod proxy;

pub(crate) use harness::{CLUSTER, KeySpace, Redis, SINGLE};
pub(crate) use private_server::PrivateServer;
pub(crate) use proxy::Proxy;

/// Says that a test cannot run, loudly, or fails where everything is required.
#[expect(clippy::print_stderr, reason = "a test that did not run must say so")]
pub(crate) fn skip(why: &str) {
    let is_required = std::env::var(storage_conformance_tests::REQUIRE_ALL).is_ok_and(|value| value == "1");
    assert!(!is_required, "{why}");
    eprintln!("SKIPPED: {why}");
}
