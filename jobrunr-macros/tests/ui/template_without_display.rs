use jobrunr::prelude::*;

#[derive(Serialize, Deserialize)]
struct Size(u32);

#[derive(Serialize, Deserialize, JobRequest)]
#[job(name = "Resize to {size}")]
struct Resize {
    size: Size,
}

fn main() {}
