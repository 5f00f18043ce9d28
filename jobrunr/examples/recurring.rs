//! Recurring jobs, in about 20 seconds:
//!
//! ```text
//! cargo run --example recurring
//! ```
//!
//! One sees a line for each run, with its tick. A function beats every 2 seconds by itself, as its attribute says. A slow one
//! runs every 3 seconds and takes 5: its ticks wait in line, one at most. A report in the time of Brussels is triggered by
//! hand. Then one schedule is changed and takes effect at once, one is paused, one removes itself, and the list shows what
//! comes next. The example ends by itself. Times are UTC.

use jobrunr::prelude::*;
use jobrunr::recurring::{MisfirePolicy, OverlapPolicy, RecurringJobBuilder};

/// Runs by itself once a server has it: it is saved under its id when the server starts.
#[job]
#[recurring(id = "beat", interval = "2s")]
fn beat(context: &JobContext) {
    tell(context, "beat");
}

/// Takes longer than there is between two ticks; the next run waits for the one before.
#[job]
#[recurring(id = "slow", cron = "*/3 * * * * *", overlap = QueueOne)]
async fn slow(context: JobContext) {
    tell(&context, "slow: begins");
    tokio::time::sleep(Duration::from_secs(5)).await;
    tell(&context, "slow: ends");
}

/// What a recurring job needs to know it is given when it is saved.
#[job(name = "Report of {department}", retries = 2)]
async fn report(department: String, context: JobContext) -> JobResult {
    tell(&context, &format!("report of {department}"));
    Ok(())
}

fn tell(context: &JobContext, what: &str) {
    let tick = context.job().scheduled_at().map(|tick| tick.format("%H:%M:%S").to_string());
    println!("  {what:<22} tick {}", tick.as_deref().unwrap_or("none, it was triggered"));
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let storage = jobrunr::connect("memory:").await?;
    let server = BackgroundJobServer::builder(storage).job(beat).job(slow).job(report).start().await?;
    let scheduler = server.scheduler();

    // Saved in code: any program that reaches the storage may do it, again and again.
    let builder = RecurringJobBuilder::new("0 8 * * MON-FRI", report::job("sales"))
        .id("sales-report")
        .zone("Europe/Brussels")
        .labels(["report"])
        .misfire(MisfirePolicy::RunOnce)
        .overlap(OverlapPolicy::Skip);
    let sales = scheduler.save_recurring_job(builder).await?;
    show("What there is, and when it runs next:", scheduler).await?;

    println!("\nEight seconds of it, with the report triggered by hand:");
    scheduler.trigger_recurring_job(&sales).await?;
    tokio::time::sleep(Duration::from_secs(8)).await;

    println!(
        "\nThe beat now comes every second, the slow one is paused, the report removes itself in 4 seconds:"
    );
    let beat_id = scheduler.schedule_recurrently("beat", "* * * * * *", beat::job()).await?;
    scheduler.pause_recurring_job(&"slow".parse()?).await?;
    let ending = RecurringJobBuilder::new(Duration::from_secs(2), report::job("sales"))
        .id("sales-report")
        .delete_at(scheduler.storage().storage_time().await? + TimeDelta::seconds(4));
    scheduler.save_recurring_job(ending).await?;
    tokio::time::sleep(Duration::from_secs(6)).await;
    show("\nWhat is left:", scheduler).await?;

    // Its runs that have not started go with it.
    scheduler.delete_recurring_job(&beat_id).await?;
    show("\nWithout the beat:", scheduler).await?;
    server.stop().await;
    Ok(())
}

async fn show(title: &str, scheduler: &JobScheduler) -> Result<(), SchedulerError> {
    println!("{title}");
    for job in scheduler.list_recurring_jobs().await? {
        let next = match job.next_tick_at() {
            _ if job.paused => "paused".to_owned(),
            Some(next) => format!("next at {}", next.format("%Y-%m-%d %H:%M:%S")),
            None => "no more".to_owned(),
        };
        println!("  {:<14} {:<42} {next}", job.id.as_str(), job.schedule.to_string());
    }
    Ok(())
}
