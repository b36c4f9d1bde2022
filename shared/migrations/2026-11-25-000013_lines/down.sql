ALTER TABLE limit_holds RESET (autovacuum_vacuum_scale_factor, autovacuum_vacuum_threshold);
ALTER TABLE limit_waits RESET (autovacuum_vacuum_scale_factor, autovacuum_vacuum_threshold);

DROP INDEX limit_waits_order;
CREATE INDEX limit_waits_order ON limit_waits (scope, name, priority DESC, task_id) WHERE woken_at IS NULL;

ALTER TABLE limit_buckets ADD COLUMN waiting bigint NOT NULL DEFAULT 0;
UPDATE limit_buckets AS b SET waiting = (
    SELECT count(*) FROM limit_waits AS w WHERE w.scope = b.scope AND w.name = b.name AND w.woken_at IS NULL);
