//! A connection that is cut between a request and its answer: what came of the call is found out when it is tried again.

use jobrunr_core::storage::{ClaimRequest, JobQuery, JobSearch, JobStore};
use jobrunr_core::{Job, StateName};
use storage_conformance_tests::RowFaults;

use crate::setting::{CUTS, Setting, Statements, WAYS, assert_unavailable};
use crate::support::proxy::{Harm, Trigger};
use crate::{a_server, an_enqueued_job, at};

fn enqueued_jobs(count: usize) -> Vec<Job> {
    (0..count).map(|_| an_enqueued_job()).collect()
}

/// Has a server claim so many jobs that another storage inserts.
async fn claimed_jobs(setting: &Setting, count: usize) -> Vec<Job> {
    setting.direct.insert_jobs(&enqueued_jobs(count)).await.unwrap();
    setting.storage.claim_jobs(&ClaimRequest::new(a_server(), count, at(1))).await.unwrap()
}

#[tokio::test]
async fn an_insert_whose_answer_is_lost_is_there_once_and_is_new_when_tried_again() {
    for (statements, moment) in WAYS {
        // One that is gathered with others, and a batch.
        for count in [1, 100] {
            let Some(setting) = Setting::new(statements).await else { return };
            let jobs = enqueued_jobs(count);

            setting.cut_next_call(moment);
            assert_unavailable(&setting.storage.insert_jobs(&jobs).await);
            let again = setting.storage.insert_jobs(&jobs).await.unwrap();

            assert_eq!(setting.proxy.harmed(), 1);
            assert_eq!(again.already_present, [], "{statements:?}, {moment:?}");
            let stored = setting.storage.count_jobs(&JobQuery::in_state(StateName::Enqueued)).await.unwrap();
            assert_eq!(stored, u64::try_from(count).unwrap());
            let third = setting.storage.insert_jobs(&jobs).await.unwrap();
            assert_eq!(third.already_present.len(), count, "what is known is not uncertain any more");
            setting.dispose().await;
        }
    }
}

#[tokio::test]
async fn an_insert_of_two_statements_whose_commit_is_not_answered_is_there_once() {
    for moment in CUTS {
        let Some(setting) = Setting::new(Statements::Kept).await else { return };
        let mut jobs = enqueued_jobs(20);
        for job in &mut jobs[10..] {
            // What has more than one entry does not go with the plain ones.
            job.schedule(at(9), None, at(1)).unwrap();
        }

        setting.cut_next_commit(moment);
        assert_unavailable(&setting.storage.insert_jobs(&jobs).await);
        let again = setting.storage.insert_jobs(&jobs).await.unwrap();

        assert_eq!(setting.proxy.harmed(), 1);
        assert_eq!(again.already_present, [], "{moment:?}");
        assert_eq!(setting.storage.job_counts().await.unwrap().total(), 21);
        setting.dispose().await;
    }
}

#[tokio::test]
async fn a_save_whose_answer_is_lost_has_won_when_tried_again() {
    for (statements, moment) in WAYS {
        let Some(setting) = Setting::new(statements).await else { return };
        let storage = &setting.storage;
        let mut jobs = claimed_jobs(&setting, 10).await;
        for job in &mut jobs {
            job.succeed(None, at(2)).unwrap();
        }

        setting.cut_next_call(moment);
        assert_unavailable(&storage.save_jobs(&jobs).await);
        let again = storage.save_jobs(&jobs).await.unwrap();

        assert_eq!(setting.proxy.harmed(), 1);
        assert_eq!(again.conflicts, [], "{statements:?}, {moment:?}");
        for job in &jobs {
            let stored = storage.find_job(job.id()).await.unwrap().unwrap();
            assert_eq!(stored.history(), job.history());
        }
        let counts = storage.job_counts().await.unwrap();
        assert_eq!((counts.in_state(StateName::Succeeded), counts.succeeded_all_time), (11, 11));
        let third = storage.save_jobs(&jobs).await.unwrap();
        assert_eq!(third.conflicts.len(), 10, "what is known is not uncertain any more");
        setting.dispose().await;
    }
}

#[tokio::test]
async fn a_save_whose_answer_is_lost_has_won_though_the_job_went_on_before_it_is_tried_again() {
    for statements in [Statements::Kept, Statements::NotKept] {
        let Some(setting) = Setting::new(statements).await else { return };
        let mut jobs = claimed_jobs(&setting, 2).await;
        for job in &mut jobs {
            job.give_back("not now", at(2)).unwrap();
        }

        setting.cut_next_call(Harm::CutBeforeTheAnswer);
        assert_unavailable(&setting.storage.save_jobs(&jobs).await);
        let elsewhere = setting.direct.claim_jobs(&ClaimRequest::new(a_server(), 10, at(3))).await.unwrap();
        assert_eq!(elsewhere.len(), 2);
        let again = setting.storage.save_jobs(&jobs).await.unwrap();

        assert_eq!(again.conflicts, []);
        for job in elsewhere {
            assert_eq!(
                setting.direct.find_job(job.id()).await.unwrap(),
                Some(job),
                "nothing is written twice"
            );
        }
        setting.dispose().await;
    }
}

#[tokio::test]
async fn a_save_that_lost_to_somebody_else_stays_a_conflict_though_its_answer_was_lost() {
    for (statements, moment) in WAYS {
        let Some(setting) = Setting::new(statements).await else { return };
        let mut mine = claimed_jobs(&setting, 1).await;
        let mut theirs = mine.clone();
        theirs[0].give_back("not now", at(2)).unwrap();
        setting.direct.save_jobs(&theirs).await.unwrap();
        setting.direct.claim_jobs(&ClaimRequest::new(a_server(), 1, at(3))).await.unwrap();
        mine[0].succeed(None, at(3)).unwrap();

        setting.cut_next_call(moment);
        assert_unavailable(&setting.storage.save_jobs(&mine).await);
        let again = setting.storage.save_jobs(&mine).await.unwrap();

        assert_eq!(again.conflicts, [mine[0].id()], "{statements:?}, {moment:?}");
        setting.dispose().await;
    }
}

#[tokio::test]
async fn the_jobs_of_a_claim_whose_answer_is_lost_come_with_the_next_claim_of_the_server() {
    for (statements, moment) in WAYS {
        let Some(setting) = Setting::new(statements).await else { return };
        let storage = &setting.storage;
        setting.direct.insert_jobs(&enqueued_jobs(10)).await.unwrap();
        let (server, other) = (a_server(), a_server());
        // Both servers are known to the storage, so that the next message is the claim itself.
        for server in [&server, &other] {
            let none = ClaimRequest::new(server.clone(), 1, at(1)).of_signatures(["none".parse().unwrap()]);
            assert_eq!(storage.claim_jobs(&none).await.unwrap(), []);
        }
        let was_done = moment == Harm::CutBeforeTheAnswer;

        setting.cut_next_call(moment);
        assert_unavailable(&storage.claim_jobs(&ClaimRequest::new(server.clone(), 4, at(2))).await);
        let of_other = storage.claim_jobs(&ClaimRequest::new(other, 6, at(3))).await.unwrap();
        let found = storage.claim_jobs(&ClaimRequest::new(server.clone(), 100, at(4))).await.unwrap();

        assert_eq!(setting.proxy.harmed(), 1);
        assert_eq!((of_other.len(), found.len()), (6, 4), "{statements:?}, {moment:?}");
        let claimed_at = if was_done { at(2) } else { at(4) };
        assert!(found.iter().all(|job| job.updated_at() == claimed_at && job.server_id() == Some(server.id)));
        let nothing_left = storage.claim_jobs(&ClaimRequest::new(server, 100, at(5))).await.unwrap();
        assert_eq!(nothing_left, [], "a job is found once");
        setting.dispose().await;
    }
}

#[tokio::test]
async fn what_was_claimed_beside_a_job_that_could_not_be_parked_comes_with_the_next_claim_of_the_server() {
    for moment in CUTS {
        let Some(setting) = Setting::new(Statements::Kept).await else { return };
        let jobs = enqueued_jobs(3);
        setting.direct.insert_jobs(&jobs).await.unwrap();
        setting.schema.corrupt_job(None, jobs[1].id()).await.unwrap();
        let server = a_server();
        let none = ClaimRequest::new(server.clone(), 1, at(1)).of_signatures(["none".parse().unwrap()]);
        assert_eq!(setting.storage.claim_jobs(&none).await.unwrap(), []);
        let request = ClaimRequest::new(server, 10, at(2));

        // The first statement claims, the next one parks.
        setting.proxy.harm_after(1, Trigger::Statement, moment);
        assert_unavailable(&setting.storage.claim_jobs(&request).await);
        let found = setting.storage.claim_jobs(&request).await.unwrap();

        assert_eq!(setting.proxy.harmed(), 1);
        let mut ids: Vec<_> = found.iter().map(Job::id).collect();
        ids.sort_unstable();
        assert_eq!(ids, [jobs[0].id(), jobs[2].id()], "{moment:?}");
        let parked = setting.storage.find_job(jobs[1].id()).await.unwrap().unwrap();
        assert_eq!(parked.state_name(), StateName::Failed);
        assert_eq!(setting.storage.job_counts().await.unwrap().in_state(StateName::Failed), 1);
        setting.dispose().await;
    }
}

#[tokio::test]
async fn a_claim_that_is_dropped_on_its_way_loses_nothing() {
    for statements in [Statements::Kept, Statements::NotKept] {
        let Some(setting) = Setting::new(statements).await else { return };
        let storage = &setting.storage;
        setting.direct.insert_jobs(&enqueued_jobs(200)).await.unwrap();
        let server = a_server();
        let mut claimed = 0;
        for microseconds in (0..5_000).step_by(100) {
            let request = ClaimRequest::new(server.clone(), 3, at(1));
            let limit = std::time::Duration::from_micros(microseconds);
            if let Ok(jobs) = tokio::time::timeout(limit, storage.claim_jobs(&request)).await {
                claimed += jobs.unwrap().len();
            }
        }

        loop {
            let jobs = storage.claim_jobs(&ClaimRequest::new(server.clone(), 50, at(2))).await.unwrap();
            if jobs.is_empty() {
                break;
            }
            claimed += jobs.len();
        }

        assert_eq!(claimed, 200, "{statements:?}");
        setting.dispose().await;
    }
}
