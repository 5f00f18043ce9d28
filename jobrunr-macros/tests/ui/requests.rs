use jobrunr::prelude::*;

#[derive(Serialize, Deserialize, JobRequest)]
struct Generic<T> {
    value: T,
}

#[derive(JobRequest)]
union Bits {
    whole: u32,
    half: u16,
}

#[job(queue = "mail")]
struct Underived {
    email: String,
}

#[job]
mod not_a_function {}

fn main() {}
