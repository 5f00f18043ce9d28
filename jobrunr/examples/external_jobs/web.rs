//! The web application: the page of those who review texts, and the webhook that the provider calls.

use std::fmt::Write as _;

use axum::Router;
use axum::extract::{Json, Path, State};
use axum::http::StatusCode;
use axum::response::{Html, IntoResponse, Redirect, Response};
use axum::routing::{get, post};
use jobrunr::prelude::*;
use jobrunr::{Signal, SignalError};

use crate::REVIEW;

pub(crate) fn router(scheduler: JobScheduler) -> Router {
    Router::new()
        .route("/", get(page))
        .route("/reviews/{id}/approve", post(approve))
        .route("/reviews/{id}/decline", post(decline))
        .route("/webhooks/gpu/{id}/{attempt}", post(film_is_done))
        .with_state(scheduler)
}

/// The texts that wait for somebody to look at them: jobs that are PROCESSED, found by their label.
async fn page(State(scheduler): State<JobScheduler>) -> Result<Html<String>, Refusal> {
    let storage = scheduler.storage();
    let waiting = JobQuery::in_state(Processed).label(REVIEW).newest_first().limit(50);
    let mut rows = String::new();
    for job in storage.list_jobs(&waiting).await? {
        // Lists carry no metadata, so each job is looked up.
        let job = storage.find_job(job.id()).await?;
        let Some(job) = job.filter(|job| job.state_name() == Processed) else { continue };
        let text = job.metadata().get("text").and_then(|text| text.as_str()).unwrap_or_default();
        let _ = write!(
            rows,
            "<li><b>{}</b><p>{}</p><form method=post>\
             <button formaction=/reviews/{id}/approve>Approve</button> \
             <button formaction=/reviews/{id}/decline>Decline</button></form></li>",
            escaped(job.name()),
            escaped(text),
            id = job.id(),
        );
    }
    if rows.is_empty() {
        rows.push_str("<li>Nothing waits for you.</li>");
    }
    Ok(Html(format!(
        "<!doctype html><meta charset=utf-8><title>Reviews</title><h1>Reviews</h1><ul>{rows}</ul>"
    )))
}

/// The text is fine: it becomes the result of its job.
async fn approve(State(scheduler): State<JobScheduler>, Path(id): Path<String>) -> Result<Redirect, Refusal> {
    let id = job_id(&id)?;
    let job = scheduler.storage().find_job(id).await?;
    let text = job.and_then(|job| job.metadata().get("text").cloned());
    scheduler.signal_succeeded(id, text).await?;
    Ok(Redirect::to("/"))
}

/// The text is not fine: its job fails, and as long as retries are left it is written anew.
async fn decline(State(scheduler): State<JobScheduler>, Path(id): Path<String>) -> Result<Redirect, Refusal> {
    scheduler.signal_failed(job_id(&id)?, "somebody declined the text").await?;
    Ok(Redirect::to("/"))
}

/// What the provider tells when it has done, or not done, what was ordered.
#[derive(Deserialize)]
struct Film {
    url: Option<String>,
    error: Option<String>,
}

/// The webhook. A provider that gets no answer calls again, which is fine: the same signal twice has its effect once.
async fn film_is_done(
    State(scheduler): State<JobScheduler>,
    Path((id, attempt)): Path<(String, u32)>,
    Json(film): Json<Film>,
) -> Result<(), Refusal> {
    let id = job_id(&id)?;
    let signal = match film {
        Film { url: Some(url), .. } => Signal::succeeded(id, &url).map_err(SignalError::from)?,
        Film { error, .. } => Signal::failed(id, error.unwrap_or_else(|| "there is no film".into())),
    };
    Ok(scheduler.signal(signal.of_attempt(attempt)).await?)
}

fn job_id(text: &str) -> Result<JobId, Refusal> {
    text.parse().map_err(|_| Refusal(StatusCode::NOT_FOUND, "there is no such job".to_owned()))
}

/// What a request that fails is answered with.
struct Refusal(StatusCode, String);

/// Tells by the status whether to call again: 503 says so, the others say that it is of no use.
impl From<SignalError> for Refusal {
    fn from(error: SignalError) -> Self {
        let status = match &error {
            SignalError::NotFound(_) | SignalError::NotExternal(_) => StatusCode::NOT_FOUND,
            SignalError::Storage(_) | SignalError::Contended(_) => StatusCode::SERVICE_UNAVAILABLE,
            SignalError::Unfit(_) => StatusCode::PAYLOAD_TOO_LARGE,
            _ => StatusCode::CONFLICT,
        };
        Self(status, error.to_string())
    }
}

impl From<StorageError> for Refusal {
    fn from(error: StorageError) -> Self {
        Self(StatusCode::SERVICE_UNAVAILABLE, error.to_string())
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        (self.0, self.1).into_response()
    }
}

/// Text that cannot be taken for HTML.
fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}
