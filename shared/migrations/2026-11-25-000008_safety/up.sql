-- Results that end before their tasks do. `result_ttl_s` becomes its bitwise complement (below 0) when the result has
-- been removed, so that this index holds only those that are still to be removed. Neither column is changed by a claim.
CREATE INDEX tasks_result_expiry ON tasks (((finished_at AT TIME ZONE 'UTC') + result_ttl_s * interval '1 second'))
    WHERE result_ttl_s >= 0 AND finished_at IS NOT NULL;

-- By how many seconds the worker's clock is ahead of this database's, as the worker measured it.
ALTER TABLE workers ADD COLUMN clock_ahead_s double precision;
