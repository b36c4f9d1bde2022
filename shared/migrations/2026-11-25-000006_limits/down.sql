DROP TABLE task_rates, limit_waits, limit_holds, limit_buckets, limits, pauses;
ALTER TABLE workers DROP COLUMN kinds, DROP COLUMN load, DROP COLUMN running, DROP COLUMN rss_bytes,
    DROP COLUMN tasks_done, DROP COLUMN drain;
