//! What a run leaves with its job, as core's `JobContext` makes it of the contract.

use jobrunr_core::limits::MAX_LOG_LINES;
use jobrunr_core::storage::{JobQuery, StorageExt};
use jobrunr_core::{JobBuilder, JobLog, JobProgress, JobResult, StateName};

use crate::builders::failure;
use crate::content::list;
use crate::house::{Film, House};
use crate::{Fixture, ScenarioResult};

/// Other processes see at once what a run saves, and the run can still end as if it had saved nothing.
pub async fn what_a_run_saves_is_there_at_once_and_takes_no_version(fixture: &Fixture<'_>) -> ScenarioResult {
    let house = House::of(fixture).await?;
    let mut job = house.running(JobBuilder::new(Film { number: 1 })).await?;
    let run = house.run(&job);

    run.save("order", "Zoë's \"film\"").await?;
    assert!(run.save_if_absent("ticket", &7).await?);
    assert!(!run.save_if_absent("ticket", &8).await?);

    let seen = house.seen(job.id()).await?;
    assert_eq!(
        (&seen.metadata()["order"], &seen.metadata()["ticket"]),
        (&"Zoë's \"film\"".into(), &7.into())
    );
    let progress = run.progress(1_000);
    for line in 0..MAX_LOG_LINES {
        run.log().info(format!("line {line} of Zoë's film"));
        progress.increment();
    }
    run.flush().await?;
    let seen = house.seen(job.id()).await?;
    let log = JobLog::of(&seen);
    assert_eq!((log.lines.len(), log.is_cut), (MAX_LOG_LINES, false));
    for (number, line) in log.lines.iter().enumerate() {
        assert_eq!(line.text, format!("line {number} of Zoë's film"));
    }
    assert_eq!(JobProgress::of(&seen).map(|progress| progress.percent()), Some(100));
    assert_eq!((seen.version(), seen.history()), (job.version(), job.history()), "the job has not moved");
    assert_eq!(list(&*house.far, JobQuery::in_state(StateName::Processing)).await?.len(), 1);

    run.log().warn("one too many");
    run.flush().await?;
    assert!(JobLog::of(&house.seen(job.id()).await?).is_cut, "what is left out is marked");
    job.succeed(None, house.near.storage_time().await?)?;
    house.near.save_job(&mut job).await?;
    let ended = house.seen(job.id()).await?;
    assert_eq!((ended.state_name(), ended.metadata().contains_key("order")), (StateName::Succeeded, true));
    Ok(())
}

/// A run that died after a step leaves its result to the next, wherever that runs.
pub async fn a_step_is_done_once_whichever_run_comes_to_it(fixture: &Fixture<'_>) -> ScenarioResult {
    let house = House::of(fixture).await?;
    let mut job = house.running(JobBuilder::new(Film { number: 1 })).await?;
    let receipt = house.run(&job).run_step_once("charge", async { Ok(vec![u64::MAX, 7]) }).await;
    assert_eq!(receipt.map_err(|error| error.into_failure().message)?, [u64::MAX, 7]);

    // Its server is gone, and the rescue has it run again.
    let now = house.far.storage_time().await?;
    job.fail(failure("the server is gone"), now)?;
    job.enqueue(now)?;
    house.far.save_job(&mut job).await?;
    let claimed = house.claim().await?;
    let run = house.run(&claimed);
    let unreachable = async { JobResult::<Vec<u64>>::Err("the step is done again".into()) };
    let receipt = run.run_step_once("charge", unreachable).await;
    let shipped = run.run_step_once("ship", async { Ok(true) }).await;

    assert_eq!(receipt.map_err(|error| error.into_failure().message)?, [u64::MAX, 7]);
    assert!(shipped.map_err(|error| error.into_failure().message)?);
    assert_eq!(run.attempt(), 2);
    Ok(())
}
