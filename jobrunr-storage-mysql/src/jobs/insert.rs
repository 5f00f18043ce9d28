//! Inserting jobs: many in one statement, without asking first whether any is there, since hardly ever one is.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use async_trait::async_trait;
use jobrunr_core::storage::StorageError;
use jobrunr_core::{Job, JobDefinition, JobId, JobMetadata, ServerRef, StateName};
use jobrunr_storage_sql::{HotColumns, Lane, StoredDefinition, Tail, encode_history};

use super::archive::{Archived, Beside, TailResult, rows_that_fit};
use super::ended::{Ended, successes};
use super::{signed, version_column};
use crate::columns::Columns;
use crate::error::Outcome;
use crate::place::{NEVER, Place};
use crate::session::Session;
use crate::shared::Shared;
use crate::statements::RowSizes;
use crate::values::{Rows, Values};
use crate::work::Work;

/// A job to be inserted, encoded.
#[derive(Debug)]
pub(crate) struct NewJob {
    pub(super) id: JobId,
    version: i64,
    lane: Lane,
    /// Of its lane and of the server that its history names, once they are known.
    lane_number: i32,
    server_number: i32,
    columns: HotColumns,
    server: Option<ServerRef>,
    definition: Arc<JobDefinition>,
    labels: Option<String>,
    settings: Option<String>,
    archived: Option<Archived>,
    result: Option<TailResult>,
    metadata: Vec<(String, String)>,
    successes: i64,
}

impl NewJob {
    pub(super) fn of(job: &Job) -> Self {
        let definition = job.shared_definition();
        let encoded = encode_history(job, 0);
        Self {
            id: job.id(),
            version: version_column(job.version()),
            lane: Lane { queue: definition.queue.clone(), signature: definition.signature.clone() },
            lane_number: 0,
            server_number: 0,
            labels: StoredDefinition::encode_labels(&definition.labels),
            settings: StoredDefinition::encode_settings(&definition.settings),
            definition,
            archived: Archived::from_history(&encoded),
            result: TailResult::from_history(&encoded),
            metadata: encode_metadata(job.metadata()),
            successes: successes(job.history()),
            server: encoded.server,
            columns: encoded.columns,
        }
    }

    /// Whether its row is all there is of it, so that one statement inserts it.
    pub(super) fn is_row_alone(&self) -> bool {
        self.is_new()
            && self.labels.is_none()
            && self.definition.settings.recurring_job_id.is_none()
            && self.columns.awaited_job_id.is_none()
    }

    /// Whether its life has not begun elsewhere: its row has nothing but what every new job's has.
    fn is_new(&self) -> bool {
        let Tail { claimed_at, finished_at, deleted_at, .. } = &self.columns.tail;
        claimed_at.or(*finished_at).or(*deleted_at).is_none()
            && self.server.is_none()
            && self.archived.is_none()
            && self.metadata.is_empty()
            && !self.columns.state.is_final()
    }

    /// Whether it waits in line since it was created, and that is all.
    fn is_plainly_enqueued(&self) -> bool {
        let HotColumns { created_at, .. } = self.columns;
        let place = Place::of(&self.columns, self.lane_number, self.definition.priority);
        self.is_row_alone()
            && self.columns.state == StateName::Enqueued
            && (place.place, i64::from(place.rank), place.at)
                == (self.lane_number, -1 - i64::from(self.definition.priority), created_at)
            && self.columns.queued_at == Some(created_at)
            && self.columns.updated_at == created_at
            && self.columns.scheduled_at.is_none()
            && self.columns.tail.scheduled_entry_at.is_none()
            && self.columns.tail.enqueued_entry_at == Some(created_at)
    }

    /// About how many bytes it has in a statement.
    pub(super) fn bytes(&self) -> usize {
        self.definition.payload.len() + 1_024
    }

    fn bind_plainly_enqueued(&self, values: &mut Values) {
        values.push_bytes(Some(self.id.as_bytes()));
        values.push_number(self.version);
        values.push_number(i64::from(self.lane_number));
        values.push_number(i64::from(self.definition.priority));
        values.push_number(self.columns.created_at);
        values.push_text(Some(&self.definition.name));
        values.push_text(self.settings.as_deref());
        values.push_text(Some(self.definition.payload.as_str()));
    }

    fn bind_new(&self, values: &mut Values) {
        let HotColumns { queued_at, created_at, updated_at, scheduled_at, tail, .. } = &self.columns;
        let place = Place::of(&self.columns, self.lane_number, self.definition.priority);
        values.push_bytes(Some(self.id.as_bytes()));
        values.push_number(self.version);
        values.push_number(i64::from(self.lane_number));
        values.push_number(i64::from(place.place));
        values.push_number(i64::from(place.rank));
        values.push_number(place.at);
        values.push_number(i64::from(self.definition.priority));
        values.push_number(*queued_at);
        values.push_number(*created_at);
        values.push_number(*updated_at);
        values.push_number(*scheduled_at);
        values.push_number(tail.scheduled_entry_at);
        values.push_number(tail.enqueued_entry_at);
        values.push_text(Some(&self.definition.name));
        values.push_text(self.labels.as_deref());
        values.push_text(self.settings.as_deref());
        values.push_text(Some(self.definition.payload.as_str()));
    }

    fn bind_rest(&self, values: &mut Values) {
        let Tail { claimed_at, finished_at, deleted_at, deleted_reason, .. } = &self.columns.tail;
        values.push_number(claimed_at.unwrap_or(NEVER));
        values.push_number(finished_at.unwrap_or(NEVER));
        values.push_number(i64::from(self.server_number));
        values.push_number(signed(self.columns.archived_entries));
        values.push_number(i64::from(!self.metadata.is_empty()));
        values.push_number(*deleted_at);
        values.push_bytes(deleted_reason.as_ref().map(String::as_bytes));
    }
}

pub(super) fn encode_metadata(metadata: &JobMetadata) -> Vec<(String, String)> {
    metadata.iter().map(|(name, value)| (name.clone(), value.to_string())).collect()
}

impl Shared {
    /// Finds the numbers of lanes and servers; what is new is added for good and remembered.
    pub(super) async fn number_jobs(self: &Arc<Self>, jobs: &mut [NewJob]) -> Result<(), StorageError> {
        let mut known: Option<(&Lane, i32)> = None;
        for job in jobs {
            job.lane_number = match known {
                Some((lane, number)) if *lane == job.lane => number,
                _ => self.lane_number(&job.lane).await?,
            };
            known = Some((&job.lane, job.lane_number));
            if let Some(server) = &job.server {
                job.server_number = self.server_number(server).await?;
            }
        }
        Ok(())
    }
}

impl Session<'_> {
    /// Finds the numbers of lanes and servers, adding what is new with the transaction under way.
    pub(super) async fn number_jobs(&mut self, jobs: &mut [NewJob]) -> Outcome<()> {
        for job in jobs {
            job.lane_number = self.lane_number(&job.lane).await?;
            if let Some(server) = &job.server {
                job.server_number = self.find_server_number(server).await?;
            }
        }
        Ok(())
    }

    /// Inserts jobs that are not there; fails as a whole if one is.
    pub(super) async fn insert_absent(&mut self, jobs: &[&NewJob]) -> Outcome<()> {
        let statements = &self.shared.statements;
        if jobs.iter().all(|job| job.is_plainly_enqueued()) {
            let bind = |values: &mut Values, job: &&NewJob| job.bind_plainly_enqueued(values);
            return self.insert_rows(&statements.insert_enqueued_jobs, jobs, |job| job.bytes(), bind).await;
        }
        let is_new = jobs.iter().all(|job| job.is_new());
        let sizes = if is_new { &statements.insert_new_jobs } else { &statements.insert_jobs };
        self.insert_rows(
            sizes,
            jobs,
            |job| job.bytes(),
            |values, job| {
                job.bind_new(values);
                if !is_new {
                    job.bind_rest(values);
                }
            },
        )
        .await?;
        self.insert_rest(jobs).await
    }

    /// What most jobs do not have.
    async fn insert_rest(&mut self, jobs: &[&NewJob]) -> Outcome<()> {
        let (mut labels, mut runs, mut waiting) = (Rows::new(), Rows::new(), Rows::new());
        let (mut metadata, mut beside, mut ended) = (Vec::new(), Beside::default(), Ended::default());
        for job in jobs {
            for label in &job.definition.labels {
                labels.row_of_bytes(label.as_str().as_bytes()).id(job.id).end_row();
            }
            if let Some(recurring) = &job.definition.settings.recurring_job_id {
                runs.row_of_bytes(recurring.as_str().as_bytes()).id(job.id).end_row();
            }
            if let Some(awaited) = job.columns.awaited_job_id {
                waiting.row_of_bytes(awaited.as_bytes()).id(job.id).end_row();
            }
            metadata.extend(job.metadata.iter().map(|(name, value)| (job.id, name, value)));
            beside.add(job.id, job.archived.as_ref(), job.result.as_ref());
            ended.count(job.lane_number, None, Some(job.columns.state));
            ended.count_successes(job.lane_number, job.successes);
        }
        let statements = &self.shared.statements;
        for (rows, statement) in [
            (labels, &statements.insert_labels),
            (runs, &statements.insert_recurring_runs),
            (waiting, &statements.insert_waiting),
        ] {
            if !rows.is_empty() {
                self.execute(statement, Values::new().text(&rows.finish())).await?;
            }
        }
        let length = |(_, name, value): &(JobId, &String, &String)| name.len() + value.len();
        self.insert_rows(&statements.save_job_metadata, &metadata, length, |values, (id, name, value)| {
            values.push_bytes(Some(id.as_bytes()));
            values.push_bytes(Some(name.as_bytes()));
            values.push_text(Some(value));
        })
        .await?;
        self.write_beside(beside).await?;
        self.write_ended(ended).await
    }

    /// Which of these jobs are there, and whether as they would have been inserted.
    pub(super) async fn present<'j>(
        &mut self,
        jobs: impl IntoIterator<Item = &'j NewJob>,
    ) -> Outcome<HashMap<JobId, SameJob>> {
        let jobs: HashMap<JobId, &NewJob> = jobs.into_iter().map(|job| (job.id, job)).collect();
        let mut ids: Vec<JobId> = jobs.keys().copied().collect();
        ids.sort_unstable();
        let mut present = HashMap::new();
        for ids in ids.chunks(RowSizes::LARGEST) {
            let values = Values::new().text(&Rows::of_ids(ids));
            for row in self.rows(&self.shared.statements.present_jobs, values).await? {
                let id = JobId::from(row.id(0)?);
                let Some(job) = jobs.get(&id) else { continue };
                // Whatever was done to it since, its version only grows.
                let is_same = row.number(1)? >= job.version && row.number(2)? == job.columns.created_at;
                present.insert(id, if is_same { SameJob::Yes } else { SameJob::No });
            }
        }
        Ok(present)
    }
}

/// Whether a job that is there may be the one that was to be inserted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum SameJob {
    Yes,
    No,
}

/// Inserts one part of a batch.
#[derive(Debug)]
pub(super) struct InsertJobs {
    jobs: Vec<NewJob>,
    /// Whether some are there, as a try that was turned down has shown, or a look.
    some_are_present: bool,
    /// Those that the last try found there and did not insert; none if it began without a look.
    found: HashMap<JobId, SameJob>,
}

impl InsertJobs {
    pub(super) fn new(jobs: Vec<NewJob>, some_are_present: bool) -> Self {
        Self { jobs, some_are_present, found: HashMap::new() }
    }

    /// Takes from the front of `jobs` what goes into one transaction.
    pub(super) fn next(jobs: &mut Vec<NewJob>, max_bytes: usize) -> Option<Self> {
        if jobs.is_empty() {
            return None;
        }
        let count = rows_that_fit(jobs, max_bytes, NewJob::bytes).min(RowSizes::LARGEST);
        let rest = jobs.split_off(count);
        Some(Self::new(std::mem::replace(jobs, rest), false))
    }

    /// Whether a job is named twice, so that they cannot be inserted as they are.
    pub(super) fn has_repeated_ids(&self) -> bool {
        !self.apart(&HashMap::new()).1.is_empty()
    }

    /// The jobs to insert and those that are there already, the second mention of one counting as that.
    fn apart(&self, present: &HashMap<JobId, SameJob>) -> (Vec<&NewJob>, Vec<JobId>) {
        let mut seen = HashSet::with_capacity(self.jobs.len());
        let (mut absent, mut already_present) = (Vec::with_capacity(self.jobs.len()), Vec::new());
        for job in &self.jobs {
            if present.contains_key(&job.id) || !seen.insert(job.id) {
                already_present.push(job.id);
            } else {
                absent.push(job);
            }
        }
        (absent, already_present)
    }
}

#[async_trait]
impl Work for InsertJobs {
    type Output = Vec<JobId>;

    fn is_single_statement(&self) -> bool {
        !self.some_are_present
            && RowSizes::is_size(self.jobs.len())
            && self.jobs.iter().all(NewJob::is_row_alone)
            && !self.has_repeated_ids()
    }

    async fn run(&mut self, session: &mut Session<'_>) -> Outcome<Vec<JobId>> {
        self.found = if self.some_are_present { session.present(&self.jobs).await? } else { HashMap::new() };
        let (absent, already_present) = self.apart(&self.found);
        let inserted = session.insert_absent(&absent).await;
        if let Err(failure) = &inserted {
            self.some_are_present |= failure.is_duplicate();
        }
        inserted.map(|()| already_present)
    }

    async fn happened(&mut self, session: &mut Session<'_>) -> Outcome<bool> {
        let present = session.present(&self.jobs).await?;
        self.some_are_present = !present.is_empty();
        // What was there before the try says nothing of it. The others came all or none: where one is missing, or is
        // another job, those that are there came from elsewhere. Where all are there, a single statement, before which
        // nobody looks, may have met all of them; they are stored all the same, and count as inserted.
        let (tried, _) = self.apart(&self.found);
        Ok(tried.iter().all(|job| present.get(&job.id) == Some(&SameJob::Yes)))
    }

    fn retries_duplicates(&self) -> bool {
        true
    }
}
