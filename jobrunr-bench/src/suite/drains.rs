//! Drains: beside raw statements, in a large table, with large servers, and what one costs the database.

use std::sync::Arc;
use std::time::Instant;

use jobrunr_core::StateName;
use jobrunr_core::clock::{Clock, SystemClock};
use jobrunr_core::storage::{JobOrder, JobQuery, OrderField, StorageProvider};

use super::Suite;
use crate::database::RawWork;
use crate::drain::{self, ServerSize};
use crate::enqueue;
use crate::report::{median, median_ratio, ratio};

/// Of how many jobs of a drain one is worked off by a command of its own: that goes so much slower.
const SHARE_ONE_BY_ONE: usize = 10;

/// How often a question is asked to find out how long its answer takes.
const QUESTIONS: usize = 25;

impl Suite<'_> {
    async fn drain_fresh(&self, size: ServerSize) -> anyhow::Result<f64> {
        let jobs = self.jobs();
        let fresh = self.database.fresh().await?;
        let rate = drain::drain(&fresh.storage, jobs, size).await?;
        self.database.discard(fresh).await?;
        Ok(rate)
    }

    pub(super) async fn drain_beside_raw(&mut self) -> anyhow::Result<()> {
        let jobs = self.jobs();
        let batch = self.options.batch.unwrap_or_else(|| self.database.raw_batch());
        let (mut raw, mut ours, mut one_by_one) = (vec![], vec![], vec![]);
        for round in 1..=self.options.rounds {
            if self.database.has_find_and_modify() {
                let work = RawWork::DrainByFindAndModify { jobs: jobs / SHARE_ONE_BY_ONE };
                one_by_one.push(self.database.raw(work).await?);
            }
            let raw_rate = self.database.raw(RawWork::Drain { jobs, batch }).await?;
            let rate = self.drain_fresh(self.options.server()).await?;
            println!("drain {round}: raw {raw_rate:.0}/s, ours {rate:.0}/s");
            raw.push(raw_rate);
            ours.push(rate);
        }
        self.report.add("raw_jobs_per_s", median(&raw));
        self.report.add("drain_jobs_per_s", median(&ours));
        self.report.add("drain_ratio", median_ratio(&ours, &raw));
        if !one_by_one.is_empty() {
            self.report.add("find_and_modify_jobs_per_s", median(&one_by_one));
            self.report.add("drain_ratio_to_find_and_modify", median_ratio(&ours, &one_by_one));
        }
        Ok(())
    }

    pub(super) async fn drain_in_large_table(&mut self) -> anyhow::Result<()> {
        let jobs = self.jobs();
        let large = self.database.fresh().await?;
        let many = self.many();
        drain::fill_with_finished(&large.storage, many, SystemClock.now()).await?;
        // Opened anew, so that what was written to fill it is through with.
        let url = large.url.clone();
        large.close().await;
        let large = self.database.open(url).await?;
        self.ask_large_table(&large.storage).await?;

        let size = self.options.server();
        let (mut ours, mut ours_large) = (vec![], vec![]);
        for round in 1..=self.options.rounds {
            let rate = self.drain_fresh(size).await?;
            let rate_large = drain::drain(&large.storage, jobs, size).await?;
            println!("drain {round}: ours {rate:.0}/s, in a large table {rate_large:.0}/s");
            ours.push(rate);
            ours_large.push(rate_large);
        }
        self.database.discard(large).await?;
        let key = self.key_of_many("drain_ratio_with_1m_finished");
        self.report.add(key, median_ratio(&ours_large, &ours));
        Ok(())
    }

    /// What a dashboard asks all the time.
    async fn ask_large_table(&mut self, storage: &Arc<dyn StorageProvider>) -> anyhow::Result<()> {
        let mut stats = Vec::new();
        for _ in 0..QUESTIONS {
            let asked = Instant::now();
            storage.job_counts().await?;
            stats.push(1e3 * asked.elapsed().as_secs_f64());
        }
        self.report.add(self.key_of_many("stats_ms_1m"), median(&stats));
        let of_state = JobQuery::in_state(StateName::Succeeded);
        let last_updated = of_state.clone().order(JobOrder::descending(OrderField::UpdatedAt));
        for (key, query) in [
            ("page_ms_1m", last_updated),
            ("page_of_newest_ms_1m", JobQuery::all().newest_first()),
            ("page_of_newest_in_state_ms_1m", of_state.newest_first()),
        ] {
            let query = query.limit(20);
            let mut pages = Vec::new();
            for _ in 0..QUESTIONS {
                let asked = Instant::now();
                let page = storage.list_jobs(&query).await?;
                pages.push(1e3 * asked.elapsed().as_secs_f64());
                anyhow::ensure!(page.len() == 20, "a page has {} jobs", page.len());
            }
            self.report.add(self.key_of_many(key), median(&pages));
        }
        let mut signatures = Vec::new();
        for _ in 0..QUESTIONS {
            let asked = Instant::now();
            let found = storage.list_signatures(&[StateName::Succeeded]).await?;
            signatures.push(1e3 * asked.elapsed().as_secs_f64());
            anyhow::ensure!(found.len() == 1, "{} types were found", found.len());
        }
        self.report.add(self.key_of_many("signatures_ms_1m"), median(&signatures));
        Ok(())
    }

    pub(super) async fn drain_with_large_servers(&mut self) -> anyhow::Result<()> {
        let of_500_workers = ServerSize { workers: Some(500), prefetch: None };
        let sizes = [ServerSize::of_batch(100), ServerSize::of_batch(1_000), of_500_workers];
        let mut rates = [vec![], vec![], vec![]];
        for round in 1..=self.options.rounds {
            for (size, rates) in sizes.iter().zip(&mut rates) {
                rates.push(self.drain_fresh(*size).await?);
            }
            let [of_100, of_1000, workers] = &rates;
            let at = round - 1;
            println!(
                "cliff {round}: batch 100 {:.0}/s, batch 1000 {:.0}/s, 500 workers {:.0}/s",
                of_100[at], of_1000[at], workers[at]
            );
        }
        let [of_100, of_1000, workers] = &rates;
        self.report.add("cliff_ratio_batch_1000", median_ratio(of_1000, of_100));
        self.report.add("cliff_ratio_500_workers", median_ratio(workers, of_100));
        Ok(())
    }

    pub(super) async fn costs_of_drain(&mut self) -> anyhow::Result<()> {
        let jobs = self.jobs();
        let fresh = self.database.fresh().await?;
        let before_all = self.database.counters(&fresh).await?;
        enqueue::bulk(&fresh.storage, jobs, self.database.bulk_jobs()).await?;
        // Some servers count what a connection did when it ends.
        fresh.close().await;
        let opened = self.database.open(fresh.url.clone()).await?;
        let before_drain = self.database.counters(&opened).await?;
        drain::run_all(&opened.storage, jobs, self.options.server()).await?;
        opened.close().await;
        let after = self.database.counters(&opened).await?;
        self.database.discard(opened).await?;

        let of_drain = after.since(before_drain);
        if let Some(slow) = of_drain.slow_commands {
            self.report.add("commands_over_5_ms", ratio(slow, 1));
        }
        for (key, count) in [
            ("statements_per_job", of_drain.statements),
            ("transactions_per_job", of_drain.transactions),
            ("wal_bytes_per_job", after.since(before_all).log_bytes),
        ] {
            if let Some(count) = count {
                self.report.add(key, ratio(count, jobs));
            }
        }
        Ok(())
    }
}
