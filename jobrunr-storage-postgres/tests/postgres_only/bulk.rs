//! A batch too large for one statement goes in parts, two of them at once.

use std::collections::HashSet;
use std::time::Duration;

use futures_util::StreamExt;
use jobrunr_core::storage::{Change, ChangeFeed, JobQuery, JobSearch, JobStore, SetUp, StorageProvider};
use jobrunr_core::{Job, JobDefinition, JobId, JobState, JsonText, QueueName};
use jobrunr_storage_postgres::PostgresStorage;
use tokio::time::timeout;

use crate::support::{Place, Schema, url};
use crate::{an_enqueued_job, at};

const PART: usize = 1_000;

/// A priority that the tests have the database turn down.
const UNLUCKY: i32 = 7;

async fn set_up(url: String) -> (Schema, PostgresStorage) {
    let schema = Schema::create(url, Place::SearchPath).await.unwrap();
    let storage = schema.open_postgres(None).await.unwrap();
    storage.set_up(SetUp::Migrate).await.unwrap();
    (schema, storage)
}

fn jobs(count: usize) -> Vec<Job> {
    (0..count).map(|_| an_enqueued_job()).collect()
}

fn an_unlucky_job() -> Job {
    let mut definition = JobDefinition::new("mail".parse().unwrap(), JsonText::of(&"hello").unwrap());
    definition.priority = UNLUCKY;
    Job::new(JobId::new(), definition, JobState::enqueued(), at(0)).unwrap()
}

#[tokio::test]
async fn after_a_part_has_failed_no_more_are_begun_and_others_come_to_their_end() {
    let Some(url) = url() else { return };
    let (schema, storage) = set_up(url).await;
    schema
        .execute(&format!(
            "CREATE FUNCTION turn_down() RETURNS trigger LANGUAGE plpgsql AS \
             $$ BEGIN RAISE EXCEPTION 'unlucky'; END $$; \
             CREATE TRIGGER turn_down BEFORE INSERT ON jobrunr_job FOR EACH ROW WHEN (NEW.priority = {UNLUCKY}) \
             EXECUTE FUNCTION turn_down()"
        ))
        .await
        .unwrap();
    let mut changes = storage.subscribe();
    let mut batch = jobs(6 * PART);
    batch[PART] = an_unlucky_job();

    let error = storage.insert_jobs(&batch).await.unwrap_err();

    assert!(format!("{error:?}").contains("unlucky"), "{error:?}");
    // The third part may have been begun before the second one failed.
    let inserted = storage.count_jobs(&JobQuery::all()).await.unwrap();
    assert!([1_000, 2_000].contains(&inserted), "{inserted}");
    let ready = Change::JobsReady { queue: QueueName::default() };
    let told = async { changes.by_ref().any(|change| std::future::ready(change == ready)).await };
    assert!(timeout(Duration::from_secs(60), told).await.unwrap(), "of what was inserted all the same");

    schema.execute("DROP TRIGGER turn_down ON jobrunr_job").await.unwrap();
    let report = storage.insert_jobs(&batch).await.unwrap();

    let present: HashSet<JobId> = report.already_present.iter().copied().collect();
    let whole_parts = batch[..PART].iter().chain(&batch[2 * PART..3 * PART]);
    let expected: HashSet<JobId> =
        whole_parts.map(Job::id).take(usize::try_from(inserted).unwrap()).collect();
    assert_eq!(present, expected);
    assert_eq!(storage.count_jobs(&JobQuery::all()).await.unwrap(), 6_000);
    storage.close().await;
    schema.drop_schema().await;
}

#[tokio::test]
async fn a_job_named_again_in_another_part_was_there_already() {
    let Some(url) = url() else { return };
    let (schema, storage) = set_up(url).await;
    let mut batch = jobs(3 * PART);
    batch[PART + 500] = batch[3].clone();
    batch[2 * PART + 1] = batch[PART + 1].clone();

    let report = storage.insert_jobs(&batch).await.unwrap();

    assert_eq!(report.already_present, [batch[3].id(), batch[PART + 1].id()]);
    assert_eq!(storage.count_jobs(&JobQuery::all()).await.unwrap(), 2_998);
    storage.close().await;
    schema.drop_schema().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_that_insert_the_same_large_batch_at_once_do_not_wait_for_each_other_in_a_circle() {
    let Some(url) = url() else { return };
    let (schema, storage) = set_up(url).await;

    for _ in 0..5 {
        let one = jobs(4 * PART);
        // In parts that overlap two of the other's each, in the opposite order.
        let mut other = one.clone();
        other.reverse();
        other.rotate_left(PART / 2);

        let (first, second) = tokio::join!(storage.insert_jobs(&one), storage.insert_jobs(&other));

        let present: Vec<JobId> =
            [first, second].into_iter().flat_map(|report| report.unwrap().already_present).collect();
        assert_eq!(present.len(), one.len(), "each job is new to one of the two");
        assert_eq!(present.into_iter().collect::<HashSet<_>>().len(), one.len());
    }
    assert_eq!(storage.count_jobs(&JobQuery::all()).await.unwrap(), 20_000);
    storage.close().await;
    schema.drop_schema().await;
}
