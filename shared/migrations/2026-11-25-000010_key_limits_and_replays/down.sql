DROP TABLE replay_tasks;
DROP TABLE replays;
DROP TABLE api_key_usage;
DROP TABLE api_key_buckets;
ALTER TABLE api_keys DROP COLUMN rate_per_s, DROP COLUMN burst, DROP COLUMN daily_quota;
