//! Time zones by name: looking one up, and storing one as its IANA name.

use chrono_tz::{TZ_VARIANTS, Tz};
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serializer};

use super::ScheduleError;

/// Finds the time zone with this IANA name, such as `Europe/Brussels`.
///
/// # Errors
///
/// [`ScheduleError::UnknownZone`] if there is none; it suggests a zone that differs in case only.
///
/// # Examples
///
/// ```
/// use jobrunr_core::schedule::{Tz, find_zone};
///
/// assert_eq!(find_zone("Europe/Brussels")?, Tz::Europe__Brussels);
/// assert!(find_zone("europe/brussels").unwrap_err().to_string().contains("\"Europe/Brussels\""));
/// # Ok::<(), jobrunr_core::schedule::ScheduleError>(())
/// ```
pub fn find_zone(name: &str) -> Result<Tz, ScheduleError> {
    name.parse().map_err(|_| ScheduleError::UnknownZone {
        zone: name.to_owned(),
        advice: match find_ignoring_case(name) {
            Some(zone) => format!("write \"{}\"", zone.name()),
            None => "write an IANA name such as \"UTC\" or \"Europe/Brussels\"".to_owned(),
        },
    })
}

/// What may be written where a time zone is wanted: a [`Tz`], or its IANA name.
pub trait IntoZone {
    /// Finds the zone.
    ///
    /// # Errors
    ///
    /// [`ScheduleError::UnknownZone`] if there is none of this name.
    fn into_zone(self) -> Result<Tz, ScheduleError>;
}

impl IntoZone for Tz {
    fn into_zone(self) -> Result<Tz, ScheduleError> {
        Ok(self)
    }
}

impl IntoZone for &str {
    fn into_zone(self) -> Result<Tz, ScheduleError> {
        find_zone(self)
    }
}

fn find_ignoring_case(name: &str) -> Option<Tz> {
    TZ_VARIANTS.iter().copied().find(|zone| zone.name().eq_ignore_ascii_case(name.trim()))
}

pub(super) fn utc() -> Tz {
    Tz::UTC
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "the signature that serde asks for")]
pub(super) fn serialize<S: Serializer>(zone: &Tz, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(zone.name())
}

pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Tz, D::Error> {
    let name = String::deserialize(deserializer)?;
    find_zone(&name).map_err(D::Error::custom)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_zone_is_found_by_its_exact_name() {
        assert_eq!(find_zone("America/New_York").unwrap(), Tz::America__New_York);
        assert_eq!(find_zone("UTC").unwrap(), Tz::UTC);
    }

    #[test]
    fn an_unknown_zone_is_reported_with_what_to_write() {
        let wrong_case = find_zone("europe/brussels").unwrap_err().to_string();
        let nowhere = find_zone("Mars/Olympus").unwrap_err().to_string();

        assert!(wrong_case.contains("write \"Europe/Brussels\""), "{wrong_case}");
        assert!(nowhere.contains("\"Mars/Olympus\" is not known; write an IANA name"), "{nowhere}");
    }
}
