//! However many recurring jobs there are, the master reads those that are due.

use std::time::Duration;

use futures_util::{StreamExt, stream};
use jobrunr_core::recurring::{JobTemplate, RecurringJob};
use jobrunr_core::schedule::Interval;
use jobrunr_core::storage::{RecurringJobQuery, RecurringJobStore, StorageProvider};
use jobrunr_storage_redis::RedisStorage;

use crate::support::PrivateServer;
use crate::{a_server_with_a_storage, an_enqueued_job, at};

/// Saves 5 000 recurring jobs. Every 250th is due at second 0, and as many are paused that would be.
async fn fill(storage: &RedisStorage) {
    let schedule = Interval::new(Duration::from_secs(60), at(0)).unwrap();
    let jobs = (0..5_000).map(|number| {
        let id = format!("job-{number}").parse().unwrap();
        let template = JobTemplate::from(an_enqueued_job().definition());
        let mut job = RecurringJob::new(id, schedule.into(), template, at(0));
        job.next_run_at = Some(if number % 250 < 2 { at(0) } else { at(number) });
        job.paused = number % 250 == 1;
        job
    });
    let saves = jobs.map(|job| async move { storage.save_recurring_job(&job).await.unwrap() });
    stream::iter(saves).buffer_unordered(50).collect::<Vec<_>>().await;
}

/// The words of every command on our keys that was logged since the log was emptied, the first one first; without hints,
/// which go out a little after what they tell of.
async fn logged(server: &PrivateServer) -> Vec<Vec<String>> {
    let mut connection = server.connection().await.unwrap();
    let mut get = redis::cmd("SLOWLOG");
    let log: Vec<(i64, i64, i64, Vec<String>, String, String)> =
        get.arg("GET").arg(100).query_async(&mut connection).await.unwrap();
    let words = log.into_iter().rev().map(|(_, _, _, words, ..)| words);
    let is_ours = |words: &Vec<String>| {
        words[0] != "PUBLISH" && words.iter().any(|word| word.starts_with("{jobrunr}:"))
    };
    words.filter(is_ours).collect()
}

#[tokio::test]
async fn of_5_000_recurring_jobs_those_that_are_due_are_found_by_one_command_and_read_by_one() {
    // Every command is slow enough for the log, which keeps up to 32 words of each.
    let Some((server, storage)) = a_server_with_a_storage(&["slowlog-log-slower-than 0"]).await else {
        return;
    };
    fill(&storage).await;
    server.ask(&["SLOWLOG", "RESET"]).await.unwrap();

    let due = RecurringJobQuery { due_at: Some(at(0)), ..RecurringJobQuery::default() };
    let found = storage.list_recurring_jobs(&due).await.unwrap();

    let ids: Vec<String> = found.iter().map(|job| job.id.to_string()).collect();
    assert_eq!(ids.len(), 20);
    let commands = logged(&server).await;
    let [find, read] = &commands[..] else { panic!("a look is two commands: {commands:?}") };
    assert_eq!((find[0].as_str(), find.len()), ("ZRANGEBYLEX", 4), "{find:?}");
    assert_eq!((read[0].as_str(), &read[2..]), ("HMGET", &ids[..]), "only those that are due");

    server.ask(&["SLOWLOG", "RESET"]).await.unwrap();
    let none = RecurringJobQuery { due_at: Some(at(-1)), ..RecurringJobQuery::default() };
    assert_eq!(storage.list_recurring_jobs(&none).await.unwrap(), []);
    assert_eq!(logged(&server).await.len(), 1, "where none is due nothing is read");
    storage.close().await;
}
