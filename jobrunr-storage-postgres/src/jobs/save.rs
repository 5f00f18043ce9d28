//! Saving jobs: plain successes in few columns, all others with whatever became of them.

use std::collections::{HashMap, HashSet};

use jobrunr_core::storage::{SaveReport, StorageError};
use jobrunr_core::{Job, JobId, JobMetadata, StateName, StoredJob};
use jobrunr_storage_sql::{EncodedHistory, HotColumns, Tail, encode_history, micros, tail_start};
use sqlx::Row;
use uuid::Uuid;

use super::CHUNK;
use super::columns::{HistoryColumns, ResultColumns, RowColumns, short, successes};
use super::insert::ids_of;
use super::uncertain::Write;
use crate::PostgresStorage;
use crate::changes::Hints;
use crate::connection::{Failed, Statement};
use crate::error::classify;
use crate::names::Numbers;
use crate::rows::ReadJob;

const OPERATION: &str = "save jobs";

/// What a save makes of a job.
struct Change<'a> {
    job: &'a Job,
    /// What the row must look like for the rest to fit.
    loaded: Loaded,
    encoded: EncodedHistory<'a>,
}

/// What a row looks like before a save, beside its version.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Loaded {
    state: StateName,
    archived: usize,
    updated_at: i64,
}

/// A row that was found when a save did not win.
struct FoundRow {
    version: i64,
    loaded: Option<Loaded>,
}

impl<'a> Change<'a> {
    /// `None` for a job of which nothing is said to be stored: no row looks like that.
    fn of(job: &'a Job) -> Option<Self> {
        let stored = &job.history()[..job.history().len() - job.new_entries().len()];
        let last = stored.last()?;
        let archived = tail_start(stored);
        let loaded = Loaded { state: last.state.name(), archived, updated_at: micros(last.at) };
        Some(Self { job, loaded, encoded: encode_history(job, archived) })
    }

    /// Whether a success is all that is new, and goes into its column.
    fn is_plain_success(&self) -> bool {
        let new = self.job.new_entries();
        new.len() == 1
            && self.encoded.columns.state == StateName::Succeeded
            && self.encoded.columns.archived_entries == self.loaded.archived
            && matches!(self.loaded.state, StateName::Processing | StateName::Processed)
    }

    /// Whether a row is what this change makes of it.
    fn made(&self, row: &FoundRow) -> bool {
        let HotColumns { state, archived_entries, updated_at, .. } = self.encoded.columns;
        row.version == version_column(self.job) + 1
            && row.loaded == Some(Loaded { state, archived: archived_entries, updated_at })
    }

    fn write(&self) -> (JobId, Write) {
        (self.job.id(), Write::Save(self.job.version()))
    }
}

fn version_column(job: &Job) -> i64 {
    i64::try_from(job.version().number()).unwrap_or(i64::MAX - 1)
}

impl PostgresStorage {
    pub(super) async fn save(&self, jobs: &[Job]) -> Result<SaveReport, StorageError> {
        let _open = self.begin(OPERATION)?;
        let mut seen = HashSet::with_capacity(jobs.len());
        let (mut report, mut hints) = (SaveReport::default(), Hints::default());
        for chunk in jobs.chunks(CHUNK) {
            let first_mentions: Vec<&Job> = chunk.iter().filter(|job| seen.insert(job.id())).collect();
            let mut winners = self.save_chunk(&first_mentions).await?;
            for job in chunk {
                // Only the first mention of a job can have won.
                if winners.remove(&job.id()) {
                    hints.note_saved(job);
                } else {
                    report.conflicts.push(job.id());
                }
            }
        }
        self.hint(hints);
        Ok(report)
    }

    /// Saves jobs of different ids; returns the winners.
    async fn save_chunk(&self, jobs: &[&Job]) -> Result<HashSet<JobId>, StorageError> {
        let mut changes: Vec<Change<'_>> = jobs.iter().filter_map(|job| Change::of(job)).collect();
        // In one order everywhere, so that two that save the same jobs cannot wait for each other.
        changes.sort_unstable_by_key(|change| change.job.id());
        let mut winners: HashSet<JobId> = HashSet::with_capacity(jobs.len());
        let (plain, rich): (Vec<&Change<'_>>, Vec<_>) =
            changes.iter().partition(|change| change.is_plain_success());
        if !plain.is_empty() {
            winners.extend(self.write(&plain, |storage, _, shard| succeed(storage, &plain, shard)).await?);
        }
        if !rich.is_empty() {
            let all = |storage: &Self, numbers: &Numbers, shard| save(storage, &rich, numbers, shard);
            winners.extend(self.write(&rich, all).await?);
        }
        let losers: Vec<&Job> = jobs.iter().copied().filter(|job| !winners.contains(&job.id())).collect();
        if !losers.is_empty() {
            let changes: HashMap<JobId, &Change<'_>> =
                changes.iter().map(|change| (change.job.id(), change)).collect();
            winners.extend(self.look_again(&losers, &changes).await?);
        }
        // What came of each is known now.
        self.inner.uncertain.forget_writes(changes.iter().map(Change::write));
        Ok(winners)
    }

    /// Runs the statement that `make` gives for these changes; returns the winners.
    async fn write(
        &self,
        changes: &[&Change<'_>],
        make: impl FnOnce(&Self, &Numbers, i16) -> Statement,
    ) -> Result<Vec<JobId>, StorageError> {
        let servers: Vec<_> = changes
            .iter()
            .filter(|change| !change.is_plain_success())
            .filter_map(|change| change.encoded.server.as_ref())
            .collect();
        let numbers = self.number_names(OPERATION, &[], &servers).await?;
        let shard = self.inner.shards.take();
        let saved = async {
            let mut call = self.call(OPERATION).await?;
            let rows = call.rows(make(self, &numbers, shard.number())).await?;
            call.finish().await?;
            ids_of(&rows)
        };
        saved.await.map_err(|failed: Failed| {
            if failed.is_uncertain {
                self.inner.uncertain.note_writes(changes.iter().map(|change| change.write()));
            }
            failed.error
        })
    }

    /// Looks at the rows of jobs that did not win. Almost always somebody else was faster, but an earlier try of this
    /// same save may have taken effect unseen, or a row may look otherwise than its history was said to be.
    async fn look_again(
        &self,
        losers: &[&Job],
        changes: &HashMap<JobId, &Change<'_>>,
    ) -> Result<HashSet<JobId>, StorageError> {
        let ids: Vec<Uuid> = losers.iter().map(|job| Uuid::from(job.id())).collect();
        let mut call = self.call(OPERATION).await?;
        let rows = call.rows(self.statement(&self.inner.statements.look_at).bind(ids)).await?;
        call.finish().await?;
        let found: Result<HashMap<JobId, FoundRow>, sqlx::Error> = rows.iter().map(read_row).collect();
        let found = found.map_err(|error| classify(&error, OPERATION))?;
        let mut winners = HashSet::new();
        for job in losers {
            let Some(row) = found.get(&job.id()) else { continue };
            let won = match (changes.get(&job.id()), row.loaded) {
                (Some(change), _) if change.made(row) => self.may_have_won(change),
                (Some(change), _) if row.version > version_column(job) + 1 => {
                    self.may_have_won(change) && self.has_gone_on_from(job).await?
                }
                (_, Some(loaded)) if row.version == version_column(job) => {
                    self.save_unexpected(job, loaded).await?
                }
                _ => false,
            };
            if won {
                winners.insert(job.id());
            }
        }
        Ok(winners)
    }

    /// Whether an earlier try of this save may have taken effect unseen.
    fn may_have_won(&self, change: &Change<'_>) -> bool {
        let (id, write) = change.write();
        self.inner.uncertain.may_be_written(id, write)
    }

    /// Whether others have added to the history of a job as this save left it.
    async fn has_gone_on_from(&self, job: &Job) -> Result<bool, StorageError> {
        let stored = self.load(job.id()).await?.and_then(|found| found.job.ok());
        Ok(stored.is_some_and(|stored| stored.history().starts_with(job.history())))
    }

    async fn load(&self, id: JobId) -> Result<Option<ReadJob>, StorageError> {
        let mut call = self.call(OPERATION).await?;
        let find = self.statement(&self.inner.statements.list_jobs).bind(vec![Uuid::from(id)]);
        let rows = call.rows(find).await?;
        let found = self.read_jobs(&mut call, &rows).await?.pop();
        call.finish().await?;
        Ok(found)
    }

    /// Adds the new entries to a row whose version is right but which does not look as the job's history says it
    /// should: what is stored is kept, whatever it is.
    async fn save_unexpected(&self, job: &Job, loaded: Loaded) -> Result<bool, StorageError> {
        let found = self.load(job.id()).await?;
        let Some(found) = found.filter(|found| found.version == job.version()) else { return Ok(false) };
        if found.job.as_ref().is_ok_and(|stored| stored.created_at() != job.created_at()) {
            // The job was purged, and its id given to a later one.
            return Ok(false);
        }
        let grown = found.job.ok().map(|stored| {
            Job::from_stored(StoredJob {
                id: job.id(),
                version: job.version(),
                definition: job.shared_definition(),
                history: stored.history().iter().chain(job.new_entries()).cloned().collect(),
                metadata: JobMetadata::new(),
            })
        });
        let encoded = match &grown {
            Some(grown) => encode_history(grown, loaded.archived),
            // What is stored cannot be read, so nothing can be said of its tail: the new entries are only added to it.
            None => {
                let EncodedHistory { columns, server, .. } = encode_history(job, 0);
                let archived_entries = loaded.archived + job.new_entries().len();
                let columns = HotColumns { archived_entries, tail: Tail::default(), ..columns };
                EncodedHistory { columns, to_archive: job.new_entries(), server, result: None }
            }
        };
        let change = Change { job, loaded, encoded };
        let all = |storage: &Self, numbers: &Numbers, shard| save(storage, &[&change], numbers, shard);
        Ok(!self.write(&[&change], all).await?.is_empty())
    }
}

fn read_row(row: &sqlx::postgres::PgRow) -> Result<(JobId, FoundRow), sqlx::Error> {
    let (state, archived): (i16, i32) = (row.try_get(2)?, row.try_get(4)?);
    let state = u8::try_from(state).ok().and_then(StateName::from_index);
    let updated_at = row.try_get(3)?;
    let loaded = state.zip(usize::try_from(archived).ok()).map(|(state, archived)| Loaded {
        state,
        archived,
        updated_at,
    });
    Ok((row.try_get::<Uuid, _>(0)?.into(), FoundRow { version: row.try_get(1)?, loaded }))
}

fn column<T>(changes: &[&Change<'_>], value: impl Fn(&Change<'_>) -> T) -> Vec<T> {
    changes.iter().map(|change| value(change)).collect()
}

fn succeed(storage: &PostgresStorage, changes: &[&Change<'_>], shard: i16) -> Statement {
    let mut results = ResultColumns::default();
    for change in changes {
        results.add(change.job.id(), &change.encoded);
    }
    storage
        .statement(&storage.inner.statements.succeed)
        .bind(column(changes, |change| Uuid::from(change.job.id())))
        .bind(column(changes, |change| version_column(change.job)))
        .bind(column(changes, |change| change.loaded.updated_at))
        .bind(column(changes, |change| short(change.loaded.archived)))
        .bind(column(changes, |change| change.encoded.columns.updated_at))
        .bind(results.jobs)
        .bind(results.entries)
        .bind(results.results)
        .bind(shard)
}

fn save(storage: &PostgresStorage, changes: &[&Change<'_>], numbers: &Numbers, shard: i16) -> Statement {
    let (mut row, mut history, mut results) =
        (RowColumns::default(), HistoryColumns::default(), ResultColumns::default());
    for change in changes {
        row.add(change.encoded.columns.clone());
        history.add(change.job.id(), &change.encoded);
        results.add(change.job.id(), &change.encoded);
    }
    storage
        .statement(&storage.inner.statements.save)
        .bind(column(changes, |change| Uuid::from(change.job.id())))
        .bind(column(changes, |change| version_column(change.job)))
        .bind(column(changes, |change| change.loaded.updated_at))
        .bind(column(changes, |change| short(change.loaded.archived)))
        .bind(column(changes, |change| i16::from(change.loaded.state.index())))
        .bind(row.states)
        .bind(row.updated)
        .bind(row.archived)
        .bind(row.queued)
        .bind(row.scheduled)
        .bind(row.scheduled_entries)
        .bind(row.enqueued_entries)
        .bind(row.claimed)
        .bind(row.finished)
        .bind(row.deleted)
        .bind(row.reasons)
        .bind(row.awaited)
        .bind(column(changes, |change| numbers.server(change.encoded.server.as_ref())))
        .bind(column(changes, |change| successes(change.job.new_entries())))
        .bind(history.jobs)
        .bind(history.firsts)
        .bind(history.entries)
        .bind(history.errors)
        .bind(results.jobs)
        .bind(results.entries)
        .bind(results.results)
        .bind(shard)
}
