CREATE TABLE {p}jobrunr_recurring_job (
    id text COLLATE "C" NOT NULL,
    version bigint NOT NULL,
    paused boolean NOT NULL,
    next_run_at bigint,
    body text NOT NULL,
    CONSTRAINT {n}jobrunr_recurring_job_pkey PRIMARY KEY (id)
);
CREATE INDEX {n}jobrunr_recurring_job_due ON {p}jobrunr_recurring_job (next_run_at) WHERE NOT paused;

CREATE TABLE {p}jobrunr_server (
    id uuid NOT NULL,
    announcement text NOT NULL,
    first_heartbeat_at bigint NOT NULL,
    last_heartbeat_at bigint NOT NULL,
    load text NOT NULL,
    CONSTRAINT {n}jobrunr_server_pkey PRIMARY KEY (id)
);

CREATE TABLE {p}jobrunr_metadata (
    name text COLLATE "C" NOT NULL,
    owner text COLLATE "C" NOT NULL,
    value text NOT NULL,
    created_at bigint NOT NULL,
    updated_at bigint NOT NULL,
    CONSTRAINT {n}jobrunr_metadata_pkey PRIMARY KEY (name, owner)
);

-- The latest time that was told, so that it never goes back.
CREATE TABLE {p}jobrunr_clock (
    told bigint NOT NULL
);
INSERT INTO {p}jobrunr_clock (told) VALUES (0);
