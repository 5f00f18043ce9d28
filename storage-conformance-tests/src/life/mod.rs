//! Set-up, end, prefixes, cancelled calls and transactions of the caller: scenarios 67 to 74.

mod cancelling;
mod closing;
mod prefixes;
mod set_up;
mod transactions;

pub use cancelling::*;
pub use closing::*;
pub use prefixes::*;
pub use set_up::*;
pub use transactions::*;
