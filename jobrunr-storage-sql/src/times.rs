//! Instants as the number that SQL columns keep: microseconds since the Unix epoch.

use chrono::{DateTime, Utc};

use crate::row::Unreadable;

/// The instant as microseconds since the Unix epoch.
#[must_use]
pub const fn micros(instant: DateTime<Utc>) -> i64 {
    instant.timestamp_micros()
}

/// The instant that a column holds.
///
/// # Errors
/// [`Unreadable`] if no calendar reaches that far.
pub fn from_micros(micros: i64) -> Result<DateTime<Utc>, Unreadable> {
    DateTime::from_timestamp_micros(micros).ok_or_else(|| Unreadable::because("an instant is out of range"))
}
