ALTER TABLE tasks DROP COLUMN limit_key, DROP COLUMN result_ttl_s, DROP COLUMN point_of_no_return_at;
