-- Who has signed up.
CREATE TABLE users (
    id          uuid PRIMARY KEY,
    email       text NOT NULL,                     -- as mails go to it
    canonical   text NOT NULL UNIQUE,
    username    text NOT NULL,
    locale      text,
    verified_at timestamptz,                       -- the address was proven
    task_id     uuid,                              -- the welcome mail; null: none was wanted
    created_by  uuid NOT NULL,
    created_at  timestamptz NOT NULL DEFAULT now(),
    updated_at  timestamptz NOT NULL DEFAULT now()
) WITH (fillfactor = 90);

-- Persons whose traces are being removed from tasks, a batch at a time. The address goes when that is done.
CREATE TABLE erasures (
    id          uuid PRIMARY KEY,                  -- the user's
    address     text,                              -- canonical
    keyed       text,                              -- what suppressions keep of it
    done        uuid NOT NULL,                     -- tasks up to there
    rechecked   boolean NOT NULL DEFAULT false,    -- those that were on their way to disk are gone through again
    tasks       bigint NOT NULL DEFAULT 0,         -- that had something to be removed
    created_at  timestamptz NOT NULL DEFAULT now(),
    finished_at timestamptz
);
CREATE INDEX erasures_open ON erasures (id) WHERE finished_at IS NULL;
