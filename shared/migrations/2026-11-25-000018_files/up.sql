-- What is kept in the file store, by the SHA-256 of the content.
CREATE TABLE files (
    sha256  text PRIMARY KEY,
    size    bigint NOT NULL,
    used_at timestamptz NOT NULL DEFAULT now(),    -- uploaded, or named by a mail
    stored  boolean NOT NULL DEFAULT false         -- the content is there; false also before it is deleted
) WITH (fillfactor = 70);
CREATE INDEX files_used ON files (used_at);

-- Which tasks need it.
CREATE TABLE task_files (
    task_id uuid NOT NULL,                         -- no foreign key: this is the hot path
    sha256  text NOT NULL,
    brief   boolean NOT NULL,                      -- the task's content is removed before the task
    PRIMARY KEY (task_id, sha256)
);
CREATE INDEX task_files_sha256 ON task_files (sha256);
CREATE INDEX task_files_brief ON task_files (task_id) WHERE brief;
