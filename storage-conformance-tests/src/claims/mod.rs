//! Handing out jobs: scenarios 18 to 30.

mod order;
mod racing;
mod selection;
mod taking;

pub use order::*;
pub use racing::*;
pub use selection::*;
pub use taking::*;
