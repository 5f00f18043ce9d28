//! How times, priorities and ids are written so that Redis and its scripts can compare them as text.
//!
//! Scripts know only doubles, whose 53 bits do not hold every microsecond, and the scores of sorted sets are doubles too.
//! So everything that is compared has a fixed width, and its order as bytes is its order.

use chrono::{DateTime, Utc};
use jobrunr_core::{JobId, ServerId};
use uuid::Uuid;

/// The width of an instant: microseconds since the epoch plus 10^19, in decimal. From 1970 on it begins with `1`.
pub(crate) const TIME: usize = 20;

/// The width of an id: a UUID in hexadecimal without hyphens.
pub(crate) const ID: usize = 32;

/// The width of a priority: how far it is below the highest there is, in decimal.
pub(crate) const PRIORITY: usize = 10;

/// The width of the number of a lane, in decimal.
pub(crate) const LANE: usize = 8;

/// What is added to microseconds so that none are negative.
const SHIFT: i128 = 10_000_000_000_000_000_000;

/// An instant as text.
pub(crate) fn encode_time(instant: DateTime<Utc>) -> String {
    let shifted = SHIFT + i128::from(instant.timestamp_micros());
    format!("{shifted:0TIME$}")
}

/// The instant that a text stands for, if it does.
pub(crate) fn decode_time(text: &str) -> Option<DateTime<Utc>> {
    let shifted: i128 = text.parse().ok().filter(|_| text.len() == TIME)?;
    DateTime::from_timestamp_micros(i64::try_from(shifted - SHIFT).ok()?)
}

/// A priority as text: the higher comes first.
pub(crate) fn encode_priority(priority: i32) -> String {
    let below_highest = i64::from(i32::MAX) - i64::from(priority);
    format!("{below_highest:0PRIORITY$}")
}

/// The id of a job as text.
pub(crate) fn encode_id(id: JobId) -> String {
    id.as_uuid().simple().to_string()
}

/// The id of a server as text.
pub(crate) fn encode_server(id: ServerId) -> String {
    id.as_uuid().simple().to_string()
}

/// The id that a text stands for, if it does.
pub(crate) fn decode_id<I: From<Uuid>>(text: &str) -> Option<I> {
    Uuid::try_parse(text).ok().filter(|_| text.len() == ID).map(I::from)
}

/// A place in an order of instants, as sorted sets hold it: instant, id, lane.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Member(String);

impl Member {
    /// Reads what a sorted set holds.
    pub(crate) fn parse(text: String) -> Option<Self> {
        (text.is_ascii() && text.len() == TIME + ID + LANE).then_some(Self(text))
    }

    /// Instant and id, which decide the order.
    pub(crate) fn place(&self) -> &str {
        &self.0[..TIME + ID]
    }

    pub(crate) fn id(&self) -> &str {
        &self.0[TIME..TIME + ID]
    }

    pub(crate) fn lane(&self) -> &str {
        &self.0[TIME + ID..]
    }
}

/// Instant and id as a [`Member`] begins.
pub(crate) fn encode_place(instant: DateTime<Utc>, id: JobId) -> String {
    format!("{}{}", encode_time(instant), encode_id(id))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_order_of_texts_is_that_of_what_they_stand_for() {
        let micros = [i64::MIN / 2, -1_000_001, -1, 0, 1, 9_999_999, 1 << 53, (1 << 53) + 1, i64::MAX / 2];
        let times = micros.map(|micros| DateTime::from_timestamp_micros(micros).unwrap());
        let texts = times.map(encode_time);

        assert!(texts.is_sorted());
        assert!(texts.iter().all(|text| text.len() == TIME));
        assert_eq!(texts.map(|text| decode_time(&text).unwrap()), times);

        let priorities = [i32::MAX, 1, 0, -1, i32::MIN].map(encode_priority);
        assert!(priorities.is_sorted());
        assert!(priorities.iter().all(|text| text.len() == PRIORITY));
    }

    #[test]
    fn what_is_not_whole_is_not_read() {
        assert_eq!(decode_time("1000"), None);
        assert_eq!(decode_time(&"x".repeat(TIME)), None);
        assert_eq!(decode_id::<JobId>("6ad555b6-8e1b-5f0f-a1f7-3b2cd05e7a91"), None);
        assert_eq!(Member::parse("1".repeat(TIME)), None);
    }
}
