//! What becomes of jobs when their server is told to stop: in about five seconds.
//!
//! ```text
//! cargo run --example graceful_shutdown
//! ```
//!
//! Nine jobs, a server with three workers that claims two jobs ahead. Once three jobs run, the program sends itself SIGTERM,
//! as an orchestrator does. One sees: the two prefetched jobs go back to their queue at once, the four that wait are not
//! touched, a job that ends within the grace of two seconds succeeds, one that listens to its token ends when it fires, and
//! one that does not listen is aborted a second later. The last two go back to their queue, which counts as no failure.
//! Then a second server does what is left: nothing is lost.

use jobrunr::prelude::*;
use tokio::sync::mpsc;

/// How a job behaves when it is to end; the second time it runs it has no reason to dawdle.
#[derive(Serialize, Deserialize, JobRequest)]
#[job(name = "{name}")]
struct Errand {
    name: String,
    manner: Manner,
}

#[derive(Serialize, Deserialize, PartialEq)]
enum Manner {
    /// Takes a second.
    Quick,
    /// Takes long, and ends when it is asked to.
    Polite,
    /// Takes long, whatever it is asked.
    Stubborn,
}

/// Tells when a job has begun.
struct Errands {
    begun: mpsc::UnboundedSender<String>,
}

impl JobHandler<Errand> for Errands {
    type Output = ();

    async fn run(&self, errand: Errand, context: &JobContext) -> JobResult {
        // Steps and metadata survive a stop: by this one a job knows that it was begun before.
        let is_first = context.save_if_absent("was_begun", &true).await?;
        let _ = self.begun.send(errand.name);
        if !is_first {
            return Ok(());
        }
        match errand.manner {
            Manner::Quick => tokio::time::sleep(Duration::from_secs(1)).await,
            Manner::Polite => {
                tokio::select! {
                    () = context.cancellation_token().cancelled() => return Err("asked to end".into()),
                    () = tokio::time::sleep(Duration::from_secs(60)) => {}
                }
            }
            Manner::Stubborn => tokio::time::sleep(Duration::from_secs(60)).await,
        }
        Ok(())
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let storage = jobrunr::connect("memory:").await?;
    let scheduler = JobScheduler::new(Arc::clone(&storage));
    let errand = |name: &str, manner| Errand { name: name.to_owned(), manner };
    let running = [("quick", Manner::Quick), ("polite", Manner::Polite), ("stubborn", Manner::Stubborn)];
    let mut ids = Vec::new();
    for (name, manner) in running {
        ids.push(scheduler.enqueue(errand(name, manner)).await?);
    }
    for number in 1..=6 {
        ids.push(scheduler.enqueue(errand(&format!("waiting {number}"), Manner::Quick)).await?);
    }

    let (begun, mut told) = mpsc::unbounded_channel();
    let server = start(&storage, "first", begun.clone()).await?;
    for _ in 0..3 {
        println!("begun:  {}", told.recv().await.ok_or("the server is there")?);
    }
    println!("\nSIGTERM, three jobs are running …\n");
    let (ended, sent) = tokio::join!(server.run_until_shutdown(), terminate(&server));
    ended?;
    sent?;
    show(&storage, &ids).await?;

    println!("\nA second server does what is left …\n");
    let server = start(&storage, "second", begun).await?;
    let unfinished = JobQuery::in_states([Scheduled, Enqueued, Processing]);
    let all_done = async {
        while storage.count_jobs(&unfinished).await? > 0 {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        Ok::<_, StorageError>(())
    };
    tokio::time::timeout(Duration::from_secs(30), all_done).await??;
    server.stop().await;
    show(&storage, &ids).await?;

    let succeeded = storage.job_counts().await?.in_state(Succeeded);
    if succeeded != 9 {
        return Err(format!("{succeeded} of 9 jobs have succeeded").into());
    }
    Ok(())
}

async fn start(
    storage: &Arc<dyn StorageProvider>,
    name: &str,
    begun: mpsc::UnboundedSender<String>,
) -> Result<BackgroundJobServer, Box<dyn std::error::Error>> {
    let server = BackgroundJobServer::builder(Arc::clone(storage))
        .name(name)
        .workers(3)
        .prefetch(2)
        .shutdown_grace(Duration::from_secs(2))
        .handle::<Errand, _>(Errands { begun });
    Ok(server.start().await?)
}

/// Sends this process what an orchestrator sends it. Where there are no signals, the server is stopped by a call.
async fn terminate(server: &BackgroundJobServer) -> Result<(), Box<dyn std::error::Error>> {
    // The server listens since `run_until_shutdown` was polled, which is before this.
    if cfg!(unix) {
        let id = std::process::id().to_string();
        let sent = tokio::task::spawn_blocking(move || {
            std::process::Command::new("kill").args(["-TERM", id.as_str()]).status()
        });
        if !sent.await??.success() {
            return Err("the signal could not be sent".into());
        }
    } else {
        server.stop().await;
    }
    Ok(())
}

/// A line a job: every state it was in, and why.
async fn show(storage: &Arc<dyn StorageProvider>, ids: &[JobId]) -> Result<(), Box<dyn std::error::Error>> {
    for id in ids {
        let job = storage.find_job(*id).await?.ok_or("no job is lost")?;
        let states: Vec<String> = job.history().iter().map(|entry| told(&entry.state)).collect();
        println!("{:<10} {}", job.name(), states.join(" → "));
    }
    Ok(())
}

fn told(state: &JobState) -> String {
    match state {
        JobState::Enqueued { reason: Some(reason), .. } => format!("ENQUEUED ({reason})"),
        JobState::Processing { server_name, .. } => format!("PROCESSING by {server_name}"),
        state => state.name().to_string(),
    }
}
