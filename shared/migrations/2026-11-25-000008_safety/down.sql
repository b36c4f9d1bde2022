ALTER TABLE workers DROP COLUMN clock_ahead_s;
DROP INDEX tasks_result_expiry;
UPDATE tasks SET result_ttl_s = ~result_ttl_s WHERE result_ttl_s < 0;
