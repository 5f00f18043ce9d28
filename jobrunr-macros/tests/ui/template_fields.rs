use jobrunr::prelude::*;

#[derive(Serialize, Deserialize, JobRequest)]
#[job(name = "Send to {emial}", labels = ["mail", "tenant:{tenent}"])]
struct SendWelcomeEmail {
    email: String,
    tenant: String,
}

#[derive(Serialize, Deserialize, JobRequest)]
#[job(name = "Remove {what}")]
struct Cleanup;

#[job(name = "Resize {image}", queue = "images")]
async fn resize(path: String, context: JobContext) -> JobResult {
    let _ = (path, context);
    Ok(())
}

fn main() {
    let _ = resize::job("cat.png");
}
