//! Inserting, finding, saving and deleting jobs: scenarios 1 to 17.

mod deleting;
mod inserting;
mod metadata;
mod saving;
mod saving_batches;
mod unreadable;

pub use deleting::*;
pub use inserting::*;
pub use metadata::*;
pub use saving::*;
pub use saving_batches::*;
pub use unreadable::*;
