//! The names of all keys, and what is kept under each.
//!
//! Every name begins with `{…}:`, where the braces hold the prefix. In a cluster what stands in braces decides where a
//! key lives, so all keys of a prefix live together, and one script reaches them all. Nothing ever looks for keys: from
//! those listed here all others are found.
//!
//! | after `{prefixjobrunr}:` | type | what |
//! |---|---|---|
//! | `schema` | string | the number of the layout described here |
//! | `lanes` | hash | number of each lane (queue, line feed, type), eight digits; lanes stay for ever. Without a name: a random number, which tells these lanes from those after all data were lost |
//! | `counts` | hash | jobs by lane and state (`00000001` + `2`), and `succeeded`: all successes there ever were |
//! | `job:ID` | hash | one job, see below |
//! | `data:ID` | hash | metadata of one job, by name |
//! | `ready:LANE` | sorted set | the line of a lane: priority, since when, id, how a claim reads it |
//! | `due` | sorted set | SCHEDULED jobs: when, id, lane |
//! | `state:N` | sorted set | jobs of one state: last update, id, lane |
//! | `created` | sorted set | all jobs: creation, id, lane |
//! | `label:TEXT` | sorted set | jobs with this label: creation, id, lane |
//! | `recurring:N:ID` | sorted set | jobs that a recurring job made, by state: creation, id, lane |
//! | `awaiting:ID` | sorted set | AWAITING jobs by the job they wait for: creation, id, lane |
//! | `tasks` | hash | recurring jobs by id: version, next run, JSON |
//! | `task-ids` | sorted set | their ids, in order |
//! | `task-due` | sorted set | those that are not paused: next run, id |
//! | `servers` | hash | four fields a server |
//! | `clock` | string | the last time that was told |
//! | `barrier` | string | written before each wait for replicas or disks |
//! | `values:NAME` | hash | metadata by owner: creation, update, value |
//! | `changes:DB` | channel | hints |
//!
//! All sorted sets have the score 0 throughout, so that they are sorted by the bytes of their members, which
//! [`encoding`](crate::encoding) makes comparable.
//!
//! The fields of a job: `h` its [head](crate::head); `d` what was settled at its creation, the first entry of its history and,
//! of a small job, its payload, a line each; `p` a larger payload; `b` its labels (a line each), `r` the recurring job that made
//! it, `m` whether there is metadata; and by number, from `1`, the other entries of its history: the instant, then the state
//! as JSON. Only `h` and `m` are ever written again. Most jobs end with four fields, for which a hash never grows.

use jobrunr_core::StateName;
use jobrunr_core::storage::StorageError;

use crate::PROVIDER;

/// The longest prefix, in bytes.
const MAX_PREFIX: usize = 64;

/// The names of the keys under one prefix.
#[derive(Debug, Clone)]
pub(crate) struct Keys {
    base: String,
}

impl Keys {
    /// The keys under this prefix.
    ///
    /// # Errors
    /// [`StorageError::Unsupported`] if it cannot be one.
    pub(crate) fn new(prefix: &str) -> Result<Self, StorageError> {
        let is_allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.');
        if prefix.len() > MAX_PREFIX || !prefix.bytes().all(is_allowed) {
            return Err(StorageError::Unsupported {
                provider: PROVIDER,
                what: format!(
                    "{prefix:?} cannot be a key prefix, which is at most {MAX_PREFIX} of A-Z, a-z, 0-9, '_' and '.'"
                ),
            });
        }
        Ok(Self { base: format!("{{{prefix}jobrunr}}:") })
    }

    /// What all names begin with; scripts make the others from it.
    pub(crate) fn base(&self) -> &str {
        &self.base
    }

    fn of(&self, name: &str) -> String {
        format!("{}{name}", self.base)
    }

    pub(crate) fn schema(&self) -> String {
        self.of("schema")
    }

    pub(crate) fn lanes(&self) -> String {
        self.of("lanes")
    }

    pub(crate) fn counts(&self) -> String {
        self.of("counts")
    }

    pub(crate) fn job(&self, id: &str) -> String {
        format!("{}job:{id}", self.base)
    }

    pub(crate) fn data(&self, id: &str) -> String {
        format!("{}data:{id}", self.base)
    }

    pub(crate) fn due(&self) -> String {
        self.of("due")
    }

    pub(crate) fn created(&self) -> String {
        self.of("created")
    }

    pub(crate) fn state(&self, state: StateName) -> String {
        format!("{}state:{}", self.base, state.index())
    }

    pub(crate) fn label(&self, label: &str) -> String {
        format!("{}label:{label}", self.base)
    }

    pub(crate) fn recurring(&self, state: StateName, id: &str) -> String {
        format!("{}recurring:{}:{id}", self.base, state.index())
    }

    pub(crate) fn awaiting(&self, id: &str) -> String {
        format!("{}awaiting:{id}", self.base)
    }

    pub(crate) fn tasks(&self) -> String {
        self.of("tasks")
    }

    pub(crate) fn task_ids(&self) -> String {
        self.of("task-ids")
    }

    pub(crate) fn task_due(&self) -> String {
        self.of("task-due")
    }

    pub(crate) fn ready(&self, lane: &str) -> String {
        format!("{}ready:{lane}", self.base)
    }

    pub(crate) fn barrier(&self) -> String {
        self.of("barrier")
    }

    pub(crate) fn servers(&self) -> String {
        self.of("servers")
    }

    pub(crate) fn values(&self, name: &str) -> String {
        format!("{}values:{name}", self.base)
    }

    /// The channel of hints; channels know nothing of the numbers of databases.
    pub(crate) fn changes(&self, database: i64) -> String {
        format!("{}changes:{database}", self.base)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_keys_of_a_prefix_have_its_tag() {
        let keys = Keys::new("app_").unwrap();

        for key in [keys.created(), keys.label("}{"), keys.values("{x}"), keys.state(StateName::Failed)] {
            assert!(key.starts_with("{app_jobrunr}:"), "{key}");
        }
    }

    #[test]
    fn prefixes_that_would_break_the_tag_are_refused() {
        for hostile in ["}", "{", "a b", "a\"b", "é", "a-b", "a:b", &"p".repeat(MAX_PREFIX + 1)] {
            assert!(matches!(Keys::new(hostile), Err(StorageError::Unsupported { .. })), "{hostile}");
        }
        assert!(Keys::new(&"p".repeat(MAX_PREFIX)).is_ok());
    }
}
