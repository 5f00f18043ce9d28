//! How jobs are tested: without a database, without a server, without waiting.
//!
//! ```text
//! cargo run  --example testing --features testing     # tells the story of the tests below, at once
//! cargo test --example testing --features testing     # runs them
//! ```
//!
//! An application signs people up: it welcomes them by a job, and reminds them by another one three days later. What is
//! tested is that the right jobs are created, what the handlers do, and that a mail server that is busy delays the mail and
//! does not lose it. Three days pass in no time, because the clock is moved by hand. One sees the runs of both stories
//! and, at the end, what a failing assertion says.

use std::sync::Mutex;

use jobrunr::prelude::*;
use jobrunr::retry::FixedDelays;
use jobrunr::server::BackgroundJobServerBuilder;
use jobrunr::testing::{TestKit, assert_enqueued, assert_not_enqueued, assert_scheduled};

/// What the application has to do with the world.
#[derive(Default)]
struct MailServer {
    sent: Mutex<Vec<String>>,
}

/// Mail servers are busy when they hear of somebody for the first time.
#[job(name = "Welcome {email}")]
async fn welcome(email: String, context: JobContext, mail: Inject<Arc<MailServer>>) -> JobResult<String> {
    if context.attempt() == 1 && email.starts_with("busy") {
        return Err("the mail server is busy".into());
    }
    mail.send(format!("welcome, {email}"));
    Ok(format!("welcomed {email}"))
}

#[job(name = "Remind {email}")]
async fn remind(email: String, day: u32, mail: Inject<Arc<MailServer>>) -> JobResult {
    mail.send(format!("day {day}: do you still remember us, {email}?"));
    Ok(())
}

impl MailServer {
    fn send(&self, text: String) {
        self.sent.lock().unwrap_or_else(std::sync::PoisonError::into_inner).push(text);
    }

    fn sent(&self) -> Vec<String> {
        self.sent.lock().unwrap_or_else(std::sync::PoisonError::into_inner).clone()
    }
}

/// The code under test: it is given a scheduler, as anywhere.
async fn sign_up(scheduler: &JobScheduler, email: &str) -> Result<(), SchedulerError> {
    scheduler.enqueue(welcome::job(email)).await?;
    scheduler.schedule_in(Duration::from_secs(3 * 24 * 60 * 60), remind::job(email, 3)).await?;
    Ok(())
}

/// What the application gives its server, in production and in tests.
fn with_jobs(server: BackgroundJobServerBuilder, mail: Arc<MailServer>) -> BackgroundJobServerBuilder {
    let retries = FixedDelays::new([Duration::from_secs(60)]);
    server.job(welcome).job(remind).provide(mail).retry_policy(retries)
}

fn kit() -> (TestKit, Arc<MailServer>) {
    let mail = Arc::<MailServer>::default();
    let kit = TestKit::new(|server| with_jobs(server, Arc::clone(&mail)));
    (kit, mail)
}

async fn who_signs_up_is_welcomed_now_and_reminded_in_three_days() {
    let (kit, mail) = kit();

    sign_up(kit.scheduler(), "ada@example.org").await.expect("the storage is in memory");

    assert_enqueued!(kit, WelcomeJob { email: "ada@example.org" });
    let reminder = assert_scheduled!(kit, RemindJob { day: 3_u32 });
    assert_eq!(reminder.scheduled_at().map(|at| (at - kit.now()).num_days()), Some(3));
    assert_not_enqueued!(kit, |job: &WelcomeJob| job.email.starts_with("grace"));

    let runs = kit.run_for(Duration::from_secs(4 * 24 * 60 * 60)).await;
    println!("{runs}");
    runs.assert_all_succeeded();
    assert_eq!(
        mail.sent(),
        ["welcome, ada@example.org", "day 3: do you still remember us, ada@example.org?"]
    );
}

async fn a_busy_mail_server_delays_a_welcome_by_a_minute() {
    let (kit, mail) = kit();
    kit.scheduler().enqueue(welcome::job("busy@example.org")).await.expect("the storage is in memory");

    let first = kit.run_all_enqueued().await;
    println!("{first}");
    assert_eq!(first[0].failure().map(|failure| failure.message.as_str()), Some("the mail server is busy"));
    assert!(mail.sent().is_empty());

    kit.advance(Duration::from_secs(60));
    let second = kit.run_all_enqueued().await;
    println!("{second}");
    assert_eq!(second[0].result::<String>(), "welcomed busy@example.org");
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("Who signs up is welcomed now and reminded in three days:");
    who_signs_up_is_welcomed_now_and_reminded_in_three_days().await;
    println!("\nA busy mail server delays a welcome by a minute:");
    a_busy_mail_server_delays_a_welcome_by_a_minute().await;

    println!("\nAnd if something else is enqueued than a test expects, it fails with:");
    let (kit, _) = kit();
    sign_up(kit.scheduler(), "ada@example.org").await?;
    let test = async move { drop(assert_enqueued!(kit, WelcomeJob { email: "grace@example.org" })) };
    println!("{}", message_of(test).await?);
    Ok(())
}

/// What a test that fails says. In a test nobody catches it; here it is part of the story.
async fn message_of(test: impl Future<Output = ()> + 'static) -> Result<String, Box<dyn std::error::Error>> {
    // Without this it would be told twice, once above a backtrace.
    std::panic::set_hook(Box::new(|_| ()));
    let here = tokio::task::LocalSet::new();
    let test = here.spawn_local(test);
    let failed = here.run_until(test).await.err().ok_or("somebody named Grace has signed up")?;
    Ok(*failed.into_panic().downcast::<String>().map_err(|_| "an assertion fails with a text")?)
}

#[cfg(test)]
mod tests {
    #[tokio::test]
    async fn who_signs_up_is_welcomed_now_and_reminded_in_three_days() {
        super::who_signs_up_is_welcomed_now_and_reminded_in_three_days().await;
    }

    #[tokio::test]
    async fn a_busy_mail_server_delays_a_welcome_by_a_minute() {
        super::a_busy_mail_server_delays_a_welcome_by_a_minute().await;
    }
}
