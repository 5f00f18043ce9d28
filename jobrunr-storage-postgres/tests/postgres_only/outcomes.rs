//! The answer to a commit is lost: what came of it is found out before the caller is told anything.

use std::time::Duration;

use jobrunr_core::recurring::{JobTemplate, RecurringJob};
use jobrunr_core::schedule::IntoSchedule;
use jobrunr_core::storage::{
    ClaimRequest, CompareAndSet, JobSearch, JobSelection, JobStore, Metadata, MetadataStore,
    RecurringJobStore, RecurringSave, ServerAnnouncement, ServerStore, StorageError,
};
use jobrunr_core::{Job, JobId, JobState, ServerId, StateName, Version};

use crate::setting::{Setting, WAYS, assert_unavailable};
use crate::support::proxy::Harm;
use crate::{a_server, an_enqueued_job, at};

/// Has a call made whose commit is cut. What the server has done, the call tells; what it has not, the next one does.
async fn after_a_cut<T: std::fmt::Debug>(
    setting: &Setting,
    moment: Harm,
    call: impl AsyncFn() -> Result<T, StorageError>,
) -> T {
    let before = setting.proxy.harmed();
    setting.cut_next_commit(moment);
    let result = call().await;
    assert_eq!(setting.proxy.harmed(), before + 1, "the commit was cut");
    if moment == Harm::CutBeforeTheAnswer {
        return result.unwrap();
    }
    assert_unavailable(&result);
    call().await.unwrap()
}

#[tokio::test]
async fn whoever_sets_a_value_knows_that_it_did() {
    for (statements, moment) in WAYS {
        let Some(setting) = Setting::new(statements).await else { return };
        let storage = &setting.storage;
        for expected in [None, Some("first".to_owned())] {
            let new = if expected.is_none() { "first" } else { "second" }.to_owned();
            let change = CompareAndSet {
                name: "name".to_owned(),
                owner: "owner".to_owned(),
                expected,
                new,
                now: at(1),
            };

            assert!(
                after_a_cut(&setting, moment, async || storage.compare_and_set_metadata(&change).await).await
            );
            assert!(!storage.compare_and_set_metadata(&change).await.unwrap(), "{statements:?}, {moment:?}");
        }
        assert_eq!(storage.find_metadata("name", "owner").await.unwrap().unwrap().value, "second");
        setting.dispose().await;
    }
}

#[tokio::test]
async fn whoever_is_too_late_to_set_a_value_knows_that_it_was() {
    for (statements, moment) in WAYS {
        let Some(setting) = Setting::new(statements).await else { return };
        setting.direct.save_metadata(&Metadata::new("name", "owner", "theirs", at(0))).await.unwrap();
        let change = CompareAndSet {
            name: "name".to_owned(),
            owner: "owner".to_owned(),
            expected: None,
            new: "mine".to_owned(),
            now: at(1),
        };

        setting.cut_next_commit(moment);
        let was_set = setting.storage.compare_and_set_metadata(&change).await.unwrap();

        assert!(!was_set, "{statements:?}, {moment:?}");
        assert_eq!(setting.proxy.harmed(), 1);
        setting.dispose().await;
    }
}

#[tokio::test]
async fn values_are_removed_and_counted_once() {
    for (statements, moment) in WAYS {
        let Some(setting) = Setting::new(statements).await else { return };
        let storage = &setting.storage;
        for owner in ["one", "other"] {
            setting.direct.save_metadata(&Metadata::new("name", owner, "value", at(0))).await.unwrap();
        }

        let removed =
            after_a_cut(&setting, moment, async || storage.delete_metadata("name", None).await).await;

        assert_eq!(removed, 2, "{statements:?}, {moment:?}");
        setting.dispose().await;
    }
}

fn a_recurring_job() -> RecurringJob {
    let template = JobTemplate::from(an_enqueued_job().definition());
    let schedule = "0 8 * * *".into_schedule(at(0)).unwrap();
    RecurringJob::new("nightly".parse().unwrap(), schedule, template, at(0))
}

#[tokio::test]
async fn a_recurring_job_is_saved_and_removed_once() {
    for (statements, moment) in WAYS {
        let Some(setting) = Setting::new(statements).await else { return };
        let storage = &setting.storage;
        let mut job = a_recurring_job();
        for version in [1, 2] {
            let saved = after_a_cut(&setting, moment, async || storage.save_recurring_job(&job).await).await;

            assert_eq!(saved, RecurringSave::Saved(Version::new(version)), "{statements:?}, {moment:?}");
            job.version = Version::new(version);
            setting.wait_for_hint().await;
        }
        let remove = async || storage.delete_recurring_job(&job.id, Some(job.version)).await;
        assert!(after_a_cut(&setting, moment, remove).await, "{statements:?}, {moment:?}");
        assert_eq!(storage.find_recurring_job(&job.id).await.unwrap(), None);
        setting.dispose().await;
    }
}

#[tokio::test]
async fn a_save_of_a_recurring_job_that_lost_is_told_so() {
    for (statements, moment) in WAYS {
        let Some(setting) = Setting::new(statements).await else { return };
        let mut job = a_recurring_job();
        setting.direct.save_recurring_job(&job).await.unwrap();
        setting.direct.save_recurring_job(&job).await.unwrap();
        job.version = Version::FIRST;

        setting.cut_next_commit(moment);
        let saved = setting.storage.save_recurring_job(&job).await.unwrap();

        assert_eq!(saved, RecurringSave::Conflict, "{statements:?}, {moment:?}");
        setting.dispose().await;
    }
}

#[tokio::test]
async fn due_jobs_are_released_and_told_of_once() {
    for (statements, moment) in WAYS {
        let Some(setting) = Setting::new(statements).await else { return };
        let storage = &setting.storage;
        let jobs = [1, 2, 3, 9].map(|second| {
            let definition = an_enqueued_job().definition().clone();
            Job::new(JobId::new(), definition, JobState::scheduled(at(second)), at(0)).unwrap()
        });
        setting.direct.insert_jobs(&jobs).await.unwrap();

        let report = after_a_cut(&setting, moment, async || storage.enqueue_due_jobs(at(3), 10).await).await;

        let due: Vec<_> = jobs[..3].iter().map(Job::id).collect();
        assert_eq!((report.released, report.next_due_at), (due, Some(at(9))), "{statements:?}, {moment:?}");
        let counts = storage.job_counts().await.unwrap();
        assert_eq!((counts.in_state(StateName::Enqueued), counts.in_state(StateName::Scheduled)), (3, 1));
        setting.dispose().await;
    }
}

#[tokio::test]
async fn jobs_are_removed_and_counted_once() {
    for (statements, moment) in WAYS {
        let Some(setting) = Setting::new(statements).await else { return };
        let storage = &setting.storage;
        let jobs: Vec<Job> = (0..5).map(|_| an_enqueued_job()).collect();
        setting.direct.insert_jobs(&jobs).await.unwrap();
        let selection = JobSelection::Ids(jobs.iter().map(Job::id).collect());

        let removed = after_a_cut(&setting, moment, async || storage.delete_jobs(&selection).await).await;

        assert_eq!(removed, 5, "{statements:?}, {moment:?}");
        assert_eq!(storage.job_counts().await.unwrap().total(), 1);
        setting.dispose().await;
    }
}

#[tokio::test]
async fn jobs_are_removed_by_age_and_counted_once() {
    for (statements, moment) in WAYS {
        let Some(setting) = Setting::new(statements).await else { return };
        let storage = &setting.storage;
        let jobs: Vec<Job> = (0..5).map(|_| an_enqueued_job()).collect();
        setting.direct.insert_jobs(&jobs).await.unwrap();
        let mut ended = setting.direct.claim_jobs(&ClaimRequest::new(a_server(), 5, at(1))).await.unwrap();
        for (second, job) in (2..).zip(&mut ended) {
            job.succeed(None, at(second)).unwrap();
        }
        setting.direct.save_jobs(&ended).await.unwrap();
        let selection = JobSelection::Aged {
            state: StateName::Succeeded,
            updated_before: at(9),
            signatures: Default::default(),
            limit: 4,
        };

        let removed = after_a_cut(&setting, moment, async || storage.delete_jobs(&selection).await).await;

        assert_eq!(removed, 4, "{statements:?}, {moment:?}");
        // One more had succeeded before.
        assert_eq!(storage.job_counts().await.unwrap().in_state(StateName::Succeeded), 2);
        setting.dispose().await;
    }
}

#[tokio::test]
async fn whoever_removes_a_server_knows_whether_it_was_there() {
    for (statements, moment) in WAYS {
        let Some(setting) = Setting::new(statements).await else { return };
        let storage = &setting.storage;
        let announcement = an_announcement();
        setting.direct.announce_server(&announcement).await.unwrap();
        let remove = async || storage.remove_server(announcement.id).await;

        assert!(after_a_cut(&setting, moment, remove).await, "{statements:?}, {moment:?}");
        assert!(!storage.remove_server(announcement.id).await.unwrap());
        assert_eq!(storage.list_servers().await.unwrap(), []);
        setting.dispose().await;
    }
}

fn an_announcement() -> ServerAnnouncement {
    ServerAnnouncement {
        id: ServerId::new(),
        name: "one".to_owned(),
        workers: 1,
        poll_interval: Duration::from_secs(1),
        server_timeout: Duration::from_secs(4),
        queues: Vec::new(),
        signatures: Vec::new(),
    }
}

#[tokio::test]
async fn a_silent_server_is_removed_and_told_of_once() {
    for (statements, moment) in WAYS {
        let Some(setting) = Setting::new(statements).await else { return };
        let storage = &setting.storage;
        let announcement = an_announcement();
        let announced_at = setting.direct.announce_server(&announcement).await.unwrap();
        let before = announced_at + chrono::TimeDelta::seconds(1);

        let removed =
            after_a_cut(&setting, moment, async || storage.remove_silent_servers(before).await).await;

        assert_eq!(removed, [announcement.id], "{statements:?}, {moment:?}");
        setting.dispose().await;
    }
}
