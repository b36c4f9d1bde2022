-- What ends by its time is found without a walk through all that waits. A claim changes neither column.
CREATE INDEX tasks_useful ON tasks (useful_until) WHERE useful_until IS NOT NULL AND finished_at IS NULL;
