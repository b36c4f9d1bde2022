DROP INDEX tasks_useful;
