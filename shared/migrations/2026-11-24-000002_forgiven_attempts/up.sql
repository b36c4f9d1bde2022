-- Attempts that don't count: given back by a worker that had to stop. max_attempts grows with it, so that their
-- difference stays what the caller asked for.
ALTER TABLE tasks ADD COLUMN forgiven integer NOT NULL DEFAULT 0;
