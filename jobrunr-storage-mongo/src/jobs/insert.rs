//! Inserting jobs: plain documents all at once; those that are counted, together with their counts.

use std::collections::HashSet;

use jobrunr_core::storage::{InsertReport, StorageError};
use jobrunr_core::{Job, JobId, StateName};
use mongodb::bson::doc;
use mongodb::error::ErrorKind;

use super::counts::{Deltas, Shards};
use super::uncertain::Write;
use super::{CHUNK, MAX_COMMAND_BYTES};
use crate::MongoStorage;
use crate::call::{Broken, Commands, Work};
use crate::changes::Hints;
use crate::documents::{JobDocument, id_of, uuid};
use crate::error::{DUPLICATE_KEY, Failed};
use crate::marks::Token;

/// What is attempted here.
pub(super) const OPERATION: &str = "insert jobs";

/// Calls with at most so many jobs are gathered with others.
const GATHERED: usize = 16;

/// What a document has beside its payload, history and metadata, at most.
const OTHER_BYTES: usize = 4_096;

impl MongoStorage {
    pub(super) async fn insert(&self, jobs: &[Job]) -> Result<InsertReport, StorageError> {
        let mut seen = HashSet::with_capacity(jobs.len());
        let mut report = InsertReport::default();
        for chunk in jobs.chunks(CHUNK) {
            let first_mentions: Vec<Job> =
                chunk.iter().filter(|job| seen.insert(job.id())).cloned().collect();
            let ids: Vec<JobId> = first_mentions.iter().map(Job::id).collect();
            let present = if jobs.len() <= GATHERED {
                self.insert_gathered(first_mentions).await?
            } else {
                let storage = self.clone();
                let insert = async move { Ok(storage.insert_chunk(&first_mentions).await?) };
                self.to_its_end(OPERATION, insert).await?
            };
            let mut hints = Hints::default();
            tell(chunk, &ids, &present, &mut report, &mut hints);
            // What is inserted is told, whatever becomes of the rest.
            self.hint(hints);
        }
        Ok(report)
    }

    /// Inserts jobs of different ids; returns those that were there already.
    pub(super) async fn insert_chunk(&self, jobs: &[Job]) -> Result<HashSet<JobId>, Failed> {
        let (counted, plain): (Vec<&Job>, Vec<&Job>) = jobs.iter().partition(|job| is_counted(job));
        let mut present = HashSet::new();
        for part in by_size(&plain) {
            present.extend(self.insert_part(part, self.insert_plain(part)).await?);
        }
        for part in by_size(&counted) {
            present.extend(self.insert_part(part, self.transact(&InsertCounted { jobs: part })).await?);
        }
        Ok(present)
    }

    /// Inserts jobs one way or the other, with an eye on earlier tries whose answer was lost.
    async fn insert_part(
        &self,
        jobs: &[&Job],
        insert: impl Future<Output = Result<HashSet<JobId>, Failed>>,
    ) -> Result<HashSet<JobId>, Failed> {
        let writes = || jobs.iter().map(|job| (job.id(), Write::Insert));
        match insert.await {
            Ok(mut present) => {
                // What an earlier try of this call wrote is no surprise.
                present.retain(|id| self.inner.uncertain.tokens_of(*id, Write::Insert).is_empty());
                self.inner.uncertain.forget_writes(writes());
                Ok(present)
            }
            Err(failed) => {
                if failed.is_uncertain {
                    self.inner.uncertain.note_writes(Token::random(), writes());
                }
                Err(failed)
            }
        }
    }

    async fn insert_plain(&self, jobs: &[&Job]) -> Result<HashSet<JobId>, Failed> {
        let documents: Vec<JobDocument> = jobs.iter().map(|job| JobDocument::of(job)).collect();
        let insert = self.jobs::<JobDocument>();
        // The whole error is wanted, which tells what was there already.
        let inserted = async { Ok(insert.insert_many(&documents).ordered(false).await) };
        let Err(error) = self.limited_work(OPERATION, inserted).await? else { return Ok(HashSet::new()) };
        let ErrorKind::InsertMany(refused) = &*error.kind else { return Err(Failed::of(&error, OPERATION)) };
        let errors = refused.write_errors.iter().flatten();
        let all_were_there = errors.clone().all(|error| error.code == DUPLICATE_KEY);
        if refused.write_concern_error.is_some() || !all_were_there {
            return Err(Failed::of(&error, OPERATION));
        }
        Ok(errors.filter_map(|error| jobs.get(error.index).map(|job| job.id())).collect())
    }
}

/// Inserts jobs in a session of the caller's; returns those that were there already.
pub(crate) async fn insert_in_session(
    commands: &mut Commands<'_>,
    jobs: &[Job],
) -> Result<HashSet<JobId>, Broken> {
    let all: Vec<&Job> = jobs.iter().collect();
    let mut present = HashSet::new();
    let mut counts = Deltas::default();
    for chunk in all.chunks(CHUNK) {
        for part in by_size(chunk) {
            present.extend(InsertCounted { jobs: part }.run(commands, &mut counts).await?);
        }
    }
    // Nobody knows how long the transaction goes on.
    counts.write(commands, Shards::any()).await?;
    Ok(present)
}

/// Jobs that begin in a final state, or have succeeded before: they come together with their counts.
struct InsertCounted<'j> {
    jobs: &'j [&'j Job],
}

impl Work for InsertCounted<'_> {
    type Output = HashSet<JobId>;
    const OPERATION: &'static str = OPERATION;

    async fn run(&self, commands: &mut Commands<'_>, counts: &mut Deltas) -> Result<HashSet<JobId>, Broken> {
        let present = match &commands.session {
            None => match commands.storage.insert_plain(self.jobs).await {
                Ok(present) => present,
                Err(failed) => return Err(Broken::Call(failed)),
            },
            Some(_) => self.insert_what_is_missing(commands).await?,
        };
        // In no transaction, an earlier try whose answer was lost has counted nothing.
        let is_alone = commands.session.is_none();
        let uncertain = &commands.storage.inner.uncertain;
        let was_tried = |id| is_alone && !uncertain.tokens_of(id, Write::Insert).is_empty();
        for job in self.jobs.iter().filter(|job| !present.contains(&job.id()) || was_tried(job.id())) {
            counts.add(job.state_name(), 1);
            counts.add_successes(job.history());
        }
        Ok(present)
    }
}

impl InsertCounted<'_> {
    /// In a transaction a job that is there already would break everything, so it is looked for first.
    async fn insert_what_is_missing(&self, commands: &mut Commands<'_>) -> Result<HashSet<JobId>, Broken> {
        let collection = commands.storage.inner.collections.jobs.clone();
        let ids: Vec<_> = self.jobs.iter().map(|job| uuid(job.id())).collect();
        let projection = doc! { "_id": 1 };
        let found = commands
            .find_by_id(&collection, doc! { "_id": { "$in": ids } }, projection, self.jobs.len())
            .await?;
        let present: HashSet<JobId> = found.iter().filter_map(id_of).collect();
        let new: Vec<&Job> = self.jobs.iter().copied().filter(|job| !present.contains(&job.id())).collect();
        if new.is_empty() {
            return Ok(present);
        }
        let documents: Vec<JobDocument> = new.iter().map(|job| JobDocument::of(job)).collect();
        let jobs = commands.storage.jobs::<JobDocument>();
        let mut insert = jobs.insert_many(&documents);
        if let Some(session) = &mut commands.session {
            insert = insert.session(&mut **session);
        }
        insert.await?;
        Ok(present)
    }
}

fn is_counted(job: &Job) -> bool {
    let has_succeeded = || job.history().iter().any(|entry| entry.state.name() == StateName::Succeeded);
    job.state_name().is_final() || has_succeeded()
}

/// Parts of a batch that each fit a command.
fn by_size<'a, 'j>(jobs: &'a [&'j Job]) -> impl Iterator<Item = &'a [&'j Job]> {
    let mut rest = jobs;
    std::iter::from_fn(move || {
        let mut bytes = 0;
        let fits = |job: &&&Job| {
            bytes += job.payload().len() + OTHER_BYTES;
            bytes <= MAX_COMMAND_BYTES
        };
        let count = rest.iter().take_while(fits).count().max(1).min(rest.len());
        let (part, others) = rest.split_at(count);
        rest = others;
        (!part.is_empty()).then_some(part)
    })
}

/// Notes what became of each job of a chunk: hints of what is new, the report of what is not.
fn tell(
    chunk: &[Job],
    first_mentions: &[JobId],
    present: &HashSet<JobId>,
    report: &mut InsertReport,
    hints: &mut Hints,
) {
    let mut first_mentions: HashSet<JobId> = first_mentions.iter().copied().collect();
    for job in chunk {
        let is_first = first_mentions.remove(&job.id());
        if is_first && !present.contains(&job.id()) {
            hints.note(job);
        } else {
            report.already_present.push(job.id());
        }
    }
}
