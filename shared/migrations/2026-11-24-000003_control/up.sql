-- Cancelling, replaying, progress, and who may do what.

ALTER TABLE tasks
    ADD COLUMN progress            json,        -- {"percent", "note"} of the latest attempt
    ADD COLUMN cancel_requested_at timestamptz; -- somebody wants it to end; final as soon as nobody runs it

-- Failures that differ in numbers and ids alone have one fingerprint.
CREATE FUNCTION error_fingerprint(kind text, code text, message text) RETURNS text
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN left(md5(coalesce(kind, '') || E'\x1f' || coalesce(code, '') || E'\x1f' || regexp_replace(coalesce(message, ''),
        '[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}|\m[0-9a-fA-F]*[0-9][0-9a-fA-F]*\M', '#', 'g')), 16);

-- What operators did, and with which key.
CREATE TABLE audit_log (
    id         uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    at         timestamptz NOT NULL DEFAULT now(),
    api_key_id uuid,                            -- null: the command line
    actor      text NOT NULL,                   -- the key's name at that time
    action     text NOT NULL,                   -- e.g. task.cancel
    task_id    uuid,                            -- null: many at once, or none
    details    json
);
CREATE INDEX audit_log_at ON audit_log (at);
CREATE INDEX audit_log_task ON audit_log (task_id, at) WHERE task_id IS NOT NULL;

-- Keys made before there were scopes could do everything there was; from now on, nothing is said means nothing may be done.
ALTER TABLE api_keys
    ADD COLUMN scopes       text[] NOT NULL DEFAULT '{admin}',
    ADD COLUMN last_used_at timestamptz;        -- to the minute
ALTER TABLE api_keys ALTER COLUMN scopes SET DEFAULT '{}';
