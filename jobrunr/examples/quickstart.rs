//! A first look at JobRunr, in about ten seconds:
//!
//! ```text
//! cargo run --example quickstart
//! ```
//!
//! Six jobs go into an SQLite file and a server runs them. One sees a line for each state a job enters: some succeed at
//! once, one fails twice and then succeeds, one waits for its time, one panics until no retries are left. The file stays:
//! look into it, and run the example again. Interrupt it with ctrl-c halfway, and the next run does what was left. Times are
//! UTC.

use std::io::IsTerminal as _;

use jobrunr::prelude::*;

/// What to do, as data. It is stored as JSON until a server runs it.
#[derive(Serialize, Deserialize, JobRequest)]
#[job(name = "Welcome {email}", labels = ["mail"], queue = "high-prio")]
struct SendWelcomeEmail {
    email: String,
}

/// Who does it. A handler is any value; what it needs are its fields.
struct Mailer {
    sender: String,
}

impl JobHandler<SendWelcomeEmail> for Mailer {
    type Output = String;

    async fn run(&self, request: SendWelcomeEmail, context: &JobContext) -> JobResult<String> {
        if request.email.starts_with("busy") && context.attempt() <= 2 {
            return Err(JobError::retry_in(Duration::from_secs(1)).caused_by("the mail server is busy"));
        }
        Ok(format!("sent by {}", self.sender))
    }
}

/// Where images are; the server gives it to every job function that asks for it.
struct ImageStore {
    folder: &'static str,
}

/// The short form of a job: a function. `resize::job("cat.png", 200)` is the request to run it.
#[job(name = "Resize {path} to {width}", timeout = "30s")]
async fn resize(path: String, width: u32, images: Inject<ImageStore>) -> JobResult<String> {
    tokio::time::sleep(Duration::from_millis(500)).await;
    Ok(format!("{}/{width}/{path}", images.folder))
}

/// A function that blocks may do so: without `async` it runs on threads of its own.
#[job(name = "Divide by {divisor}", retries = 1)]
fn divide(divisor: u32) -> JobResult<u32> {
    Ok(100 / divisor)
}

/// A filter sees every job on its way; this one tells about it.
struct Account {
    in_colour: bool,
}

#[async_trait]
impl JobFilter for Account {
    async fn on_state_applied(&self, job: &Job, entry: &HistoryEntry) {
        self.tell(job, entry);
    }
}

impl Account {
    fn tell(&self, job: &Job, entry: &HistoryEntry) {
        let state = entry.state.name();
        let (colour, plain) = if self.in_colour { (colour_of(state), "\x1b[0m") } else { ("", "") };
        let time = entry.at.format("%H:%M:%S%.3f");
        println!("{time}  {colour}{state:<10}{plain}  {:<24}  {}", job.name(), detail(&entry.state));
    }
}

fn colour_of(state: StateName) -> &'static str {
    match state {
        Succeeded => "\x1b[32m",
        Failed => "\x1b[31m",
        Scheduled => "\x1b[33m",
        Processing => "\x1b[36m",
        _ => "",
    }
}

fn detail(state: &JobState) -> String {
    match state {
        JobState::Succeeded { result: Some(result), .. } => result.as_str().to_owned(),
        JobState::Failed(failure) => failure.message.clone(),
        JobState::Scheduled { scheduled_at, reason, .. } => {
            format!("for {} {}", scheduled_at.format("%H:%M:%S"), reason.as_deref().unwrap_or_default())
        }
        JobState::Processing { server_name, .. } => format!("by {server_name}"),
        _ => String::new(),
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let in_colour = std::io::stdout().is_terminal();

    // A storage: a file here. Its tables are created, or migrated if an older version wrote them.
    let storage = jobrunr::connect("sqlite:quickstart.db").await?;

    // Creating jobs: from any thread of any process that can reach the storage. A job is durable when its call returns.
    let scheduler = JobScheduler::new(Arc::clone(&storage)).filter(Account { in_colour });
    scheduler.enqueue(SendWelcomeEmail { email: "ada@example.org".into() }).await?;
    scheduler.enqueue(SendWelcomeEmail { email: "busy@example.org".into() }).await?;
    scheduler.enqueue(resize::job("cat.png", 200)).await?;
    scheduler.enqueue(divide::job(5)).await?;
    scheduler.enqueue(divide::job(0)).await?;
    scheduler.schedule_in(Duration::from_secs(5), resize::job("dog.png", 400)).await?;

    // Running them: here in the same process, elsewhere in as many as you like.
    let server = BackgroundJobServer::builder(Arc::clone(&storage))
        .handle::<SendWelcomeEmail, _>(Mailer { sender: "quickstart".into() })
        .job(resize)
        .job(divide)
        .provide(ImageStore { folder: "/images" })
        .filter(Account { in_colour })
        .start()
        .await?;
    tokio::select! {
        done = all_done(storage.as_ref()) => done?,
        interrupted = tokio::signal::ctrl_c() => interrupted?,
    }
    server.stop().await;

    let counts = storage.job_counts().await?;
    println!("\nThe jobs in quickstart.db:");
    for state in StateName::ALL.into_iter().filter(|state| counts.in_state(*state) > 0) {
        println!("  {state:<10} {:>4}", counts.in_state(state));
    }
    println!("\nRun the example again, and it adds to them. To look into the file:");
    println!("  sqlite3 -column quickstart.db 'SELECT name, payload FROM jobrunr_job_data'");
    storage.close().await;
    Ok(())
}

/// Returns once no job is left that runs or is going to.
async fn all_done(storage: &dyn StorageProvider) -> Result<(), StorageError> {
    let unfinished = JobQuery::in_states([Scheduled, Enqueued, Processing]);
    while storage.count_jobs(&unfinished).await? > 0 {
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    Ok(())
}
