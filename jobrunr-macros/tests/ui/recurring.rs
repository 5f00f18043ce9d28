use jobrunr::prelude::*;

#[job]
#[recurring]
fn no_schedule() {}

#[job]
#[recurring(id = "empty")]
fn no_schedule_either() {}

#[job]
#[recurring(cron = "0 8 * *")]
fn too_few_fields() {}

#[job]
#[recurring(cron = "0 25 * * *")]
fn no_such_hour() {}

#[job]
#[recurring(cron = "@dayly")]
fn no_such_macro() {}

#[job]
#[recurring(cron = "0 0 * * MON-FRI/x")]
fn no_such_step() {}

#[job]
#[recurring(interval = "500ms")]
fn too_often() {}

#[job]
#[recurring(interval = "30s", cron = "@daily")]
fn both() {}

#[job]
#[recurring(interval = "30s", zone = "Europe/Brussels")]
fn interval_in_a_zone() {}

#[job]
#[recurring(cron = "@daily", zone = "Europe/Brussel")]
fn no_such_zone() {}

#[job]
#[recurring(cron = "@daily", zone = "not a zone")]
fn no_zone_at_all() {}

#[job]
#[recurring(cron = "@daily", id = "with spaces")]
fn bad_id() {}

#[job]
#[recurring(cron = "@daily", misfire = Never, overlap = "Skip", every = "5s", cron = "@weekly")]
fn bad_values() {}

#[job]
#[recurring(cron = "@daily", misfire = RunAll(0))]
fn none_at_all() {}

#[job]
#[recurring(cron = "@daily")]
fn with_arguments(path: String, context: &JobContext) {
    let _ = (path, context);
}

#[job]
#[recurring(cron = "@daily")]
#[recurring(cron = "@weekly")]
fn twice() {}

#[recurring(cron = "@daily")]
fn no_job() {}

fn main() {}
