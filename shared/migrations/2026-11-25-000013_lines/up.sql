-- Whether anybody waits is asked of the rows, whose count could drift from them. A line is in order for each queue, so
-- that a worker finds what it can take at its head.
ALTER TABLE limit_buckets DROP COLUMN waiting;

DROP INDEX limit_waits_order;
CREATE INDEX limit_waits_order ON limit_waits (scope, name, queue, priority DESC, task_id) WHERE woken_at IS NULL;

-- Rows come and go like those of the outbox.
ALTER TABLE limit_waits SET (autovacuum_vacuum_scale_factor = 0.0, autovacuum_vacuum_threshold = 2000);
ALTER TABLE limit_holds SET (autovacuum_vacuum_scale_factor = 0.0, autovacuum_vacuum_threshold = 2000);
