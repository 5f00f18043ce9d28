//! Identities: of a job, of a server, of one stored revision of a job.

use std::fmt;
use std::str::FromStr;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::names::RecurringJobId;

/// The namespace of [`JobId::from_name`], fixed for ever: changing it would change every derived id.
const JOB_NAMESPACE: Uuid = Uuid::from_u128(0x6ad5_55b6_8e1b_5f0f_a1f7_3b2c_d05e_7a91);
/// The namespace of [`JobId::of_tick`], as fixed.
const TICK_NAMESPACE: Uuid = Uuid::from_u128(0x2f0c_9d1e_47b3_5c68_9a54_e6d1_0b7f_83c2);

macro_rules! uuid_newtype {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(Uuid);

        impl $name {
            /// Makes a new id: a UUIDv7, so that ids made later by one process sort later.
            #[must_use]
            #[expect(clippy::new_without_default, reason = "two defaults would differ")]
            pub fn new() -> Self {
                Self(Uuid::now_v7())
            }

            /// The id as a UUID.
            #[must_use]
            pub const fn as_uuid(&self) -> &Uuid {
                &self.0
            }

            /// The id as its sixteen bytes; comparing them compares the ids.
            #[must_use]
            pub const fn as_bytes(&self) -> &[u8; 16] {
                self.0.as_bytes()
            }
        }

        impl From<Uuid> for $name {
            fn from(id: Uuid) -> Self {
                Self(id)
            }
        }

        impl From<$name> for Uuid {
            fn from(id: $name) -> Self {
                id.0
            }
        }

        impl FromStr for $name {
            type Err = uuid::Error;

            fn from_str(text: &str) -> Result<Self, Self::Err> {
                text.parse().map(Self)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), self.0)
            }
        }
    };
}

uuid_newtype! {
    /// Names one job, for ever.
    JobId
}

uuid_newtype! {
    /// Names one life of a background job server; a server that was declared dead comes back under a new one.
    ServerId
}

impl JobId {
    /// Makes the id that belongs to `name`: the same name always gives the same id (a UUIDv5).
    ///
    /// Enqueuing twice under one such id creates one job.
    ///
    /// ```
    /// # use jobrunr_core::JobId;
    /// assert_eq!(JobId::from_name("order-42"), JobId::from_name("order-42"));
    /// assert_ne!(JobId::from_name("order-42"), JobId::from_name("order-43"));
    /// ```
    #[must_use]
    pub fn from_name(name: &str) -> Self {
        Self(Uuid::new_v5(&JOB_NAMESPACE, name.as_bytes()))
    }

    /// Makes the id of the run that belongs to a tick of a recurring job: the same for whoever creates it.
    #[must_use]
    pub fn of_tick(id: &RecurringJobId, tick: DateTime<Utc>) -> Self {
        let name = format!("{id}@{}", tick.timestamp_micros());
        Self(Uuid::new_v5(&TICK_NAMESPACE, name.as_bytes()))
    }
}

/// Which revision of a job this is; every save and every claim makes it one greater.
///
/// It is the fencing token of a claim: a save carries the version that was loaded and loses if the stored one moved on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Version(u64);

impl Version {
    /// The version of something that was made here and not loaded: a save of it replaces whatever is stored.
    pub const UNSAVED: Self = Self(0);
    /// The version of a job that was just created and inserted.
    pub const FIRST: Self = Self(1);

    /// The version with this number.
    #[must_use]
    pub const fn new(number: u64) -> Self {
        Self(number)
    }

    /// The version that follows this one.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0 + 1)
    }

    /// The version as a number, counting from 1.
    #[must_use]
    pub const fn number(self) -> u64 {
        self.0
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_made_later_sort_later() {
        let ids: Vec<_> = (0..1_000).map(|_| JobId::new()).collect();

        assert!(ids.is_sorted());
    }

    #[test]
    fn a_named_id_never_changes() {
        assert_eq!(JobId::from_name("order-42").to_string(), "106753ff-6580-554c-967b-a16378ab2931");
    }

    #[test]
    fn the_id_of_a_tick_never_changes_and_belongs_to_one_tick_of_one_recurring_job() {
        let id = |recurring: &str, micros| {
            JobId::of_tick(&recurring.parse().unwrap(), DateTime::from_timestamp_micros(micros).unwrap())
        };

        assert_eq!(id("nightly", 1_800_000_000_000_000).to_string(), "b15787dd-1235-501b-b18f-dabf95ce4b18");
        assert_ne!(id("nightly", 1_800_000_000_000_000), id("nightly", 1_800_000_000_000_001));
        assert_ne!(id("nightly", 1_800_000_000_000_000), id("weekly", 1_800_000_000_000_000));
    }

    #[test]
    fn an_id_survives_text_and_json() {
        let id = JobId::new();

        assert_eq!(id.to_string().parse::<JobId>().unwrap(), id);
        assert_eq!(serde_json::from_str::<JobId>(&serde_json::to_string(&id).unwrap()).unwrap(), id);
    }
}
