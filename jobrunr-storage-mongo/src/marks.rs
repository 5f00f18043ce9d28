//! Marks: what each write of a job leaves on its document, so that whoever wrote finds it out, however many have written
//! since.
//!
//! A server alone has no transactions: between an update of many documents, which tells only how many it changed, and the
//! look at which they were, others may change them again. Every write that makes a new version adds one mark, so the
//! distance of a mark from the last one says which version its write made, and the numbers in the marks after it how
//! many entries the history has got since.

use jobrunr_core::{Job, StateName, StoredJob, Version};
use mongodb::bson::{Document, doc};

/// How many marks a document keeps. Whoever left one looks for it at once.
const KEPT: i32 = 16;

/// How many bits of a mark say how many entries its write added.
const ENTRY_BITS: u32 = 16;

/// What all writes of one call are known by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Token(i64);

/// A token, and how many entries a write added to the history, as a document holds it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Mark(i64);

impl Token {
    /// A token that no other call has, as far as chance allows.
    pub(crate) fn random() -> Self {
        Self(fastrand::i64(..) >> ENTRY_BITS)
    }

    /// The mark of a write that adds so many entries.
    pub(crate) fn mark(self, entries: usize) -> Mark {
        let most = (1 << ENTRY_BITS) - 1;
        Mark((self.0 << ENTRY_BITS) | i64::try_from(entries).unwrap_or(most).min(most))
    }
}

impl Mark {
    /// The mark as a document holds it.
    pub(crate) const fn number(self) -> i64 {
        self.0
    }

    const fn token(self) -> Token {
        Token(self.0 >> ENTRY_BITS)
    }

    fn entries(self) -> usize {
        usize::try_from(self.0 & ((1 << ENTRY_BITS) - 1)).unwrap_or_default()
    }

    /// What adds the mark to a document, as a part of `$push`.
    pub(crate) fn pushed(self) -> Document {
        doc! { "$each": [self.0], "$slice": -KEPT }
    }

    /// That nobody has written since.
    pub(crate) fn is_last(self) -> Document {
        doc! { "$expr": { "$eq": [{ "$arrayElemAt": ["$marks", -1] }, self.0] } }
    }
}

/// What was written after a mark.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Since {
    versions: u64,
    entries: usize,
}

impl Since {
    /// What was written after the write with this token; `None` if there was none.
    pub(crate) fn of(marks: &[i64], token: Token) -> Option<Self> {
        let place = marks.iter().rposition(|mark| Mark(*mark).token() == token)?;
        let later = &marks[place + 1..];
        let entries = later.iter().map(|mark| Mark(*mark).entries()).sum();
        Some(Self { versions: u64::try_from(later.len()).unwrap_or(u64::MAX), entries })
    }

    /// The version that the write made, if this one is stored.
    pub(crate) const fn version(self, stored: Version) -> Version {
        Version::new(stored.number().saturating_sub(self.versions))
    }

    /// A job as it was when a claim had taken it. Its version fences its owner off, if anybody has written since.
    pub(crate) fn as_taken(self, job: Job) -> Option<Job> {
        if self.versions == 0 {
            return Some(job);
        }
        let length = job.history().len().checked_sub(self.entries)?;
        let history = &job.history()[..length];
        history.last().filter(|last| last.state.name() == StateName::Processing)?;
        Some(Job::from_stored(StoredJob {
            id: job.id(),
            version: self.version(job.version()),
            definition: job.shared_definition(),
            history: history.to_vec(),
            metadata: job.metadata().clone(),
        }))
    }
}

#[cfg(test)]
mod tests {
    use chrono::{DateTime, Utc};
    use jobrunr_core::{JobDefinition, JobId, JobState, JsonText, ServerId, ServerRef};

    use super::*;

    fn at(second: i64) -> DateTime<Utc> {
        DateTime::from_timestamp(second, 0).unwrap()
    }

    #[test]
    fn a_mark_tells_its_token_and_its_entries() {
        for token in [Token(0), Token(-1), Token(i64::MAX >> ENTRY_BITS), Token(i64::MIN >> ENTRY_BITS)] {
            for entries in [0, 1, 65_535] {
                let mark = token.mark(entries);

                assert_eq!((mark.token(), mark.entries()), (token, entries));
            }
        }
    }

    #[test]
    fn a_write_is_found_whatever_was_written_since() {
        let [one, two, three] = [Token(1), Token(2), Token(3)];
        let marks = [one.mark(1), two.mark(2), three.mark(0)].map(Mark::number);

        assert_eq!(Since::of(&marks, three), Some(Since::default()));
        let since = Since::of(&marks, one).unwrap();
        assert_eq!(since, Since { versions: 2, entries: 2 });
        assert_eq!(since.version(Version::new(9)), Version::new(7));
        assert_eq!(Since::of(&marks, Token(4)), None);
    }

    #[test]
    fn a_job_that_was_deleted_and_taken_again_is_rebuilt_as_it_was_taken_first() {
        let server = ServerRef { id: ServerId::new(), name: "one".into() };
        let definition = JobDefinition::new("work".parse().unwrap(), JsonText::of(&1).unwrap());
        let mut job = Job::new(JobId::new(), definition, JobState::enqueued(), at(1)).unwrap();
        job.mark_inserted();
        let mut writes = Vec::new();
        let mut write = |job: &mut Job| {
            let token = Token::random();
            writes.push((token, token.mark(job.new_entries().len()).number()));
            job.mark_saved();
            job.clone()
        };

        job.start_processing(&server, at(2)).unwrap();
        let taken_first = write(&mut job);
        job.delete(None, at(3)).unwrap();
        write(&mut job);
        job.requeue(None, at(4)).unwrap();
        write(&mut job);
        job.start_processing(&server, at(4)).unwrap();
        let taken_again = write(&mut job);

        let marks: Vec<i64> = writes.iter().map(|(_, mark)| *mark).collect();
        let as_taken = |index: usize| Since::of(&marks, writes[index].0).unwrap().as_taken(job.clone());
        assert_eq!(as_taken(0), Some(taken_first));
        assert_eq!(as_taken(3), Some(taken_again));
        assert_eq!(as_taken(1), None, "that write took nothing");
    }
}
