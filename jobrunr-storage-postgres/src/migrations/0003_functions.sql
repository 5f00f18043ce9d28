-- The hot statements. They are functions because a function brings its own planner settings along: a plan that was made
-- while the table was small must not be kept while it grows, whatever the statistics say and however the session is
-- set. Each is called as a single statement and holds nothing beyond it. Once released, a function is never changed:
-- two versions of the library may use one database for a while, so a later version adds functions of other names.

-- Inserts new jobs that wait in line or for their time and have nothing beside their definition. If one of them is there
-- already, everything fails, which is the faster way where that is rare.
CREATE FUNCTION {p}jobrunr_insert_new(
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
    INSERT INTO {p}jobrunr_job_data (job, name, settings, payload) SELECT * FROM unnest(ids, names, settings, payloads);
END
$body$;

-- Inserts jobs with all that any job can have. Returns those that were there.
CREATE FUNCTION {p}jobrunr_insert(
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
    INSERT INTO {p}jobrunr_job_data (job, name, labels, settings, payload)
    SELECT * FROM unnest(ids, names, labels, settings, payloads) AS n (id, name, labels, settings, payload)
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

-- Adds to the counts of succeeded, failed and deleted jobs and of all successes ever; the last lock a call takes.
CREATE FUNCTION {p}jobrunr_add_counts(counted_in smallint, added bigint[]) RETURNS void LANGUAGE plpgsql AS $body$
BEGIN
    IF added <> ARRAY[0, 0, 0, 0]::bigint[] THEN
        UPDATE {p}jobrunr_count AS c SET succeeded = c.succeeded + added[1], failed = c.failed + added[2],
            deleted = c.deleted + added[3], succeeded_all_time = c.succeeded_all_time + added[4]
        WHERE c.shard = counted_in;
    END IF;
END
$body$;

-- Takes the first jobs in line. Where several lanes make up a line, first it is counted, without locks, how many of each
-- lane are among the first; then so many of each are locked, those passed over that others hold.
CREATE FUNCTION {p}jobrunr_claim(
    wanted text[], unwanted text[], in_queues text[], at_most bigint, at bigint, by_server integer, token integer
) RETURNS TABLE (id uuid, version bigint, state smallint, lane integer, priority integer, created_at bigint,
    updated_at bigint, archived_entries integer, scheduled_at bigint, scheduled_entry_at bigint,
    enqueued_entry_at bigint, claimed_at bigint, finished_at bigint, deleted_at bigint, deleted_reason text,
    awaited_job_id uuid, server integer, has_metadata boolean, name text, labels text, settings text, payload text,
    archive text[], result text, metadata_names text[], metadata_values text[]) LANGUAGE plpgsql
    SET enable_seqscan = off SET enable_bitmapscan = off SET enable_sort = off
    SET enable_hashjoin = off SET enable_mergejoin = off SET jit = off SET plan_cache_mode = force_generic_plan AS $body$
#variable_conflict use_column
DECLARE
    lanes integer[];
    chosen uuid[];
BEGIN
    SELECT array_agg(l.id) INTO lanes FROM {p}jobrunr_lane AS l
    WHERE (wanted IS NULL OR l.signature = ANY (wanted)) AND (unwanted IS NULL OR l.signature <> ALL (unwanted))
        AND (in_queues IS NULL OR l.queue = ANY (in_queues));
    IF lanes IS NULL THEN
        RETURN;
    ELSIF cardinality(lanes) = 1 THEN
        chosen := ARRAY(
            SELECT j.id FROM {p}jobrunr_job AS j WHERE j.lane = lanes[1] AND j.queued_at IS NOT NULL
            ORDER BY j.priority DESC, j.queued_at, j.id LIMIT at_most FOR UPDATE SKIP LOCKED
        );
    ELSE
        WITH line AS (
            SELECT l.id AS lane, coalesce(array_position(in_queues, l.queue), 0) AS rank
            FROM {p}jobrunr_lane AS l WHERE l.id = ANY (lanes)
        ), first AS MATERIALIZED (
            SELECT line.lane FROM line CROSS JOIN LATERAL (
                SELECT j.priority, j.queued_at, j.id FROM {p}jobrunr_job AS j
                WHERE j.lane = line.lane AND j.queued_at IS NOT NULL
                ORDER BY j.priority DESC, j.queued_at, j.id LIMIT at_most
            ) AS c ORDER BY line.rank, c.priority DESC, c.queued_at, c.id LIMIT at_most
        ), share AS MATERIALIZED (
            SELECT first.lane, count(*) AS jobs FROM first GROUP BY first.lane
        )
        SELECT array_agg(c.id) INTO chosen FROM share CROSS JOIN LATERAL (
            SELECT j.id FROM {p}jobrunr_job AS j WHERE j.lane = share.lane AND j.queued_at IS NOT NULL
            ORDER BY j.priority DESC, j.queued_at, j.id LIMIT share.jobs FOR UPDATE SKIP LOCKED
        ) AS c;
    END IF;
    IF coalesce(cardinality(chosen), 0) = 0 THEN
        RETURN;
    END IF;
    RETURN QUERY WITH j AS (
        UPDATE {p}jobrunr_job AS u SET state = 3, version = u.version + 1, queued_at = NULL,
            claimed_at = greatest(at, u.updated_at), updated_at = greatest(at, u.updated_at), server = by_server,
            claim = token
        WHERE u.id = ANY (chosen)
        RETURNING u.*
    ) SELECT j.id, j.version, j.state, j.lane, j.priority, j.created_at, j.updated_at, j.archived_entries, j.scheduled_at,
        j.scheduled_entry_at, j.enqueued_entry_at, j.claimed_at, j.finished_at, j.deleted_at, j.deleted_reason,
        j.awaited_job_id, j.server, j.has_metadata,
        d.name, d.labels, d.settings, d.payload,
        CASE WHEN j.archived_entries > 0 THEN ARRAY(
            SELECT h.entries FROM {p}jobrunr_job_history AS h WHERE h.job = j.id ORDER BY h.first_entry
        ) END,
        NULL::text,
        CASE WHEN j.has_metadata THEN ARRAY(
            SELECT m.name FROM {p}jobrunr_job_metadata AS m WHERE m.job = j.id ORDER BY m.name
        ) END,
        CASE WHEN j.has_metadata THEN ARRAY(
            SELECT m.value FROM {p}jobrunr_job_metadata AS m WHERE m.job = j.id ORDER BY m.name
        ) END
    FROM j LEFT JOIN {p}jobrunr_job_data AS d ON d.job = j.id;
END
$body$;

-- Ends jobs well whose history is plain: nothing but their success is new. Returns the winners.
CREATE FUNCTION {p}jobrunr_succeed(
    ids uuid[], versions bigint[], loaded bigint[], archived integer[], ended bigint[],
    result_jobs uuid[], result_entries integer[], results text[], counted_in smallint
) RETURNS SETOF uuid LANGUAGE plpgsql
    SET enable_seqscan = off SET enable_bitmapscan = off SET enable_sort = off
    SET enable_hashjoin = off SET enable_mergejoin = off SET jit = off SET plan_cache_mode = force_generic_plan AS $body$
#variable_conflict use_column
DECLARE
    won uuid[];
BEGIN
    WITH saved AS (
        UPDATE {p}jobrunr_job AS j SET state = 5, version = j.version + 1, finished_at = n.at, updated_at = n.at
        FROM unnest(ids, versions, loaded, archived, ended) AS n (id, version, loaded_at, archived, at)
        WHERE j.id = n.id AND j.version = n.version AND j.updated_at = n.loaded_at AND j.archived_entries = n.archived
            -- Not the bare column: where statistics know of no running job, all of them would be read by state instead.
            AND j.state + 0 IN (3, 4)
        RETURNING j.id
    ) SELECT coalesce(array_agg(saved.id), '{}') INTO won FROM saved;
    IF cardinality(result_jobs) > 0 THEN
        INSERT INTO {p}jobrunr_job_result AS r (job, entry, result)
        SELECT * FROM unnest(result_jobs, result_entries, results) AS n (job, entry, result) WHERE n.job = ANY (won)
        ON CONFLICT (job) DO UPDATE SET entry = excluded.entry, result = excluded.result;
    END IF;
    PERFORM {p}jobrunr_add_counts(counted_in, ARRAY[cardinality(won), 0, 0, cardinality(won)]);
    RETURN QUERY SELECT n.id FROM unnest(won) AS n (id);
END
$body$;

-- Saves jobs whatever became of them: the hot row is overwritten, what it cannot say is archived. Returns the winners.
CREATE FUNCTION {p}jobrunr_save(
    ids uuid[], versions bigint[], loaded bigint[], loaded_archived integer[], loaded_states smallint[],
    states smallint[], updated bigint[], archived integer[], queued bigint[], scheduled bigint[],
    scheduled_entries bigint[], enqueued_entries bigint[], claimed bigint[], finished bigint[], deleted bigint[],
    reasons text[], awaited uuid[], servers integer[], successes integer[],
    history_jobs uuid[], history_firsts integer[], history_entries text[], history_errors text[],
    result_jobs uuid[], result_entries integer[], results text[], counted_in smallint
) RETURNS SETOF uuid LANGUAGE plpgsql
    SET enable_seqscan = off SET enable_bitmapscan = off SET enable_sort = off
    SET enable_hashjoin = off SET enable_mergejoin = off SET jit = off SET plan_cache_mode = force_generic_plan AS $body$
#variable_conflict use_column
DECLARE
    won uuid[];
    ended bigint[];
BEGIN
    WITH saved AS (
        UPDATE {p}jobrunr_job AS j SET state = n.state, version = j.version + 1, updated_at = n.updated,
            archived_entries = n.archived, queued_at = n.queued, scheduled_at = n.scheduled,
            scheduled_entry_at = n.scheduled_entry, enqueued_entry_at = n.enqueued_entry, claimed_at = n.claimed,
            finished_at = n.finished, deleted_at = n.deleted, deleted_reason = n.reason, awaited_job_id = n.awaited,
            server = n.server
        FROM unnest(ids, versions, loaded, loaded_archived, loaded_states, states, updated, archived, queued, scheduled,
            scheduled_entries, enqueued_entries, claimed, finished, deleted, reasons, awaited, servers)
            AS n (id, version, loaded_at, loaded_archived, loaded_state, state, updated, archived, queued, scheduled,
            scheduled_entry, enqueued_entry, claimed, finished, deleted, reason, awaited, server)
        WHERE j.id = n.id AND j.version = n.version AND j.updated_at = n.loaded_at
            AND j.archived_entries = n.loaded_archived AND j.state + 0 = n.loaded_state
        RETURNING j.id
    ) SELECT coalesce(array_agg(saved.id), '{}') INTO won FROM saved;
    INSERT INTO {p}jobrunr_job_history (job, first_entry, entries, last_error)
    SELECT * FROM unnest(history_jobs, history_firsts, history_entries, history_errors) AS n (job, first, entries, error)
    WHERE n.job = ANY (won);
    INSERT INTO {p}jobrunr_job_result AS r (job, entry, result)
    SELECT * FROM unnest(result_jobs, result_entries, results) AS n (job, entry, result) WHERE n.job = ANY (won)
    ON CONFLICT (job) DO UPDATE SET entry = excluded.entry, result = excluded.result;
    SELECT ARRAY[
        count(*) FILTER (WHERE n.state = 5) - count(*) FILTER (WHERE n.loaded_state = 5),
        count(*) FILTER (WHERE n.state = 6) - count(*) FILTER (WHERE n.loaded_state = 6),
        count(*) FILTER (WHERE n.state = 7) - count(*) FILTER (WHERE n.loaded_state = 7),
        coalesce(sum(n.successes), 0)]
    INTO ended FROM unnest(ids, states, loaded_states, successes) AS n (id, state, loaded_state, successes)
    WHERE n.id = ANY (won);
    PERFORM {p}jobrunr_add_counts(counted_in, ended);
    RETURN QUERY SELECT n.id FROM unnest(won) AS n (id);
END
$body$;

-- Releases the first jobs that are due. The row without a job tells when the next one is.
CREATE FUNCTION {p}jobrunr_release(at bigint, at_most bigint)
RETURNS TABLE (job uuid, lane integer, due_at bigint) LANGUAGE plpgsql
    SET enable_seqscan = off SET enable_bitmapscan = off SET enable_sort = off
    SET enable_hashjoin = off SET enable_mergejoin = off SET jit = off SET plan_cache_mode = force_generic_plan AS $body$
#variable_conflict use_column
DECLARE
    chosen uuid[];
BEGIN
    chosen := ARRAY(
        SELECT j.id FROM {p}jobrunr_job AS j WHERE j.state = 1 AND j.scheduled_at <= at
        ORDER BY j.scheduled_at, j.id LIMIT at_most FOR UPDATE SKIP LOCKED
    );
    IF cardinality(chosen) > 0 THEN
        RETURN QUERY UPDATE {p}jobrunr_job AS j SET state = 2, version = j.version + 1,
            queued_at = greatest(at, j.updated_at), enqueued_entry_at = greatest(at, j.updated_at),
            updated_at = greatest(at, j.updated_at)
        WHERE j.id = ANY (chosen)
        RETURNING j.id, j.lane, j.scheduled_at;
    END IF;
    RETURN QUERY SELECT NULL::uuid, NULL::integer,
        (SELECT j.scheduled_at FROM {p}jobrunr_job AS j WHERE j.state = 1 AND j.scheduled_at IS NOT NULL
        ORDER BY j.scheduled_at, j.id LIMIT 1);
END
$body$;

-- Removes jobs with all that belongs to them; returns how many there were.
CREATE FUNCTION {p}jobrunr_delete(ids uuid[], counted_in smallint) RETURNS bigint LANGUAGE plpgsql
    SET enable_seqscan = off SET enable_bitmapscan = off SET enable_sort = off
    SET enable_hashjoin = off SET enable_mergejoin = off SET jit = off SET plan_cache_mode = force_generic_plan AS $body$
#variable_conflict use_column
DECLARE
    gone uuid[];
    ended bigint[];
BEGIN
    WITH deleted AS (
        DELETE FROM {p}jobrunr_job AS j WHERE j.id = ANY (ids) RETURNING j.id, j.state
    ) SELECT array_agg(deleted.id), ARRAY[-count(*) FILTER (WHERE deleted.state = 5),
        -count(*) FILTER (WHERE deleted.state = 6), -count(*) FILTER (WHERE deleted.state = 7), 0]
    INTO gone, ended FROM deleted;
    IF gone IS NULL THEN
        RETURN 0;
    END IF;
    DELETE FROM {p}jobrunr_job_data AS d WHERE d.job = ANY (gone);
    DELETE FROM {p}jobrunr_job_history AS h WHERE h.job = ANY (gone);
    DELETE FROM {p}jobrunr_job_result AS r WHERE r.job = ANY (gone);
    DELETE FROM {p}jobrunr_job_metadata AS m WHERE m.job = ANY (gone);
    DELETE FROM {p}jobrunr_job_label AS l WHERE l.job = ANY (gone);
    DELETE FROM {p}jobrunr_recurring_run AS r WHERE r.job = ANY (gone);
    PERFORM {p}jobrunr_add_counts(counted_in, ended);
    RETURN cardinality(gone);
END
$body$;

-- Removes the jobs that came to a state first, before an instant; returns how many.
CREATE FUNCTION {p}jobrunr_delete_aged(
    in_state smallint, before bigint, wanted text[], unwanted text[], at_most bigint, counted_in smallint
) RETURNS bigint LANGUAGE plpgsql
    SET enable_seqscan = off SET enable_bitmapscan = off SET enable_sort = off
    SET enable_hashjoin = off SET enable_mergejoin = off SET jit = off SET plan_cache_mode = force_generic_plan AS $body$
#variable_conflict use_column
DECLARE
    lanes integer[];
BEGIN
    IF wanted IS NOT NULL OR unwanted IS NOT NULL THEN
        SELECT coalesce(array_agg(l.id), '{}') INTO lanes FROM {p}jobrunr_lane AS l
        WHERE (wanted IS NULL OR l.signature = ANY (wanted)) AND (unwanted IS NULL OR l.signature <> ALL (unwanted));
    END IF;
    RETURN {p}jobrunr_delete(ARRAY(
        SELECT j.id FROM {p}jobrunr_job AS j
        WHERE j.state = in_state AND j.updated_at < before AND (lanes IS NULL OR j.lane = ANY (lanes))
        ORDER BY j.updated_at, j.id LIMIT at_most FOR UPDATE SKIP LOCKED
    ), counted_in);
END
$body$;

-- Parks a job that was claimed and cannot be read, if it is still what the claim made of it.
CREATE FUNCTION {p}jobrunr_park(
    job_id uuid, held_version bigint, at bigint, archived integer, first_entry integer, new_entries text, error text,
    counted_in smallint
) RETURNS boolean LANGUAGE plpgsql
    SET enable_seqscan = off SET enable_bitmapscan = off SET enable_sort = off
    SET enable_hashjoin = off SET enable_mergejoin = off SET jit = off SET plan_cache_mode = force_generic_plan AS $body$
#variable_conflict use_column
BEGIN
    UPDATE {p}jobrunr_job AS j SET state = 6, version = j.version + 1, updated_at = at, archived_entries = archived,
        queued_at = NULL, scheduled_entry_at = NULL, enqueued_entry_at = NULL, claimed_at = NULL, finished_at = NULL,
        deleted_at = NULL, deleted_reason = NULL
    WHERE j.id = job_id AND j.version = held_version;
    IF NOT FOUND THEN
        RETURN false;
    END IF;
    INSERT INTO {p}jobrunr_job_history (job, first_entry, entries, last_error)
    VALUES (job_id, first_entry, new_entries, error);
    PERFORM {p}jobrunr_add_counts(counted_in, ARRAY[0, 1, 0, 0]);
    RETURN true;
END
$body$;

-- Saves metadata of a job, which cannot go away meanwhile; tells whether it is there.
CREATE FUNCTION {p}jobrunr_save_metadata(job_id uuid, names text[], new_values text[]) RETURNS boolean LANGUAGE plpgsql
    SET enable_seqscan = off SET enable_bitmapscan = off SET enable_sort = off
    SET enable_hashjoin = off SET enable_mergejoin = off SET jit = off SET plan_cache_mode = force_generic_plan AS $body$
#variable_conflict use_column
BEGIN
    PERFORM 1 FROM {p}jobrunr_job AS j WHERE j.id = job_id FOR KEY SHARE;
    IF NOT FOUND THEN
        RETURN false;
    END IF;
    IF cardinality(names) > 0 THEN
        UPDATE {p}jobrunr_job AS j SET has_metadata = true WHERE j.id = job_id AND NOT j.has_metadata;
        INSERT INTO {p}jobrunr_job_metadata AS m (job, name, value)
        SELECT job_id, n.name, n.value FROM unnest(names, new_values) AS n (name, value)
        ON CONFLICT (job, name) DO UPDATE SET value = excluded.value;
    END IF;
    RETURN true;
END
$body$;

-- Counts jobs by state (0 to 7) and all successes ever (8): the final states by their counts, the others one by one.
CREATE FUNCTION {p}jobrunr_counts() RETURNS TABLE (state smallint, jobs bigint) LANGUAGE plpgsql
    SET enable_seqscan = off SET enable_bitmapscan = off SET enable_sort = off
    SET enable_hashjoin = off SET enable_mergejoin = off SET jit = off SET plan_cache_mode = force_generic_plan AS $body$
#variable_conflict use_column
BEGIN
    RETURN QUERY SELECT j.state, count(*) FROM {p}jobrunr_job AS j WHERE j.state < 5 GROUP BY j.state
    UNION ALL SELECT n.state::smallint, n.jobs FROM (
        SELECT sum(c.succeeded)::bigint AS succeeded, sum(c.failed)::bigint AS failed, sum(c.deleted)::bigint AS deleted,
            sum(c.succeeded_all_time)::bigint AS ever
        FROM {p}jobrunr_count AS c
    ) AS s CROSS JOIN LATERAL (VALUES (5, s.succeeded), (6, s.failed), (7, s.deleted), (8, s.ever)) AS n (state, jobs);
END
$body$;
