//! A simulated provider of GPUs: it takes an order, renders for a while, and calls back. Its first film of each fails.

use std::collections::HashSet;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::Router;
use axum::extract::{Json, State};
use axum::routing::post;
use serde_json::{Value, json};

use crate::http;

#[derive(Clone)]
struct Provider {
    customer: SocketAddr,
    seen: Arc<Mutex<HashSet<String>>>,
}

pub(crate) fn router(customer: SocketAddr) -> Router {
    let provider = Provider { customer, seen: Arc::default() };
    Router::new().route("/gpu/films", post(order)).with_state(provider)
}

async fn order(State(provider): State<Provider>, Json(order): Json<Value>) -> Json<Value> {
    let text = |name: &str| order[name].as_str().unwrap_or_default().to_owned();
    let (prompt, call_back) = (text("prompt"), text("call_back"));
    let is_first = provider.seen.lock().unwrap_or_else(PoisonError::into_inner).insert(prompt.clone());
    tokio::spawn(async move {
        tokio::time::sleep(Duration::from_millis(700)).await;
        let film = if is_first {
            json!({ "error": "the graphics card has run out of memory" })
        } else {
            json!({ "url": format!("https://films.example.org/{}.mp4", prompt.replace(' ', "-")) })
        };
        // Like a real one it calls twice, in case the first call got lost.
        for _ in 0..2 {
            if let Err(error) = http::post_json(provider.customer, &call_back, &film).await {
                println!("the provider was refused: {error}");
            }
        }
    });
    Json(json!("in line"))
}
