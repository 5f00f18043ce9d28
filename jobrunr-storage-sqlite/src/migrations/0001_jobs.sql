-- The hot row: narrow, says the present. Times are microseconds since the Unix epoch; state is the index of the state.
CREATE TABLE {p}jobrunr_job (
    seq INTEGER PRIMARY KEY,
    id BLOB NOT NULL,
    state INTEGER NOT NULL,
    version INTEGER NOT NULL,
    lane INTEGER NOT NULL,
    rank INTEGER NOT NULL,
    queued_at INTEGER,
    created_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL,
    archived_entries INTEGER NOT NULL,
    has_metadata INTEGER NOT NULL,
    server INTEGER,
    scheduled_at INTEGER,
    awaited_job_id BLOB,
    scheduled_entry_at INTEGER,
    enqueued_entry_at INTEGER,
    claimed_at INTEGER,
    finished_at INTEGER,
    deleted_at INTEGER,
    deleted_reason TEXT
);
CREATE UNIQUE INDEX {p}jobrunr_job_id ON {p}jobrunr_job (id);
-- The exact order of claims; rank is the negative priority.
CREATE INDEX {p}jobrunr_job_ready ON {p}jobrunr_job (lane, rank, queued_at, id) WHERE state = 2;
CREATE INDEX {p}jobrunr_job_updated ON {p}jobrunr_job (state, updated_at, id, lane);
CREATE INDEX {p}jobrunr_job_due ON {p}jobrunr_job (scheduled_at, id) WHERE state = 1;
CREATE INDEX {p}jobrunr_job_awaited ON {p}jobrunr_job (awaited_job_id) WHERE awaited_job_id IS NOT NULL;

-- Written once.
CREATE TABLE {p}jobrunr_job_data (
    job INTEGER PRIMARY KEY,
    name TEXT NOT NULL,
    labels TEXT,
    settings TEXT,
    payload TEXT NOT NULL
);

-- What the columns of the hot row cannot say: entries before its tail, one row for each time some were added.
CREATE TABLE {p}jobrunr_job_history (
    seq INTEGER PRIMARY KEY,
    job INTEGER NOT NULL,
    first_entry INTEGER NOT NULL,
    entries TEXT NOT NULL,
    last_error TEXT
);
CREATE UNIQUE INDEX {p}jobrunr_job_history_job ON {p}jobrunr_job_history (job, first_entry);

-- The result of the SUCCEEDED entry with this index, while the hot row says it.
CREATE TABLE {p}jobrunr_job_result (
    job INTEGER PRIMARY KEY,
    entry INTEGER NOT NULL,
    result TEXT NOT NULL
);

CREATE TABLE {p}jobrunr_job_metadata (
    seq INTEGER PRIMARY KEY,
    job INTEGER NOT NULL,
    name TEXT NOT NULL,
    value TEXT NOT NULL
);
CREATE UNIQUE INDEX {p}jobrunr_job_metadata_job ON {p}jobrunr_job_metadata (job, name);

-- Only jobs that have labels, or come from a recurring job, have rows here.
CREATE TABLE {p}jobrunr_job_label (
    label TEXT NOT NULL,
    job INTEGER NOT NULL,
    PRIMARY KEY (label, job)
) WITHOUT ROWID;
CREATE INDEX {p}jobrunr_job_label_job ON {p}jobrunr_job_label (job);
CREATE TABLE {p}jobrunr_recurring_run (
    recurring_job_id TEXT NOT NULL,
    job INTEGER NOT NULL,
    PRIMARY KEY (recurring_job_id, job)
) WITHOUT ROWID;
CREATE INDEX {p}jobrunr_recurring_run_job ON {p}jobrunr_recurring_run (job);

-- One queue and one job type, and how many jobs it has in each state.
CREATE TABLE {p}jobrunr_lane (
    id INTEGER PRIMARY KEY,
    queue TEXT NOT NULL,
    signature TEXT NOT NULL,
    awaiting INTEGER NOT NULL DEFAULT 0,
    scheduled INTEGER NOT NULL DEFAULT 0,
    enqueued INTEGER NOT NULL DEFAULT 0,
    processing INTEGER NOT NULL DEFAULT 0,
    processed INTEGER NOT NULL DEFAULT 0,
    succeeded INTEGER NOT NULL DEFAULT 0,
    failed INTEGER NOT NULL DEFAULT 0,
    deleted INTEGER NOT NULL DEFAULT 0,
    succeeded_all_time INTEGER NOT NULL DEFAULT 0
);
CREATE UNIQUE INDEX {p}jobrunr_lane_name ON {p}jobrunr_lane (queue, signature);

-- Servers as histories name them.
CREATE TABLE {p}jobrunr_server_name (
    id INTEGER PRIMARY KEY,
    server_id BLOB NOT NULL,
    name TEXT NOT NULL
);
CREATE UNIQUE INDEX {p}jobrunr_server_name_id ON {p}jobrunr_server_name (server_id, name);
