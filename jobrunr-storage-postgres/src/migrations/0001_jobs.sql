-- The hot row: narrow, says the present. Times are microseconds since the Unix epoch; state is the index of the state.
-- What is fixed in width comes first, the widest first, so that nothing is lost to alignment.
CREATE TABLE {p}jobrunr_job (
    id uuid NOT NULL,
    version bigint NOT NULL,
    created_at bigint NOT NULL,
    updated_at bigint NOT NULL,
    lane integer NOT NULL,
    priority integer NOT NULL,
    archived_entries integer NOT NULL,
    state smallint NOT NULL,
    has_metadata boolean NOT NULL,
    -- The place in line; only of an ENQUEUED job.
    queued_at bigint,
    scheduled_at bigint,
    scheduled_entry_at bigint,
    enqueued_entry_at bigint,
    claimed_at bigint,
    finished_at bigint,
    deleted_at bigint,
    server integer,
    -- Tells the claim that took the job from every other, so that a claim whose answer was lost can be found again.
    claim integer,
    awaited_job_id uuid,
    deleted_reason text,
    CONSTRAINT {n}jobrunr_job_pkey PRIMARY KEY (id)
) WITH (autovacuum_vacuum_scale_factor = 0.05, autovacuum_analyze_scale_factor = 0.05);
-- The exact order of claims. The condition names no state, so that no plan can take the index by state instead.
CREATE INDEX {n}jobrunr_job_ready ON {p}jobrunr_job (lane, priority DESC, queued_at, id) WHERE queued_at IS NOT NULL;
CREATE INDEX {n}jobrunr_job_updated ON {p}jobrunr_job (state, updated_at);
CREATE INDEX {n}jobrunr_job_due ON {p}jobrunr_job (scheduled_at, id) WHERE state = 1;
CREATE INDEX {n}jobrunr_job_awaited ON {p}jobrunr_job (awaited_job_id) WHERE awaited_job_id IS NOT NULL;

-- Written once.
CREATE TABLE {p}jobrunr_job_data (
    job uuid NOT NULL,
    name text NOT NULL,
    labels text,
    settings text,
    payload text NOT NULL,
    CONSTRAINT {n}jobrunr_job_data_pkey PRIMARY KEY (job)
);

-- What the columns of the hot row cannot say: entries before its tail, one row for each time some were added.
CREATE TABLE {p}jobrunr_job_history (
    job uuid NOT NULL,
    first_entry integer NOT NULL,
    entries text NOT NULL,
    last_error text,
    CONSTRAINT {n}jobrunr_job_history_pkey PRIMARY KEY (job, first_entry)
);

-- The result of the SUCCEEDED entry with this index, while the hot row says it.
CREATE TABLE {p}jobrunr_job_result (
    job uuid NOT NULL,
    entry integer NOT NULL,
    result text NOT NULL,
    CONSTRAINT {n}jobrunr_job_result_pkey PRIMARY KEY (job)
);

CREATE TABLE {p}jobrunr_job_metadata (
    job uuid NOT NULL,
    name text COLLATE "C" NOT NULL,
    value text NOT NULL,
    CONSTRAINT {n}jobrunr_job_metadata_pkey PRIMARY KEY (job, name)
);

-- Only jobs that have labels, or come from a recurring job, have rows here.
CREATE TABLE {p}jobrunr_job_label (
    job uuid NOT NULL,
    label text COLLATE "C" NOT NULL,
    CONSTRAINT {n}jobrunr_job_label_pkey PRIMARY KEY (job, label)
);
CREATE INDEX {n}jobrunr_job_label_label ON {p}jobrunr_job_label (label, job);
CREATE TABLE {p}jobrunr_recurring_run (
    job uuid NOT NULL,
    recurring_job_id text COLLATE "C" NOT NULL,
    CONSTRAINT {n}jobrunr_recurring_run_pkey PRIMARY KEY (job)
);
CREATE INDEX {n}jobrunr_recurring_run_id ON {p}jobrunr_recurring_run (recurring_job_id, job);

-- One queue and one job type; jobs name their lane by its number.
CREATE TABLE {p}jobrunr_lane (
    id integer GENERATED ALWAYS AS IDENTITY,
    queue text COLLATE "C" NOT NULL,
    signature text COLLATE "C" NOT NULL,
    CONSTRAINT {n}jobrunr_lane_pkey PRIMARY KEY (id),
    CONSTRAINT {n}jobrunr_lane_name UNIQUE (queue, signature)
);

-- Servers as histories name them.
CREATE TABLE {p}jobrunr_server_name (
    id integer GENERATED ALWAYS AS IDENTITY,
    server_id uuid NOT NULL,
    name text NOT NULL,
    CONSTRAINT {n}jobrunr_server_name_pkey PRIMARY KEY (id),
    CONSTRAINT {n}jobrunr_server_name_id UNIQUE (server_id, name)
);

-- How many jobs are in the final states, and successes ever; the sum over all shards. Writers take different shards, so
-- that they do not wait for each other's commits.
CREATE TABLE {p}jobrunr_count (
    shard smallint NOT NULL,
    succeeded bigint NOT NULL DEFAULT 0,
    failed bigint NOT NULL DEFAULT 0,
    deleted bigint NOT NULL DEFAULT 0,
    succeeded_all_time bigint NOT NULL DEFAULT 0,
    CONSTRAINT {n}jobrunr_count_pkey PRIMARY KEY (shard)
) WITH (fillfactor = 10);
INSERT INTO {p}jobrunr_count (shard) SELECT generate_series(0, 63);
