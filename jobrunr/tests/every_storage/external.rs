//! An external job whose timeout counts from its claim until its signal.

use jobrunr::prelude::*;
use jobrunr::retry::{FixedDelays, Retries};
use jobrunr::{FailureKind, Signal, SignalError};
use tokio::sync::mpsc;

use crate::LIMIT;
use crate::database::Database;

/// Places an order, and tells so.
#[job(labels = ["gpu"], timeout = "4s")]
async fn place_order(context: JobContext, told: Inject<mpsc::UnboundedSender<u32>>) -> JobResult {
    told.send(context.attempt())?;
    Ok(())
}

pub(crate) async fn timeout_retry_and_signal(database: &Database) {
    let (storage, elsewhere) = (database.open().await, database.open().await);
    let (told, mut hears) = mpsc::unbounded_channel::<u32>();
    let server = BackgroundJobServer::builder(Arc::clone(&storage))
        .poll_interval(Duration::from_millis(500))
        .retries(Retries::default().policy(FixedDelays::new([])))
        .job(place_order)
        .provide(told)
        .start()
        .await
        .unwrap();
    let web = JobScheduler::new(Arc::clone(&elsewhere));
    let id = web.create(JobBuilder::external(place_order::job()).retries(1)).await.unwrap();

    for attempt in [1, 2] {
        let heard = tokio::time::timeout(LIMIT, hears.recv()).await.expect("the trigger is run");
        assert_eq!(heard, Some(attempt));
    }
    let late = web.signal(Signal::failed(id, "no card is free").of_attempt(1)).await;
    assert!(matches!(late, Err(SignalError::OtherAttempt { attempt: 1, current: 2, .. })), "{late:?}");
    web.signal_succeeded(id, "film").await.unwrap();

    let result: String = web.await_result(id, LIMIT).await.unwrap();
    assert_eq!(result, "film");
    server.stop().await;
    let job = storage.find_job(id).await.unwrap().unwrap();
    let states: Vec<_> = job.history().iter().map(|entry| entry.state.name()).collect();
    assert_eq!(states[..6], [Enqueued, Processing, Processed, Failed, Scheduled, Enqueued]);
    assert_eq!(job.last_failure().map(|failure| failure.kind), Some(FailureKind::TimedOut));
    let waited = job.history()[3].at - job.history()[1].at;
    assert!(waited >= TimeDelta::seconds(4), "it counts from the claim: {waited}");
    storage.close().await;
    elsewhere.close().await;
}
