-- Seconds; null: the kind's policy.
ALTER TABLE tasks
    ADD COLUMN soft_limit_s integer,
    ADD COLUMN hard_limit_s integer;
