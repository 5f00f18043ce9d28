//! Schedules of the user's own: stored as a name and data, built again by a registered factory.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{Schedule, ScheduleError};

/// A schedule that user code computes, as it is stored: the name it is registered as, and its data.
///
/// # Examples
///
/// See [`CustomSchedules`].
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CustomSchedule {
    name: String,
    #[serde(default)]
    data: Value,
}

impl CustomSchedule {
    /// Refers to the schedule registered as `name`; `data` is handed to its factory.
    pub fn new(name: impl Into<String>, data: Value) -> Self {
        Self { name: name.into(), data }
    }

    /// Returns the name the schedule is registered as.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Returns what the factory builds the schedule from.
    pub fn data(&self) -> &Value {
        &self.data
    }
}

// Both without the data, which may be confidential.
impl fmt::Debug for CustomSchedule {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("CustomSchedule").field("name", &self.name).finish_non_exhaustive()
    }
}

impl fmt::Display for CustomSchedule {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "custom \"{}\"", self.name)
    }
}

type Factory = dyn Fn(&Value) -> Result<Arc<dyn Schedule>, ScheduleError> + Send + Sync;

/// The factories of custom schedules, by name.
///
/// Every process that schedules or runs recurring jobs registers the same names.
///
/// # Examples
///
/// ```
/// use std::sync::Arc;
/// use chrono::{DateTime, TimeDelta, Utc};
/// use jobrunr_core::schedule::{CustomSchedule, CustomSchedules, RecurringSchedule, Schedule};
/// use serde_json::json;
///
/// #[derive(Debug, serde::Deserialize)]
/// struct Tides { minutes: i64 }
///
/// impl Schedule for Tides {
///     fn next_after(&self, after: DateTime<Utc>) -> Option<DateTime<Utc>> {
///         Some(after + TimeDelta::minutes(self.minutes))
///     }
/// }
///
/// let mut schedules = CustomSchedules::new();
/// schedules.register_type::<Tides>("tides");
///
/// let tides = RecurringSchedule::from(CustomSchedule::new("tides", json!({ "minutes": 745 })));
/// let next = tides.next_after(DateTime::UNIX_EPOCH, &schedules)?;
/// assert_eq!(next, Some(DateTime::UNIX_EPOCH + TimeDelta::minutes(745)));
/// # Ok::<(), jobrunr_core::schedule::ScheduleError>(())
/// ```
#[derive(Clone, Default)]
pub struct CustomSchedules {
    factories: BTreeMap<String, Arc<Factory>>,
}

impl CustomSchedules {
    /// Creates a registry without any schedule.
    pub fn new() -> Self {
        Self::default()
    }

    /// Registers how to build the schedule `name` from its data; the last registration of a name counts.
    ///
    /// A factory reports bad data with [`ScheduleError::invalid_custom`].
    pub fn register(
        &mut self,
        name: impl Into<String>,
        factory: impl Fn(&Value) -> Result<Arc<dyn Schedule>, ScheduleError> + Send + Sync + 'static,
    ) {
        self.factories.insert(name.into(), Arc::new(factory));
    }

    /// Registers a schedule that is its own data, read with serde.
    pub fn register_type<S: Schedule + DeserializeOwned + 'static>(&mut self, name: impl Into<String>) {
        let name = name.into();
        let reported_name = name.clone();
        self.register(name, move |data| {
            let schedule = S::deserialize(data)
                .map_err(|error| ScheduleError::invalid_custom(reported_name.as_str(), error))?;
            Ok(Arc::new(schedule))
        });
    }

    /// Builds a stored schedule with its factory.
    ///
    /// # Errors
    ///
    /// [`ScheduleError::UnknownCustomSchedule`] if its name is not registered, and whatever its factory reports.
    pub fn build(&self, schedule: &CustomSchedule) -> Result<Arc<dyn Schedule>, ScheduleError> {
        let Some(factory) = self.factories.get(schedule.name()) else {
            return Err(ScheduleError::UnknownCustomSchedule {
                name: schedule.name().to_owned(),
                registered: self.factories.keys().cloned().collect(),
            });
        };
        factory(schedule.data())
    }
}

impl fmt::Debug for CustomSchedules {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_set().entries(self.factories.keys()).finish()
    }
}
