#![allow(unused)]

use std::path::Path;

use jobrunr::prelude::*;

struct Store;

impl Store {
    #[job]
    fn method(&self, path: String) {}
}

#[job]
async fn reference(path: &Path, words: &[u8], text: &str, other: &Vec<u8>) -> JobResult {
    Ok(())
}

#[job]
async fn injected_reference(store: &Inject<Store>) {}

#[job]
async fn generic<T>(value: T) {}

#[job]
async fn anything(value: impl Send) {}

#[job]
async fn pattern((a, b): (u8, u8)) {}

#[job]
async fn two_contexts(one: JobContext, other: &JobContext) {}

#[job]
unsafe extern "C" fn foreign() {}

#[job]
fn unnamed_result() -> impl Sized {}

fn main() {}
