use std::rc::Rc;

use jobrunr::prelude::*;

#[job]
async fn returns_a_number() -> u32 {
    7
}

#[job]
async fn keeps_what_cannot_be_sent() -> JobResult {
    let kept = Rc::new(7);
    std::future::ready(()).await;
    drop(kept);
    Ok(())
}

fn main() {}
