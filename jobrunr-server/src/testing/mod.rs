//! Testing code that creates jobs, and the jobs themselves, without a database, without tasks and without waiting.
//!
//! [`TestKit`] runs jobs within a test, when the test says so; [`assert_enqueued!`] and its like look at what was created,
//! in a storage of any kind. Behind the feature `testing`, which belongs into `[dev-dependencies]`.

mod assertions;
mod clock;
mod expectations;
mod inline;
mod kit;
mod runs;

#[doc(inline)]
pub use crate::{
    __assert_enqueued as assert_enqueued, __assert_not_enqueued as assert_not_enqueued,
    __assert_scheduled as assert_scheduled,
};
pub use clock::TestClock;
pub use expectations::{HasStorage, enqueued};
pub use kit::TestKit;
pub use runs::{Run, Runs};

/// What the macros expand to. Not part of the public interface: it may change in any release.
#[doc(hidden)]
pub mod __private {
    pub use super::expectations::{described, find_enqueued, find_none, find_scheduled};
}
