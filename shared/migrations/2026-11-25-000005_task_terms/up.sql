ALTER TABLE tasks
    ADD COLUMN limit_key              text,         -- whose shared limits it counts against, e.g. a tenant
    ADD COLUMN result_ttl_s           integer,      -- seconds after its end until the result is removed; null: with the task
    ADD COLUMN point_of_no_return_at  timestamptz;  -- from then on the current attempt may have had its effect; only for 'hold'
