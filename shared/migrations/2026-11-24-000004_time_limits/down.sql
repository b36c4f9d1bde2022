ALTER TABLE tasks DROP COLUMN soft_limit_s, DROP COLUMN hard_limit_s;
