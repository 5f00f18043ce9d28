//! Log lines that a run keeps with its job: how they are gathered, how they are stored, how they are read.
//!
//! Lines are stored in chunks, each a value among the job's metadata whose name holds the version of the claim and the
//! number of the chunk. So no run can write over the lines of another, and only the last chunk is ever written again.

use std::fmt;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::JobContext;
use crate::ids::Version;
use crate::job::{Job, JobMetadata};
use crate::limits::{MAX_LOG_BYTES, MAX_LOG_LINES, cut_entry_text};

const PREFIX: &str = "jobrunr-log-";
/// A chunk is closed once it has so many lines, or so many bytes of text.
const CHUNK_LINES: usize = 64;
const CHUNK_BYTES: usize = 16 * 1024;

/// How serious a log line is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
#[non_exhaustive]
pub enum LogLevel {
    /// What a reader may want to know.
    Info,
    /// What somebody should look at some time.
    Warn,
    /// What went wrong.
    Error,
}

impl fmt::Display for LogLevel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Info => "INFO",
            Self::Warn => "WARN",
            Self::Error => "ERROR",
        })
    }
}

/// One line that a run logged.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobLogLine {
    /// When.
    #[serde(with = "chrono::serde::ts_microseconds")]
    pub at: DateTime<Utc>,
    /// How serious it is.
    pub level: LogLevel,
    /// What it says.
    pub text: String,
}

/// What all runs of a job have logged, as far as it is stored.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct JobLog {
    /// The lines, those of the first run first.
    pub lines: Vec<JobLogLine>,
    /// Whether lines were left out because there were [too many](crate::limits::MAX_LOG_LINES).
    pub is_cut: bool,
}

impl JobLog {
    /// The log in the metadata of a job, which must have been found, not listed: lists carry no metadata.
    #[must_use]
    pub fn of(job: &Job) -> Self {
        let mut log = Self::default();
        let chunks =
            job.metadata().range(PREFIX.to_owned()..).take_while(|(name, _)| name.starts_with(PREFIX));
        for line in chunks.filter_map(|(_, chunk)| chunk.as_array()).flatten() {
            match line {
                Value::Null => log.is_cut = true,
                line => log.lines.extend(JobLogLine::deserialize(line)),
            }
        }
        log
    }
}

/// Logs lines of a run, to be shown with its job.
///
/// A line is stored within a second and before the end of the run is, many lines in one write. A job keeps at most
/// 1 000 lines and 256 KiB of text; what comes after is left out, which [`JobLog::is_cut`] tells. Logging never fails.
#[derive(Debug, Clone, Copy)]
pub struct JobLogger<'a>(pub(super) &'a JobContext);

impl JobLogger<'_> {
    /// Logs what a reader may want to know.
    pub fn info(&self, text: impl Into<String>) {
        self.line(LogLevel::Info, text);
    }

    /// Logs what somebody should look at some time.
    pub fn warn(&self, text: impl Into<String>) {
        self.line(LogLevel::Warn, text);
    }

    /// Logs what went wrong.
    pub fn error(&self, text: impl Into<String>) {
        self.line(LogLevel::Error, text);
    }

    /// Logs a line of this level; a text over 16 KiB is cut with a marker.
    pub fn line(&self, level: LogLevel, text: impl Into<String>) {
        let line =
            JobLogLine { at: self.0.run().scheduler.estimated_now(), level, text: cut_entry_text(text) };
        self.0.notebook().note(|pages| pages.log.add(line, self.0.job()));
    }
}

/// The lines of one run that are not stored yet, and those of its last chunk.
#[derive(Debug, Default)]
pub(super) struct LogPages {
    /// What is kept of the job's lines so far, over all runs; counted when the first line comes.
    kept: Option<Kept>,
    /// Chunks that are full and not stored.
    closed: Vec<(u32, Vec<JobLogLine>)>,
    /// The last chunk.
    open: Vec<JobLogLine>,
    open_bytes: usize,
    open_number: u32,
    has_news: bool,
}

#[derive(Debug, Clone, Copy)]
struct Kept {
    lines: usize,
    bytes: usize,
    is_cut: bool,
    /// Whether it was this run that met the limit: then its last chunk has the marker.
    is_cut_here: bool,
}

impl Kept {
    fn by_earlier_runs(job: &Job) -> Self {
        let JobLog { lines, is_cut } = JobLog::of(job);
        let bytes = lines.iter().map(|line| line.text.len()).sum();
        Self { lines: lines.len(), bytes, is_cut, is_cut_here: false }
    }
}

/// How much of the pages has been gathered for one write.
#[derive(Debug, Clone, Copy)]
pub(super) struct LogMark {
    closed: usize,
    open_number: u32,
    open_lines: usize,
    is_cut_here: bool,
}

impl LogPages {
    /// Adds a line unless the job has too many; tells whether there is anything to be stored for it.
    fn add(&mut self, line: JobLogLine, job: &Job) -> bool {
        let kept = self.kept.get_or_insert_with(|| Kept::by_earlier_runs(job));
        if kept.is_cut {
            return false;
        }
        self.has_news = true;
        if kept.lines >= MAX_LOG_LINES || kept.bytes + line.text.len() > MAX_LOG_BYTES {
            (kept.is_cut, kept.is_cut_here) = (true, true);
            return true;
        }
        kept.lines += 1;
        kept.bytes += line.text.len();
        if self.open.len() >= CHUNK_LINES || self.open_bytes >= CHUNK_BYTES {
            self.closed.push((self.open_number, std::mem::take(&mut self.open)));
            (self.open_number, self.open_bytes) = (self.open_number + 1, 0);
        }
        self.open_bytes += line.text.len();
        self.open.push(line);
        true
    }

    pub(super) const fn has_news(&self) -> bool {
        self.has_news
    }

    /// Adds what is not stored to the entries of a write.
    pub(super) fn gather(&self, claim: Version, entries: &mut JobMetadata) -> LogMark {
        let is_cut_here = self.kept.is_some_and(|kept| kept.is_cut_here);
        if self.has_news {
            for (number, lines) in &self.closed {
                entries.insert(chunk_name(claim, *number), chunk(lines, false));
            }
            entries.insert(chunk_name(claim, self.open_number), chunk(&self.open, is_cut_here));
        }
        let (open_number, open_lines) = (self.open_number, self.open.len());
        LogMark { closed: self.closed.len(), open_number, open_lines, is_cut_here }
    }

    /// Notes that what was gathered is stored.
    pub(super) fn stored(&mut self, mark: LogMark) {
        self.closed.drain(..mark.closed);
        let is_cut_here = self.kept.is_some_and(|kept| kept.is_cut_here);
        let now = (self.open_number, self.open.len(), is_cut_here);
        self.has_news = now != (mark.open_number, mark.open_lines, mark.is_cut_here);
    }
}

/// Names sort in the order of the lines.
fn chunk_name(claim: Version, number: u32) -> String {
    format!("{PREFIX}{:020}-{number:05}", claim.number())
}

fn chunk(lines: &[JobLogLine], is_cut: bool) -> Value {
    let lines = lines.iter().filter_map(|line| serde_json::to_value(line).ok());
    Value::Array(lines.chain(is_cut.then_some(Value::Null)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{JobDefinition, JobId, JobState, JsonText};

    fn job() -> Job {
        let definition = JobDefinition::new("test".parse().unwrap(), JsonText::of(&()).unwrap());
        Job::new(JobId::new(), definition, JobState::enqueued(), DateTime::UNIX_EPOCH).unwrap()
    }

    fn line(text: impl Into<String>) -> JobLogLine {
        JobLogLine { at: DateTime::UNIX_EPOCH, level: LogLevel::Info, text: text.into() }
    }

    /// The job after a write of everything that is in the pages.
    fn written(pages: &mut LogPages, job: Job, claim: u64) -> (Job, usize) {
        let mut entries = JobMetadata::new();
        let mark = pages.gather(Version::new(claim), &mut entries);
        pages.stored(mark);
        let (count, mut all) = (entries.len(), job.metadata().clone());
        all.extend(entries);
        (job.with_metadata(all), count)
    }

    #[test]
    fn lines_come_back_in_order_whatever_was_written_when() {
        let (mut job, mut pages) = (job(), LogPages::default());
        for number in 0..300 {
            assert!(pages.add(line(number.to_string()), &job));
            if number % 7 == 0 {
                (job, _) = written(&mut pages, job, 2);
            }
        }
        (job, _) = written(&mut pages, job, 2);

        let texts: Vec<_> = JobLog::of(&job).lines.into_iter().map(|line| line.text).collect();

        assert_eq!(texts, (0..300).map(|number| number.to_string()).collect::<Vec<_>>());
        assert!(!pages.has_news());
    }

    #[test]
    fn a_chunk_that_is_full_is_written_once() {
        let (mut job, mut pages) = (job(), LogPages::default());
        for number in 0..=CHUNK_LINES {
            pages.add(line(number.to_string()), &job);
        }
        let count;
        (job, count) = written(&mut pages, job, 2);
        assert_eq!(count, 2);

        pages.add(line("one more"), &job);

        assert_eq!(written(&mut pages, job, 2).1, 1);
    }

    #[test]
    fn lines_that_come_while_others_are_written_are_news() {
        let (job, mut pages) = (job(), LogPages::default());
        pages.add(line("one"), &job);
        let mark = pages.gather(Version::new(2), &mut JobMetadata::new());

        pages.add(line("two"), &job);
        pages.stored(mark);

        assert!(pages.has_news());
    }

    #[test]
    fn a_job_keeps_a_thousand_lines_over_all_its_runs_and_says_that_more_were_left_out() {
        let (mut job, mut first, mut second) = (job(), LogPages::default(), LogPages::default());
        for number in 0..600 {
            first.add(line(number.to_string()), &job);
        }
        (job, _) = written(&mut first, job, 2);
        assert!(!JobLog::of(&job).is_cut);
        for number in 600..1_001 {
            second.add(line(number.to_string()), &job);
        }
        assert!(!second.add(line("nobody needs to write this"), &job));
        (job, _) = written(&mut second, job, 5);

        let JobLog { lines, is_cut } = JobLog::of(&job);

        assert!(is_cut);
        assert_eq!(lines.len(), MAX_LOG_LINES);
        assert_eq!(lines[999].text, "999");
        assert!(!LogPages::default().add(line("nor this"), &job), "a third run finds the log full");
    }

    #[test]
    fn a_job_keeps_a_quarter_of_a_mebibyte_of_lines() {
        let (mut job, mut pages) = (job(), LogPages::default());
        for _ in 0..100 {
            pages.add(line("x".repeat(4_096)), &job);
        }
        (job, _) = written(&mut pages, job, 2);

        let JobLog { lines, is_cut } = JobLog::of(&job);

        assert!(is_cut);
        assert_eq!(lines.iter().map(|line| line.text.len()).sum::<usize>(), MAX_LOG_BYTES);
    }

    #[test]
    fn two_runs_write_to_places_of_their_own() {
        let (mut job, mut late, mut present) = (job(), LogPages::default(), LogPages::default());
        present.add(line("present"), &job);
        (job, _) = written(&mut present, job, 10);
        late.add(line("late"), &job);
        (job, _) = written(&mut late, job, 9);

        let texts: Vec<_> = JobLog::of(&job).lines.into_iter().map(|line| line.text).collect();

        assert_eq!(texts, ["late", "present"], "by the order of the claims");
    }

    #[test]
    fn what_is_no_line_is_left_out() {
        let strange = JobMetadata::from([(format!("{PREFIX}x"), serde_json::json!([1, { "at": 0 }]))]);

        assert_eq!(JobLog::of(&job().with_metadata(strange)), JobLog::default());
    }
}
