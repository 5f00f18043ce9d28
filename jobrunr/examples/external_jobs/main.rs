//! Jobs that others complete: a machine that calls back when a film is rendered, a person who approves a text.
//!
//! ```text
//! cargo run --example external_jobs               # plays everything by itself, in about two seconds
//! cargo run --example external_jobs -- --serve    # stays open: go to the page and approve or decline
//! ```
//!
//! A film is ordered from a provider with GPUs (simulated, in this very program), which calls a webhook when it is done; the
//! first time it fails, and the job is retried. Two texts are written and wait on a page until somebody approves or
//! declines them; a declined one is written anew. While a job waits it occupies no worker, and the server may be
//! restarted: it waits in `external_jobs.db`. Played by itself, the person is a script that uses the page over HTTP.
//!
//! One sees what the person decides, the texts and the film that come of it, and what became of the film with what its runs
//! logged.

mod http;
mod provider;
mod web;

use std::net::SocketAddr;

use jobrunr::prelude::*;
use jobrunr::retry::{FixedDelays, Retries};
use jobrunr::{AwaitError, JobLog};

/// What the page lists, by the label that `write_text` gives its jobs.
const REVIEW: &str = "ai-review";

/// Where this program listens.
struct Address(SocketAddr);

/// The trigger of a film: it orders it and is done. The film comes later, by the webhook.
///
/// The order names the attempt. If the provider tells twice that a film failed, the second time fails no later attempt.
#[job(name = "Film of {prompt}", labels = ["gpu"], timeout = "1h")]
async fn render_film(prompt: String, context: JobContext, address: Inject<Address>) -> JobResult {
    let order = serde_json::json!({
        "prompt": prompt,
        "call_back": format!("/webhooks/gpu/{}/{}", context.job_id(), context.attempt()),
    });
    let answer = http::post_json(address.0, "/gpu/films", &order).await?;
    context.log().info(format!("ordered, the provider says: {answer}"));
    context.save("order", &answer).await?;
    Ok(())
}

/// The trigger of a text: it writes the text, and then a person has to look at it.
#[job(name = "Text about {topic}", labels = ["ai-review"], retries = 5)]
async fn write_text(topic: String, context: JobContext) -> JobResult {
    let adjectives = ["good", "very good", "excellent"];
    let adjective = adjectives[usize::try_from(context.attempt())?.min(adjectives.len()) - 1];
    context.save("text", &format!("{topic} is {adjective}, & that's <b>bold</b> to say.")).await?;
    Ok(())
}

#[tokio::main]
async fn main() -> Result<(), http::Error> {
    let stays_open = std::env::args().any(|argument| argument == "--serve");
    let storage = jobrunr::connect("sqlite:external_jobs.db").await?;

    // Whoever takes a signal of a failure decides whether it is retried: give schedulers and servers the same retries.
    let retries = Retries::default().policy(FixedDelays::new([Duration::from_millis(500)]));
    let scheduler = JobScheduler::new(Arc::clone(&storage)).with_retries(retries.clone());

    // The page, the webhook and the simulated provider.
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    let app = web::router(scheduler.clone()).merge(provider::router(address));
    let web = tokio::spawn(axum::serve(listener, app).into_future());

    let server = BackgroundJobServer::builder(Arc::clone(&storage))
        .job(render_film)
        .job(write_text)
        .provide(Address(address))
        .retries(retries)
        .start()
        .await?;

    let film = scheduler.create(JobBuilder::external(render_film::job("a cat on a train"))).await?;
    let rust = scheduler.create(JobBuilder::external(write_text::job("Rust"))).await?;
    let tea = scheduler.create(JobBuilder::external(write_text::job("Tea"))).await?;
    println!("The page is at http://{address}/");
    if stays_open {
        println!("Approve and decline; ctrl-c ends it.");
        tokio::signal::ctrl_c().await?;
    } else {
        play(address, &scheduler, [film, rust, tea]).await?;
    }

    web.abort();
    server.stop().await;
    storage.close().await;
    Ok(())
}

/// Does what a person would do with the page, and awaits what comes of it.
async fn play(
    address: SocketAddr,
    scheduler: &JobScheduler,
    [film, rust, tea]: [JobId; 3],
) -> Result<(), http::Error> {
    wait_for_text(address, rust, "Rust is good").await?;
    http::post_form(address, &format!("/reviews/{rust}/approve")).await?;
    println!("approved: a text about Rust");

    wait_for_text(address, tea, "Tea is good").await?;
    http::post_form(address, &format!("/reviews/{tea}/decline")).await?;
    println!("declined: a text about tea, so it is written anew");
    let late = http::post_form(address, &format!("/reviews/{rust}/decline")).await;
    println!("declined after it was approved: {}", late.err().ok_or("it should have been refused")?);
    wait_for_text(address, tea, "Tea is very good").await?;
    http::post_form(address, &format!("/reviews/{tea}/approve")).await?;
    println!("approved: the second text about tea");

    for text in [rust, tea] {
        println!("text:  {}", awaited(scheduler, text).await?);
    }
    println!("film:  {}", awaited(scheduler, film).await?);

    let job = scheduler.storage().find_job(film).await?.ok_or("the film is there")?;
    println!("\nWhat became of the film:");
    for entry in job.history() {
        println!("  {} {}", entry.at.format("%H:%M:%S%.3f"), entry.state.name());
    }
    for line in JobLog::of(&job).lines {
        println!("  {} {:<5} {}", line.at.format("%H:%M:%S%.3f"), line.level, line.text);
    }
    Ok(())
}

async fn awaited(scheduler: &JobScheduler, id: JobId) -> Result<String, AwaitError> {
    scheduler.await_result(id, Duration::from_secs(20)).await
}

/// Looks at the page until it shows this text of this job.
async fn wait_for_text(address: SocketAddr, id: JobId, text: &str) -> Result<(), http::Error> {
    let (id, text) = (id.to_string(), text.to_owned());
    let shown = async {
        loop {
            let page = http::get(address, "/").await?;
            if page.contains(&id) && page.contains(&text) {
                return Ok(());
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), shown).await?
}
