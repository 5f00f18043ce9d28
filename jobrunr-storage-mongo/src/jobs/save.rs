//! Saving jobs: one command with a guarded statement for each, and a look at who lost if the counts disagree.

use std::collections::{HashMap, HashSet};

use jobrunr_core::storage::{SaveReport, StorageError};
use jobrunr_core::{HistoryEntry, Job, JobId, JobState, StateName};
use mongodb::bson::{Bson, Document, doc};

use super::MAX_COMMAND_BYTES;
use super::counts::Deltas;
use super::uncertain::Write;
use crate::MongoStorage;
use crate::call::{Broken, Commands, Work};
use crate::changes::Hints;
use crate::documents::{change_of, from_state_number, id_of, micros, state_number, uuid, version_number};
use crate::error::Failed;
use crate::marks::{Since, Token};

const OPERATION: &str = "save jobs";

/// How many jobs one command saves at most.
const CHUNK: usize = 500;

impl MongoStorage {
    pub(super) async fn save(&self, jobs: &[Job]) -> Result<SaveReport, StorageError> {
        let _open = self.begin(OPERATION)?;
        let mut lost: HashSet<usize> = HashSet::new();
        let mut seen = HashSet::with_capacity(jobs.len());
        let firsts: Vec<usize> = (0..jobs.len()).filter(|index| seen.insert(jobs[*index].id())).collect();
        lost.extend((0..jobs.len()).filter(|index| firsts.binary_search(index).is_err()));
        for chunk in firsts.chunks(CHUNK) {
            let storage = self.clone();
            let mentioned: Vec<Job> = chunk.iter().map(|index| jobs[*index].clone()).collect();
            let save = async move { storage.save_chunk(mentioned).await.map_err(StorageError::from) };
            let winners = self.to_its_end(OPERATION, save).await?;
            let mut hints = Hints::default();
            for index in chunk {
                if winners.contains(&jobs[*index].id()) {
                    hints.note_saved(&jobs[*index]);
                } else {
                    lost.insert(*index);
                }
            }
            // What is saved is told, whatever becomes of the rest.
            self.hint(hints);
        }
        let conflicts = jobs.iter().enumerate().filter(|(index, _)| lost.contains(index));
        Ok(SaveReport { conflicts: conflicts.map(|(_, job)| job.id()).collect() })
    }

    /// Saves jobs of different ids; returns those that won.
    async fn save_chunk(&self, jobs: Vec<Job>) -> Result<HashSet<JobId>, Failed> {
        let work = SaveJobs { token: Token::random(), jobs };
        let writes = || work.jobs.iter().map(|job| (job.id(), Write::Save(job.version())));
        match self.transact(&work).await {
            Ok(winners) => {
                self.inner.uncertain.forget_writes(writes());
                Ok(winners)
            }
            Err(failed) => {
                if failed.is_uncertain {
                    self.inner.uncertain.note_writes(work.token, writes());
                    if !self.inner.has_transactions {
                        self.settle(work);
                    }
                }
                Err(failed)
            }
        }
    }
}

/// Jobs to be saved, which bear the token when they are.
pub(super) struct SaveJobs {
    pub(super) token: Token,
    pub(super) jobs: Vec<Job>,
}

/// A save of one job, if its document is in the state that the job was loaded in.
fn statement(job: &Job, stored_state: StateName, token: Token) -> Document {
    let mut guard = doc! {
        "_id": uuid(job.id()),
        "version": version_number(job.version()),
        "state": state_number(stored_state),
        // The job may be gone and another one be there under its id.
        "created": micros(job.created_at()),
    };
    // A failover may have undone the claim that the job was loaded from, and another server may have claimed it since: the
    // version is the same again.
    if let Some(JobState::Processing { server_id, .. }) = loaded_entries(job).last().map(|entry| &entry.state)
    {
        guard.insert("server", uuid(*server_id));
    }
    doc! { "q": guard, "u": change_of(job, stored_state, token), "hint": "_id_" }
}

/// The history that a job was loaded with; nothing if it was never said to be stored.
fn loaded_entries(job: &Job) -> &[HistoryEntry] {
    &job.history()[..job.history().len() - job.new_entries().len()]
}

/// The state that a job was in when it was loaded.
pub(super) fn loaded_state(job: &Job) -> StateName {
    loaded_entries(job).last().map_or(job.state_name(), |entry| entry.state.name())
}

/// What became of a job that was to be saved.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    /// It was saved now, and left this state.
    Saved { left: StateName },
    /// An earlier try had saved it, and has counted it if that was a transaction.
    SavedBefore { by: Token },
}

impl Work for SaveJobs {
    type Output = HashSet<JobId>;
    const OPERATION: &'static str = OPERATION;

    async fn run(&self, commands: &mut Commands<'_>, counts: &mut Deltas) -> Result<HashSet<JobId>, Broken> {
        let uncertain = &commands.storage.inner.uncertain;
        let statements = self.jobs.iter().map(|job| statement(job, loaded_state(job), self.token));
        let changed = update(commands, statements.collect()).await?;
        let fates = if changed == self.jobs.len() {
            self.jobs.iter().map(|job| (job.id(), Fate::Saved { left: loaded_state(job) })).collect()
        } else {
            let is_alone = commands.session.is_none();
            let found_out = self.find_out(commands).await;
            found_out.map_err(|broken| if is_alone { broken.after_a_write(OPERATION) } else { broken })?
        };
        for job in &self.jobs {
            match fates.get(&job.id()) {
                Some(Fate::Saved { left }) => counts.add_save(job, *left),
                Some(Fate::SavedBefore { by }) if uncertain.take_uncounted(job.id(), *by) => {
                    counts.add_save(job, loaded_state(job));
                }
                _ => {}
            }
        }
        Ok(fates.into_keys().collect())
    }
}

impl SaveJobs {
    /// Looks at every job of the batch, because fewer were changed than there are. Losers get no fate.
    async fn find_out(&self, commands: &mut Commands<'_>) -> Result<HashMap<JobId, Fate>, Broken> {
        let storage = commands.storage;
        let ids: Vec<_> = self.jobs.iter().map(|job| uuid(job.id())).collect();
        let fields = doc! { "version": 1, "state": 1, "created": 1, "marks": 1 };
        let collection = &storage.inner.collections.jobs;
        let found =
            commands.find_by_id(collection, doc! { "_id": { "$in": ids } }, fields, self.jobs.len()).await?;
        let found: HashMap<JobId, Document> =
            found.into_iter().filter_map(|document| Some((id_of(&document)?, document))).collect();
        let mut fates = HashMap::new();
        let mut again = Vec::new();
        for job in &self.jobs {
            let Some(document) = found.get(&job.id()) else { continue };
            if document.get_i64("created") != Ok(micros(job.created_at())) {
                continue;
            }
            let stored_version = document.get_i64("version").unwrap_or_default();
            let marks = marks_of(document);
            // Race: others may have written since, so the last mark need not be ours.
            let has_written = |token| Since::of(&marks, token).is_some();
            let earlier = storage.inner.uncertain.tokens_of(job.id(), Write::Save(job.version()));
            if has_written(self.token) {
                fates.insert(job.id(), Fate::Saved { left: loaded_state(job) });
            } else if let Some(by) = earlier.into_iter().find(|token| has_written(*token)) {
                fates.insert(job.id(), Fate::SavedBefore { by });
            } else if stored_version == version_number(job.version()) && loaded_entries(job).is_empty() {
                // It is the version that was loaded, and the history does not say in which state. What is stored counts.
                let state = document.get_i32("state").ok().and_then(from_state_number);
                again.extend(state.map(|state| (job, state)));
            }
        }
        for (job, left) in again {
            if update(commands, vec![statement(job, left, self.token)]).await? == 1 {
                fates.insert(job.id(), Fate::Saved { left });
            }
        }
        Ok(fates)
    }
}

/// The marks of a document.
pub(super) fn marks_of(document: &Document) -> Vec<i64> {
    document.get_array("marks").into_iter().flatten().filter_map(Bson::as_i64).collect()
}

/// Runs guarded statements; returns how many of them found their document.
async fn update(commands: &mut Commands<'_>, statements: Vec<Document>) -> Result<usize, Broken> {
    let collection = commands.storage.inner.collections.jobs.clone();
    let mut changed = 0;
    let mut statements = statements.into_iter().map(Bson::from).peekable();
    while statements.peek().is_some() {
        let mut bytes = 0;
        let mut part = Vec::new();
        while let Some(statement) = statements.next_if(|statement| {
            bytes += size_of(statement);
            bytes <= MAX_COMMAND_BYTES
        }) {
            part.push(statement);
        }
        if part.is_empty() {
            part.extend(statements.next());
        }
        let answer = commands.write(doc! { "update": &collection, "updates": part, "ordered": false }).await;
        let is_certain = commands.session.is_some() || changed == 0;
        let answer =
            answer.map_err(|broken| if is_certain { broken } else { broken.after_a_write(OPERATION) })?;
        changed += answer.get_i32("n").ok().and_then(|n| usize::try_from(n).ok()).unwrap_or_default();
    }
    Ok(changed)
}

/// About how many bytes a value has when it is sent.
fn size_of(value: &Bson) -> usize {
    match value {
        Bson::String(text) => text.len() + 16,
        Bson::Array(values) => values.iter().map(size_of).sum::<usize>() + 16,
        Bson::Document(document) => {
            document.iter().map(|(name, value)| name.len() + size_of(value)).sum::<usize>() + 16
        }
        _ => 32,
    }
}
