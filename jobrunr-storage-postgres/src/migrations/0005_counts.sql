-- Before a table that has grown fast is first analysed, it seems that many jobs have not ended, and helpers are worth their
-- start, which takes longer than the whole answer.
ALTER FUNCTION {p}jobrunr_counts() SET max_parallel_workers_per_gather = 0;
