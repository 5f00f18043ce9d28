//! Where a claim finds the first jobs in line.
//!
//! A script looks into every lane that it is told of. There may be thousands of them, one for each queue and type; then those
//! that have the first jobs are found by many small reads beforehand, between which others get their turn.

use std::collections::HashSet;

use jobrunr_core::StateName;
use jobrunr_core::storage::{ClaimRequest, QueueSelection};
use redis::Pipeline;

use crate::calls::Call;
use crate::error::Failed;
use crate::lanes::{Lanes, SignatureSet};

/// How many lanes one script looks into at most.
const MOST_LANES: usize = 500;

/// Of how many lanes one command tells how many jobs they have.
const COUNTED_AT_ONCE: usize = 500;

/// Of how many lanes the first jobs are read at once.
const READ_AT_ONCE: usize = 100;

/// Lanes in groups, each of which is one line.
pub(super) struct Line<'l> {
    pub(super) groups: Vec<Vec<&'l str>>,
    /// Whether lanes were left out that may have jobs too.
    pub(super) is_part: bool,
}

/// All lanes that a claim wants.
fn wanted_lanes<'l>(request: &ClaimRequest, lanes: &'l Lanes) -> Vec<Vec<&'l str>> {
    let wanted = SignatureSet::from(&request.signatures);
    match &request.queues {
        QueueSelection::All => vec![lanes.numbers(None, &wanted).collect()],
        QueueSelection::InOrder(queues) => {
            let known: HashSet<&str> = lanes.iter().map(|(_, (queue, _))| queue.as_str()).collect();
            let mut seen = HashSet::new();
            let named = queues.iter().filter(|queue| known.contains(queue.as_str()) && seen.insert(*queue));
            named.map(|queue| lanes.numbers(Some(queue), &wanted).collect()).collect()
        }
    }
}

impl Line<'_> {
    /// Whether jobs were seen in it.
    pub(super) fn has_jobs(&self) -> bool {
        self.is_part && self.groups.iter().any(|lanes| !lanes.is_empty())
    }
}

impl Call<'_> {
    /// The lanes that have the first `limit` jobs of a claim, and perhaps others.
    pub(super) async fn line<'l>(
        &self,
        request: &ClaimRequest,
        lanes: &'l Lanes,
        limit: usize,
    ) -> Result<Line<'l>, Failed> {
        let wanted = wanted_lanes(request, lanes);
        let all: Vec<&str> = wanted.iter().flatten().copied().collect();
        if all.len() <= MOST_LANES {
            return Ok(Line { groups: wanted, is_part: false });
        }
        let mut have_jobs = self.have_jobs(&all).await?.into_iter();
        let (mut groups, mut count) = (Vec::new(), 0);
        for group in wanted {
            let with_jobs = group.into_iter().zip(have_jobs.by_ref()).filter(|(_, has_jobs)| *has_jobs);
            let mut group: Vec<&str> = with_jobs.map(|(lane, _)| lane).collect();
            let is_enough = group.len() > limit;
            if is_enough {
                group = self.first_of(&group, limit).await?;
            }
            count += group.len();
            groups.push(group);
            if is_enough || count + limit > MOST_LANES {
                break;
            }
        }
        Ok(Line { groups, is_part: true })
    }

    /// Which of these lanes have jobs in line.
    async fn have_jobs(&self, lanes: &[&str]) -> Result<Vec<bool>, Failed> {
        let mut read = Pipeline::new();
        for lanes in lanes.chunks(COUNTED_AT_ONCE) {
            let counts = read.cmd("HMGET").arg(self.storage.inner.keys.counts());
            for lane in lanes {
                counts.arg(format!("{lane}{}", StateName::Enqueued.index()));
            }
        }
        let counts = self.read_all::<Vec<Option<i64>>>(&read).await?;
        Ok(counts.into_iter().flatten().map(|count| count.is_some_and(|count| count > 0)).collect())
    }

    /// So many of these lanes, those whose first jobs come first.
    async fn first_of<'l>(&self, lanes: &[&'l str], count: usize) -> Result<Vec<&'l str>, Failed> {
        let keys = &self.storage.inner.keys;
        let mut firsts: Vec<(String, &str)> = Vec::with_capacity(lanes.len());
        for lanes in lanes.chunks(READ_AT_ONCE) {
            let mut read = Pipeline::with_capacity(lanes.len());
            for lane in lanes {
                read.cmd("ZRANGE").arg(keys.ready(lane)).arg(0).arg(0);
            }
            let answers = self.read_all::<Vec<String>>(&read).await?;
            let answers = answers.into_iter().zip(lanes);
            firsts.extend(answers.filter_map(|(mut first, lane)| Some((first.pop()?, *lane))));
        }
        firsts.sort_unstable();
        firsts.truncate(count);
        Ok(firsts.into_iter().map(|(_, lane)| lane).collect())
    }
}
