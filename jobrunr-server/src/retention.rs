//! How long ended jobs are kept: the options. What acts on them is `housekeeping::retention`.

use std::collections::BTreeMap;
use std::time::Duration;

use jobrunr_core::JobSignature;
use jobrunr_core::storage::SignatureSelection;

/// How long something is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Keep {
    /// For this much time.
    For(Duration),
    /// Until somebody removes it.
    Forever,
}

impl From<Duration> for Keep {
    fn from(time: Duration) -> Self {
        Self::For(time)
    }
}

/// How long ended jobs are kept, in general and by job type.
///
/// By default a SUCCEEDED job becomes DELETED after 36 h, a DELETED job is purged after another 72 h, and a FAILED job
/// stays until somebody acts.
///
/// ```
/// # use std::time::Duration;
/// use jobrunr_server::{Keep, Retention, TypeRetention};
///
/// const DAY: Duration = Duration::from_secs(24 * 60 * 60);
/// let retention = Retention::default()
///     .delete_failed_after(30 * DAY)
///     .for_job_type("send-invoice", TypeRetention::default().delete_succeeded_after(Keep::Forever));
/// # let _ = retention;
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Retention {
    succeeded: Keep,
    failed: Keep,
    deleted: Keep,
    by_type: BTreeMap<String, TypeRetention>,
}

/// How long ended jobs of one type are kept; what is not set is as for all other types.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct TypeRetention {
    succeeded: Option<Keep>,
    failed: Option<Keep>,
    deleted: Option<Keep>,
}

impl Default for Retention {
    fn default() -> Self {
        let hours = |hours: u64| Keep::For(Duration::from_secs(hours * 60 * 60));
        Self { succeeded: hours(36), failed: Keep::Forever, deleted: hours(72), by_type: BTreeMap::new() }
    }
}

impl Retention {
    /// SUCCEEDED jobs become DELETED after this much time; default 36 h.
    #[must_use]
    pub fn delete_succeeded_after(mut self, time: impl Into<Keep>) -> Self {
        self.succeeded = time.into();
        self
    }

    /// FAILED jobs that are not retried become DELETED after this much time; default never.
    #[must_use]
    pub fn delete_failed_after(mut self, time: impl Into<Keep>) -> Self {
        self.failed = time.into();
        self
    }

    /// DELETED jobs are removed for good after this much time; default 72 h.
    #[must_use]
    pub fn purge_deleted_after(mut self, time: impl Into<Keep>) -> Self {
        self.deleted = time.into();
        self
    }

    /// Jobs of this type are kept as `retention` says, where it says something.
    #[must_use]
    pub fn for_job_type(mut self, job_type: impl Into<String>, retention: TypeRetention) -> Self {
        self.by_type.insert(job_type.into(), retention);
        self
    }

    /// The job types that were mentioned.
    pub(crate) fn job_types(&self) -> impl Iterator<Item = &str> {
        self.by_type.keys().map(String::as_str)
    }

    /// Which SUCCEEDED jobs become DELETED after which time.
    pub(crate) fn of_succeeded(&self) -> Vec<(SignatureSelection, Duration)> {
        self.groups(self.succeeded, |of_type| of_type.succeeded)
    }

    /// Which FAILED jobs become DELETED after which time.
    pub(crate) fn of_failed(&self) -> Vec<(SignatureSelection, Duration)> {
        self.groups(self.failed, |of_type| of_type.failed)
    }

    /// Which DELETED jobs are purged after which time.
    pub(crate) fn of_deleted(&self) -> Vec<(SignatureSelection, Duration)> {
        self.groups(self.deleted, |of_type| of_type.deleted)
    }

    /// One group a job type that has a time of its own, and one for all others.
    fn groups(
        &self,
        of_others: Keep,
        own: impl Fn(&TypeRetention) -> Option<Keep>,
    ) -> Vec<(SignatureSelection, Duration)> {
        let own = self
            .by_type
            .iter()
            .filter_map(|(job_type, of_type)| Some((JobSignature::new(job_type).ok()?, own(of_type)?)));
        let own: Vec<(JobSignature, Keep)> = own.collect();
        let others = if own.is_empty() {
            SignatureSelection::All
        } else {
            SignatureSelection::Except(own.iter().map(|(signature, _)| signature.clone()).collect())
        };
        let own = own.into_iter().map(|(signature, keep)| (SignatureSelection::Only(vec![signature]), keep));
        let limited = |(selection, keep)| match keep {
            Keep::For(time) => Some((selection, time)),
            Keep::Forever => None,
        };
        own.chain([(others, of_others)]).filter_map(limited).collect()
    }
}

impl TypeRetention {
    /// SUCCEEDED jobs become DELETED after this much time.
    #[must_use]
    pub fn delete_succeeded_after(mut self, time: impl Into<Keep>) -> Self {
        self.succeeded = Some(time.into());
        self
    }

    /// FAILED jobs that are not retried become DELETED after this much time.
    #[must_use]
    pub fn delete_failed_after(mut self, time: impl Into<Keep>) -> Self {
        self.failed = Some(time.into());
        self
    }

    /// DELETED jobs are removed for good after this much time.
    #[must_use]
    pub fn purge_deleted_after(mut self, time: impl Into<Keep>) -> Self {
        self.deleted = Some(time.into());
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_job_belongs_to_at_most_one_group() {
        let second = Duration::from_secs(1);
        let retention = Retention::default()
            .for_job_type("kept", TypeRetention::default().delete_succeeded_after(Keep::Forever))
            .for_job_type("quick", TypeRetention::default().delete_succeeded_after(second));
        let signatures = |names: [&str; 2]| names.map(|name| name.parse().unwrap()).to_vec();

        assert_eq!(
            retention.of_succeeded(),
            [
                (SignatureSelection::Only(vec!["quick".parse().unwrap()]), second),
                (SignatureSelection::Except(signatures(["kept", "quick"])), 36 * 3_600 * second),
            ]
        );
        assert_eq!(retention.of_failed(), []);
        assert_eq!(retention.of_deleted(), [(SignatureSelection::All, 72 * 3_600 * second)]);
    }
}
