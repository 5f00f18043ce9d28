//! What log lines cost the run that writes them.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use anyhow::Context;
use jobrunr_core::limits::MAX_LOG_LINES;
use jobrunr_core::{JobId, JobLog, JobScheduler};
use jobrunr_server::BackgroundJobServer;
use tokio::sync::mpsc;

use super::Suite;
use crate::report::{median, ratio};
use crate::workload::{Talker, Talking};

/// What one run costs.
struct Cost {
    millis: f64,
    statements: Option<f64>,
}

impl Suite<'_> {
    pub(super) async fn log_lines(&mut self) -> anyhow::Result<()> {
        let (mut millis, mut statements) = (vec![], vec![]);
        for round in 1..=self.options.rounds {
            let without = self.cost_of_run(0).await?;
            let with = self.cost_of_run(MAX_LOG_LINES).await?;
            println!(
                "log lines {round}: a run takes {:.3} ms without, {:.3} ms with {MAX_LOG_LINES}",
                without.millis, with.millis
            );
            millis.push(with.millis - without.millis);
            let counted = with.statements.zip(without.statements);
            statements.extend(counted.map(|(with, without)| with - without));
        }
        self.report.add("log_lines_1000_ms", median(&millis));
        if !statements.is_empty() {
            self.report.add("log_lines_1000_statements", median(&statements));
        }
        Ok(())
    }

    /// Has jobs that write so many lines run one after the other; a run lasts from its start until its success is stored.
    async fn cost_of_run(&self, lines: usize) -> anyhow::Result<Cost> {
        let jobs = self.options.share(self.options.samples);
        let fresh = self.database.fresh().await?;
        let before = self.database.counters(&fresh).await?;
        let scheduler = JobScheduler::new(Arc::clone(&fresh.storage));
        let ids = scheduler.enqueue_all(std::iter::repeat_n(Talking { lines }, jobs)).await?;
        let (sender, mut told) = mpsc::unbounded_channel();
        let talker = Talker(sender);
        let server = BackgroundJobServer::builder(Arc::clone(&fresh.storage))
            .workers(1)
            .filter(talker.clone())
            .handle::<Talking, _>(talker);
        let server = server.start().await?;
        let mut began: BTreeMap<JobId, Instant> = BTreeMap::new();
        let mut millis = Vec::new();
        while millis.len() < jobs {
            let (id, at) = told.recv().await.context("the server runs")?;
            if let Some(start) = began.remove(&id) {
                millis.push(1e3 * (at - start).as_secs_f64());
            } else {
                began.insert(id, at);
            }
        }
        server.stop().await;
        let last = ids.last().context("there are jobs")?;
        let job = fresh.storage.find_job(*last).await?.context("the job is there")?;
        let stored = JobLog::of(&job).lines.len();
        anyhow::ensure!(stored == lines, "{stored} of {lines} lines were stored");
        fresh.close().await;
        let counted = self.database.counters(&fresh).await?.since(before);
        self.database.discard(fresh).await?;
        let statements = counted.statements.map(|statements| ratio(statements, jobs));
        Ok(Cost { millis: median(&millis), statements })
    }
}
