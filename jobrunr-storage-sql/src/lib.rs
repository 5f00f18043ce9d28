#![doc = include_str!("../README.md")]

mod dialect;
mod gather;
mod history;
mod lanes;
mod migrations;
mod prefix;
mod row;
mod search;
mod times;

pub use dialect::{CursorPart, Dialect, ListKind, Value};
pub use gather::{Call, CallersTurn, Gatherer, Gathering, Part};
pub use history::{EncodedHistory, HotColumns, Tail, encode_history, tail_start};
pub use lanes::{Lane, QueueOrder, Wanted};
pub use migrations::{AppliedMigration, Migration, MigrationPlan, Migrations, SchemaProblem};
pub use prefix::{InvalidPrefix, TablePrefix};
pub use row::{JobRow, StoredDefinition, Unreadable, encode_entries, last_error};
pub use search::{Search, render_conditions, render_count, render_list};
pub use times::{from_micros, micros};
