use jobrunr::prelude::*;

#[derive(Serialize, Deserialize, JobRequest)]
#[job(name = "Add {a", labels = ["}", "{}", "{a + b}", "{a:width$}"])]
struct Add {
    a: u32,
    b: u32,
}

fn main() {}
