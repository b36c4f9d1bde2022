-- Pauses, shared limits, and what workers report of themselves.

-- Workers take nothing of these until they are resumed.
CREATE TABLE pauses (
    scope     text NOT NULL CHECK (scope IN ('queue', 'kind')),
    name      text NOT NULL,
    paused_at timestamptz NOT NULL DEFAULT now(),
    paused_by text NOT NULL,                    -- the key's name
    reason    text,
    PRIMARY KEY (scope, name)
);

-- How much of something all workers together may do.
CREATE TABLE limits (
    scope       text NOT NULL CHECK (scope IN ('queue', 'kind', 'key')),
    name        text NOT NULL,                  -- a key may end in *: each key that it covers has a share of its own
    rate        double precision CHECK (rate > 0),       -- attempts started per second
    burst       integer CHECK (burst > 0),               -- at once, after a quiet time
    concurrency integer CHECK (concurrency > 0),         -- attempts running at a time
    updated_at  timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (scope, name)
);

-- The state of one limit for one name. Whoever changes it, or the waits and holds below it, has this row locked.
CREATE TABLE limit_buckets (
    scope     text NOT NULL,
    name      text NOT NULL,
    tokens    double precision,                 -- null: full
    filled_at timestamptz NOT NULL DEFAULT now(),
    waiting   bigint NOT NULL DEFAULT 0,        -- rows in limit_waits
    PRIMARY KEY (scope, name)
) WITH (fillfactor = 50);

-- Attempts that count against a concurrency limit, as long as their task is PROCESSING at that attempt.
CREATE TABLE limit_holds (
    scope   text NOT NULL,
    name    text NOT NULL,
    task_id uuid NOT NULL,
    attempt integer NOT NULL,
    PRIMARY KEY (scope, name, task_id)
);

-- Tasks over a limit, or of a paused kind. Their due_at is a safety net; they are called up from here.
CREATE TABLE limit_waits (
    task_id  uuid PRIMARY KEY,
    scope    text NOT NULL,
    name     text NOT NULL,
    queue    text NOT NULL,
    priority smallint NOT NULL,
    since    timestamptz NOT NULL DEFAULT now(),
    woken_at timestamptz                        -- called up, not claimed yet
);
CREATE INDEX limit_waits_order ON limit_waits (scope, name, priority DESC, task_id) WHERE woken_at IS NULL;
CREATE INDEX limit_waits_woken ON limit_waits (scope, name) WHERE woken_at IS NOT NULL;

ALTER TABLE workers
    ADD COLUMN kinds      text[] NOT NULL DEFAULT '{}',  -- what it can run
    ADD COLUMN load       json,                          -- per queue: slots, running, held
    ADD COLUMN running    json,                          -- the attempts that have run longest
    ADD COLUMN rss_bytes  bigint,
    ADD COLUMN tasks_done bigint NOT NULL DEFAULT 0,
    ADD COLUMN drain      text CHECK (drain IN ('stay', 'exit', 'restart'));  -- takes nothing new; then what

-- Work done in each ten seconds, for rates.
CREATE TABLE task_rates (
    at       timestamptz NOT NULL,
    queue    text NOT NULL,
    lane     text NOT NULL,
    kind     text NOT NULL,
    accepted bigint NOT NULL DEFAULT 0,
    attempts bigint NOT NULL DEFAULT 0,         -- that ended, however
    finished bigint NOT NULL DEFAULT 0,         -- tasks that became final by them
    failed   bigint NOT NULL DEFAULT 0,         -- attempts that failed
    busy_s   double precision NOT NULL DEFAULT 0,
    PRIMARY KEY (at, queue, lane, kind)
);
