//! A connection is cut between a commit and its answer: the outcome is found out, nothing is lost and nothing doubled.

use std::pin::pin;
use std::time::Duration;

use futures_util::future::join_all;
use jobrunr_core::storage::{
    CompareAndSet, JobSelection, JobStore, Metadata, MetadataStore, RecurringSave, StorageProvider,
};
use jobrunr_core::storage::{JobSearch, RecurringJobStore, SetUp, StorageExt};
use jobrunr_core::{Job, JobState, StateName, Version};
use jobrunr_storage_mysql::MySqlStorage;
use storage_conformance_tests::RowFaults;
use tokio::time::interval;

use crate::jobs::{a_claim, a_job, at, enqueued_jobs};
use crate::proxy::{Moment, Proxy, Trigger};
use crate::support::{Database, url};

/// A database, a way to it that can be cut, and a storage that goes that way.
struct World {
    database: Database,
    proxy: Proxy,
    storage: MySqlStorage,
}

impl World {
    async fn new(url: &str) -> Self {
        let database = Database::create(url).await.unwrap();
        let proxy = Proxy::before(&database).await;
        let storage = proxy.open(&database).await;
        storage.set_up(SetUp::Migrate).await.unwrap();
        Self { database, proxy, storage }
    }

    fn cut(&self, trigger: Trigger, moment: Moment) {
        self.proxy.cut_at(trigger, moment);
    }

    async fn end(self, cuts: usize) {
        assert_eq!(self.proxy.faults(), cuts, "the connection was cut where it was meant to be");
        assert!(self.storage.write_statistics().outcomes_found_out > 0);
        self.storage.close().await;
        self.database.drop().await;
    }
}

const MOMENTS: [Moment; 2] = [Moment::BeforeTheServer, Moment::BeforeTheAnswer];

#[tokio::test]
async fn a_single_insert_is_there_once() {
    let Some(url) = url() else { return };
    let world = World::new(&url).await;
    world.storage.insert_jobs(&enqueued_jobs(1)).await.unwrap();
    for (index, moment) in MOMENTS.into_iter().enumerate() {
        let [job] = <[_; 1]>::try_from(enqueued_jobs(1)).unwrap();

        world.cut(Trigger::Statement, moment);
        let report = world.storage.insert_jobs(std::slice::from_ref(&job)).await.unwrap();

        assert_eq!(report.already_present, [], "{moment:?}");
        assert_eq!(world.storage.find_job(job.id()).await.unwrap(), Some(job), "{moment:?}");
        let counts = world.storage.job_counts().await.unwrap();
        assert_eq!(counts.in_state(StateName::Enqueued), 2 + u64::try_from(index).unwrap());
    }
    world.end(2).await;
}

#[tokio::test]
async fn a_batch_is_inserted_once() {
    let Some(url) = url() else { return };
    let world = World::new(&url).await;
    world.storage.insert_jobs(&enqueued_jobs(1)).await.unwrap();
    for moment in MOMENTS {
        // Nine rows need two statements, and so a transaction.
        let jobs = enqueued_jobs(9);

        world.cut(Trigger::Commit, moment);
        let report = world.storage.insert_jobs(&jobs).await.unwrap();

        assert_eq!(report.already_present, [], "{moment:?}");
        for job in jobs {
            assert_eq!(world.storage.find_job(job.id()).await.unwrap(), Some(job), "{moment:?}");
        }
    }
    assert_eq!(world.storage.job_counts().await.unwrap().total(), 19);
    world.end(2).await;
}

#[tokio::test]
async fn a_batch_is_inserted_whole_though_one_of_its_jobs_was_there() {
    let Some(url) = url() else { return };
    let world = World::new(&url).await;
    let [there] = <[_; 1]>::try_from(enqueued_jobs(1)).unwrap();
    world.storage.insert_jobs(std::slice::from_ref(&there)).await.unwrap();
    // Eight rows are one statement, nine a transaction, whose second try is the one that is committed.
    for (new, trigger) in [(7, Trigger::Statement), (8, Trigger::Commit)] {
        for moment in MOMENTS {
            let mut jobs = enqueued_jobs(new);
            jobs.push(there.clone());

            world.cut(trigger, moment);
            let report = world.storage.insert_jobs(&jobs).await.unwrap();

            assert_eq!(report.already_present, [there.id()], "{trigger:?}, {moment:?}");
            for job in jobs {
                let stored = world.storage.find_job(job.id()).await.unwrap();
                assert_eq!(stored, Some(job), "{trigger:?}, {moment:?}");
            }
        }
    }
    assert_eq!(world.storage.job_counts().await.unwrap().total(), 31);
    world.end(4).await;
}

#[tokio::test]
async fn jobs_that_go_together_are_all_inserted_though_one_of_them_was_there() {
    let Some(url) = url() else { return };
    let world = World::new(&url).await;
    let there = enqueued_jobs(1);
    world.storage.insert_jobs(&there).await.unwrap();
    for moment in MOMENTS {
        // Whoever is first is not answered yet, so that the others gather behind it and go in one statement.
        let first = enqueued_jobs(1);
        world.proxy.hold_at(Trigger::Statement);
        let mut stuck = pin!(world.storage.insert_jobs(&first));
        tokio::select! {
            report = &mut stuck => panic!("it was answered: {report:?}"),
            () = world.proxy.held() => {}
        }
        let mut callers: Vec<_> = (0..7).map(|_| enqueued_jobs(1)).collect();
        callers.insert(3, there.clone());

        world.cut(Trigger::Statement, moment);
        let reports = join_all(callers.iter().map(|job| world.storage.insert_jobs(job))).await;

        for (jobs, report) in callers.iter().zip(reports) {
            let present: &[_] = if *jobs == there { &[there[0].id()] } else { &[] };
            assert_eq!(report.unwrap().already_present, present, "{moment:?}");
            let stored = world.storage.find_job(jobs[0].id()).await.unwrap();
            assert_eq!(stored.as_ref(), Some(&jobs[0]), "{moment:?}");
        }
        world.proxy.let_go();
        assert_eq!(stuck.await.unwrap().already_present, []);
    }
    assert_eq!(world.storage.job_counts().await.unwrap().total(), 17);
    world.end(4).await;
}

#[tokio::test]
async fn a_job_that_is_claimed_before_its_insert_is_found_out_counts_as_inserted() {
    let Some(url) = url() else { return };
    let world = World::new(&url).await;
    let other = world.database.open_mysql(None).await.unwrap();
    world.storage.insert_jobs(&enqueued_jobs(1)).await.unwrap();
    world.storage.claim_jobs(&a_claim(1)).await.unwrap();
    let jobs = enqueued_jobs(9);

    world.cut(Trigger::Commit, Moment::BeforeTheAnswer);
    // The look for what became of it.
    world.proxy.hold_at(Trigger::Statement);
    let claimed_meanwhile = async {
        world.proxy.held().await;
        let claimed = other.claim_jobs(&a_claim(9)).await;
        world.proxy.let_go();
        claimed
    };
    let (report, claimed) = tokio::join!(world.storage.insert_jobs(&jobs), claimed_meanwhile);

    assert_eq!(claimed.unwrap().len(), 9);
    assert_eq!(report.unwrap().already_present, []);
    assert_eq!(world.storage.job_counts().await.unwrap().total(), 10);
    other.close().await;
    world.end(2).await;
}

#[tokio::test]
async fn a_claim_is_known_to_whoever_made_it() {
    let Some(url) = url() else { return };
    let world = World::new(&url).await;
    world.storage.insert_jobs(&enqueued_jobs(20)).await.unwrap();
    for moment in MOMENTS {
        world.cut(Trigger::Commit, moment);
        let claimed = world.storage.claim_jobs(&a_claim(10)).await.unwrap();

        assert_eq!(claimed.len(), 10, "{moment:?}");
        for job in claimed {
            assert_eq!(job.version(), Version::new(2), "{moment:?}");
            assert_eq!(world.storage.find_job(job.id()).await.unwrap(), Some(job), "{moment:?}");
        }
    }
    let counts = world.storage.job_counts().await.unwrap();
    assert_eq!((counts.in_state(StateName::Enqueued), counts.in_state(StateName::Processing)), (0, 20));
    world.end(2).await;
}

#[tokio::test]
async fn a_job_that_others_parked_meanwhile_says_nothing_of_a_claim() {
    let Some(url) = url() else { return };
    let world = World::new(&url).await;
    let other = world.database.open_mysql(None).await.unwrap();
    let jobs = enqueued_jobs(2);
    world.storage.insert_jobs(&jobs).await.unwrap();
    world.database.corrupt_job(None, jobs[0].id()).await.unwrap();

    world.cut(Trigger::Commit, Moment::BeforeTheServer);
    // The look for what became of it.
    world.proxy.hold_at(Trigger::Statement);
    let claimed_meanwhile = async {
        world.proxy.held().await;
        // The server may take a moment to see that the first claim's connection is gone.
        let mut again = interval(Duration::from_millis(10));
        let claimed = loop {
            again.tick().await;
            let claimed = other.claim_jobs(&a_claim(2)).await.unwrap();
            if !claimed.is_empty() {
                break claimed;
            }
        };
        world.proxy.let_go();
        claimed
    };
    let claim = a_claim(2);
    let (claimed, by_other) = tokio::join!(world.storage.claim_jobs(&claim), claimed_meanwhile);

    assert_eq!(by_other.iter().map(Job::id).collect::<Vec<_>>(), [jobs[1].id()]);
    assert_eq!(claimed.unwrap(), [], "nobody else has what the other claimed");
    other.close().await;
    world.end(2).await;
}

#[tokio::test]
async fn outcomes_are_saved_once() {
    let Some(url) = url() else { return };
    let world = World::new(&url).await;
    world.storage.insert_jobs(&enqueued_jobs(40)).await.unwrap();
    for (is_mixed, moment) in
        [false, true].into_iter().flat_map(|mixed| MOMENTS.map(|moment| (mixed, moment)))
    {
        let mut claimed = world.storage.claim_jobs(&a_claim(10)).await.unwrap();
        for (index, job) in claimed.iter_mut().enumerate() {
            if is_mixed && index % 2 == 0 {
                job.give_back("not now", at(20)).unwrap();
                job.delete(None, at(20)).unwrap();
            } else {
                job.succeed(None, at(20)).unwrap();
            }
        }

        world.cut(Trigger::Commit, moment);
        let conflicts = world.storage.save_all(&mut claimed).await.unwrap();

        assert_eq!(conflicts, [], "{moment:?}");
        for job in claimed {
            assert_eq!(world.storage.find_job(job.id()).await.unwrap(), Some(job), "{moment:?}");
        }
    }
    let counts = world.storage.job_counts().await.unwrap();
    assert_eq!((counts.in_state(StateName::Succeeded), counts.succeeded_all_time), (30, 30));
    assert_eq!(counts.in_state(StateName::Deleted), 10);
    world.end(4).await;
}

#[tokio::test]
async fn due_jobs_are_released_and_jobs_removed_once() {
    let Some(url) = url() else { return };
    let world = World::new(&url).await;
    for moment in MOMENTS {
        let jobs: Vec<_> = (0..5).map(|_| a_job(JobState::scheduled(at(5)))).collect();
        world.storage.insert_jobs(&jobs).await.unwrap();

        world.cut(Trigger::Commit, moment);
        let report = world.storage.enqueue_due_jobs(at(6), 10).await.unwrap();

        assert_eq!((report.released.len(), report.next_due_at), (5, None), "{moment:?}");

        world.cut(Trigger::Commit, moment);
        let removed = world.storage.delete_jobs(&JobSelection::Ids(report.released)).await.unwrap();

        assert_eq!(removed, 5, "{moment:?}");
        assert_eq!(world.storage.job_counts().await.unwrap().total(), 0);
    }
    world.end(4).await;
}

#[tokio::test]
async fn whoever_sets_a_value_knows_that_it_did() {
    let Some(url) = url() else { return };
    let world = World::new(&url).await;
    world.storage.save_metadata(&Metadata::new("name", "owner", "0", at(0))).await.unwrap();
    for (number, moment) in MOMENTS.into_iter().enumerate() {
        let number = i64::try_from(number).unwrap();

        world.cut(Trigger::Commit, moment);
        let change = CompareAndSet {
            name: "name".to_owned(),
            owner: "owner".to_owned(),
            expected: Some(number.to_string()),
            new: (number + 1).to_string(),
            now: at(number + 1),
        };

        assert!(world.storage.compare_and_set_metadata(&change).await.unwrap(), "{moment:?}");
        assert!(!world.storage.compare_and_set_metadata(&change).await.unwrap(), "{moment:?}");
    }
    world.end(2).await;
}

#[tokio::test]
async fn a_recurring_job_is_saved_once() {
    use jobrunr_core::recurring::{JobTemplate, RecurringJob};
    use jobrunr_core::schedule::IntoSchedule;

    let Some(url) = url() else { return };
    let world = World::new(&url).await;
    let template = JobTemplate::from(a_job(JobState::enqueued()).definition());
    let schedule = "0 8 * * *".into_schedule(at(0)).unwrap();
    let mut job = RecurringJob::new("nightly".parse().unwrap(), schedule, template, at(0));
    for (number, moment) in (1..).zip(MOMENTS) {
        world.cut(Trigger::Commit, moment);
        let saved = world.storage.save_recurring_job(&job).await.unwrap();

        assert_eq!(saved, RecurringSave::Saved(Version::new(number)), "{moment:?}");
        job.version = Version::new(number);
    }
    world.end(2).await;
}

#[tokio::test]
async fn an_idle_claim_is_one_statement() {
    let Some(url) = url() else { return };
    let database = Database::create(&url).await.unwrap();
    let proxy = Proxy::before(&database).await;
    let storage = proxy.open(&database).await;
    storage.set_up(SetUp::Migrate).await.unwrap();
    storage.insert_jobs(&enqueued_jobs(1)).await.unwrap();
    storage.claim_jobs(&a_claim(1)).await.unwrap();
    let before = (proxy.statements(), storage.write_statistics().transactions);

    for _ in 0..10 {
        assert_eq!(storage.claim_jobs(&a_claim(1)).await.unwrap(), []);
    }

    let after = (proxy.statements(), storage.write_statistics().transactions);
    assert_eq!(after, (before.0 + 10, before.1), "one statement each, and no transaction");
    storage.close().await;
    database.drop().await;
}
