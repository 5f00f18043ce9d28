CREATE TABLE IF NOT EXISTS {p}jobrunr_recurring_job (
    id VARBINARY(128) NOT NULL,
    version BIGINT NOT NULL,
    paused TINYINT NOT NULL,
    next_run_at BIGINT NULL,
    body LONGTEXT NOT NULL,
    PRIMARY KEY (id),
    KEY due (paused, next_run_at)
) ENGINE = InnoDB ROW_FORMAT = DYNAMIC DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;

CREATE TABLE IF NOT EXISTS {p}jobrunr_server (
    id BINARY(16) NOT NULL,
    announcement LONGTEXT NOT NULL,
    first_heartbeat_at BIGINT NOT NULL,
    last_heartbeat_at BIGINT NOT NULL,
    server_load TEXT NOT NULL,
    PRIMARY KEY (id)
) ENGINE = InnoDB ROW_FORMAT = DYNAMIC DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;

CREATE TABLE IF NOT EXISTS {p}jobrunr_metadata (
    name VARBINARY(1024) NOT NULL,
    owner VARBINARY(1024) NOT NULL,
    value LONGTEXT NOT NULL,
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL,
    PRIMARY KEY (name, owner)
) ENGINE = InnoDB ROW_FORMAT = DYNAMIC DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;
