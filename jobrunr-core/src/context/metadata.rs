//! What a run saves with its job under names of its own: durable when the call returns.

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::JobContext;
use crate::ids::JobId;
use crate::limits::{MAX_METADATA_NAME_BYTES, MAX_METADATA_VALUE_BYTES};
use crate::storage::StorageError;

/// Names that begin like this belong to the engine.
pub(super) const RESERVED: &str = "jobrunr-";

/// Why something was not saved with a job, or could not be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MetadataError {
    /// The name breaks a rule.
    #[error(
        "{name:?} cannot name metadata of a job: 1 to {MAX_METADATA_NAME_BYTES} bytes, not beginning with {RESERVED:?}"
    )]
    Name {
        /// The beginning of the name.
        name: String,
    },
    /// The value cannot be written as JSON.
    #[error("the metadata {name:?} cannot be written as JSON")]
    NotJson {
        /// The name of the value.
        name: String,
        /// Why not.
        source: serde_json::Error,
    },
    /// The value is larger than what is kept.
    #[error("the metadata {name:?} has {actual_bytes} bytes and at most {MAX_METADATA_VALUE_BYTES} are kept")]
    TooLarge {
        /// The name of the value.
        name: String,
        /// How large it is, as JSON.
        actual_bytes: usize,
    },
    /// What is saved under the name does not fit the type that was asked for.
    #[error("the metadata {name:?} is no {type_name}")]
    Unfit {
        /// The name of the value.
        name: String,
        /// The type that was asked for.
        type_name: &'static str,
        /// What does not fit.
        source: serde_json::Error,
    },
    /// The run has lost its job: it was deleted, is somebody else's by now, or the run has ended. Nothing was saved.
    #[error("nothing is saved with job {0} any more: this run of it is over")]
    RunIsOver(JobId),
    /// The job was purged while it ran. Nothing was saved.
    #[error("nothing is saved with job {0}: it does not exist any more")]
    JobIsGone(JobId),
    /// The storage failed; whether the value was saved is not known.
    #[error(transparent)]
    Storage(#[from] StorageError),
}

impl JobContext {
    /// Saves a value with the job under this name, over any that was there. Durable when it returns.
    ///
    /// Values stay until the job is purged: later runs of it find them, and so does whoever looks at the job. While the
    /// storage is away it tries again, until the run is asked to end.
    ///
    /// # Errors
    /// [`MetadataError`]; the value is not saved then, or that is not known.
    pub async fn save<T: Serialize + Sync + ?Sized>(
        &self,
        name: &str,
        value: &T,
    ) -> Result<(), MetadataError> {
        let value = encode(own_name(name)?, value)?;
        self.notebook().save(self.run(), name, value).await
    }

    /// Saves a value with the job under this name unless there is one; tells whether it was saved. Durable when it returns.
    ///
    /// # Errors
    /// As [`save`](Self::save).
    pub async fn save_if_absent<T: Serialize + Sync + ?Sized>(
        &self,
        name: &str,
        value: &T,
    ) -> Result<bool, MetadataError> {
        let value = encode(own_name(name)?, value)?;
        self.notebook().save_if_absent(self.run(), name, value).await
    }

    /// The value that is saved with the job under this name, by this run or before it; `None` if there is none.
    ///
    /// # Errors
    /// [`MetadataError::Unfit`] if it is no `T`.
    pub fn get<T: DeserializeOwned>(&self, name: &str) -> Result<Option<T>, MetadataError> {
        let Some(value) = self.notebook().find(self.run(), name) else { return Ok(None) };
        decode(name, &value).map(Some)
    }
}

fn own_name(name: &str) -> Result<&str, MetadataError> {
    let is_valid = (1..=MAX_METADATA_NAME_BYTES).contains(&name.len()) && !name.starts_with(RESERVED);
    if is_valid {
        Ok(name)
    } else {
        Err(MetadataError::Name { name: crate::limits::cut(name, MAX_METADATA_NAME_BYTES).to_owned() })
    }
}

pub(super) fn encode<T: Serialize + ?Sized>(name: &str, value: &T) -> Result<Value, MetadataError> {
    let not_json = |source| MetadataError::NotJson { name: name.to_owned(), source };
    let value = serde_json::to_value(value).map_err(not_json)?;
    let mut length = Length(0);
    serde_json::to_writer(&mut length, &value).map_err(not_json)?;
    if length.0 > MAX_METADATA_VALUE_BYTES {
        return Err(MetadataError::TooLarge { name: name.to_owned(), actual_bytes: length.0 });
    }
    Ok(value)
}

pub(super) fn decode<T: DeserializeOwned>(name: &str, value: &Value) -> Result<T, MetadataError> {
    T::deserialize(value).map_err(|source| MetadataError::Unfit {
        name: name.to_owned(),
        type_name: std::any::type_name::<T>(),
        source,
    })
}

/// Counts what is written to it.
struct Length(usize);

impl std::io::Write for Length {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0 += bytes.len();
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}
