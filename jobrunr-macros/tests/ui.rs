//! What does not compile, and what is said about it. After a change on purpose: `TRYBUILD=overwrite cargo test -p jobrunr-macros`.

#[test]
fn what_cannot_work_is_refused_with_advice() {
    trybuild::TestCases::new().compile_fail("tests/ui/*.rs");
}
