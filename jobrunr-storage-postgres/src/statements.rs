//! Every statement that is not put together from a query, rendered once with schema and prefix. The hot ones are functions
//! in the database: see `migrations/0003_functions.sql` and `0004_creation.sql`.

use std::sync::Arc;

use jobrunr_storage_sql::TablePrefix;

macro_rules! statements {
    ($($(#[$doc:meta])* $name:ident = $sql:expr;)+) => {
        /// The statements with their prefix.
        #[derive(Debug)]
        pub(crate) struct Statements {
            $($(#[$doc])* pub(crate) $name: Arc<str>,)+
        }

        impl Statements {
            pub(crate) fn render(prefix: &TablePrefix) -> Self {
                Self { $($name: prefix.render($sql).into(),)+ }
            }

            /// All that are whole statements.
            pub(crate) fn whole(&self) -> impl Iterator<Item = &str> {
                [$(&self.$name,)+].into_iter().filter(|sql| !Arc::ptr_eq(sql, &self.list_page)).map(AsRef::as_ref)
            }
        }
    };
}

/// The columns that `rows.rs` reads, in its order, and where they come from.
macro_rules! select_job {
    ($metadata_names:literal, $metadata_values:literal, $condition:literal) => {
        concat!(
            "SELECT j.id, j.version, j.state, j.lane, j.priority, j.created_at, j.updated_at, j.archived_entries, \
             j.scheduled_at, j.scheduled_entry_at, j.enqueued_entry_at, j.claimed_at, j.finished_at, j.deleted_at, \
             j.deleted_reason, j.awaited_job_id, j.server, j.has_metadata, d.name, d.labels, d.settings, d.payload, \
             CASE WHEN j.archived_entries > 0 THEN ARRAY(SELECT h.entries FROM {p}jobrunr_job_history h \
             WHERE h.job = j.id ORDER BY h.first_entry) END, \
             CASE WHEN j.finished_at IS NOT NULL THEN (SELECT r.result FROM {p}jobrunr_job_result r \
             WHERE r.job = j.id AND r.entry = j.archived_entries + (j.scheduled_entry_at IS NOT NULL)::int \
             + (j.enqueued_entry_at IS NOT NULL)::int + (j.claimed_at IS NOT NULL)::int) END, ",
            $metadata_names,
            ", ",
            $metadata_values,
            " FROM {p}jobrunr_job j LEFT JOIN {p}jobrunr_job_data d ON d.job = j.id WHERE ",
            $condition
        )
    };
}

/// The same with the metadata.
macro_rules! select_whole_job {
    ($condition:literal) => {
        select_job!(
            "CASE WHEN j.has_metadata THEN ARRAY(SELECT m.name FROM {p}jobrunr_job_metadata m WHERE m.job = j.id \
             ORDER BY m.name) END",
            "CASE WHEN j.has_metadata THEN ARRAY(SELECT m.value FROM {p}jobrunr_job_metadata m WHERE m.job = j.id \
             ORDER BY m.name) END",
            $condition
        )
    };
}

statements! {
    /// Differs from `insert_new` in that one row needs no lists taken apart and reads nothing: by the function it takes a third
    /// longer.
    insert_one = "WITH j AS (INSERT INTO {p}jobrunr_job (id, version, created_at, updated_at, lane, priority, \
        archived_entries, state, has_metadata, queued_at, scheduled_at, scheduled_entry_at, enqueued_entry_at) \
        VALUES ($1, $2, $3, $3, $4, $5, 0, $6, false, $7, $8, $9, $7)) \
        INSERT INTO {p}jobrunr_job_data (job, name, settings, payload, created_at) VALUES ($1, $10, $11, $12, $3)";
    insert_new = "SELECT * FROM {p}jobrunr_insert_new($1, $2, $3, $4, $5, $6, $7, $8, $9)";
    insert = "SELECT * FROM {p}jobrunr_insert($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, \
        $17, $18, $19, $20, $21, $22, $23, $24, $25, $26, $27, $28, $29, $30, $31, $32, $33, $34, $35, $36, $37, $38, $39)";
    claim = "SELECT * FROM {p}jobrunr_claim($1, $2, $3, $4, $5, $6, $7)";
    succeed = "SELECT * FROM {p}jobrunr_succeed($1, $2, $3, $4, $5, $6, $7, $8, $9)";
    save = "SELECT * FROM {p}jobrunr_save($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, \
        $18, $19, $20, $21, $22, $23, $24, $25, $26, $27)";
    release = "SELECT r.job, r.lane, r.due_at, pg_current_xact_id_if_assigned()::text AS written_by \
        FROM {p}jobrunr_release($1, $2) AS r";
    delete = "SELECT d.jobs, pg_current_xact_id_if_assigned()::text AS written_by FROM {p}jobrunr_delete($1, $2) AS d (jobs)";
    delete_aged = "SELECT d.jobs, pg_current_xact_id_if_assigned()::text AS written_by \
        FROM {p}jobrunr_delete_aged($1, $2, $3, $4, $5, $6) AS d (jobs)";
    park = "SELECT {p}jobrunr_park($1, $2, $3, $4, $5, $6, $7, $8)";
    save_job_metadata = "SELECT {p}jobrunr_save_metadata($1, $2, $3)";
    counts = "SELECT * FROM {p}jobrunr_counts()";

    /// What is stored of jobs that a save did not win.
    look_at = "SELECT id, version, state, updated_at, archived_entries FROM {p}jobrunr_job WHERE id = ANY ($1)";
    /// Takes over jobs of a claim whose answer was lost; each is found once.
    recover = "UPDATE {p}jobrunr_job SET claim = $5 WHERE id = ANY (ARRAY(SELECT id FROM {p}jobrunr_job \
        WHERE state = 3 AND updated_at >= $1 AND server = $2 AND claim = $3 LIMIT $4 FOR UPDATE)) RETURNING id";
    find_jobs = select_whole_job!("j.id = ANY ($1)");
    /// To be followed by the statement that gives the ids of a page, and two brackets: one statement sees one moment.
    list_page = select_job!("NULL::text[]", "NULL::text[]", "j.id = ANY (ARRAY(");
    list_jobs = select_job!("NULL::text[]", "NULL::text[]", "j.id = ANY ($1)");
    /// Whether these states have so few jobs that sorting them by creation is the short way to a page.
    are_few = "SELECT {p}jobrunr_are_few($1)";

    /// Whether a row was there before this transaction wrote anything, so that it stays whatever becomes of this one, is told
    /// by its age; it may be older and not told so, if the transaction began before the row was committed.
    find_numbers_of_lanes = "SELECT id, queue, signature, age(xmin) > 0 FROM {p}jobrunr_lane \
        WHERE (queue, signature) IN (SELECT * FROM unnest($1::text[], $2::text[]))";
    add_lanes = "INSERT INTO {p}jobrunr_lane (queue, signature) SELECT * FROM unnest($1::text[], $2::text[]) \
        ON CONFLICT (queue, signature) DO NOTHING RETURNING id, queue, signature, false";
    find_lanes = "SELECT id, queue, signature, true FROM {p}jobrunr_lane WHERE id = ANY ($1)";
    find_numbers_of_servers = "SELECT id, server_id, name, age(xmin) > 0 FROM {p}jobrunr_server_name \
        WHERE (server_id, name) IN (SELECT * FROM unnest($1::uuid[], $2::text[]))";
    add_servers = "INSERT INTO {p}jobrunr_server_name (server_id, name) SELECT * FROM unnest($1::uuid[], $2::text[]) \
        ON CONFLICT (server_id, name) DO NOTHING RETURNING id, server_id, name, false";
    find_server_names = "SELECT id, server_id, name, true FROM {p}jobrunr_server_name WHERE id = ANY ($1)";

    /// ENQUEUED jobs by their lane, in which few or many wait; those of other states one by one.
    list_signatures = "SELECT DISTINCT l.signature FROM {p}jobrunr_lane l WHERE (2 = ANY ($1) AND EXISTS \
        (SELECT 1 FROM {p}jobrunr_job j WHERE j.lane = l.id AND j.queued_at IS NOT NULL)) \
        OR l.id IN (SELECT DISTINCT j.lane FROM {p}jobrunr_job j WHERE j.state = ANY ($1) AND j.state <> 2)";

    save_recurring = "INSERT INTO {p}jobrunr_recurring_job AS r (id, version, paused, next_run_at, body) \
        VALUES ($1, 1, $2, $3, $4) ON CONFLICT (id) DO UPDATE SET version = r.version + 1, \
        paused = excluded.paused, next_run_at = excluded.next_run_at, body = excluded.body \
        RETURNING r.version, pg_current_xact_id()::text AS written_by";
    save_recurring_at = "UPDATE {p}jobrunr_recurring_job SET version = version + 1, paused = $2, next_run_at = $3, \
        body = $4 WHERE id = $1 AND version = $5 RETURNING version, pg_current_xact_id()::text AS written_by";
    find_recurring = "SELECT id, version, body FROM {p}jobrunr_recurring_job WHERE id = $1";
    list_recurring = "SELECT id, version, body FROM {p}jobrunr_recurring_job WHERE id > $1 ORDER BY id LIMIT $2";
    /// A plan for all values takes an open range for a third of the rows, and the primary key for the way to them. The lower
    /// bound, which all have, and the detour have it take the index of those that are due.
    list_due_recurring = "WITH due AS MATERIALIZED (SELECT id, version, body FROM {p}jobrunr_recurring_job \
        WHERE NOT paused AND next_run_at BETWEEN -9223372036854775808 AND $3) \
        SELECT id, version, body FROM due WHERE id > $1 ORDER BY id LIMIT $2";
    delete_recurring = "DELETE FROM {p}jobrunr_recurring_job WHERE id = $1 AND version = coalesce($2, version) \
        RETURNING pg_current_xact_id()::text AS written_by";

    /// The clock of the server, or the latest time that was told, if that is later.
    storage_time = "UPDATE {p}jobrunr_clock SET told = greatest(told, \
        (extract(epoch FROM clock_timestamp()) * 1000000)::bigint) RETURNING told";
    announce_server = "WITH clock AS (UPDATE {p}jobrunr_clock SET told = greatest(told, \
        (extract(epoch FROM clock_timestamp()) * 1000000)::bigint) RETURNING told) \
        INSERT INTO {p}jobrunr_server AS s (id, announcement, first_heartbeat_at, last_heartbeat_at, load) \
        SELECT $1, $2, told, told, $3 FROM clock ON CONFLICT (id) DO UPDATE SET announcement = excluded.announcement \
        RETURNING (SELECT told FROM clock)";
    heartbeat = "WITH clock AS (UPDATE {p}jobrunr_clock SET told = greatest(told, \
        (extract(epoch FROM clock_timestamp()) * 1000000)::bigint) RETURNING told), \
        noted AS (UPDATE {p}jobrunr_server SET last_heartbeat_at = (SELECT told FROM clock), load = $2 \
        WHERE id = $1 RETURNING id) SELECT told, EXISTS (SELECT 1 FROM noted) FROM clock";
    list_servers = "SELECT id, announcement, first_heartbeat_at, last_heartbeat_at, load FROM {p}jobrunr_server \
        ORDER BY first_heartbeat_at, id";
    remove_server = "DELETE FROM {p}jobrunr_server WHERE id = $1 RETURNING id, pg_current_xact_id()::text AS written_by";
    remove_silent_servers = "DELETE FROM {p}jobrunr_server WHERE last_heartbeat_at < $1 \
        RETURNING id, pg_current_xact_id()::text AS written_by";

    save_metadata = "INSERT INTO {p}jobrunr_metadata (name, owner, value, created_at, updated_at) \
        VALUES ($1, $2, $3, $4, $5) ON CONFLICT (name, owner) \
        DO UPDATE SET value = excluded.value, updated_at = excluded.updated_at";
    find_metadata = "SELECT name, owner, value, created_at, updated_at FROM {p}jobrunr_metadata \
        WHERE name = $1 AND owner = $2";
    list_metadata = "SELECT name, owner, value, created_at, updated_at FROM {p}jobrunr_metadata \
        WHERE name = $1 ORDER BY owner";
    delete_metadata = "WITH gone AS (DELETE FROM {p}jobrunr_metadata WHERE name = $1 AND ($2::text IS NULL OR owner = $2) \
        RETURNING 1) SELECT count(*), pg_current_xact_id_if_assigned()::text AS written_by FROM gone";
    insert_new_metadata = "INSERT INTO {p}jobrunr_metadata (name, owner, value, created_at, updated_at) \
        VALUES ($1, $2, $3, $4, $4) ON CONFLICT (name, owner) DO NOTHING \
        RETURNING pg_current_xact_id()::text AS written_by";
    replace_metadata = "UPDATE {p}jobrunr_metadata SET value = $3, updated_at = $4 \
        WHERE name = $1 AND owner = $2 AND value = $5 RETURNING pg_current_xact_id()::text AS written_by";

    /// What became of a transaction.
    transaction_status = "SELECT pg_xact_status($1::text::xid8)";

    /// Never run: names what functions and searches need and no other statement mentions, so that it is seen to be missing.
    need_columns = "SELECT h.last_error, l.job, l.label, r.job, r.recurring_job_id, c.shard, c.succeeded, c.failed, c.deleted, \
        c.succeeded_all_time FROM {p}jobrunr_job_history h, {p}jobrunr_job_label l, {p}jobrunr_recurring_run r, \
        {p}jobrunr_count c";
    server_version = "SELECT current_setting('server_version_num')";
    find_table = "SELECT to_regclass($1) IS NOT NULL";
    find_schema = "SELECT 1 FROM pg_namespace WHERE nspname = $1";
    list_migrations = "SELECT number, name, checksum FROM {p}jobrunr_migration ORDER BY number";
    current_schema = "SELECT current_schema()::text";

    /// The channel of those who use the same tables, found by way of the tables: the search path of a caller's connection may
    /// lead there otherwise than that of the storage's own.
    channel = "SELECT 'jobrunr_' || to_regclass('{p}jobrunr_job')::oid::text";
    /// Sends hints by themselves. Nobody needs them to survive a crash, so their commit does not wait for the disk.
    notify = "SELECT pg_notify('jobrunr_' || to_regclass('{p}jobrunr_job')::oid::text, n), \
        set_config('synchronous_commit', 'off', true) FROM unnest($1::text[]) AS n";
    /// Sends hints with what the transaction of a caller did.
    notify_in_transaction = "SELECT pg_notify('jobrunr_' || to_regclass('{p}jobrunr_job')::oid::text, n) \
        FROM unnest($1::text[]) AS n";
}
