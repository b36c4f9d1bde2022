-- PostgreSQL is the record: every task, attempt, due time and lease is a row here, and everything in
-- RabbitMQ can be made again from it.

CREATE TABLE tasks (
    id              uuid PRIMARY KEY,           -- UUIDv7: sorts by time of acceptance
    kind            text NOT NULL,
    queue           text NOT NULL,
    priority        smallint NOT NULL CHECK (priority BETWEEN 0 AND 9),
    lane            text NOT NULL GENERATED ALWAYS AS (     -- as Priority::lane in task.rs
        CASE WHEN priority >= 7 THEN 'high' WHEN priority >= 3 THEN 'normal' ELSE 'low' END) STORED,
    status          text NOT NULL CHECK (status IN ('SCHEDULED', 'PENDING', 'PROCESSING', 'RETRYING',
                                                    'COMPLETED', 'FAILED', 'CANCELLED', 'EXPIRED', 'UNKNOWN')),
    payload         json NOT NULL,
    result          json,
    error_code      text,
    error_message   text,
    -- Attempts started. Also the fence: only the holder of the current number may settle.
    attempt         integer NOT NULL DEFAULT 0,
    max_attempts    integer NOT NULL,
    on_worker_lost  text NOT NULL DEFAULT 'retry' CHECK (on_worker_lost IN ('retry', 'fail', 'hold')),
    tags            text[] NOT NULL DEFAULT '{}',
    worker_id       uuid,                       -- who runs it while PROCESSING; else who ran it last
    run_at          timestamptz,                -- as the caller asked
    due_at          timestamptz,                -- waiting in PostgreSQL until then; null while RabbitMQ has it
    useful_until    timestamptz,
    next_attempt_at timestamptz,
    created_at      timestamptz NOT NULL,
    updated_at      timestamptz NOT NULL,
    started_at      timestamptz,
    finished_at     timestamptz,
    requeued_at     timestamptz,                -- when the reconciler last published it again
    created_by      uuid,                       -- the API key
    traceparent     text
) WITH (fillfactor = 70, autovacuum_vacuum_scale_factor = 0.02, autovacuum_analyze_scale_factor = 0.02);

-- No index holds a column that a claim changes, so a claim is a heap-only update.
-- Live tasks: how large history is does not matter to whoever looks for work.
CREATE INDEX tasks_live ON tasks (id) WHERE finished_at IS NULL;
CREATE INDEX tasks_due ON tasks (due_at) WHERE due_at IS NOT NULL;
CREATE INDEX tasks_erred ON tasks (id) WHERE error_code IS NOT NULL;
CREATE INDEX tasks_tagged ON tasks USING gin (tags) WHERE tags <> '{}';

-- What is committed and not yet confirmed by the broker. Almost always nearly empty.
CREATE TABLE outbox (
    id            uuid PRIMARY KEY,
    task_id       uuid NOT NULL,                -- no foreign key: this is the hot path
    attempt       integer NOT NULL,
    kind          text NOT NULL,
    lane          text NOT NULL,
    exchange      text NOT NULL,
    routing_key   text NOT NULL,
    traceparent   text,
    publish_after timestamptz NOT NULL,         -- when the relay may take it
    tries         integer NOT NULL DEFAULT 0
) WITH (fillfactor = 90, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 5000,
        autovacuum_vacuum_insert_scale_factor = 0, autovacuum_vacuum_insert_threshold = 50000,
        autovacuum_vacuum_cost_delay = 0);

-- Failed, lost and released attempts only: the happy path writes no extra row.
CREATE TABLE task_attempts (
    task_id         uuid NOT NULL,
    attempt         integer NOT NULL,
    outcome         text NOT NULL CHECK (outcome IN ('failed', 'worker_lost', 'released')),
    error_code      text,
    error_message   text,
    worker_id       uuid,
    started_at      timestamptz,
    ended_at        timestamptz NOT NULL,
    next_attempt_at timestamptz,
    PRIMARY KEY (task_id, attempt)
);

CREATE TABLE api_keys (
    id           uuid PRIMARY KEY,
    name         text NOT NULL,
    hash         bytea NOT NULL UNIQUE,         -- SHA-256 of the key, which has 256 random bits
    hint         text NOT NULL,                 -- its first characters, to tell keys apart
    created_at   timestamptz NOT NULL DEFAULT now(),
    expires_at   timestamptz,
    revoked_at   timestamptz
);

CREATE TABLE idempotency_keys (
    api_key_id   uuid NOT NULL,
    key          text NOT NULL,
    request_id   uuid NOT NULL,
    request_hash bytea NOT NULL,                -- SHA-256 of method, path and body
    status       smallint NOT NULL,
    location     text,
    answer       text NOT NULL,
    created_at   timestamptz NOT NULL,
    PRIMARY KEY (api_key_id, key)
);
CREATE INDEX idempotency_keys_age ON idempotency_keys (created_at);

-- One row per run of a worker process. Its lease covers all the tasks it runs.
CREATE TABLE workers (
    id           uuid PRIMARY KEY,
    name         text NOT NULL,
    host         text NOT NULL,
    pid          integer NOT NULL,
    version      text NOT NULL,
    queues       text[] NOT NULL,
    state        text NOT NULL CHECK (state IN ('alive', 'stopped', 'lost')),
    beats        bigint NOT NULL DEFAULT 0,     -- grows with every heartbeat
    started_at   timestamptz NOT NULL DEFAULT now(),
    heartbeat_at timestamptz NOT NULL DEFAULT now()
);

-- Which life of the broker's data the published messages went to (see the reconciler).
CREATE TABLE broker_epoch (
    "only"     boolean PRIMARY KEY DEFAULT true CHECK ("only"),
    epoch      bigint NOT NULL,
    started_at timestamptz NOT NULL DEFAULT now()
);
