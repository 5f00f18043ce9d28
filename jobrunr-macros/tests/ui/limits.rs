use jobrunr::prelude::*;

#[derive(Serialize, Deserialize, JobRequest)]
#[job(queue = "High Prio")]
struct BadQueue;

#[derive(Serialize, Deserialize, JobRequest)]
#[job(labels = ["1", "2", "3", "4", "5", "6", "7", "8", "9"])]
struct TooManyLabels;

#[derive(Serialize, Deserialize, JobRequest)]
#[job(labels = [
    "",
    "a label with more than sixty-four bytes, which is more than it has",
    "{id}: a label with more than sixty-four bytes besides the one field that it has",
])]
struct BadLabels {
    id: u8,
}

#[derive(Serialize, Deserialize, JobRequest)]
#[job(type = "", aliases = ["line\nbreak"], timeout = "30", retries = -1, priority = 3_000_000_000)]
struct BadNumbers;

fn main() {}
