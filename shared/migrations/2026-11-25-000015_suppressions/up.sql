-- Addresses that get no mails, or none of a category. `address` is in its canonical form; of a person who was erased it is
-- `~<secret's name>:<MAC>`, which tells only who knows the address.
CREATE TABLE suppressions (
    id         uuid PRIMARY KEY,
    address    text NOT NULL,
    category   text NOT NULL,                      -- '*': all
    purpose    text NOT NULL DEFAULT '',           -- of verification codes; '': whatever it is
    reason     text NOT NULL,                      -- hard_bounce, complaint, unsubscribe, not_requested, manual
    detail     text,
    task_id    uuid,                               -- the mail that led to it
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    expires_at timestamptz,                        -- null: for good
    created_by text NOT NULL,
    UNIQUE (address, category, purpose)
);
-- Processes read what is new.
CREATE INDEX suppressions_updated ON suppressions (updated_at, id);
CREATE INDEX suppressions_expiry ON suppressions (expires_at) WHERE expires_at IS NOT NULL;

-- What was heard of a mail after its relay had taken it.
CREATE TABLE email_events (
    task_id  uuid NOT NULL,
    event    text NOT NULL,                        -- bounced, delayed, delivered, complained, unsubscribed
    code     text NOT NULL DEFAULT '',             -- RFC 3463, or the kind of feedback (RFC 5965)
    detail   text,
    at       timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (task_id, event, code)
);

-- Seconds after its end until a task's content is removed; null: with the task, 0: by its settlement; negative: done.
ALTER TABLE tasks ADD COLUMN content_ttl_s integer;
CREATE INDEX tasks_content_expiry ON tasks (((finished_at AT TIME ZONE 'UTC') + content_ttl_s * interval '1 second'))
    WHERE content_ttl_s >= 0 AND finished_at IS NOT NULL;

-- What is left of the payload of a mail without its content.
CREATE FUNCTION without_content(payload json) RETURNS json LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT ((payload::jsonb - ARRAY['subject', 'text', 'html', 'template', 'headers', 'attachments'])
        || '{"content_removed": true}')::json
$$;
