-- How much a key may use. Null: as configured in [auth]; 0: without a limit.
ALTER TABLE api_keys
    ADD COLUMN rate_per_s  double precision CHECK (rate_per_s >= 0),    -- requests
    ADD COLUMN burst       integer CHECK (burst >= 0),                  -- requests at once; null: those of one second
    ADD COLUMN daily_quota bigint CHECK (daily_quota >= 0);             -- tasks accepted in a day of UTC

-- The token bucket of each key with a rate, from which the replicas lease. After a crash of the server it is empty, and
-- every bucket is full again: that spares each lease the disk.
CREATE UNLOGGED TABLE api_key_buckets (
    api_key_id uuid PRIMARY KEY,
    tokens     double precision NOT NULL,
    filled_at  timestamptz NOT NULL DEFAULT now()
) WITH (fillfactor = 50);

-- Tasks accepted, or leased to be accepted, for each key with a daily quota.
CREATE TABLE api_key_usage (
    api_key_id uuid NOT NULL,
    day        date NOT NULL,                   -- of UTC
    tasks      bigint NOT NULL,
    PRIMARY KEY (api_key_id, day)
) WITH (fillfactor = 50);

-- Failures that are run again, a few first and the rest only while those succeed.
CREATE TABLE replays (
    id           uuid PRIMARY KEY,              -- UUIDv7
    state        text NOT NULL CHECK (state IN ('RUNNING', 'WAITING_CANARY', 'ROLLING', 'COMPLETED', 'STOPPED', 'CANCELLED')),
    asked        json NOT NULL,                 -- the filter as the request said it
    filter       json NOT NULL,                 -- the same, resolved and frozen: only what had ended when it began
    digest       text NOT NULL,                 -- of what was asked
    at_most      bigint NOT NULL,
    canary       integer NOT NULL,              -- how many first
    min_success  double precision NOT NULL,
    rate_per_s   double precision NOT NULL,
    timeout_s    integer NOT NULL,
    share_of     integer,                       -- the latest outcomes that the share is of; null: all
    max_waiting  integer NOT NULL,
    matched      bigint NOT NULL,
    counted      boolean NOT NULL,              -- false: there are more than `matched`
    replayed     bigint NOT NULL DEFAULT 0,
    succeeded    bigint NOT NULL DEFAULT 0,
    failed       bigint NOT NULL DEFAULT 0,
    share        double precision,              -- of successes; null while there is no outcome
    below        uuid,                          -- tasks with this id and above have been looked at
    paced_at     timestamptz,                   -- what the rate allows is reckoned from then
    due_at       timestamptz,                   -- when it is looked at next; null: never again
    reason       text,
    created_by   uuid NOT NULL,                 -- the API key
    actor        text NOT NULL,                 -- its name at that time
    created_at   timestamptz NOT NULL DEFAULT now(),
    updated_at   timestamptz NOT NULL DEFAULT now(),
    finished_at  timestamptz
);
CREATE INDEX replays_due ON replays (due_at) WHERE due_at IS NOT NULL;
-- A request that is sent twice begins one replay.
CREATE UNIQUE INDEX replays_live ON replays (digest) WHERE finished_at IS NULL;

CREATE TABLE replay_tasks (
    replay_id   uuid NOT NULL,
    task_id     uuid NOT NULL,
    attempt     integer NOT NULL,               -- attempts made before
    outcome     text CHECK (outcome IN ('succeeded', 'failed')),
    replayed_at timestamptz NOT NULL DEFAULT now(),
    settled_at  timestamptz,                    -- null: no outcome yet
    PRIMARY KEY (replay_id, task_id)
);
CREATE INDEX replay_tasks_settled ON replay_tasks (replay_id, settled_at);
