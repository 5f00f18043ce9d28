//! Searching and counting jobs: scenarios 37 to 46.

mod counting;
mod criteria;
mod paging;
mod population;
mod special;

pub use counting::*;
pub use criteria::*;
pub use paging::*;
pub use special::*;
