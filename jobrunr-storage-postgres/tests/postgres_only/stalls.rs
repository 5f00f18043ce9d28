//! A way to the server that swallows everything: calls end in time, and the connections it has taken are replaced.

use std::time::Duration;

use futures_util::StreamExt;
use jobrunr_core::storage::{Change, JobSearch, JobStore, StorageProvider};
use jobrunr_storage_postgres::PostgresStorage;

use crate::an_enqueued_job;
use crate::setting::{Setting, Statements, assert_unavailable, soon};
use crate::support::proxy::{Harm, Trigger};

/// How long anything may take.
const LIMIT: Duration = Duration::from_secs(2);
const CONNECTIONS: u32 = 2;

async fn setting(statements: Statements) -> Option<Setting> {
    let set = |options: jobrunr_storage_postgres::PostgresOptions| {
        options.max_connections(CONNECTIONS).connect_timeout(LIMIT).call_timeout(LIMIT).without_listener()
    };
    Setting::with(statements, set).await
}

/// Has each connection of the pool stall at this point, and sees that calls work afterwards.
async fn assert_replaced(
    statements: Statements,
    trigger: Trigger,
    call: impl AsyncFn(&PostgresStorage) -> bool,
) {
    let Some(setting) = setting(statements).await else { return };
    let what = format!("{statements:?}, {trigger:?}");
    for _ in 0..CONNECTIONS {
        setting.proxy.harm_at(trigger, Harm::Stall);
        let before = setting.proxy.harmed();
        soon(&what, async {
            while setting.proxy.harmed() == before {
                call(&setting.storage).await;
            }
        })
        .await;
    }

    soon(&what, async { while !call(&setting.storage).await {} }).await;

    // As many as the pool has at once, so that none is missing.
    let calls = (0..CONNECTIONS).map(|_| setting.storage.job_counts());
    for counts in soon(&what, futures_util::future::join_all(calls)).await {
        counts.unwrap();
    }
    soon("the storage closes", setting.dispose()).await;
}

#[tokio::test]
async fn statements_that_stall_take_no_connection_for_good() {
    for statements in [Statements::Kept, Statements::NotKept] {
        assert_replaced(statements, Trigger::Statement, async |storage| storage.job_counts().await.is_ok())
            .await;
    }
}

#[tokio::test]
async fn transactions_that_stall_take_no_connection_for_good() {
    for trigger in [Trigger::Begin, Trigger::Commit] {
        assert_replaced(Statements::NotKept, trigger, async |storage| storage.job_counts().await.is_ok())
            .await;
    }
}

#[tokio::test]
async fn connections_that_stall_on_their_way_back_to_the_pool_are_replaced() {
    for statements in [Statements::Kept, Statements::NotKept] {
        assert_replaced(statements, Trigger::Ping, async |storage| storage.job_counts().await.is_ok()).await;
    }
}

#[tokio::test]
async fn a_call_on_a_transaction_that_stalls_ends_in_time() {
    for trigger in [Trigger::Begin, Trigger::Statement, Trigger::Commit] {
        let Some(setting) = setting(Statements::NotKept).await else { return };

        setting.proxy.harm_at(trigger, Harm::Stall);
        let job = an_enqueued_job();
        let stalled = soon("the call ends", setting.storage.insert_jobs(std::slice::from_ref(&job))).await;

        assert_unavailable(&stalled);
        assert_eq!(setting.proxy.harmed(), 1, "{trigger:?}");
        let again = soon("the next call", setting.storage.insert_jobs(&[job])).await.unwrap();
        assert_eq!(again.already_present, []);
        soon("the storage closes", setting.dispose()).await;
    }
}

#[tokio::test]
async fn a_listener_that_stalls_before_it_listens_begins_again() {
    let Some(setting) = Setting::with(Statements::Kept, |options| options.connect_timeout(LIMIT)).await
    else {
        return;
    };

    setting.proxy.harm_at(Trigger::Listen, Harm::Stall);
    let mut changes = setting.storage.changes().unwrap().subscribe();
    let first = soon("it listens", changes.next()).await;

    assert_eq!((first, setting.proxy.harmed()), (Some(Change::Resync), 1));
    setting.dispose().await;
}
