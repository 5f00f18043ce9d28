-- The hot row and what was written once. Times are microseconds since the Unix epoch, in UTC.
--
-- place says where a job stands: the number of its lane (16 or more) while it is ENQUEUED, the index of its state
-- otherwise. With place_rank (the priority, turned round, while ENQUEUED; else 0) and place_at (when it took its place in
-- line; when it is due while SCHEDULED; else when it entered its state) one index is the line of each lane, the agenda of
-- what is scheduled, and the jobs of each other state by age. A job that is claimed moves one index entry, not four.
--
-- What a claim or a success writes is never NULL, so that the row keeps its size: the smallest number stands for none.
CREATE TABLE IF NOT EXISTS {p}jobrunr_job (
    id BINARY(16) NOT NULL,
    version BIGINT NOT NULL,
    lane INT NOT NULL,
    place INT NOT NULL,
    place_rank INT NOT NULL,
    place_at BIGINT NOT NULL,
    priority INT NOT NULL,
    queued_at BIGINT NULL,
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL,
    claimed_at BIGINT NOT NULL DEFAULT -9223372036854775808,
    finished_at BIGINT NOT NULL DEFAULT -9223372036854775808,
    server INT NOT NULL DEFAULT 0,
    archived_entries INT NOT NULL DEFAULT 0,
    has_metadata TINYINT NOT NULL DEFAULT 0,
    scheduled_at BIGINT NULL,
    scheduled_entry_at BIGINT NULL,
    enqueued_entry_at BIGINT NULL,
    deleted_at BIGINT NULL,
    deleted_reason VARBINARY(128) NULL,
    name VARCHAR(256) NOT NULL,
    labels TEXT NULL,
    settings TEXT NULL,
    payload LONGTEXT NOT NULL,
    PRIMARY KEY (id),
    KEY place (place, place_rank, place_at, id, lane)
) ENGINE = InnoDB ROW_FORMAT = DYNAMIC DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;

-- What the columns of the hot row cannot say: entries before its tail, one row for each time some were added.
CREATE TABLE IF NOT EXISTS {p}jobrunr_job_history (
    job BINARY(16) NOT NULL,
    first_entry INT NOT NULL,
    entries LONGTEXT NOT NULL,
    last_error MEDIUMTEXT NULL,
    PRIMARY KEY (job, first_entry)
) ENGINE = InnoDB ROW_FORMAT = DYNAMIC DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;

-- The result of the SUCCEEDED entry with this index, while the hot row says it.
CREATE TABLE IF NOT EXISTS {p}jobrunr_job_result (
    job BINARY(16) NOT NULL,
    entry INT NOT NULL,
    result LONGTEXT NOT NULL,
    PRIMARY KEY (job)
) ENGINE = InnoDB ROW_FORMAT = DYNAMIC DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;

CREATE TABLE IF NOT EXISTS {p}jobrunr_job_metadata (
    job BINARY(16) NOT NULL,
    name VARBINARY(1024) NOT NULL,
    value LONGTEXT NOT NULL,
    PRIMARY KEY (job, name)
) ENGINE = InnoDB ROW_FORMAT = DYNAMIC DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;

-- Only jobs that have labels, come from a recurring job, or wait for another job have rows here.
CREATE TABLE IF NOT EXISTS {p}jobrunr_job_label (
    label VARBINARY(64) NOT NULL,
    job BINARY(16) NOT NULL,
    PRIMARY KEY (label, job),
    KEY job (job)
) ENGINE = InnoDB ROW_FORMAT = DYNAMIC;
CREATE TABLE IF NOT EXISTS {p}jobrunr_recurring_run (
    recurring_job_id VARBINARY(128) NOT NULL,
    job BINARY(16) NOT NULL,
    PRIMARY KEY (recurring_job_id, job),
    KEY job (job)
) ENGINE = InnoDB ROW_FORMAT = DYNAMIC;
CREATE TABLE IF NOT EXISTS {p}jobrunr_job_waiting (
    awaited_job_id BINARY(16) NOT NULL,
    job BINARY(16) NOT NULL,
    PRIMARY KEY (awaited_job_id, job),
    KEY job (job)
) ENGINE = InnoDB ROW_FORMAT = DYNAMIC;

-- One queue and one job type. Numbers below 16 are states.
CREATE TABLE IF NOT EXISTS {p}jobrunr_lane (
    id INT NOT NULL AUTO_INCREMENT,
    queue VARBINARY(64) NOT NULL,
    signature VARBINARY(128) NOT NULL,
    PRIMARY KEY (id),
    UNIQUE KEY name (queue, signature)
) ENGINE = InnoDB ROW_FORMAT = DYNAMIC AUTO_INCREMENT = 16;

-- How many jobs ended how, in shards: writers that add to different rows do not wait for each other.
CREATE TABLE IF NOT EXISTS {p}jobrunr_ended (
    lane INT NOT NULL,
    shard INT NOT NULL,
    succeeded BIGINT NOT NULL,
    failed BIGINT NOT NULL,
    deleted BIGINT NOT NULL,
    succeeded_all_time BIGINT NOT NULL,
    PRIMARY KEY (lane, shard)
) ENGINE = InnoDB ROW_FORMAT = DYNAMIC;

-- Servers as histories name them.
CREATE TABLE IF NOT EXISTS {p}jobrunr_server_name (
    id INT NOT NULL AUTO_INCREMENT,
    server_id BINARY(16) NOT NULL,
    name VARBINARY(1024) NOT NULL,
    PRIMARY KEY (id),
    UNIQUE KEY server (server_id, name)
) ENGINE = InnoDB ROW_FORMAT = DYNAMIC;
