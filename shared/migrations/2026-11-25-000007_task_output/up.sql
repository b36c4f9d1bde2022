-- What handlers emit while they run, in the pieces in which it was written. Every attempt counts its own from 1, so that
-- a piece whose answer was lost can be written again. A task's pieces are deleted with it.
CREATE TABLE task_output (
    task_id   uuid NOT NULL,
    attempt   integer NOT NULL,
    seq       integer NOT NULL,
    text      text NOT NULL,
    truncated boolean NOT NULL DEFAULT false,   -- more was emitted, and not kept
    at        timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (task_id, attempt, seq)
);
