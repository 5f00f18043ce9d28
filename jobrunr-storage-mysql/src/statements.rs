//! Every statement that is not put together from a query, rendered once with the table prefix.
//!
//! A list is bound as one JSON text and taken apart by the database, so the text of a statement is the same for a list of
//! any length. Only inserts of whole jobs have their rows bound one by one: their texts come in [sizes](RowSizes).

use std::sync::Arc;

use jobrunr_storage_sql::TablePrefix;
use sqlx::AssertSqlSafe;

/// The text of a statement; copying it copies a pointer.
#[derive(Debug, Clone)]
pub(crate) struct Statement(Arc<str>);

impl Statement {
    pub(crate) fn new(text: impl Into<Arc<str>>) -> Self {
        Self(text.into())
    }

    /// The text for the driver. It was made from constants and a checked prefix, never from values.
    pub(crate) fn text(&self) -> AssertSqlSafe<Arc<str>> {
        AssertSqlSafe(Arc::clone(&self.0))
    }

    #[cfg(test)]
    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

macro_rules! statements {
    ($($(#[$doc:meta])* $name:ident = $sql:expr;)+) => {
        /// The statements with their prefix.
        #[derive(Debug)]
        pub(crate) struct Statements {
            $($(#[$doc])* pub(crate) $name: Statement,)+
            pub(crate) insert_enqueued_jobs: RowSizes,
            pub(crate) insert_new_jobs: RowSizes,
            pub(crate) insert_jobs: RowSizes,
            pub(crate) insert_histories: RowSizes,
            pub(crate) save_results: RowSizes,
            pub(crate) save_job_metadata: RowSizes,
            pub(crate) peek: PeekSizes,
        }

        impl Statements {
            pub(crate) fn render(prefix: &TablePrefix) -> Self {
                Self {
                    $($name: Statement::new(prefix.render($sql)),)+
                    insert_enqueued_jobs: RowSizes::render(prefix, INSERT_ENQUEUED_JOBS),
                    insert_new_jobs: RowSizes::render(prefix, INSERT_NEW_JOBS),
                    insert_jobs: RowSizes::render(prefix, INSERT_JOBS),
                    insert_histories: RowSizes::render(prefix, INSERT_HISTORIES),
                    save_results: RowSizes::render(prefix, SAVE_RESULTS),
                    save_job_metadata: RowSizes::render(prefix, SAVE_JOB_METADATA),
                    peek: PeekSizes::render(prefix),
                }
            }

            /// All of them, by name.
            pub(crate) fn all(&self) -> impl Iterator<Item = (&'static str, &Statement)> {
                let sized = [
                    ("insert_enqueued_jobs", &self.insert_enqueued_jobs.sizes[0].1),
                    ("insert_new_jobs", &self.insert_new_jobs.sizes[0].1),
                    ("insert_jobs", &self.insert_jobs.sizes[0].1),
                    ("insert_histories", &self.insert_histories.sizes[0].1),
                    ("save_results", &self.save_results.sizes[0].1),
                    ("save_job_metadata", &self.save_job_metadata.sizes[0].1),
                    ("peek", &self.peek.sizes[0].1),
                ];
                [$((stringify!($name), &self.$name)),+].into_iter().chain(sized)
            }
        }
    };
}

/// Ids, bound as a JSON list of hexadecimal texts.
macro_rules! ids {
    () => {
        "JSON_TABLE(?, '$[*]' COLUMNS (id CHAR(32) PATH '$')) w"
    };
}

/// The columns that `rows.rs` reads, in its order.
macro_rules! select_job {
    ($rest:expr) => {
        concat!(
            "SELECT j.id, j.version, j.lane, j.place, j.priority, j.queued_at, j.created_at, j.updated_at, \
             j.claimed_at, j.finished_at, j.server, j.archived_entries, j.has_metadata, j.scheduled_at, \
             j.scheduled_entry_at, j.enqueued_entry_at, j.deleted_at, j.deleted_reason, j.name, j.labels, \
             j.settings, j.payload",
            $rest
        )
    };
}

/// The same with the server and the result that the row refers to.
macro_rules! select_whole_job {
    ($from:expr) => {
        select_job!(concat!(
            ", s.server_id, s.name, r.result FROM ",
            $from,
            " LEFT JOIN {p}jobrunr_server_name s ON s.id = j.server \
             LEFT JOIN {p}jobrunr_job_result r ON r.job = j.id AND r.entry = j.archived_entries \
             + (j.scheduled_entry_at IS NOT NULL) + (j.enqueued_entry_at IS NOT NULL) \
             + (j.claimed_at <> -9223372036854775808) AND j.finished_at <> -9223372036854775808"
        ))
    };
}

/// Removes what a table holds of the jobs with these ids.
macro_rules! delete_of_jobs {
    ($table:literal) => {
        concat!("DELETE t FROM ", ids!(), " STRAIGHT_JOIN {p}", $table, " t ON t.job = UNHEX(w.id)")
    };
}

/// What almost every job needs: it waits in line since it was created. Values that follow from others of its row are not
/// sent: a column that has been set can be named by those after it.
const INSERT_ENQUEUED_JOBS: [&str; 3] = [
    "INSERT INTO {p}jobrunr_job (id, version, lane, priority, created_at, name, settings, payload, place, place_rank, \
     place_at, queued_at, updated_at, enqueued_entry_at) VALUES ",
    "(?,?,?,?,?,?,?,?,lane,-1-priority,created_at,created_at,created_at,created_at)",
    "",
];
/// What a new job needs, unless its life has begun elsewhere: then [`INSERT_JOBS`].
const INSERT_NEW_JOBS: [&str; 3] = [
    "INSERT INTO {p}jobrunr_job (id, version, lane, place, place_rank, place_at, priority, queued_at, created_at, \
     updated_at, scheduled_at, scheduled_entry_at, enqueued_entry_at, name, labels, settings, payload) VALUES ",
    "(?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?)",
    "",
];
const INSERT_JOBS: [&str; 3] = [
    "INSERT INTO {p}jobrunr_job (id, version, lane, place, place_rank, place_at, priority, queued_at, created_at, \
     updated_at, scheduled_at, scheduled_entry_at, enqueued_entry_at, name, labels, settings, payload, claimed_at, \
     finished_at, server, archived_entries, has_metadata, deleted_at, deleted_reason) VALUES ",
    "(?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?)",
    "",
];
const INSERT_HISTORIES: [&str; 3] =
    ["INSERT INTO {p}jobrunr_job_history (job, first_entry, entries, last_error) VALUES ", "(?,?,?,?)", ""];
const SAVE_RESULTS: [&str; 3] = [
    "INSERT INTO {p}jobrunr_job_result (job, entry, result) VALUES ",
    "(?,?,?)",
    " ON DUPLICATE KEY UPDATE entry = VALUES(entry), result = VALUES(result)",
];
const SAVE_JOB_METADATA: [&str; 3] = [
    "INSERT INTO {p}jobrunr_job_metadata (job, name, value) VALUES ",
    "(?,?,?)",
    " ON DUPLICATE KEY UPDATE value = VALUES(value)",
];

statements! {
    insert_labels = "INSERT INTO {p}jobrunr_job_label (label, job) SELECT UNHEX(w.name), UNHEX(w.job) FROM \
        JSON_TABLE(?, '$[*]' COLUMNS (name VARCHAR(2048) PATH '$[0]', job CHAR(32) PATH '$[1]')) w";
    insert_recurring_runs = "INSERT INTO {p}jobrunr_recurring_run (recurring_job_id, job) \
        SELECT UNHEX(w.name), UNHEX(w.job) FROM \
        JSON_TABLE(?, '$[*]' COLUMNS (name VARCHAR(2048) PATH '$[0]', job CHAR(32) PATH '$[1]')) w";
    insert_waiting = "INSERT INTO {p}jobrunr_job_waiting (awaited_job_id, job) \
        SELECT UNHEX(w.name), UNHEX(w.job) FROM \
        JSON_TABLE(?, '$[*]' COLUMNS (name VARCHAR(2048) PATH '$[0]', job CHAR(32) PATH '$[1]')) w \
        ON DUPLICATE KEY UPDATE awaited_job_id = VALUES(awaited_job_id)";
    /// Which of these jobs are there; waits for whoever is about to insert or remove one.
    present_jobs = concat!(
        "SELECT j.id, j.version, j.created_at FROM ",
        ids!(),
        " STRAIGHT_JOIN {p}jobrunr_job j ON j.id = UNHEX(w.id) FOR UPDATE"
    );

    find_job = concat!(select_whole_job!("{p}jobrunr_job j"), " WHERE j.id = ?");
    load_jobs = select_whole_job!(concat!(ids!(), " STRAIGHT_JOIN {p}jobrunr_job j ON j.id = UNHEX(w.id)"));
    load_histories = concat!(
        "SELECT h.job, h.entries FROM ",
        ids!(),
        " STRAIGHT_JOIN {p}jobrunr_job_history h ON h.job = UNHEX(w.id) ORDER BY h.job, h.first_entry"
    );
    load_metadata = concat!(
        "SELECT m.job, m.name, m.value FROM ",
        ids!(),
        " STRAIGHT_JOIN {p}jobrunr_job_metadata m ON m.job = UNHEX(w.id)"
    );

    /// The first in the line of one lane that nobody else is about to take.
    lock_ready_jobs = select_job!(
        " FROM {p}jobrunr_job j FORCE INDEX (place) WHERE j.place = ? \
         ORDER BY j.place_rank, j.place_at, j.id LIMIT ? FOR UPDATE SKIP LOCKED"
    );
    claim_jobs = concat!(
        "UPDATE ",
        ids!(),
        " STRAIGHT_JOIN {p}jobrunr_job j ON j.id = UNHEX(w.id) \
         SET j.place = 3, j.place_rank = 0, j.place_at = GREATEST(?, j.updated_at), \
         j.claimed_at = GREATEST(?, j.updated_at), j.server = ?, j.version = j.version + 1, \
         j.updated_at = GREATEST(?, j.updated_at)"
    );

    /// A plain success touches as few columns as it can. Its guard is all that the row must look like.
    save_successes = "UPDATE JSON_TABLE(?, '$[*]' COLUMNS (id CHAR(32) PATH '$[0]', version BIGINT PATH '$[1]', \
        archived_entries INT PATH '$[2]', updated_at BIGINT PATH '$[3]', finished_at BIGINT PATH '$[4]')) w \
        STRAIGHT_JOIN {p}jobrunr_job j ON j.id = UNHEX(w.id) AND j.version = w.version AND j.place = 3 \
        AND j.archived_entries = w.archived_entries AND j.updated_at = w.updated_at \
        SET j.place = 5, j.place_at = w.finished_at, j.finished_at = w.finished_at, j.updated_at = w.finished_at, \
        j.version = w.version + 1";
    /// Where jobs are and what must be known to change them; they stay so until the end of the transaction.
    lock_jobs = concat!(
        "SELECT j.id, j.version, j.lane, j.place, j.archived_entries, j.updated_at, j.server, \
         j.claimed_at, j.priority FROM ",
        ids!(),
        " STRAIGHT_JOIN {p}jobrunr_job j ON j.id = UNHEX(w.id) FOR UPDATE"
    );
    save_jobs = "UPDATE JSON_TABLE(?, '$[*]' COLUMNS (id CHAR(32) PATH '$[0]', version BIGINT PATH '$[1]', \
        place INT PATH '$[2]', place_rank INT PATH '$[3]', place_at BIGINT PATH '$[4]', queued_at BIGINT PATH '$[5]', \
        updated_at BIGINT PATH '$[6]', claimed_at BIGINT PATH '$[7]', finished_at BIGINT PATH '$[8]', \
        server INT PATH '$[9]', archived_entries INT PATH '$[10]', scheduled_at BIGINT PATH '$[11]', \
        scheduled_entry_at BIGINT PATH '$[12]', enqueued_entry_at BIGINT PATH '$[13]', deleted_at BIGINT PATH '$[14]', \
        deleted_reason VARCHAR(512) PATH '$[15]')) w STRAIGHT_JOIN {p}jobrunr_job j ON j.id = UNHEX(w.id) \
        SET j.version = w.version, j.place = w.place, j.place_rank = w.place_rank, j.place_at = w.place_at, \
        j.queued_at = w.queued_at, j.updated_at = w.updated_at, j.claimed_at = w.claimed_at, \
        j.finished_at = w.finished_at, j.server = w.server, j.archived_entries = w.archived_entries, \
        j.scheduled_at = w.scheduled_at, j.scheduled_entry_at = w.scheduled_entry_at, \
        j.enqueued_entry_at = w.enqueued_entry_at, j.deleted_at = w.deleted_at, \
        j.deleted_reason = UNHEX(w.deleted_reason)";

    lock_due_jobs = "SELECT j.id, j.version, j.updated_at FROM {p}jobrunr_job j FORCE INDEX (place) \
        WHERE j.place = 1 AND j.place_rank = 0 AND j.place_at <= ? ORDER BY j.place_at, j.id LIMIT ? \
        FOR UPDATE SKIP LOCKED";
    release_jobs = concat!(
        "UPDATE ",
        ids!(),
        " STRAIGHT_JOIN {p}jobrunr_job j ON j.id = UNHEX(w.id) \
         SET j.place = j.lane, j.place_rank = -1 - j.priority, j.place_at = GREATEST(?, j.updated_at), \
         j.queued_at = GREATEST(?, j.updated_at), j.enqueued_entry_at = GREATEST(?, j.updated_at), \
         j.version = j.version + 1, j.updated_at = GREATEST(?, j.updated_at)"
    );
    next_due = "SELECT j.place_at FROM {p}jobrunr_job j FORCE INDEX (place) WHERE j.place = 1 AND j.place_rank = 0 \
        ORDER BY j.place_at LIMIT 1";

    /// Reads the index alone, so that jobs of other types are passed over fast; places after a job of the page before.
    aged_jobs = "SELECT j.id, j.lane, j.place_at FROM {p}jobrunr_job j FORCE INDEX (place) \
        WHERE j.place = ? AND j.place_rank = 0 AND j.place_at >= ? AND j.place_at < ? \
        AND (j.place_at > ? OR j.id > ?) ORDER BY j.place_at, j.id LIMIT ?";
    delete_jobs = concat!(
        "DELETE j FROM ",
        ids!(),
        " STRAIGHT_JOIN {p}jobrunr_job j ON j.id = UNHEX(w.id)"
    );
    delete_histories = delete_of_jobs!("jobrunr_job_history");
    delete_results = delete_of_jobs!("jobrunr_job_result");
    delete_job_metadata = delete_of_jobs!("jobrunr_job_metadata");
    delete_labels = delete_of_jobs!("jobrunr_job_label");
    delete_recurring_runs = delete_of_jobs!("jobrunr_recurring_run");
    delete_waiting = delete_of_jobs!("jobrunr_job_waiting");

    lock_job = "SELECT has_metadata FROM {p}jobrunr_job WHERE id = ? FOR UPDATE";
    note_job_metadata = "UPDATE {p}jobrunr_job SET has_metadata = 1 WHERE id = ?";

    list_lanes = "SELECT id, queue, signature FROM {p}jobrunr_lane";
    insert_lane = "INSERT INTO {p}jobrunr_lane (queue, signature) VALUES (?, ?)";
    find_lane = "SELECT id FROM {p}jobrunr_lane WHERE queue = ? AND signature = ?";
    /// Sees what was committed after the transaction's first look, at any isolation level.
    find_latest_lane = "SELECT id FROM {p}jobrunr_lane WHERE queue = ? AND signature = ? LOCK IN SHARE MODE";
    insert_server_name = "INSERT INTO {p}jobrunr_server_name (server_id, name) VALUES (?, ?)";
    find_server_name = "SELECT id FROM {p}jobrunr_server_name WHERE server_id = ? AND name = ?";
    find_latest_server_name = "SELECT id FROM {p}jobrunr_server_name WHERE server_id = ? AND name = ? \
        LOCK IN SHARE MODE";
    count_ended = "INSERT INTO {p}jobrunr_ended (lane, shard, succeeded, failed, deleted, succeeded_all_time) \
        SELECT w.lane, ?, w.succeeded, w.failed, w.deleted, w.all_time FROM JSON_TABLE(?, '$[*]' COLUMNS ( \
        lane INT PATH '$[0]', succeeded BIGINT PATH '$[1]', failed BIGINT PATH '$[2]', deleted BIGINT PATH '$[3]', \
        all_time BIGINT PATH '$[4]')) w ON DUPLICATE KEY UPDATE \
        succeeded = {p}jobrunr_ended.succeeded + VALUES(succeeded), failed = {p}jobrunr_ended.failed + VALUES(failed), \
        deleted = {p}jobrunr_ended.deleted + VALUES(deleted), \
        succeeded_all_time = {p}jobrunr_ended.succeeded_all_time + VALUES(succeeded_all_time)";
    /// One statement, so that all of it is seen at one instant: what has not ended is counted by the index, what has ended
    /// was counted when it did.
    count_jobs = "SELECT j.place, CAST(count(*) AS SIGNED), 0, 0, 0 FROM {p}jobrunr_job j FORCE INDEX (place) \
        WHERE j.place < 5 GROUP BY j.place \
        UNION ALL SELECT 2, CAST(count(*) AS SIGNED), 0, 0, 0 FROM {p}jobrunr_job j FORCE INDEX (place) \
        WHERE j.place > 15 \
        UNION ALL SELECT -1, CAST(coalesce(sum(succeeded), 0) AS SIGNED), CAST(coalesce(sum(failed), 0) AS SIGNED), \
        CAST(coalesce(sum(deleted), 0) AS SIGNED), CAST(coalesce(sum(succeeded_all_time), 0) AS SIGNED) \
        FROM {p}jobrunr_ended";
    /// Whether at most 4 000 jobs are ENQUEUED or SCHEDULED; not many more are looked at.
    few_wait = "SELECT CAST(count(*) <= 4000 AS SIGNED) FROM (SELECT 1 AS one FROM {p}jobrunr_job j FORCE INDEX (place) \
        WHERE j.place = 1 OR j.place > 15 LIMIT 4001) w";
    /// The lanes of the jobs that have not ended, and how many have ended how in each.
    list_signatures = "SELECT j.place, j.lane, 1, 1, 1 FROM {p}jobrunr_job j FORCE INDEX (place) \
        WHERE j.place < 5 OR j.place > 15 GROUP BY j.place, j.lane \
        UNION ALL SELECT -1, lane, CAST(sum(succeeded) AS SIGNED), CAST(sum(failed) AS SIGNED), \
        CAST(sum(deleted) AS SIGNED) FROM {p}jobrunr_ended GROUP BY lane";

    lock_recurring = "SELECT version FROM {p}jobrunr_recurring_job WHERE id = ? FOR UPDATE";
    insert_recurring = "INSERT INTO {p}jobrunr_recurring_job (id, version, paused, next_run_at, body) \
        VALUES (?, ?, ?, ?, ?)";
    replace_recurring = "REPLACE INTO {p}jobrunr_recurring_job (id, version, paused, next_run_at, body) \
        VALUES (?, ?, ?, ?, ?)";
    find_recurring = "SELECT id, version, body FROM {p}jobrunr_recurring_job WHERE id = ?";
    list_recurring = "SELECT id, version, body FROM {p}jobrunr_recurring_job WHERE id > ? ORDER BY id LIMIT ?";
    list_due_recurring = "SELECT id, version, body FROM {p}jobrunr_recurring_job FORCE INDEX (due) \
        WHERE paused = 0 AND next_run_at <= ? AND id > ? ORDER BY id LIMIT ?";
    delete_recurring = "DELETE FROM {p}jobrunr_recurring_job WHERE id = ? AND version = COALESCE(?, version)";

    storage_time = "SELECT TIMESTAMPDIFF(MICROSECOND, '1970-01-01 00:00:00', UTC_TIMESTAMP(6))";
    announce_server = "INSERT INTO {p}jobrunr_server \
        (id, announcement, first_heartbeat_at, last_heartbeat_at, server_load) VALUES (?, ?, ?, ?, ?) \
        ON DUPLICATE KEY UPDATE announcement = VALUES(announcement)";
    /// Counts the rows it finds, changed or not: that is how the driver asks the database to count.
    heartbeat = "UPDATE {p}jobrunr_server SET last_heartbeat_at = ?, server_load = ? WHERE id = ?";
    list_servers = "SELECT id, announcement, first_heartbeat_at, last_heartbeat_at, server_load \
        FROM {p}jobrunr_server ORDER BY first_heartbeat_at, id";
    remove_server = "DELETE FROM {p}jobrunr_server WHERE id = ?";
    lock_silent_servers = "SELECT id FROM {p}jobrunr_server WHERE last_heartbeat_at < ? ORDER BY id FOR UPDATE";

    save_metadata = "INSERT INTO {p}jobrunr_metadata (name, owner, value, created_at, updated_at) \
        VALUES (?, ?, ?, ?, ?) ON DUPLICATE KEY UPDATE value = VALUES(value), updated_at = VALUES(updated_at)";
    find_metadata = "SELECT name, owner, value, created_at, updated_at FROM {p}jobrunr_metadata \
        WHERE name = ? AND owner = ?";
    lock_metadata = "SELECT name, owner, value, created_at, updated_at FROM {p}jobrunr_metadata \
        WHERE name = ? AND owner = ? FOR UPDATE";
    list_metadata = "SELECT name, owner, value, created_at, updated_at FROM {p}jobrunr_metadata \
        WHERE name = ? ORDER BY owner";
    delete_metadata = "DELETE FROM {p}jobrunr_metadata WHERE name = ? AND owner = ?";
    delete_all_metadata = "DELETE FROM {p}jobrunr_metadata WHERE name = ?";
    insert_new_metadata = "INSERT INTO {p}jobrunr_metadata (name, owner, value, created_at, updated_at) \
        VALUES (?, ?, ?, ?, ?)";
    replace_metadata = "UPDATE {p}jobrunr_metadata SET value = ?, updated_at = ? \
        WHERE name = ? AND owner = ? AND CAST(value AS BINARY) = CAST(? AS BINARY)";
}

/// How many rows the inserts of jobs may have.
const SIZES: [usize; 29] = [
    1, 2, 3, 4, 5, 6, 7, 8, 10, 12, 14, 16, 20, 24, 28, 32, 40, 48, 56, 64, 80, 96, 128, 192, 256, 384, 512,
    768, 1_000,
];

/// One insert for each number of rows that may be inserted at once.
#[derive(Debug)]
pub(crate) struct RowSizes {
    sizes: Vec<(usize, Statement)>,
}

impl RowSizes {
    /// Most rows at once.
    pub(crate) const LARGEST: usize = SIZES[SIZES.len() - 1];

    fn render(prefix: &TablePrefix, [head, row, tail]: [&str; 3]) -> Self {
        let head = prefix.render(head);
        let text =
            |rows: usize| Statement::new(format!("{head}{row}{}{tail}", format!(",{row}").repeat(rows - 1)));
        Self { sizes: SIZES.iter().map(|rows| (*rows, text(*rows))).collect() }
    }

    /// How many of so many rows go into one insert.
    pub(crate) fn size_at_most(rows: usize) -> usize {
        let after = SIZES.partition_point(|size| *size <= rows);
        after.checked_sub(1).map_or(0, |index| SIZES[index])
    }

    /// Whether so many rows go into one insert.
    pub(crate) fn is_size(rows: usize) -> bool {
        SIZES.contains(&rows)
    }

    /// The largest insert of no more than so many rows, at least one.
    pub(crate) fn at_most(&self, rows: usize) -> (usize, &Statement) {
        let after = self.sizes.partition_point(|(size, _)| *size <= rows);
        let (size, statement) = &self.sizes[after.saturating_sub(1)];
        (*size, statement)
    }
}

/// The statement that looks at the heads of so many lanes.
#[derive(Debug)]
pub(crate) struct PeekSizes {
    sizes: Vec<(usize, Statement)>,
}

impl PeekSizes {
    /// Most lanes in one statement.
    pub(crate) const LARGEST: usize = 64;

    fn render(prefix: &TablePrefix) -> Self {
        let lanes = prefix.render("(SELECT -1, 0, CAST(count(*) AS SIGNED), '' FROM {p}jobrunr_lane)");
        let lane = prefix.render(
            " UNION ALL (SELECT place, place_rank, place_at, id FROM {p}jobrunr_job FORCE INDEX (place) \
             WHERE place = ? ORDER BY place_rank, place_at, id LIMIT ?)",
        );
        let sizes = (0..).map(|power| 1 << power).take_while(|size| *size <= Self::LARGEST);
        Self { sizes: sizes.map(|size| (size, Statement::new(lanes.clone() + &lane.repeat(size)))).collect() }
    }

    /// The smallest statement that holds so many lanes, and how many places it has.
    pub(crate) fn for_lanes(&self, lanes: usize) -> (usize, &Statement) {
        let index = self.sizes.partition_point(|(size, _)| *size < lanes).min(self.sizes.len() - 1);
        let (size, statement) = &self.sizes[index];
        (*size, statement)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_insert_never_has_more_rows_than_asked_for() {
        let sizes = RowSizes::render(&TablePrefix::default(), INSERT_NEW_JOBS);

        for rows in 1..2_000 {
            let (size, statement) = sizes.at_most(rows);
            assert!(size <= rows && size * 10 >= rows.min(RowSizes::LARGEST) * 6, "{size} of {rows}");
            assert_eq!(statement.as_str().matches("(?").count(), size);
        }
    }

    #[test]
    fn a_look_at_lanes_has_a_place_for_each() {
        let sizes = PeekSizes::render(&TablePrefix::default());

        for lanes in 1..=PeekSizes::LARGEST {
            let (size, statement) = sizes.for_lanes(lanes);
            assert!(size >= lanes && size < lanes * 2);
            assert_eq!(statement.as_str().matches("place = ?").count(), size);
        }
    }
}
