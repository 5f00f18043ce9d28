//! Every statement that is not put together from a query, rendered once with the table prefix.

use std::sync::atomic::AtomicU64;

use jobrunr_storage_sql::TablePrefix;

macro_rules! statements {
    ($($(#[$doc:meta])* $name:ident = $sql:expr;)+) => {
        /// The statements with their prefix.
        #[derive(Debug)]
        pub(crate) struct Statements {
            $($(#[$doc])* pub(crate) $name: String,)+
            /// How often any of them was run, as far as that was noted.
            pub(crate) runs: AtomicU64,
        }

        impl Statements {
            pub(crate) fn render(prefix: &TablePrefix) -> Self {
                Self { $($name: prefix.render($sql),)+ runs: AtomicU64::new(0) }
            }

            /// All of them, by name.
            pub(crate) fn all(&self) -> impl Iterator<Item = (&'static str, &str)> {
                [$((stringify!($name), self.$name.as_str())),+].into_iter()
            }
        }
    };
}

/// The columns that `rows.rs` reads, in its order: of the hot row, and what was written once.
macro_rules! select_job {
    ($rest:literal) => {
        concat!(
            "SELECT j.seq, j.id, j.state, j.version, j.lane, j.rank, j.queued_at, j.created_at, j.updated_at, \
             j.archived_entries, j.has_metadata, j.server, j.scheduled_at, j.awaited_job_id, j.scheduled_entry_at, \
             j.enqueued_entry_at, j.claimed_at, j.finished_at, j.deleted_at, j.deleted_reason, \
             d.name, d.labels, d.settings, d.payload",
            $rest
        )
    };
}

/// The same and everything the row refers to.
macro_rules! select_whole_job {
    ($condition:literal) => {
        concat!(
            select_job!(
                ", l.queue, l.signature, s.server_id, s.name, r.result \
                 FROM {p}jobrunr_job j LEFT JOIN {p}jobrunr_job_data d ON d.job = j.seq \
                 LEFT JOIN {p}jobrunr_lane l ON l.id = j.lane \
                 LEFT JOIN {p}jobrunr_server_name s ON s.id = j.server \
                 LEFT JOIN {p}jobrunr_job_result r ON r.job = j.seq AND r.entry = j.archived_entries \
                 + (j.scheduled_entry_at IS NOT NULL) + (j.enqueued_entry_at IS NOT NULL) \
                 + (j.claimed_at IS NOT NULL) AND j.finished_at IS NOT NULL "
            ),
            $condition
        )
    };
}

statements! {
    insert_job = "INSERT INTO {p}jobrunr_job (id, state, version, lane, rank, queued_at, created_at, updated_at, \
        archived_entries, has_metadata, server, scheduled_at, awaited_job_id, scheduled_entry_at, enqueued_entry_at, \
        claimed_at, finished_at, deleted_at, deleted_reason) \
        VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, ?18, ?19) \
        ON CONFLICT (id) DO NOTHING";
    insert_job_data = "INSERT INTO {p}jobrunr_job_data (job, name, labels, settings, payload) \
        VALUES (?1, ?2, ?3, ?4, ?5)";
    insert_history = "INSERT INTO {p}jobrunr_job_history (job, first_entry, entries, last_error) \
        VALUES (?1, ?2, ?3, ?4)";
    insert_label = "INSERT INTO {p}jobrunr_job_label (label, job) VALUES (?1, ?2)";
    insert_recurring_run = "INSERT INTO {p}jobrunr_recurring_run (recurring_job_id, job) VALUES (?1, ?2)";
    save_result = "INSERT INTO {p}jobrunr_job_result (job, entry, result) VALUES (?1, ?2, ?3) \
        ON CONFLICT (job) DO UPDATE SET entry = excluded.entry, result = excluded.result";

    find_job = select_whole_job!("WHERE j.id = ?1");
    load_job = select_whole_job!("WHERE j.seq = ?1");
    load_history = "SELECT entries FROM {p}jobrunr_job_history WHERE job = ?1 ORDER BY first_entry";
    load_metadata = "SELECT name, value FROM {p}jobrunr_job_metadata WHERE job = ?1";

    /// The jobs of one lane that come after a place in line.
    ready_jobs = "SELECT seq, rank, queued_at, id FROM {p}jobrunr_job INDEXED BY {p}jobrunr_job_ready \
        WHERE state = 2 AND lane = ?1 AND (rank, queued_at, id) > (?2, ?3, ?4) \
        ORDER BY rank, queued_at, id LIMIT ?5";
    /// The next lane that anybody waits in: a claim that may look into many lanes skips the empty ones.
    next_ready_lane = "SELECT lane FROM {p}jobrunr_job INDEXED BY {p}jobrunr_job_ready \
        WHERE state = 2 AND lane > ?1 ORDER BY lane LIMIT 1";
    load_ready_job = select_job!(
        " FROM {p}jobrunr_job j LEFT JOIN {p}jobrunr_job_data d ON d.job = j.seq WHERE j.seq = ?1"
    );
    /// The first jobs of one lane, with what was written once.
    load_ready_jobs = select_job!(
        " FROM {p}jobrunr_job j INDEXED BY {p}jobrunr_job_ready \
         LEFT JOIN {p}jobrunr_job_data d ON d.job = j.seq \
         WHERE j.state = 2 AND j.lane = ?1 AND j.queued_at IS NOT NULL \
         ORDER BY j.rank, j.queued_at, j.id LIMIT ?2"
    );
    /// Claims the first jobs of one lane.
    claim_jobs = "UPDATE {p}jobrunr_job SET state = 3, version = version + 1, claimed_at = max(?1, updated_at), \
        updated_at = max(?1, updated_at), server = ?2 WHERE seq IN (SELECT seq FROM {p}jobrunr_job \
        INDEXED BY {p}jobrunr_job_ready WHERE state = 2 AND lane = ?3 AND queued_at IS NOT NULL \
        ORDER BY rank, queued_at, id LIMIT ?4)";

    /// A plain success touches as few columns, and so as few indexes, as it can.
    save_success = "UPDATE {p}jobrunr_job SET state = 5, version = ?1, finished_at = ?2, updated_at = ?2 \
        WHERE id = ?3 AND version = ?4 AND archived_entries = ?5 AND updated_at = ?6";
    /// The same for a job whose row number is known since it was claimed.
    save_claimed_success = "UPDATE {p}jobrunr_job SET state = 5, version = ?1, finished_at = ?2, updated_at = ?2 \
        WHERE seq = ?7 AND id = ?3 AND version = ?4 AND archived_entries = ?5 AND updated_at = ?6";
    save_job = "UPDATE {p}jobrunr_job SET state = ?1, version = ?2, queued_at = ?3, updated_at = ?4, \
        archived_entries = ?5, server = ?6, scheduled_at = ?7, awaited_job_id = ?8, scheduled_entry_at = ?9, \
        enqueued_entry_at = ?10, claimed_at = ?11, finished_at = ?12, deleted_at = ?13, deleted_reason = ?14 \
        WHERE id = ?15 AND version = ?16 AND archived_entries = ?17 AND updated_at = ?18";
    find_place = "SELECT seq, lane, state, version, archived_entries, updated_at FROM {p}jobrunr_job WHERE id = ?1";
    load_place = "SELECT seq, lane, state, version, archived_entries, updated_at FROM {p}jobrunr_job WHERE seq = ?1";

    park_job = "UPDATE {p}jobrunr_job SET state = 6, version = version + 1, updated_at = ?1, archived_entries = ?2, \
        scheduled_entry_at = NULL, enqueued_entry_at = NULL, claimed_at = NULL, finished_at = NULL, \
        deleted_at = NULL, deleted_reason = NULL WHERE seq = ?3";

    due_jobs = "SELECT seq, id, lane, updated_at FROM {p}jobrunr_job INDEXED BY {p}jobrunr_job_due \
        WHERE state = 1 AND scheduled_at <= ?1 ORDER BY scheduled_at, id LIMIT ?2";
    release_job = "UPDATE {p}jobrunr_job SET state = 2, version = version + 1, queued_at = ?1, updated_at = ?1, \
        enqueued_entry_at = ?1 WHERE seq = ?2";
    next_due = "SELECT min(scheduled_at) FROM {p}jobrunr_job INDEXED BY {p}jobrunr_job_due WHERE state = 1";

    aged_jobs = "SELECT seq, lane FROM {p}jobrunr_job INDEXED BY {p}jobrunr_job_updated \
        WHERE state = ?1 AND updated_at < ?2 ORDER BY updated_at, id";
    delete_job = "DELETE FROM {p}jobrunr_job WHERE seq = ?1";
    delete_job_data = "DELETE FROM {p}jobrunr_job_data WHERE job = ?1";
    delete_history = "DELETE FROM {p}jobrunr_job_history WHERE job = ?1";
    delete_result = "DELETE FROM {p}jobrunr_job_result WHERE job = ?1";
    delete_job_metadata = "DELETE FROM {p}jobrunr_job_metadata WHERE job = ?1";
    delete_labels = "DELETE FROM {p}jobrunr_job_label WHERE job = ?1";
    delete_recurring_run = "DELETE FROM {p}jobrunr_recurring_run WHERE job = ?1";

    save_job_metadata = "INSERT INTO {p}jobrunr_job_metadata (job, name, value) VALUES (?1, ?2, ?3) \
        ON CONFLICT (job, name) DO UPDATE SET value = excluded.value";
    note_job_metadata = "UPDATE {p}jobrunr_job SET has_metadata = 1 WHERE seq = ?1 AND has_metadata = 0";

    list_lanes = "SELECT id, queue, signature FROM {p}jobrunr_lane WHERE id > ?1 ORDER BY id";
    insert_lane = "INSERT INTO {p}jobrunr_lane (queue, signature) VALUES (?1, ?2) \
        ON CONFLICT (queue, signature) DO NOTHING";
    find_lane = "SELECT id FROM {p}jobrunr_lane WHERE queue = ?1 AND signature = ?2";
    count_in_lane = "UPDATE {p}jobrunr_lane SET awaiting = awaiting + ?1, scheduled = scheduled + ?2, \
        enqueued = enqueued + ?3, processing = processing + ?4, processed = processed + ?5, \
        succeeded = succeeded + ?6, failed = failed + ?7, deleted = deleted + ?8, \
        succeeded_all_time = succeeded_all_time + ?9 WHERE id = ?10";
    count_jobs = "SELECT coalesce(sum(awaiting), 0), coalesce(sum(scheduled), 0), coalesce(sum(enqueued), 0), \
        coalesce(sum(processing), 0), coalesce(sum(processed), 0), coalesce(sum(succeeded), 0), \
        coalesce(sum(failed), 0), coalesce(sum(deleted), 0), coalesce(sum(succeeded_all_time), 0) \
        FROM {p}jobrunr_lane";
    lane_counts = "SELECT signature, awaiting, scheduled, enqueued, processing, processed, succeeded, failed, deleted \
        FROM {p}jobrunr_lane";
    waiting_queues = "SELECT DISTINCT queue FROM {p}jobrunr_lane WHERE enqueued > 0";
    insert_server_name = "INSERT INTO {p}jobrunr_server_name (server_id, name) VALUES (?1, ?2) \
        ON CONFLICT (server_id, name) DO NOTHING";
    find_server_name = "SELECT id FROM {p}jobrunr_server_name WHERE server_id = ?1 AND name = ?2";

    recurring_version = "SELECT version FROM {p}jobrunr_recurring_job WHERE id = ?1";
    save_recurring = "INSERT INTO {p}jobrunr_recurring_job (id, version, paused, next_run_at, body) \
        VALUES (?1, ?2, ?3, ?4, ?5) ON CONFLICT (id) DO UPDATE SET version = excluded.version, \
        paused = excluded.paused, next_run_at = excluded.next_run_at, body = excluded.body";
    find_recurring = "SELECT id, version, body FROM {p}jobrunr_recurring_job WHERE id = ?1";
    list_recurring = "SELECT id, version, body FROM {p}jobrunr_recurring_job WHERE id > ?1 ORDER BY id LIMIT ?2";
    list_due_recurring = "SELECT id, version, body FROM {p}jobrunr_recurring_job \
        INDEXED BY {p}jobrunr_recurring_job_due \
        WHERE paused = 0 AND next_run_at <= ?3 AND id > ?1 ORDER BY id LIMIT ?2";
    delete_recurring = "DELETE FROM {p}jobrunr_recurring_job WHERE id = ?1 AND version = coalesce(?2, version)";

    announce_server = "INSERT INTO {p}jobrunr_server \
        (id, announcement, first_heartbeat_at, last_heartbeat_at, load) VALUES (?1, ?2, ?3, ?3, ?4) \
        ON CONFLICT (id) DO UPDATE SET announcement = excluded.announcement";
    heartbeat = "UPDATE {p}jobrunr_server SET last_heartbeat_at = ?1, load = ?2 WHERE id = ?3";
    list_servers = "SELECT id, announcement, first_heartbeat_at, last_heartbeat_at, load FROM {p}jobrunr_server \
        ORDER BY first_heartbeat_at, id";
    remove_server = "DELETE FROM {p}jobrunr_server WHERE id = ?1";
    remove_silent_servers = "DELETE FROM {p}jobrunr_server WHERE last_heartbeat_at < ?1 RETURNING id";

    save_metadata = "INSERT INTO {p}jobrunr_metadata (name, owner, value, created_at, updated_at) \
        VALUES (?1, ?2, ?3, ?4, ?5) ON CONFLICT (name, owner) \
        DO UPDATE SET value = excluded.value, updated_at = excluded.updated_at";
    find_metadata = "SELECT name, owner, value, created_at, updated_at FROM {p}jobrunr_metadata \
        WHERE name = ?1 AND owner = ?2";
    list_metadata = "SELECT name, owner, value, created_at, updated_at FROM {p}jobrunr_metadata \
        WHERE name = ?1 ORDER BY owner";
    delete_metadata = "DELETE FROM {p}jobrunr_metadata WHERE name = ?1 AND owner = ?2";
    delete_all_metadata = "DELETE FROM {p}jobrunr_metadata WHERE name = ?1";
    insert_new_metadata = "INSERT INTO {p}jobrunr_metadata (name, owner, value, created_at, updated_at) \
        VALUES (?1, ?2, ?3, ?4, ?4) ON CONFLICT (name, owner) DO NOTHING";
    replace_metadata = "UPDATE {p}jobrunr_metadata SET value = ?3, updated_at = ?4 \
        WHERE name = ?1 AND owner = ?2 AND value = ?5";

    note_change = "INSERT INTO {p}jobrunr_change (origin, job_id, state) VALUES (?1, ?2, ?3)";
    forget_changes = "DELETE FROM {p}jobrunr_change WHERE seq <= ?1";
    latest_change = "SELECT coalesce(max(seq), 0) FROM {p}jobrunr_change";
    changes_since = "SELECT seq, origin, job_id, state FROM {p}jobrunr_change WHERE seq > ?1 ORDER BY seq";
}

#[cfg(test)]
#[path = "statements_tests.rs"]
mod tests;
