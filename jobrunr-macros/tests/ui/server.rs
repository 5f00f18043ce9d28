use jobrunr::prelude::*;

#[derive(Serialize, Deserialize, JobRequest)]
struct SendEmail {
    to: String,
}

struct Mailer;

async fn send(_to: String) -> JobResult {
    Ok(())
}

#[job]
async fn resize(_path: String) -> JobResult {
    Ok(())
}

// What the methods of the server's builder ask for.
fn handle<R: JobRequest, H: JobHandler<R>>(_handler: H) {}
fn job<F: JobFunction>(_function: F) {}

// And the methods of the scheduler.
fn enqueue<R: JobRequest>(_request: R) {}

fn main() {
    handle::<SendEmail, _>(Mailer);
    job(send);
    job(resize::job("cat.png"));
    job(resize);
    enqueue(resize);
    enqueue(resize::job("cat.png"));
}
