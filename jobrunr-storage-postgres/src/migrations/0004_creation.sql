-- When a job was created, once more, where it is written once: an index in the table of jobs would be written with each move
-- of a job to another state. All rows are written anew here, which takes a while where there are millions.
ALTER TABLE {p}jobrunr_job_data ADD COLUMN created_at bigint;
UPDATE {p}jobrunr_job_data AS d SET created_at = j.created_at FROM {p}jobrunr_job AS j WHERE j.id = d.job;
DELETE FROM {p}jobrunr_job_data WHERE created_at IS NULL;
ALTER TABLE {p}jobrunr_job_data ALTER COLUMN created_at SET NOT NULL;
CREATE INDEX {n}jobrunr_job_data_created ON {p}jobrunr_job_data (created_at, job);

-- Tells whether at most 4 000 jobs are in these states; not many more are looked at, by the index, whose order it is.
CREATE FUNCTION {p}jobrunr_are_few(states smallint[]) RETURNS boolean LANGUAGE plpgsql
    SET enable_seqscan = off SET enable_bitmapscan = off SET enable_sort = off
    SET enable_hashjoin = off SET enable_mergejoin = off SET jit = off SET plan_cache_mode = force_generic_plan AS $body$
#variable_conflict use_column
DECLARE
    one smallint;
    found_in_one bigint;
    jobs bigint := 0;
BEGIN
    FOREACH one IN ARRAY states LOOP
        SELECT count(*) INTO found_in_one FROM (
            SELECT FROM {p}jobrunr_job AS j WHERE j.state = one ORDER BY j.updated_at LIMIT 4001
        ) AS n;
        jobs := jobs + found_in_one;
        IF jobs > 4000 THEN
            RETURN false;
        END IF;
    END LOOP;
    RETURN true;
END
$body$;

-- The two below are those of before, which fill the new column as well. They are replaced under their names, since what is
-- bound to them stays the same and nothing could call the old ones any more.

CREATE OR REPLACE FUNCTION {p}jobrunr_insert_new(
    ids uuid[], versions bigint[], entered bigint[], lanes integer[], priorities integer[], due bigint[],
    names text[], settings text[], payloads text[]
) RETURNS SETOF uuid LANGUAGE plpgsql
    SET enable_seqscan = off SET enable_bitmapscan = off SET enable_sort = off
    SET enable_hashjoin = off SET enable_mergejoin = off SET jit = off SET plan_cache_mode = force_generic_plan AS $body$
#variable_conflict use_column
BEGIN
    INSERT INTO {p}jobrunr_job (id, version, created_at, updated_at, lane, priority, archived_entries, state,
        has_metadata, queued_at, scheduled_at, scheduled_entry_at, enqueued_entry_at)
    SELECT n.id, n.version, n.at, n.at, n.lane, n.priority, 0, CASE WHEN n.due IS NULL THEN 2 ELSE 1 END, false,
        CASE WHEN n.due IS NULL THEN n.at END, n.due, CASE WHEN n.due IS NOT NULL THEN n.at END,
        CASE WHEN n.due IS NULL THEN n.at END
    FROM unnest(ids, versions, entered, lanes, priorities, due) AS n (id, version, at, lane, priority, due);
    INSERT INTO {p}jobrunr_job_data (job, name, settings, payload, created_at)
    SELECT * FROM unnest(ids, names, settings, payloads, entered);
END
$body$;

CREATE OR REPLACE FUNCTION {p}jobrunr_insert(
    ids uuid[], versions bigint[], states smallint[], lanes integer[], priorities integer[], created bigint[],
    updated bigint[], archived integer[], queued bigint[], scheduled bigint[], scheduled_entries bigint[],
    enqueued_entries bigint[], claimed bigint[], finished bigint[], deleted bigint[], reasons text[], awaited uuid[],
    servers integer[], with_metadata boolean[], successes integer[],
    names text[], labels text[], settings text[], payloads text[],
    history_jobs uuid[], history_firsts integer[], history_entries text[], history_errors text[],
    result_jobs uuid[], result_entries integer[], results text[],
    metadata_jobs uuid[], metadata_names text[], metadata_values text[],
    label_jobs uuid[], label_texts text[], run_jobs uuid[], run_ids text[], counted_in smallint
) RETURNS SETOF uuid LANGUAGE plpgsql
    SET enable_seqscan = off SET enable_bitmapscan = off SET enable_sort = off
    SET enable_hashjoin = off SET enable_mergejoin = off SET jit = off SET plan_cache_mode = force_generic_plan AS $body$
#variable_conflict use_column
DECLARE
    inserted uuid[];
    ended bigint[];
BEGIN
    WITH new AS (
        INSERT INTO {p}jobrunr_job AS j (id, version, state, lane, priority, created_at, updated_at, archived_entries,
            queued_at, scheduled_at, scheduled_entry_at, enqueued_entry_at, claimed_at, finished_at, deleted_at,
            deleted_reason, awaited_job_id, server, has_metadata)
        SELECT * FROM unnest(ids, versions, states, lanes, priorities, created, updated, archived, queued, scheduled,
            scheduled_entries, enqueued_entries, claimed, finished, deleted, reasons, awaited, servers, with_metadata)
        ON CONFLICT (id) DO NOTHING
        RETURNING j.id
    ) SELECT coalesce(array_agg(new.id), '{}') INTO inserted FROM new;
    INSERT INTO {p}jobrunr_job_data (job, name, labels, settings, payload, created_at)
    SELECT * FROM unnest(ids, names, labels, settings, payloads, created)
        AS n (id, name, labels, settings, payload, created_at)
    WHERE n.id = ANY (inserted);
    INSERT INTO {p}jobrunr_job_history (job, first_entry, entries, last_error)
    SELECT * FROM unnest(history_jobs, history_firsts, history_entries, history_errors) AS n (job, first, entries, error)
    WHERE n.job = ANY (inserted);
    INSERT INTO {p}jobrunr_job_result (job, entry, result)
    SELECT * FROM unnest(result_jobs, result_entries, results) AS n (job, entry, result) WHERE n.job = ANY (inserted);
    INSERT INTO {p}jobrunr_job_metadata (job, name, value)
    SELECT * FROM unnest(metadata_jobs, metadata_names, metadata_values) AS n (job, name, value)
    WHERE n.job = ANY (inserted);
    INSERT INTO {p}jobrunr_job_label (job, label)
    SELECT * FROM unnest(label_jobs, label_texts) AS n (job, label) WHERE n.job = ANY (inserted);
    INSERT INTO {p}jobrunr_recurring_run (job, recurring_job_id)
    SELECT * FROM unnest(run_jobs, run_ids) AS n (job, id) WHERE n.job = ANY (inserted);
    SELECT ARRAY[count(*) FILTER (WHERE n.state = 5), count(*) FILTER (WHERE n.state = 6),
        count(*) FILTER (WHERE n.state = 7), coalesce(sum(n.successes), 0)]
    INTO ended FROM unnest(ids, states, successes) AS n (id, state, successes) WHERE n.id = ANY (inserted);
    PERFORM {p}jobrunr_add_counts(counted_in, ended);
    RETURN QUERY SELECT n.id FROM unnest(ids) AS n (id) WHERE n.id <> ALL (inserted);
END
$body$;
