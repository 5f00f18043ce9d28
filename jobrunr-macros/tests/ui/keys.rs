use jobrunr::prelude::*;

#[derive(Serialize, Deserialize, JobRequest)]
#[job(retry = 3)]
struct Unknown;

#[derive(Serialize, Deserialize, JobRequest)]
#[job(retries = 3, queue = "mail", retries = 4)]
struct Twice;

#[derive(Serialize, Deserialize, JobRequest)]
#[job(retries = 3)]
#[job(queue = "mail")]
struct TwoAttributes;

#[derive(Serialize, Deserialize, JobRequest)]
#[job]
struct NoParentheses;

#[derive(Serialize, Deserialize, JobRequest)]
#[job(queue)]
struct NoValue;

#[derive(Serialize, Deserialize, JobRequest)]
#[job(retries = "3", name = 3, labels = "mail", aliases = [old], timeout = 30, crate = "a b")]
struct WrongValues;

#[derive(Serialize, Deserialize, JobRequest)]
#[job(type = "mail", aliases = ["mail", "post", "post"])]
struct NeedlessAliases;

#[job(retries = 3)]
#[job(queue = "mail")]
fn two_attributes() {}

fn main() {}
