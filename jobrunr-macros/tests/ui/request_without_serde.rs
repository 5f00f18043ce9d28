use jobrunr::prelude::*;

#[derive(JobRequest)]
struct SendEmail {
    to: String,
}

fn main() {}
