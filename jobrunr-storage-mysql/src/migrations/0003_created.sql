-- Pages of jobs in the order of their creation. New jobs come last, so it costs an insert next to nothing.
ALTER TABLE {p}jobrunr_job ADD INDEX created (created_at, id);
