//! How fast jobs are accepted: one by one, from many callers at once, and in bulk.

use std::time::Duration;

use super::Suite;
use crate::database::{RawWork, SingleInsert};
use crate::enqueue;
use crate::report::{mean, median, median_ratio};

/// The rows that raw inserts write in one transaction.
const RAW_INSERT_BATCH: usize = 1_000;

/// How often single inserts, raw and ours, take turns in a round, and how long a turn is.
const TURNS: usize = 8;
const TURN: Duration = Duration::from_millis(250);

/// How many callers enqueue at once, and what to compare that with.
const CALLERS: [(usize, SingleInsert, &str); 3] = [
    (1, SingleInsert::OneByOne { connections: 1 }, "enqueue_single_ratio_1"),
    (8, SingleInsert::OneByOne { connections: 8 }, "enqueue_single_ratio_8"),
    (64, SingleInsert::Together { rows: 64 }, "enqueue_single_ratio_64"),
];

impl Suite<'_> {
    pub(super) async fn enqueue_single(&mut self) -> anyhow::Result<()> {
        let mut singles: [(Vec<f64>, Vec<f64>); 3] = Default::default();
        for round in 1..=self.options.rounds {
            for ((callers, how, _), (raw, ours)) in CALLERS.iter().zip(&mut singles) {
                let (raw_rate, rate) = self.enqueue_by_turns(*callers, *how).await?;
                match raw_rate {
                    Some(raw) => println!("enqueue {round}: {callers} callers {rate:.0}/s, raw {raw:.0}/s"),
                    None => println!("enqueue {round}: {callers} callers {rate:.0}/s"),
                }
                raw.extend(raw_rate);
                ours.push(rate);
            }
        }
        let [(_, one), _, (_, many)] = &singles;
        self.report.add("enqueue_single_per_s", median(one));
        self.report.add("enqueue_concurrent_ratio_64", median(many) / median(one));
        for ((_, _, key), (raw, ours)) in CALLERS.iter().zip(&singles) {
            if !raw.is_empty() {
                self.report.add(*key, median_ratio(ours, raw));
            }
        }
        Ok(())
    }

    pub(super) async fn enqueue_bulk(&mut self) -> anyhow::Result<()> {
        let (mut raw, mut ours) = (vec![], vec![]);
        let jobs = self.jobs();
        for round in 1..=self.options.rounds {
            let raw_rate = self.database.raw(RawWork::BulkInsert { jobs, batch: RAW_INSERT_BATCH }).await?;
            let fresh = self.database.fresh().await?;
            let rate = enqueue::bulk(&fresh.storage, jobs, self.database.bulk_jobs()).await?;
            self.database.discard(fresh).await?;
            println!("enqueue {round}: bulk {rate:.0}/s, raw {raw_rate:.0}/s");
            raw.push(raw_rate);
            ours.push(rate);
        }
        self.report.add("raw_bulk_insert_per_s", median(&raw));
        self.report.add("enqueue_bulk_per_s", median(&ours));
        self.report.add("enqueue_bulk_ratio", median_ratio(&ours, &raw));
        Ok(())
    }

    /// Raw single inserts and ours by short turns: the time that a disk takes for a commit moves from second to second.
    async fn enqueue_by_turns(
        &self,
        callers: usize,
        how: SingleInsert,
    ) -> anyhow::Result<(Option<f64>, f64)> {
        let raw = self.database.create().await?;
        let has_raw = self.database.prepare_raw_single_inserts(&raw).await?;
        let fresh = self.database.fresh().await?;
        let (mut raw_rates, mut rates) = (vec![], vec![]);
        for _ in 0..TURNS {
            if has_raw {
                raw_rates.push(self.database.raw_single_insert(&raw, how, TURN).await?);
            }
            rates.push(enqueue::single(&fresh.storage, callers, TURN).await?);
        }
        self.database.discard(fresh).await?;
        self.database.remove(&raw).await?;
        Ok((has_raw.then(|| mean(&raw_rates)), mean(&rates)))
    }
}
