//! `#[recurring]` beside `#[job]`, and what a server does about it when it starts.
#![cfg(all(feature = "macros", feature = "server"))]

use std::sync::atomic::{AtomicU32, Ordering};

use jobrunr::prelude::*;
use jobrunr::recurring::{MisfirePolicy, OverlapPolicy, RecurringJob};
use jobrunr::schedule::Tz;

/// Writes the report of the day.
#[job(name = "Daily report", retries = 2, queue = "reports", labels = ["report"], timeout = "5m")]
#[recurring(
    id = "daily-report",
    cron = "0 8 * * *",
    zone = "Europe/Brussels",
    misfire = RunAll(7),
    overlap = QueueOne
)]
async fn daily_report(_context: JobContext) -> JobResult {
    Ok(())
}

#[job(type = "app::beat")]
#[recurring(interval = "1m30s")]
fn beat() {
    BEATS.fetch_add(1, Ordering::Relaxed);
}

static BEATS: AtomicU32 = AtomicU32::new(0);

#[recurring(id = "often", cron = "*/5 * * * *", misfire = RunOnce)]
#[job]
#[recurring(id = "seldom", cron = "@yearly", overlap = CancelPrevious)]
async fn clean_up() {}

#[job]
#[recurring(id = "odd-zones", cron = "0 0 * * *", zone = "America/Port-au-Prince")]
#[recurring(id = "fixed-zone", cron = "0 0 * * *", zone = "Etc/GMT-1")]
#[recurring(id = "long-zone", cron = "0 0 * * *", zone = "America/Argentina/Buenos_Aires")]
fn zones() {}

#[job]
async fn usual() {}

/// What a server saves that was given these functions.
async fn saved() -> Vec<RecurringJob> {
    let storage = jobrunr::connect("memory:").await.expect("memory is always there");
    let server = BackgroundJobServer::builder(Arc::clone(&storage))
        .job(daily_report)
        .job(beat)
        .job(clean_up)
        .job(zones)
        .job(usual)
        .start()
        .await
        .expect("the functions are valid");
    server.stop().await;
    JobScheduler::new(storage).list_recurring_jobs().await.expect("memory answers")
}

#[tokio::test]
async fn a_server_saves_what_its_functions_ask_for() {
    let saved = saved().await;

    let ids: Vec<_> = saved.iter().map(|job| job.id.as_str().to_owned()).collect();
    let [first, ids @ ..] = &ids[..] else { panic!("none were saved") };
    assert!(first.starts_with("app--beat-"), "{first}");
    assert_eq!(ids, ["daily-report", "fixed-zone", "long-zone", "odd-zones", "often", "seldom"]);
}

#[tokio::test]
async fn the_attribute_says_all_about_the_recurring_job() {
    let saved = saved().await;
    let find = |id: &str| saved.iter().find(|job| job.id.as_str().starts_with(id)).expect("it was saved");

    let report = find("daily-report");
    assert_eq!(report.schedule.to_string(), "\"0 8 * * *\" in Europe/Brussels");
    assert_eq!(report.misfire, MisfirePolicy::RunAll { at_most: 7 });
    assert_eq!(report.overlap, OverlapPolicy::QueueOne);
    let template = &report.template;
    assert_eq!((template.name.as_str(), template.queue.as_str()), ("Daily report", "reports"));
    assert_eq!((template.retries, template.timeout), (Some(2), Some(Duration::from_secs(300))));
    assert_eq!(template.payload.as_str(), "{}");
    assert_eq!(find("app--beat-").schedule.to_string(), "every 90s");
    assert_eq!((find("often").misfire, find("often").overlap), (MisfirePolicy::RunOnce, OverlapPolicy::Skip));
    assert_eq!(find("seldom").overlap, OverlapPolicy::CancelPrevious);
    for (id, zone) in [
        ("odd-zones", Tz::America__PortauPrince),
        ("fixed-zone", Tz::Etc__GMTMinus1),
        ("long-zone", Tz::America__Argentina__Buenos_Aires),
    ] {
        assert_eq!(find(id).schedule.to_string(), format!("\"0 0 * * *\" in {}", zone.name()));
    }
}

#[tokio::test]
async fn a_recurring_function_stays_callable() {
    clean_up().await;
    let beat_once = || beat();
    beat_once();

    assert_eq!(BEATS.load(Ordering::Relaxed), 1);
}
