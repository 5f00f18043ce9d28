CREATE TABLE {p}jobrunr_recurring_job (
    id TEXT PRIMARY KEY,
    version INTEGER NOT NULL,
    paused INTEGER NOT NULL,
    next_run_at INTEGER,
    body TEXT NOT NULL
);
CREATE INDEX {p}jobrunr_recurring_job_due ON {p}jobrunr_recurring_job (next_run_at) WHERE paused = 0;

CREATE TABLE {p}jobrunr_server (
    id BLOB PRIMARY KEY,
    announcement TEXT NOT NULL,
    first_heartbeat_at INTEGER NOT NULL,
    last_heartbeat_at INTEGER NOT NULL,
    load TEXT NOT NULL
);

CREATE TABLE {p}jobrunr_metadata (
    seq INTEGER PRIMARY KEY,
    name TEXT NOT NULL,
    owner TEXT NOT NULL,
    value TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL
);
CREATE UNIQUE INDEX {p}jobrunr_metadata_name ON {p}jobrunr_metadata (name, owner);

-- The latest rare changes, so that other processes can be told of them: a job that was deleted while it ran, or a
-- recurring job (then job and state are NULL). Origin is who made the change.
CREATE TABLE {p}jobrunr_change (
    seq INTEGER PRIMARY KEY,
    origin INTEGER NOT NULL,
    job_id BLOB,
    state INTEGER
);
